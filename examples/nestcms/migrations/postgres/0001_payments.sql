-- Times are milliseconds since the Unix epoch, amounts are minor units.
CREATE TABLE payments (
    id              TEXT   NOT NULL PRIMARY KEY,
    user_id         TEXT   NOT NULL,
    order_ref       TEXT   NOT NULL,
    amount_minor    BIGINT NOT NULL CHECK (amount_minor > 0),
    currency        TEXT   NOT NULL,
    method          TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    idempotency_key TEXT   NOT NULL,
    provider_ref    TEXT,
    payment_url     TEXT,
    reason          TEXT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    UNIQUE (user_id, idempotency_key)
);
CREATE UNIQUE INDEX payments_provider_ref ON payments (provider_ref);
CREATE INDEX payments_expiry ON payments (status, expires_at);
CREATE INDEX payments_by_user ON payments (user_id, created_at);

-- A delivery has its effect once: its row is written in the transaction of the effect.
CREATE TABLE webhook_deliveries (
    delivery    TEXT   NOT NULL PRIMARY KEY,
    payment_id  TEXT   NOT NULL,
    recorded_at BIGINT NOT NULL
);

-- A finished job keeps its row, so that it cannot be queued a second time.
CREATE TABLE jobs (
    kind           TEXT   NOT NULL,
    payment_id     TEXT   NOT NULL,
    correlation_id TEXT   NOT NULL,
    due_at         BIGINT NOT NULL,
    attempts       BIGINT NOT NULL,
    done           BIGINT NOT NULL,
    PRIMARY KEY (kind, payment_id)
);
CREATE INDEX jobs_due ON jobs (done, due_at);
