"""Every SQL statement of the ledger, written once for SQLite and PostgreSQL.

Compiled once and cached. Each write carries the state or fence that it expects.
"""

from __future__ import annotations

from sqlalchemy import text

from jobs.db.compiled import locking as _locking
from jobs.db.compiled import of_ids as _many
from jobs.db.compiled import of_leases as _held
from jobs.db.compiled import of_pairs as _pairs
from jobs.db.compiled import passing as _passing
from jobs.db.schema import IN_SAMPLE, PARKED_FROM
from jobs.job import STARTED_KEPT_SECONDS

JOB_COLUMNS = """j.id, j.state, j.fence, j.attempts, j.cancel_requested, j.created_at,
    j.started_at, j.finished_at, j.deadline_at, j.watched_until, j.errors, j.request,
    j.preemptions, (select worker from leases where job_id = j.id) as worker"""
RENDER_COLUMNS = """job_id, idx, state, pass_no, attempts, previews, blob, stage, categories,
    error, checkpoint, checkpoint_pass, life, gpu_seconds, joules, revised_prompt, redrawn"""

JOBS = _many(f"select {JOB_COLUMNS} from jobs j where j.id in :ids")
RENDERS = _many(f"select {RENDER_COLUMNS} from renders where job_id in :ids order by job_id, idx")
# The row in `jobs` is its job's lock, taken before a job is moved, and several in this order.
# SQLite, which has one writer at a time, needs none of these.
_LOCK = "select id from jobs where id in :ids order by id for update"
LOCK_JOBS = _many(_LOCK)
LOCK_FREE_JOBS = _many(f"{_LOCK} skip locked")
KNOWN_JOB = text("select 1 from jobs where id = :id")
RECENT = text("""select id from jobs where tenant = :tenant and tier <> :but
    order by seq desc limit :limit""")
# A subquery, because SQLite would make a filter of all jobs for a join.
ANCESTORS = text("""with recursive line(id, parent, steps) as (
        select id, parent, 0 from jobs where id = :id and tenant = :tenant
        union all
        select parent, (select j.parent from jobs j where j.id = line.parent), steps + 1 from line
        where parent is not null and steps < :limit)
    select id, steps from line where steps > 0""")
CHILDREN = text("""select id from jobs where tenant = :tenant and parent = :parent
    order by seq desc limit :limit""")

# -- submit
# Submits of one tenant take turns from here to their commit: on PostgreSQL a conflict locks the
# row even where there is nothing to update. So keys, quota and limits are exact.
_TENANT = """insert into tenants (id, tier, created_at) values (:tenant, :tier, :now)
    on conflict (id) do update set tier = excluded.tier where tenants.tier <> excluded.tier"""
TENANT = text(_TENANT)
KNOWN_TENANT = text("select 1 from tenants where id = :tenant")
BY_KEY = text("""select id, body_hash, state, cancel_requested, created_at, request from jobs
    where tenant = :tenant and idempotency_key = :key and lane = :lane""")
# A job with each of the keys, in any lane. Of a join, PostgreSQL might read all there are.
KEYS = _pairs("""select first, second, (select min(id) from jobs
        where tenant = first and idempotency_key = second) as id from :pairs asked""")
DROP_KEY = text("update jobs set idempotency_key = null where id = :id")
# A job that ended without a picture of ours is no answer to a retry; a cancelled one is dying; one
# with a key is found by that alone.
BY_BODY = text("""select id, answered_at, watched_until, request from jobs
    where tenant = :tenant and body_hash = :body_hash and body_hash <> '' and lane = :lane
      and created_at > :since and not cancel_requested and idempotency_key is null
      and state not in ('cancelled', 'expired', 'failed')
    order by seq desc limit :limit""")
_ADD_QUOTA = """on conflict (tenant, day) do update set used = quota.used + excluded.used
    where quota.used + excluded.used <= :limit
    returning used"""
TAKE_QUOTA = text(f"insert into quota (tenant, day, used) values (:tenant, :day, :n) {_ADD_QUOTA}")
REFUNDS = _locking("""select day, refunded_blocks, refunded_passes from quota
    where tenant = :tenant and day = (select day from jobs where id = :id) for update""")
GIVE_QUOTA = text("""update quota set used = used - :images, refunded_blocks = :blocks,
        refunded_passes = :passes
    where tenant = :tenant and day = :day""")
