-- What is to be published: written in the transaction of what happened.
CREATE TABLE outbox (
    seq            BIGINT  NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid            XID8    NOT NULL DEFAULT pg_current_xact_id(),
    message_id     TEXT    NOT NULL,
    event_id       TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    key            TEXT    NOT NULL,
    payload        TEXT    NOT NULL,
    correlation_id TEXT    NOT NULL,
    history        TEXT    NOT NULL,
    created_at     BIGINT  NOT NULL,
    retry_at       BIGINT,
    sent_at        BIGINT
);
CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_at IS NULL;
CREATE INDEX outbox_unsent_by_key ON outbox (key, seq) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;

-- Who publishes: one at a time, or a key's order is lost.
CREATE TABLE outbox_dispatcher (
    id     BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    holder TEXT   NOT NULL,
    until  BIGINT NOT NULL
);

-- An event has its effect once: its row is written in the transaction of the effect.
CREATE TABLE inbox (
    consumer TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    seen_at  BIGINT NOT NULL,
    PRIMARY KEY (consumer, event_id)
);

-- What came in: one line for each paid payment.
CREATE TABLE journal (
    event_id     TEXT   NOT NULL,
    payment_id   TEXT   NOT NULL,
    amount_minor BIGINT NOT NULL,
    currency     TEXT   NOT NULL,
    booked_at    BIGINT NOT NULL
);

-- What was given up, and what failed and is tried again (without `died_at`).
CREATE TABLE dead_letters (
    id             TEXT NOT NULL PRIMARY KEY,
    source         TEXT NOT NULL,
    event_id       TEXT NOT NULL,
    kind           TEXT NOT NULL,
    key            TEXT NOT NULL,
    payload        TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    history        TEXT NOT NULL,
    died_at        BIGINT
);
CREATE INDEX dead_letters_by_age ON dead_letters (died_at);
