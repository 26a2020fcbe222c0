//! The outbox, in words that SQLite and PostgreSQL share.

use crate::{domain::event::Timestamp, ports::Attempt};

/// An entry: message, event, kind, key, payload, correlation, history, when it was written.
pub(in crate::adapters) const PUT: &str = "INSERT INTO outbox (message_id, event_id, kind, key, \
     payload, correlation_id, history, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Takes the lead: holder, until, now.
pub(in crate::adapters) const LEAD: &str = "INSERT INTO outbox_dispatcher (id, holder, until) \
     VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, \
     until = excluded.until WHERE outbox_dispatcher.holder = $1 OR outbox_dispatcher.until <= $3";

/// Puts an entry off: history, until, entry.
pub(in crate::adapters) const PUT_OFF: &str =
    "UPDATE outbox SET history = $1, retry_at = $2 WHERE seq = $3 AND sent_at IS NULL";

/// Takes an entry out.
pub(in crate::adapters) const TAKE: &str = "DELETE FROM outbox WHERE seq = $1 AND sent_at IS NULL";

/// A dead letter: id, source, event, kind, key, payload, correlation, history, when it died.
pub(in crate::adapters) const BURY: &str = "INSERT INTO dead_letters (id, source, event_id, kind, \
     key, payload, correlation_id, history, died_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     ON CONFLICT (id) DO UPDATE SET history = excluded.history, died_at = excluded.died_at";

/// Removes published entries: before, limit.
pub(in crate::adapters) const SWEEP: &str = "DELETE FROM outbox WHERE seq IN \
     (SELECT seq FROM outbox WHERE sent_at < $1 ORDER BY sent_at LIMIT $2)";

pub(in crate::adapters) const DEPTH: &str = "SELECT COUNT(*), MIN(created_at), \
     (SELECT COUNT(*) FROM dead_letters WHERE died_at IS NOT NULL) \
     FROM outbox WHERE sent_at IS NULL";

/// Dead letters, up to `$1`.
pub(in crate::adapters) const DEAD: &str = "SELECT id, source, event_id, kind, key, payload, \
     correlation_id, history, died_at FROM dead_letters WHERE died_at IS NOT NULL \
     ORDER BY died_at DESC, id DESC LIMIT $1";

/// The one of id `$1`.
pub(in crate::adapters) const DEAD_ONE: &str = "SELECT id, source, event_id, kind, key, payload, \
     correlation_id, history, died_at FROM dead_letters WHERE died_at IS NOT NULL AND id = $1";

/// Puts the one of id `$1` back: id, message, history, now.
pub(in crate::adapters) const REPLAY: &str = "INSERT INTO outbox (message_id, event_id, kind, \
     key, payload, correlation_id, history, created_at) \
     SELECT CAST($2 AS TEXT), event_id, kind, key, payload, correlation_id, \
     CAST($3 AS TEXT), CAST($4 AS BIGINT) \
     FROM dead_letters WHERE id = $1 AND died_at IS NOT NULL";

pub(in crate::adapters) const EXHUME: &str = "DELETE FROM dead_letters WHERE id = $1";

/// Consumer, event, now; no row if it has had the event.
pub(in crate::adapters) const SEEN: &str = "INSERT INTO inbox (consumer, event_id, seen_at) \
     VALUES ($1, $2, $3) ON CONFLICT (consumer, event_id) DO NOTHING";

/// Event, payment, amount, currency, when.
pub(in crate::adapters) const BOOK: &str = "INSERT INTO journal (event_id, payment_id, \
     amount_minor, currency, booked_at) VALUES ($1, $2, $3, $4, $5)";

/// A message that waits: event, channel, recipient, subject, body, correlation, when.
pub(in crate::adapters) const KEEP: &str = "INSERT INTO notifications (event_id, channel, \
     recipient, subject, body, correlation_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT DO NOTHING";

/// Tries of a consumer that failed, dead or not: their history, by `$1`.
pub(in crate::adapters) const TRIES: &str = "SELECT history FROM dead_letters WHERE id = $1";

/// Tries of a consumer that went well in the end.
pub(in crate::adapters) const RECOVERED: &str =
    "DELETE FROM dead_letters WHERE id = $1 AND died_at IS NULL";

/// Of what a consumer gave up.
pub(in crate::adapters) fn dead_id(consumer: &str, event_id: &str) -> String {
    format!("{event_id}.{consumer}")
}

/// The source of what could not be published.
pub(in crate::adapters) const OUTBOX: &str = "outbox";

pub(in crate::adapters) fn history(text: &str) -> Result<Vec<Attempt>, String> {
    serde_json::from_str(text).map_err(|error| format!("history of an event: {error}"))
}

pub(in crate::adapters) fn history_text(history: &[Attempt]) -> Result<String, String> {
    serde_json::to_string(history).map_err(|error| format!("history of an event: {error}"))
}

pub(in crate::adapters) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}