USED_QUOTA = text("select used from quota where tenant = :tenant and day = :day")
LAST_ALLOWED = text("""select seq from jobs
    where tenant = :tenant and lane = :lane and state = 'queued' and tier <> 'batch'
    order by seq limit 1 offset :limit - 1""")
FIRST_WAITING = text("""select id from jobs
    where tenant = :tenant and lane = :lane and state = 'queued' and tier <> 'batch'
    order by seq limit 1""")
WAITING = text("""select count(*) from (select 1 from jobs
    where tenant = :tenant and lane = :lane and state = 'queued' and tier <> 'batch'
    limit :limit) waiting""")
NEW_LANE = text("""insert into lanes (lane, tier, vtime, vtime_at, began, ended)
    values (:lane, :tier, 0.0, :now, 0.0, 0.0) on conflict (lane, tier) do nothing""")
# fair_queue.stamp and fair_queue.aged. A busy tenant's next stamp follows its last one; an idle one
# starts at the tier's virtual time, so that idling earns no credit. No row: the lane is new.
_STAMP = """insert into flows (lane, tier, tenant, vft)
    select lane, tier, :tenant, :cost + vtime + :ageing *
        (case when :now > vtime_at then :now - vtime_at else 0.0 end)
    from {lanes} where lane = :lane and tier = :tier
    on conflict (lane, tier, tenant) do update set vft =
        case when flows.vft + :cost > excluded.vft then flows.vft + :cost else excluded.vft end
    returning vft"""
STAMP = text(_STAMP.format(lanes="lanes"))
# TENANT, TAKE_QUOTA and STAMP in this order and in one round trip, on PostgreSQL. No row: the quota
# is used up or the lane is new, and nothing but the tenant was written.
ADMIT = text(f"""with entered as ({_TENANT} returning 1),
    taken as (insert into quota (tenant, day, used) select :tenant, :day, cast(:n as integer)
        from lanes where lane = :lane and tier = :tier and (select count(*) from entered) < 2
        {_ADD_QUOTA}),
    stamped as ({_STAMP.format(lanes="lanes cross join taken")})
    select used, vft from taken cross join stamped""")
NEW_JOB = text("""insert into jobs (id, lane, tier, tenant, state, vft, cost_seconds, fence,
        attempts, cancel_requested, created_at, deadline_at, watched_until, day, idempotency_key,
        body_hash, errors, request, parent)
    values (:id, :lane, :tier, :tenant, 'queued', :vft, :cost, 0, 0, :no, :now, :deadline_at,
        :watched_until, :day, :key, :body_hash, '[]', :request, :parent)""")
NEW_RENDER = text("""insert into renders
        (job_id, idx, state, pass_no, attempts, previews, categories)
    values (:job_id, :idx, 'waiting', 0, 0, '[]', '[]')""")

# -- claim
# Ordered, or PostgreSQL trusts to meet a queued one soon among all that have ended.
ANY_QUEUED = text("""select 1 from jobs where lane = :lane and state = 'queued'
    order by tier, vft, seq limit 1""")
_TIERS_OF_LANE = "select tier, vtime, vtime_at, began, ended from lanes where lane = :lane"
TIERS_OF_LANE = text(_TIERS_OF_LANE)
# Claims of one lane come one after the other: what one has served decides what the next one serves.
LOCK_TIERS_OF_LANE = _locking(f"{_TIERS_OF_LANE} order by tier for update")
# Of a queued job, `Job.progress > 0`. Counted: PostgreSQL would read all images for `exists`.
_STARTED = """(select count(*) from renders s where s.job_id = {}
    and (s.state <> 'waiting'
        or coalesce(s.checkpoint_pass, s.pass_no) > 0 and s.checkpoint is not null)) > 0"""
_KEPT = f":now - {STARTED_KEPT_SECONDS}"
HEADS = _passing(f"""select id, vft, cost_seconds, tenant,
        (select count(*) from renders where job_id = jobs.id) as images
    from jobs
    where lane = :lane and tier = :tier and state = 'queued' and vft < {PARKED_FROM}
      and (deadline_at > :now or deadline_at > {_KEPT} and {_STARTED.format("jobs.id")})
      and (watched_until is null or watched_until > :now)
      and id not in :passed
    order by vft, seq limit :limit for update skip locked""")
