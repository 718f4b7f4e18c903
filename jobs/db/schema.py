"""Every table of the ledger, for every database alike, and the version of these tables.

Names: vft is a virtual finish time (the fair queue's stamp), a fence grows with every lease.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

SCHEMA_VERSION = 19
"""Of the tables below. See docs/decisions/0051 before you change one."""
ADDED_SINCE = 12
"""From this version on only tables and nullable columns were added: they are made where they are
missing, and code of that version goes on beside them."""

metadata = MetaData()
_serial = BigInteger().with_variant(Integer(), "sqlite")

# The newest row is the oldest version of the code that may work with these tables.
readable_from = Table("meltproof_schema", metadata, Column("version", Integer, primary_key=True))
# The newest row is the version of these tables.
version = Table("meltproof_migrations", metadata, Column("version", Integer, primary_key=True))

jobs = Table(
    "jobs",
    metadata,
    Column("seq", _serial, primary_key=True),  # order of arrival
    Column("id", Text, nullable=False, unique=True),
    Column("lane", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("vft", Double, nullable=False),
    Column("cost_seconds", Double, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("deadline_at", Double, nullable=False),
    Column("watched_until", Double),
    Column("answered_at", Double),
    Column("day", Text, nullable=False),  # the day whose quota was charged
    Column("idempotency_key", Text),
    Column("body_hash", Text, nullable=False),
    Column("errors", Text, nullable=False),  # JSON list of reasons
    Column("request", Text, nullable=False),  # JSON of ImageRequest
    Column("preemptions", Integer, nullable=False, server_default=text("0")),
    # other jobs were preempted for it, which happens once
    Column("way_made", Boolean, nullable=False, server_default=text("false")),
    Column("parent", Text),  # id of the job whose image it goes on from
    # that may share it: a retry takes a job that another connection still waits for
    Column("orders", Integer, nullable=False, server_default=text("1")),
)
_queued = text("state = 'queued'")
IN_SAMPLE = "substr(id, 31) in ('00', '40', '80', 'c0')"
"""One in queue_sketch.EVERY: ids are hex digits, and end at random."""
_sampled = text(f"state = 'queued' and {IN_SAMPLE}")
# Beyond every virtual time that a tier reaches; see parking.py.
PARKED_FROM = 2.0**40
_parked = text(f"state = 'queued' and vft >= {PARKED_FROM}")
_succeeded = text("state = 'succeeded'")
_failed = text("state in ('failed', 'expired')")
_stopped = text("state in ('blocked', 'cancelled')")
_unended = text("watched_until is not null and finished_at is null")
_keyed = text("idempotency_key is not null")
_hashed = text("body_hash <> ''")
_with_parent = text("parent is not null")
# state is in it only so that SQLite sees that counting needs no row
Index("jobs_ready", jobs.c.lane, jobs.c.tier, jobs.c.vft, jobs.c.seq, jobs.c.cost_seconds,
      jobs.c.state, sqlite_where=_queued, postgresql_where=_queued)  # fmt: skip
Index("jobs_sampled", jobs.c.lane, jobs.c.tier, jobs.c.vft, jobs.c.seq, jobs.c.cost_seconds,
      jobs.c.state, jobs.c.id, sqlite_where=_sampled, postgresql_where=_sampled)  # fmt: skip
Index("jobs_waiting", jobs.c.tenant, jobs.c.lane, jobs.c.seq,
      sqlite_where=_queued, postgresql_where=_queued)  # fmt: skip
Index("jobs_parked", jobs.c.tenant, jobs.c.vft, sqlite_where=_parked, postgresql_where=_parked)
Index("jobs_overdue", jobs.c.deadline_at, sqlite_where=_queued, postgresql_where=_queued)
Index("jobs_finished", jobs.c.lane, jobs.c.finished_at,
      sqlite_where=_succeeded, postgresql_where=_succeeded)  # fmt: skip
# One that a job which succeeds is never in.
Index("jobs_failed", jobs.c.finished_at, jobs.c.seq, sqlite_where=_failed, postgresql_where=_failed)
Index("jobs_stopped", jobs.c.finished_at, sqlite_where=_stopped, postgresql_where=_stopped)
Index("jobs_watched", jobs.c.watched_until, sqlite_where=_unended, postgresql_where=_unended)
Index("jobs_of_tenant", jobs.c.tenant, jobs.c.seq, jobs.c.tier)
Index("jobs_of_body", jobs.c.tenant, jobs.c.body_hash, jobs.c.seq,
      sqlite_where=_hashed, postgresql_where=_hashed)  # fmt: skip
Index("jobs_of_key", jobs.c.tenant, jobs.c.idempotency_key, jobs.c.lane, unique=True,
      sqlite_where=_keyed, postgresql_where=_keyed)  # fmt: skip
Index("jobs_of_parent", jobs.c.tenant, jobs.c.parent, jobs.c.seq,
      sqlite_where=_with_parent, postgresql_where=_with_parent)  # fmt: skip

renders = Table(
    "renders",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("pass_no", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("previews", Text, nullable=False),  # JSON list of pass numbers
    Column("blob", Text),
    Column("stage", Text),
    Column("categories", Text, nullable=False),  # JSON list
    Column("error", Text),
    Column("checkpoint", LargeBinary),
    Column("checkpoint_pass", Integer),  # passes done in it; null for pass_no
    Column("life", Text),  # what happened to it; see life.py
    Column("gpu_seconds", Double),
    Column("joules", Double),
    Column("revised_prompt", Text),  # what was drawn, in words; null: the prompt
    Column("redrawn", Text),  # cells drawn anew, in hex; null: those of the request's source
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 50},  # heartbeats update in place
)

# One row per held job and none else, so that the rescuer reads it whole: an index on lease_until
# would cost every heartbeat and save nothing.
leases = Table(
    "leases",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("lane", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("images", Integer, nullable=False),  # that were not settled when it was claimed
    Column("passes", Integer, nullable=False),  # of each image
    Column("claimed_at", Double, nullable=False),
    Column("yield_to", Text),  # the tier that it is preempted for
    Column("fence", BigInteger, nullable=False),
    Column("worker", Text, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("lease_seconds", Double, nullable=False),
    Column("progress", BigInteger, nullable=False),  # Job.progress when it was claimed
    Column("cancel_requested", Boolean, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 50},
)
Index("leases_of_tenant", leases.c.tenant, leases.c.tier, leases.c.images)  # no heartbeat's

# Virtual times belong to a (lane, tier): no tier delays the newcomers of another. vtime orders its
# tenants' jobs (it ages, and was true at vtime_at), began and ended are its place among the tiers.
lanes = Table(
    "lanes",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("vtime", Double, nullable=False),
    Column("vtime_at", Double, nullable=False),
    Column("began", Double, nullable=False),
    Column("ended", Double, nullable=False),
    sqlite_with_rowid=False,
)

flows = Table(
    "flows",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("vft", Double, nullable=False),
    sqlite_with_rowid=False,
)

quota = Table(
    "quota",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("used", Integer, nullable=False),
    # given back although the prompt was refused; see tiers.REFUNDED_BLOCKS_PER_DAY
    Column("refunded_blocks", Integer, nullable=False, server_default="0"),
    Column("refunded_passes", Integer, nullable=False, server_default="0"),  # likewise, see Refunds
    sqlite_with_rowid=False,
)

# What was used, by hour; kept when the jobs are forgotten. part: processes that settle images of
# one tenant at the same time seldom wait for each other.
usage = Table(
    "usage",
    metadata,
    Column("hour", BigInteger, primary_key=True),  # its beginning, in seconds since the epoch
    Column("tenant", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("size", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("images", BigInteger, nullable=False),  # delivered
    Column("requests", BigInteger, nullable=False),  # jobs with a picture
    Column("gpu_seconds", Double, nullable=False),  # of all images, however they ended
    Column("joules", Double, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 50},
)

# How far heat tightens the limits of each lane; see limit_levels.py.
limit_levels = Table(
    "limit_levels",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("level", Integer, nullable=False),
    Column("since", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("drain_seconds", Double, nullable=False),
    Column("read_at", Double, nullable=False),
    Column("held_since", Double, nullable=False),
    sqlite_with_rowid=False,
)

# Every change of that level, for ever.
limit_changes = Table(
    "limit_changes",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("from_level", Integer, nullable=False),
    Column("to_level", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("drain_seconds", Double, nullable=False),
    sqlite_with_rowid=False,
)

# Readings of each queue's load, of every step of so many seconds one; see history.py.
load_samples = Table(
    "load_samples",
    metadata,
    Column("step", Integer, primary_key=True),
    Column("bucket", BigInteger, primary_key=True),
    Column("queue", Text, primary_key=True),
    Column("work_seconds", Double, nullable=False),
    Column("said", Text, nullable=False),  # JSON of LoadSample
    sqlite_with_rowid=False,
)

# What the scaling policies of decoders decided; see history.py.
scaling_changes = Table(
    "scaling_changes",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("from_replicas", Integer, nullable=False),
    Column("to_replicas", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_with_rowid=False,
)

# How far each lane's collector has come in each step of forgetting; until when one has the turn.
retention = Table(
    "retention",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("until", Double, nullable=False),
    sqlite_with_rowid=False,
)

# What an image has cost, in GPU-seconds: a moving average, and of how many renders in all.
costs = Table(
    "costs",
    metadata,
    Column("model", Text, primary_key=True),
    Column("pixels", BigInteger, primary_key=True),  # of the picture, width times height
    Column("passes", Integer, primary_key=True),
    Column("seconds", Double, nullable=False),
    Column("renders", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# The models of each lane, as they announce themselves; see announcements.py.
models = Table(
    "models",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("lane", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("said", Text, nullable=False),  # JSON of the rest of Announcement
    Column("announced_at", Double, nullable=False),
    Column("ready_at", Double),
    Column("seen_at", Double, nullable=False),
    sqlite_with_rowid=False,
)

# What the safety screens decided; see verdicts.py. Rows are added, never changed.
verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", _serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("lane", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("idx", Integer),  # null: of the whole order
    Column("stage", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("said", Text, nullable=False),  # JSON of the rest of VerdictNote
)
_acted = text("action <> 'allow'")
Index("verdicts_acted", verdicts.c.action, verdicts.c.seq,
      sqlite_where=_acted, postgresql_where=_acted)  # fmt: skip
Index("verdicts_of_tenant", verdicts.c.tenant, verdicts.c.at,
      sqlite_where=_acted, postgresql_where=_acted)  # fmt: skip
Index("verdicts_of_lane", verdicts.c.lane, verdicts.c.at)
Index("verdicts_of_job", verdicts.c.job_id)
# What people made of them: the newest holds.
reviews = Table(
    "reviews",
    metadata,
    Column("verdict", BigInteger, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("decision", Text, nullable=False),
    sqlite_with_rowid=False,
)

# What operators changed; see admin_calls.py. Rows are added, never changed and never deleted.
admin_calls = Table(
    "admin_calls",
    metadata,
    Column("seq", _serial, primary_key=True),
    Column("call", Text, nullable=False),  # two rows each: begun, and its outcome
    Column("at", Double, nullable=False),
    Column("operator", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)
Index("admin_calls_of_call", admin_calls.c.call, admin_calls.c.seq)

# What the marker of the blobs' directory says; see blobs/marker.py.
stores = Table(
    "stores",
    metadata,
    Column("name", Text, primary_key=True),
    Column("id", Text, nullable=False),
)

# Pictures that came from outside; their bytes are blobs. See files.py.
files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("blobs", Text, nullable=False),  # JSON list of keys
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
Index("files_of_tenant", files.c.tenant, files.c.purpose, files.c.created_at, files.c.id)
Index("files_expiring", files.c.expires_at)

# -- accounts: clients and their keys, in the jobs' database for exact quota (decisions/0012)
tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tier", Text, nullable=False),  # as of the newest submit
    Column("created_at", Double, nullable=False),
)

# Of a key only its hash is kept: keys are too long and random to be found by trying.
api_keys = Table(
    "api_keys",
    metadata,
    Column("hash", Text, primary_key=True),  # sha256, hex
    Column("prefix", Text, nullable=False, unique=True),  # names the key for people
    Column("tenant", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("rotated_at", Double),
    Column("revoked_at", Double),
    Column("role", Text),  # null: tenant
)
Index("api_keys_of_tenant", api_keys.c.tenant)

# One row.
accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # grows with every change of a key: whether what a gateway remembers still holds
    Column("revision", BigInteger, nullable=False),
    Column("url_secret", Text, nullable=False),  # hex; signs the URLs of pictures
)
