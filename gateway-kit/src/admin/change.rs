//! What was changed by whom.

use std::collections::VecDeque;

use parking_lot::Mutex;
use resilience_core::clock::SharedClock;
use resilience_core::rate_limit::KeyedRateLimiter;
use serde_json::Value;

use super::access::wrong_tokens;
use super::types;

/// The most changes remembered.
const MOST: usize = 200;

/// What the admin keeps through reloads.
#[derive(Debug)]
pub(crate) struct State {
    /// Wrong tokens by address.
    pub(super) wrong: KeyedRateLimiter<[u8]>,
    /// Held by whoever changes something, so that a revision is still that one.
    pub(crate) writing: Mutex<()>,
    /// The latest first.
    changes: Mutex<VecDeque<types::Change>>,
}

/// A change that an operation made.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) action: &'static str,
    pub(super) target: String,
    pub(super) before: Value,
    pub(super) after: Value,
}

impl State {
    pub(crate) fn new(clock: &SharedClock) -> Self {
        Self {
            wrong: wrong_tokens(clock),
            writing: Mutex::default(),
            changes: Mutex::default(),
        }
    }

    pub(super) fn changes(&self) -> Vec<types::Change> {
        self.changes.lock().iter().cloned().collect()
    }

    /// Remembers a change and tells the log of it.
    pub(super) fn record(&self, change: types::Change) {
        tracing::info!(
            target: "gateway_kit::admin",
            actor = %change.actor,
            by = change.by,
            action = change.action,
            // As a text, which the log escapes: parts of it come with the request.
            on = change.target.as_str(),
            before = %change.before,
            after = %change.after,
            revision = change.revision,
            "changed"
        );
        let mut changes = self.changes.lock();
        changes.truncate(MOST - 1);
        changes.push_front(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_changes_are_remembered() {
        let state = State::new(&SharedClock::std());
        for revision in 1..=MOST as u64 + 50 {
            state.record(types::Change {
                revision,
                at: std::time::UNIX_EPOCH,
                uptime_seconds: 0.0,
                actor: "127.0.0.1".to_owned(),
                by: "token",
                action: "endpoint.weight",
                target: "shop/a:1".to_owned(),
                before: Value::Null,
                after: Value::Null,
            });
        }
        let changes = state.changes().into_iter();
        let revisions: Vec<u64> = changes.map(|change| change.revision).collect();
        assert_eq!(revisions, (51..=250).rev().collect::<Vec<_>>());
    }
}