RENDERS_OF = text("""select cast(coalesce(sum(images), 0) as integer) from leases
    where tenant = :tenant and tier <> 'batch'""")
UNDER_WAY = _many("""select tenant, sum(images) as images from leases
    where tenant in :ids and tier <> 'batch' group by tenant""")
_PARKED = f"state = 'queued' and vft >= {PARKED_FROM}"
PARK = _many(f"update jobs set vft = vft + {PARKED_FROM} where id in :ids")
UNPARK = text(f"""update jobs set vft = vft - {PARKED_FROM} where seq in
    (select seq from jobs where tenant = :tenant and {_PARKED} order by vft limit 2)""")
# Steps from tenant to tenant, because one may have very many jobs parked.
STRAYS = text(f"""with recursive parked(tenant) as (
        select min(tenant) from jobs where {_PARKED}
        union all
        select (select min(tenant) from jobs where {_PARKED} and tenant > parked.tenant)
        from parked where parked.tenant is not null
    )
    select tenant from parked where tenant is not null
        and not exists (select 1 from leases l where l.tenant = parked.tenant)""")
SERVED = text("""update lanes set vtime = :vtime, vtime_at = :now, began = :began, ended = :ended
    where lane = :lane and tier = :tier""")
# What JobEvent.LEASE does to every one of them, in one go. A held job is stored as leased, however
# far its images are: so heartbeats leave this row, and all the indexes that its state is in, alone.
LEASE = _many("""update jobs set state = 'leased', fence = fence + 1,
        started_at = coalesce(started_at, :now)
    where id in :ids and state = 'queued'""")
NEW_LEASE = text("""insert into leases
        (job_id, lane, tier, tenant, images, passes, claimed_at, fence, worker, lease_until,
        lease_seconds, progress, cancel_requested)
    values (:job_id, :lane, :tier, :tenant, :images, :passes, :now, :fence, :worker, :lease_until,
        :lease_seconds, :progress, :no)""")

# -- preempt
HELD = text("""select l.job_id, l.tier, l.images, l.passes, l.claimed_at, l.worker, l.yield_to,
        j.preemptions, j.way_made, j.created_at,
        (select max(r.pass_no) from renders r where r.job_id = l.job_id
            and r.state in ('waiting', 'rendering')) as pass_no,
        exists (select 1 from renders r where r.job_id = l.job_id
            and r.state = 'rendering') as drawing
    from leases l cross join jobs j where j.id = l.job_id and l.lane = :lane""")
QUEUED_PREEMPTORS = text(f"""select j.id, j.created_at,
        (select count(*) from renders r where r.job_id = j.id) as images
    from jobs j
    where j.lane = :lane and j.tier = :tier and j.state = 'queued' and not j.way_made
      and (j.deadline_at > :now or j.deadline_at > {_KEPT} and {_STARTED.format("j.id")})
      and (j.watched_until is null or j.watched_until > :now)
      and j.vft < {PARKED_FROM}
    order by j.vft, j.seq limit :limit""")
PREEMPT = text("update leases set yield_to = :tier where job_id = :job_id")
COUNT_PREEMPTIONS = _many("update jobs set preemptions = preemptions + 1 where id in :ids")
SLOTS_CLEARED = _many("update jobs set way_made = :yes where id in :ids")

# -- renew
# By ids, too, because PostgreSQL would read all leases to find a few pairs.
_RENEW = """update leases set lease_until = :lease_until, lease_seconds = :lease_seconds
    where job_id in :ids and (job_id, fence) in :held"""
_RENEWED = """select l.job_id, l.fence, l.cancel_requested, l.yield_to, r.idx, r.state, r.previews
    from {} l join renders r on r.job_id = l.job_id"""
RENEW = _held(_RENEW)
RENEWED = _many(f"{_RENEWED.format('leases')} where l.job_id in :ids")
# Both behind LOCK_JOBS, on PostgreSQL. It reads images as they were before it waited for a lock.
RENEW_AT_ONCE = _held(f"""with locked as ({_LOCK}),
        renewed as ({_RENEW} and job_id in (select id from locked) returning *)
    {_RENEWED.format("renewed")}""")
BEAT = text("""update renders set state = :state, pass_no = :pass_no, previews = :previews,
        checkpoint = coalesce(:checkpoint, checkpoint), checkpoint_pass = :checkpoint_pass,
        life = coalesce(:life, life), gpu_seconds = coalesce(:gpu_seconds, gpu_seconds),
        joules = coalesce(:joules, joules)
    where job_id = :job_id and idx = :idx and state = :was""")

