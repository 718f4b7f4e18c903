CREATE TABLE flows (
    lane TEXT NOT NULL,
    tier TEXT NOT NULL,
    tenant TEXT NOT NULL,
    vft {double} NOT NULL,
    PRIMARY KEY (lane, tier, tenant)
){without_rowid};
CREATE TABLE jobs (
    seq {serial},
    id TEXT NOT NULL,
    lane TEXT NOT NULL,
    tier TEXT NOT NULL,
    tenant TEXT NOT NULL,
    state TEXT NOT NULL,
    vft {double} NOT NULL,
    cost_seconds {double} NOT NULL,
    fence BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    created_at {double} NOT NULL,
    started_at {double},
    finished_at {double},
    deadline_at {double} NOT NULL,
    watched_until {double},
    answered_at {double},
    day TEXT NOT NULL,
    idempotency_key TEXT,
    body_hash TEXT NOT NULL,
    errors TEXT NOT NULL,
    request TEXT NOT NULL,
    UNIQUE (id)
);
CREATE INDEX jobs_finished ON jobs (lane, finished_at) WHERE state = 'succeeded';
CREATE INDEX jobs_of_body ON jobs (tenant, body_hash, seq) WHERE body_hash <> '';
CREATE UNIQUE INDEX jobs_of_key ON jobs (tenant, idempotency_key) WHERE idempotency_key is not null;
CREATE INDEX jobs_of_tenant ON jobs (tenant, seq);
CREATE INDEX jobs_overdue ON jobs (deadline_at) WHERE state = 'queued';
CREATE INDEX jobs_ready ON jobs (lane, tier, vft, seq, cost_seconds, state) WHERE state = 'queued';
CREATE INDEX jobs_watched ON jobs (watched_until) WHERE watched_until is not null and finished_at is null;
CREATE TABLE lanes (
    lane TEXT NOT NULL,
    tier TEXT NOT NULL,
    vtime {double} NOT NULL,
    served_seconds {double} NOT NULL,
    served_at {double} NOT NULL,
    PRIMARY KEY (lane, tier)
){without_rowid};
CREATE TABLE leases (
    job_id TEXT NOT NULL,
    fence BIGINT NOT NULL,
    worker TEXT NOT NULL,
    lease_until {double} NOT NULL,
    lease_seconds {double} NOT NULL,
    progress BIGINT NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    PRIMARY KEY (job_id)
){without_rowid};
CREATE TABLE meltproof_schema (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE quota (
    tenant TEXT NOT NULL,
    day TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
){without_rowid};
CREATE TABLE renders (
    job_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    state TEXT NOT NULL,
    pass_no INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    previews TEXT NOT NULL,
    blob TEXT,
    stage TEXT,
    categories TEXT NOT NULL,
    error TEXT,
    checkpoint {bytes},
    PRIMARY KEY (job_id, idx)
){without_rowid};
INSERT INTO meltproof_schema VALUES (1);
INSERT INTO lanes VALUES ('chat', 'free', 0.0, 0.0, 1000.0);
INSERT INTO flows VALUES ('chat', 'free', 'ada', 1.0);
INSERT INTO quota VALUES ('ada', '2025-03-26', 1);
INSERT INTO jobs (id, lane, tier, tenant, state, vft, cost_seconds, fence, attempts,
        cancel_requested, created_at, deadline_at, day, body_hash, errors, request)
    VALUES ('00a0000000000000000000000000000a', 'chat', 'free', 'ada', 'queued', 1.0, 1.0, 0, 0,
        false, 1000.0, 9999999999.0, '2025-03-26', '', '[]', '{request}');
INSERT INTO renders (job_id, idx, state, pass_no, attempts, previews, categories)
    VALUES ('00a0000000000000000000000000000a', 0, 'waiting', 0, 0, '[]', '[]');
