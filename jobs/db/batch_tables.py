"""The tables of batches, and the statements about them. See jobs/batches.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, Table, Text, text

from jobs.db.compiled import locking
from jobs.db.schema import files, metadata
from jobs.db.statements import FILE_COLUMNS

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("lane", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("input_file", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("metadata", Text, nullable=False),  # JSON
    Column("window_seconds", Double, nullable=False),
    Column("output_seconds", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("stamps", Text, nullable=False),  # JSON: when it came into each state
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("images", Integer, nullable=False),
    Column("model", Text),
    Column("errors", Text, nullable=False),  # JSON list
    Column("output_file", Text),
    Column("error_file", Text),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("body_hash", Text, nullable=False),
    Column("idempotency_key", Text),
    sqlite_with_rowid=False,
)
_shown = text("purpose in ('vision', 'batch', 'batch_output')")
Index("files_shown", files.c.tenant, files.c.created_at, files.c.id, sqlite_where=_shown,
      postgresql_where=_shown)  # fmt: skip
_open = text("ended_at is null")
Index("batches_open", batches.c.lane, batches.c.created_at, sqlite_where=_open,
      postgresql_where=_open)  # fmt: skip
Index("batches_of_tenant", batches.c.tenant, batches.c.created_at, batches.c.id)

batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("line", Integer, primary_key=True),  # of the input file, from 1
    Column("custom_id", Text, nullable=False),
    Column("start", BigInteger, nullable=False),  # in the input file, in bytes
    Column("size", Integer, nullable=False),
    Column("images", Integer, nullable=False),
    Column("queue", Text, nullable=False),
    Column("cost_seconds", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("job_id", Text),
    Column("error", Text),  # JSON of the answer, where no job says it
    sqlite_with_rowid=False,
)
_live = text("state in ('waiting', 'fed')")
Index("batch_lines_live", batch_lines.c.batch_id, batch_lines.c.state, batch_lines.c.line,
      sqlite_where=_live, postgresql_where=_live)  # fmt: skip

# What is left of a batch in each queue, in GPU-seconds: for heat, which reads it often.
batch_work = Table(
    "batch_work",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    Column("cost_seconds", Double, nullable=False),
    sqlite_with_rowid=False,
)

COLUMNS = """id, tenant, tier, state, input_file, endpoint, metadata, window_seconds,
    output_seconds, created_at, expires_at, stamps, fence, total, completed, failed, images, model,
    errors, output_file, error_file, input_tokens, output_tokens"""
_LIVE_LINES = "batch_id = :id and state in ('waiting', 'fed')"

NEW = text("""insert into batches (id, lane, tenant, tier, state, input_file, endpoint, metadata,
        window_seconds, output_seconds, created_at, expires_at, stamps, fence, lease_until, total,
        completed, failed, images, errors, input_tokens, output_tokens, body_hash,
        idempotency_key)
    values (:id, :lane, :tenant, :tier, :state, :input_file, :endpoint, :metadata,
        :window_seconds, :output_seconds, :now, :expires_at, '{}', 0, 0.0, 0, 0, 0, 0, '[]', 0,
        0, :body_hash, :key)""")
BY_KEY = text(f"""select body_hash, {COLUMNS} from batches where tenant = :tenant
    and idempotency_key = :key and created_at > :since order by created_at desc limit 1""")
BY_BODY = text(f"""select body_hash, {COLUMNS} from batches where tenant = :tenant
    and body_hash = :body_hash and created_at > :since order by created_at desc limit 1""")
OF_TENANT = text(f"select {COLUMNS} from batches where id = :id and tenant = :tenant")
LOCKED_OF_TENANT = locking(f"{OF_TENANT.text} for update")
LOCKED = locking(f"select {COLUMNS} from batches where id = :id for update")
BATCH = text(f"select {COLUMNS} from batches where id = :id")
LIST = text(f"""select {COLUMNS} from batches where tenant = :tenant
    order by created_at desc, id desc limit :limit""")
LIST_AFTER = text(f"""select {COLUMNS} from batches where tenant = :tenant
    and (created_at, id) < (select created_at, id from batches
        where id = :after and tenant = :tenant)
    order by created_at desc, id desc limit :limit""")
OPEN_OF_TENANT = text("""select count(*) as batches, cast(coalesce(sum(images), 0) as bigint)
    as images from batches where tenant = :tenant and ended_at is null""")
OPEN = text("""select state, count(*) as batches, cast(sum(total) as bigint) as lines,
        cast(sum(completed) as bigint) as completed, cast(sum(failed) as bigint) as failed
    from batches where lane = :lane and ended_at is null group by state""")
FREE = text("""select id from batches where lane = :lane and ended_at is null
    and lease_until <= :now order by created_at, id limit :limit""")
LOCK_FREE = locking(f"{FREE.text} for update skip locked")
LEASE = text("""update batches set fence = fence + 1, lease_until = :until
    where id = :id and lease_until <= :now""")
HOLD = text("update batches set lease_until = :until where id = :id")
MOVE = text("""update batches set state = :state, stamps = :stamps, ended_at = :ended_at
    where id = :id""")
COUNT = text("""update batches set completed = completed + :completed, failed = failed + :failed
    where id = :id""")
BEGUN = text("update batches set total = :total, images = :images, model = :model where id = :id")
REFUSED = text("update batches set errors = :errors where id = :id")
FILES = text("""update batches set output_file = :output_file, error_file = :error_file,
        input_tokens = :input_tokens, output_tokens = :output_tokens
    where id = :id""")
# Kept until its batch has ended, whatever its own life is.
KEEP_INPUT = text("""update files set expires_at = :until
    where id = :id and tenant = :tenant and purpose = 'batch' and expires_at < :until""")
INPUT = text("""select 1 from files
    where id = :id and tenant = :tenant and purpose = 'batch' and expires_at > :now""")
INPUT_OF = text(f"""select {FILE_COLUMNS} from files
    where id = (select input_file from batches where id = :id)""")
# A file that an unended batch reads is hidden in place of being deleted.
HIDE_INPUT = text("""update files set purpose = 'input', expires_at = coalesce(
        (select max(expires_at) from batches where input_file = files.id), :now)
    where id = :id and tenant = :tenant and purpose = 'batch' and expires_at > :now
      and exists (select 1 from batches b
        where b.tenant = :tenant and b.input_file = files.id and b.ended_at is null)""")
PUBLISH = text("""update files set purpose = 'batch_output', bytes = :bytes, blobs = :blobs,
        filename = :filename, created_at = :now, expires_at = :expires_at
    where id = :id and tenant = :tenant and purpose = 'input'""")

NEW_LINE = text("""insert into batch_lines (batch_id, line, custom_id, start, size, images, queue,
        cost_seconds, state)
    values (:id, :line, :custom_id, :start, :size, :images, :queue, :cost, 'waiting')
    on conflict (batch_id, line) do nothing""")
LINE_TOTALS = text("""select count(*) as total, cast(coalesce(sum(images), 0) as bigint) as images
    from batch_lines where batch_id = :id""")
NEW_WORK = text("""insert into batch_work (batch_id, queue, cost_seconds)
    select batch_id, queue, sum(cost_seconds) from batch_lines where batch_id = :id
    group by batch_id, queue on conflict (batch_id, queue) do nothing""")
LESS_WORK = text("""update batch_work set cost_seconds = cost_seconds - :cost
    where batch_id = :id and queue = :queue""")
DROP_WORK = text("delete from batch_work where batch_id = :id")
DROP_LINES = text("delete from batch_lines where batch_id = :id")
DROP_BATCH = text("delete from batches where id = :id")
LINE_COLUMNS = "line, custom_id, start, size, state, job_id, error"
WAITING = text(f"""select {LINE_COLUMNS} from batch_lines
    where batch_id = :id and state = 'waiting' order by line limit :limit""")
STILL_WAITING = text("""select line from batch_lines
    where batch_id = :id and state = 'waiting' and line between :first and :last""")
QUEUED = text("""select count(*) from batch_lines l join jobs j on j.id = l.job_id
    where l.batch_id = :id and l.state = 'fed' and j.state = 'queued'""")
FED = text("""update batch_lines set state = 'fed', job_id = :job_id
    where batch_id = :id and line = :line and state = 'waiting'""")
LINE_REFUSED = text("""update batch_lines set state = 'failed', error = :error
    where batch_id = :id and line = :line and state = 'waiting'""")
LINE_ENDED = text("""update batch_lines set state = :state
    where batch_id = :id and line = :line and state = 'fed'""")
STOP_WAITING = text("""update batch_lines set state = :state
    where batch_id = :id and state = 'waiting'""")
ENDED_JOBS = text("""select l.line, l.queue, l.cost_seconds, j.state
    from batch_lines l left join jobs j on j.id = l.job_id
    where l.batch_id = :id and l.state = 'fed' and (j.id is null or j.finished_at is not null)
    order by l.line limit :limit""")
FED_JOBS = text("""select l.job_id from batch_lines l join jobs j on j.id = l.job_id
    where l.batch_id = :id and l.state = 'fed' and j.finished_at is null
      and not j.cancel_requested
    order by l.line limit :limit""")
ANY_LIVE = text(f"select 1 from batch_lines where {_LIVE_LINES} limit 1")
ANY_EXPIRED = text("""select 1 from batch_lines where batch_id = :id and state = 'expired'
    limit 1""")
LINES = text(f"""select {LINE_COLUMNS} from batch_lines
    where batch_id = :id and line > :after order by line limit :limit""")
# GPU-seconds a second that the windows of unended batches need of a queue.
NEEDED_RATE = text("""select coalesce(sum(w.cost_seconds / (case when b.expires_at - :now > 60.0
        then b.expires_at - :now else 60.0 end)), 0.0)
    from batch_work w join batches b on b.id = w.batch_id
    where w.queue = :queue and b.state = 'in_progress' and b.expires_at > :now""")
OLD = text("""select id from batches where ended_at <= :before order by ended_at limit :limit""")
DROP_TENANT = (
    text("""delete from batch_lines where batch_id in
        (select id from batches where tenant = :tenant)"""),
    text("""delete from batch_work where batch_id in
        (select id from batches where tenant = :tenant)"""),
    text("delete from batches where tenant = :tenant"),
)