# -- every other move of a job
STORE_JOB = text("""update jobs set state = :state, fence = :fence, attempts = :attempts,
        cancel_requested = :cancel_requested, started_at = :started_at,
        finished_at = :finished_at, errors = :errors
    where id = :id and fence = :was_fence and state = :was""")
STORE_RENDER = text("""update renders set state = :state, pass_no = :pass_no,
        attempts = :attempts, previews = :previews, blob = :blob, stage = :stage,
        categories = :categories, error = :error, checkpoint = :checkpoint,
        checkpoint_pass = :checkpoint_pass, life = :life, gpu_seconds = :gpu_seconds,
        joules = :joules, revised_prompt = :revised_prompt, redrawn = :redrawn
    where job_id = :job_id and idx = :idx and state = :was""")
# And of which tenant, where it has jobs parked, or wants to be told of ends.
DROP_LEASES = _held(f"""delete from leases where job_id in :ids and (job_id, fence) in :held
    returning case when exists (select 1 from jobs j where j.tenant = leases.tenant and {_PARKED})
        then tenant end,
        case when exists (select 1 from webhook_endpoints e where e.tenant = leases.tenant
            and e.disabled_at is null) then tenant end""")
USED = text("""insert into usage (hour, tenant, model, size, source, part, images, requests,
        gpu_seconds, joules)
    values (:hour, :tenant, :model, :size, :source, :part, :images, :requests, :gpu_seconds,
        :joules)
    on conflict (hour, tenant, model, size, source, part) do update set
        images = usage.images + excluded.images, requests = usage.requests + excluded.requests,
        gpu_seconds = usage.gpu_seconds + excluded.gpu_seconds,
        joules = usage.joules + excluded.joules""")
LEASE_PROGRESS = text("select progress from leases where job_id = :job_id")
CANCEL_LEASE = text("update leases set cancel_requested = :yes where job_id = :job_id")

# -- watching
MOVED = _many("""select job_id from leases union all
    select id from jobs where state in ('failed', 'expired') and finished_at > :since union all
    select id from jobs where state in ('blocked', 'cancelled') and finished_at > :since union all
    select id from jobs where lane in :ids and state = 'succeeded' and finished_at > :since""")
# An order that rejoins a job counts, also when it has ended: the next one that looks takes another.
# A job that was promised to an asynchronous order is watched no more, whatever else waits for it.
REJOIN = text("""update jobs set
        watched_until = case when watched_until is null then null
            when :watched or finished_at is not null then :until end,
        answered_at = case when :watched then answered_at else :now end,
        deadline_at = case when deadline_at < :deadline_at then :deadline_at else deadline_at end,
        orders = orders + :more
    where id = :id""")
WATCH = _many("""update jobs set watched_until = :until
    where id in :ids and finished_at is null and watched_until < :until""")
# Not where it was renewed for another connection since, beyond what this one has seen.
LEFT = text("""update jobs set watched_until = :until
    where id = :id and finished_at is null and watched_until > :until and watched_until <= :seen""")
WITHDRAW = text("update jobs set orders = orders - 1 where id = :id and orders > 1")
ANSWERED = _many("update jobs set answered_at = :now where id in :ids and answered_at is null")

# -- expire
LAPSED_LEASES = text("""select job_id, lease_until, lease_seconds, progress from leases
    where lease_until <= :now or lease_until > :now + 2 * lease_seconds""")
# Those that the clock went back before: their holders, if they live, renew them within a lease.
SHORTEN_LEASES = _many("""update leases set lease_until = :now + lease_seconds
    where job_id in :ids""")
OVERDUE = _passing(f"""select id from jobs
    where state = 'queued' and deadline_at <= :now and id not in :passed
      and (deadline_at <= {_KEPT} or not {_STARTED.format("jobs.id")})
    order by deadline_at limit :limit""")
UNWATCHED = _passing("""select id, watched_until from jobs
    where watched_until is not null and finished_at is null and watched_until <= :now
      and not cancel_requested and id not in :passed
    order by watched_until limit :limit""")

