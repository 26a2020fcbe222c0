-- Append-only: each entry's hash covers its number, its text and the hash before it.
CREATE TABLE audit_log (
    seq           BIGINT NOT NULL PRIMARY KEY,
    event_id      TEXT   NOT NULL UNIQUE,
    entry         TEXT   NOT NULL,
    previous_hash TEXT   NOT NULL,
    hash          TEXT   NOT NULL
);
