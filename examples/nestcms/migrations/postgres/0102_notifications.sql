-- Messages to people, waiting to be taken to their channel.
CREATE TABLE notifications (
    event_id       TEXT NOT NULL,
    channel        TEXT NOT NULL,
    recipient      TEXT NOT NULL,
    subject        TEXT NOT NULL,
    body           TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    PRIMARY KEY (event_id, channel, recipient)
);