# -- how long is the queue
STANDING = _many("select id, lane, tier, state, vft, seq, cost_seconds from jobs where id in :ids")
FIRST_QUEUED = text("""select vft, seq, cost_seconds from jobs
    where lane = :lane and tier = :tier and state = 'queued' order by vft, seq limit :limit""")
SAMPLED = text(f"""select vft, seq, cost_seconds from jobs
    where lane = :lane and tier = :tier and state = 'queued' and {IN_SAMPLE} order by vft, seq""")
# Of the next jobs of a tier: heavy tenants sort later, and wait for their own jobs.
FIRST_ARRIVAL = text(f"""select min(created_at) from (
    select created_at from jobs
    where lane = :lane and tier = :tier and state = 'queued' and vft < {PARKED_FROM}
    order by vft, seq limit 100) ahead""")
ARRIVED = text("""select count(*) as jobs, min(created_at) as first,
        coalesce(sum(case when lane = :lane and tier <> 'batch' then cost_seconds end), 0.0)
        as seconds
    from (select lane, tier, cost_seconds, created_at from jobs
        order by seq desc limit :limit) newest
    where created_at > :since and created_at <= :now""")
# Cross joins, because SQLite then starts from the few leases instead of from a million jobs.
ACTIVE = text("""select j.id, j.cost_seconds,
        (select count(*) from renders where job_id = j.id) as images, l.passes,
        r.state, r.pass_no, j.started_at, l.tier
    from leases l cross join jobs j cross join renders r
    where j.id = l.job_id and r.job_id = l.job_id and l.lane = :lane""")
FINISHED = text("""select started_at, finished_at, cost_seconds from jobs
    where lane = :lane and state = 'succeeded' and finished_at > :since and finished_at <= :now
    order by finished_at desc limit :limit""")

# -- costs
# An average of the newest; a measurement far off moves it by no more than one four times off.
LEARN = text("""insert into costs (model, pixels, passes, seconds, renders)
    values (:model, :pixels, :passes, :seconds, :renders)
    on conflict (model, pixels, passes) do update set
        seconds = costs.seconds + :weight * (
            case when excluded.seconds > 4 * costs.seconds then 4 * costs.seconds
                when excluded.seconds < costs.seconds / 4 then costs.seconds / 4
                else excluded.seconds end - costs.seconds),
        renders = costs.renders + excluded.renders""")
COSTS = text("""select model, pixels, passes, seconds, renders from costs
    where model = :model order by renders desc limit :limit""")

# -- files
FILE_COLUMNS = """id, tenant, purpose, filename, bytes, width, height, blobs, created_at,
    expires_at"""
_KEPT_FILE = "tenant = :tenant and expires_at > :now"
_SHOWN = f"{_KEPT_FILE} and purpose in ('vision', 'batch', 'batch_output')"
NEW_FILE = text(f"""insert into files ({FILE_COLUMNS}) values (:id, :tenant, :purpose, :filename,
    :bytes, :width, :height, :blobs, :created_at, :expires_at)""")
# On PostgreSQL; a tenant that only uploads has no row to lock.
LOCK_FILES = text("select pg_advisory_xact_lock(hashtextextended(:tenant, 7))")
FILES_KEPT = text(f"""select count(*) as files, cast(coalesce(sum(bytes), 0) as bigint) as bytes
    from files where {_KEPT_FILE} and purpose = :purpose""")
FILE = text(f"select {FILE_COLUMNS} from files where id = :id and {_SHOWN}")
_OF_PURPOSE = f"{_SHOWN} and (:purpose = '' or purpose = :purpose)"
FILES = text(f"""select {FILE_COLUMNS} from files where {_OF_PURPOSE}
    order by created_at desc, id desc limit :limit""")
FILES_AFTER = text(f"""select {FILE_COLUMNS} from files where {_OF_PURPOSE}
    and (created_at, id) < (select created_at, id from files where id = :after
        and tenant = :tenant)
    order by created_at desc, id desc limit :limit""")
DROP_FILE = text("""update files set expires_at = :now
    where id = :id and tenant = :tenant and expires_at > :now""")
EXPIRE_FILES = _many("""update files set expires_at = :now
    where id in :ids and expires_at > :now""")
STALE_FILES = text(f"""select {FILE_COLUMNS} from files where expires_at <= :now
    order by expires_at limit :limit""")
POSTPONE_FILE = text(f"""insert into files ({FILE_COLUMNS}) values (:id, :tenant, :purpose,
        :filename, :bytes, :width, :height, :blobs, :created_at, :expires_at)
    on conflict (id) do update set expires_at = excluded.expires_at, blobs = excluded.blobs""")
FILES_OF_TENANT = text(f"select {FILE_COLUMNS} from files where tenant = :tenant limit :limit")
FORGET_FILES = _many("delete from files where id in :ids")

# -- the blobs' directory
STORE_ID = text("select id from stores where name = 'blobs'")
NEW_STORE_ID = text("""insert into stores (name, id) values ('blobs', :id)
    on conflict (name) do nothing""")

# -- models
STILL_ANNOUNCED = text("""select 1 from models
    where queue = :queue and lane = :lane and name = :name and said = :said
      and seen_at > :since and (ready_at is not null) = :ready""")
# A model has one queue, and a queue one model: the newest announcement holds.
MOVED_MODEL = text("delete from models where lane = :lane and name = :name and queue <> :queue")
# What is not the same any more, or was silent, is ready since it says so again.
_SAME = "models.name = excluded.name and models.said = excluded.said and models.seen_at > :since"
ANNOUNCE = text(f"""insert into models (queue, lane, name, said, announced_at, ready_at, seen_at)
    values (:queue, :lane, :name, :said, :now, :ready_at, :now)
    on conflict (queue) do update set lane = excluded.lane, name = excluded.name,
        said = excluded.said, seen_at = excluded.seen_at,
        announced_at = case when models.name = excluded.name then models.announced_at
            else excluded.announced_at end,
        ready_at = case when {_SAME} and excluded.ready_at is not null
            then coalesce(models.ready_at, excluded.ready_at) else excluded.ready_at end""")
SAID_OF_QUEUE = text("select said from models where queue = :queue and seen_at > :since")
WITHDRAW_MODEL = text("delete from models where lane = :lane and name = :name")
MODELS = text("""select queue, name, said, announced_at, ready_at, seen_at from models
    where lane = :lane order by queue <> lane, announced_at, name""")

# -- retention
RETENTION_AT = text("select seq, until from retention where lane = :lane and step = :step")
TAKE_RETENTION = text("""insert into retention (lane, step, seq, until)
    values (:lane, :step, 0, :until)
    on conflict (lane, step) do update set until = excluded.until where retention.until <= :now
    returning seq""")
RETENTION_DONE = text("""update retention set seq = :seq, until = 0.0
    where lane = :lane and step = :step and until = :turn""")
NEWEST = text("select coalesce(max(seq), 0) from jobs")
RETREAT = text("""update retention set until = 0.0,
    seq = case when seq > :newest then :newest else seq end""")
AGED = text("""select seq, id, lane, state, fence, created_at, finished_at from jobs
    where seq > :after order by seq limit :limit""")
BLOBS = _many("select job_id, blob, previews from renders where job_id in :ids")
HIDE_PREVIEWS = _many("""update renders set previews = '[]'
    where job_id in :ids and previews <> '[]'""")
HIDE_IMAGES = _many("""update renders set blob = null, previews = '[]', checkpoint = null
    where job_id in :ids and blob is not null""")
DROP_KEYS = _many("""update jobs set idempotency_key = null
    where id in :ids and idempotency_key is not null""")
# Counts of days that no request can refer to any more; one that may be today's stays.
DROP_QUOTA = _many("""delete from quota where (tenant, day) in
    (select tenant, day from jobs where id in :ids and created_at < :before)""")
# Those of which a dispatcher that has lost its lease may be storing a picture yet.
LATE_WRITERS = _many("""select id from jobs j where id in :ids and fence > 0 and (fence > 1
    or exists (select 1 from renders where job_id = j.id and blob is null))""")
DROP_RENDERS = _many("delete from renders where job_id in :ids")
DROP_JOBS = _many("delete from jobs where id in :ids")
DROP_TENANT = (
    text("""delete from reviews
        where verdict in (select seq from verdicts where tenant = :tenant)"""),
    text("delete from verdicts where tenant = :tenant"),
    text("delete from flows where tenant = :tenant"),
    text("delete from quota where tenant = :tenant"),
    text("delete from usage where tenant = :tenant"),
    text("delete from webhook_endpoints where tenant = :tenant"),
    text("delete from webhook_deliveries where tenant = :tenant"),
)
