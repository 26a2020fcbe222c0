//! Events that leave with the row change that they tell of, and what becomes of them.

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::{
    domain::{
        event::{Event, Timestamp},
        money::Money,
    },
    events::Message,
};

/// An event that is to be published. Repositories write it in the transaction of the change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its place in the outbox; goes up within a key.
    pub seq: i64,
    /// What those who get it know it by; a replay has another one.
    pub message_id: String,
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub kind: String,
    /// Entries of one key are published one after the other, in their order.
    pub key: String,
    /// The event on the wire.
    pub payload: String,
    /// The request that caused it.
    pub correlation_id: String,
    /// How it failed so far.
    pub history: Vec<Attempt>,
}

/// A try that failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Depth {
    /// Entries that are not published.
    pub waiting: u64,
    /// When the oldest of them was written, since the Unix epoch.
    pub oldest: Option<Duration>,
    /// Dead letters.
    pub dead: u64,
}

/// An event that was given up.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// Who gave it up: `outbox`, or a consumer.
    pub source: String,
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub kind: String,
    /// The key whose order it had.
    pub key: String,
    /// The event on the wire.
    pub payload: String,
    /// The request that caused it.
    pub correlation_id: String,
    /// Every try, with its reason.
    pub history: Vec<Attempt>,
    /// When it was given up.
    pub died_at: Timestamp,
}

/// The outbox and the dead letters.
pub trait Outbox: Debug + Send + Sync {
    /// Makes `holder` the one who publishes until then; `false` while another one is.
    fn lead<'a>(
        &'a self,
        holder: &'a str,
        now: Duration,
        until: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Up to `limit` unsent entries, in the order of each key. Of a key whose entry waits for its
    /// next try there is none, nor of one with an earlier entry that is not to be had yet.
    fn due(&self, now: Duration, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>>;

    /// Books entries as published.
    fn sent<'a>(
        &'a self,
        entries: &'a [i64],
        now: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Keeps the history of an entry that failed, and leaves its key alone until `retry_at`.
    fn put_off<'a>(
        &'a self,
        entry: &'a Entry,
        retry_at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Moves an entry to the dead letters.
    fn bury<'a>(&'a self, entry: &'a Entry, now: Duration)
    -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes up to `limit` entries published before then; answers how many.
    fn sweep(&self, before: Duration, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// What waits.
    fn depth(&self) -> BoxFuture<'_, Result<Depth, StoreError>>;

    /// The newest dead letters.
    fn dead_letters(&self, limit: u32) -> BoxFuture<'_, Result<Vec<DeadLetter>, StoreError>>;

    /// The dead letter of that id.
    fn dead_letter<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>>;

    /// Puts a dead letter back into the outbox, behind what waits there; `false` if there is none.
    fn replay<'a>(&'a self, id: &'a str, now: Duration) -> BoxFuture<'a, Result<bool, StoreError>>;
}

/// What a consumer does with an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// A line in the journal.
    Booking {
        /// What was paid.
        payment_id: String,
        /// How much.
        amount: Money,
        /// When.
        at: Timestamp,
    },
    /// A message to somebody.
    Message(Message),
}

/// Remembers which consumer has had which event.
pub trait Inbox: Debug + Send + Sync {
    /// Gives each event its effect, unless this consumer has had it: all in one transaction.
    /// Answers how many had one.
    fn apply<'a>(
        &'a self,
        consumer: &'a str,
        effects: &'a [(String, Effect)],
        now: Duration,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Books a try of an event that failed; the last of `tries` makes it a dead letter.
    fn failed<'a>(
        &'a self,
        consumer: &'a str,
        event: &'a Entry,
        attempt: Attempt,
        tries: usize,
    ) -> BoxFuture<'a, Result<Failed, StoreError>>;

    /// Forgets the tries of an event that went well in the end.
    fn recovered<'a>(
        &'a self,
        consumer: &'a str,
        event_id: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What follows a try that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failed {
    /// So many tries so far; another one follows.
    Again(usize),
    /// It is a dead letter.
    Dead,
}

/// Takes entries to where others hear of them.
pub trait Publisher: Debug + Send + Sync {
    /// Returns once the entry is kept there, and not before.
    fn publish<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), PublishError>>;
}

/// Why an entry was not published, as far as one knows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Nothing can be published: it says nothing about the entry.
    #[error("nothing can be published: {reason}")]
    Unavailable {
        /// What happened, for the log.
        reason: String,
    },
    /// This entry was refused.
    #[error("{reason}")]
    Refused {
        /// What is wrong with it.
        reason: String,
    },
}

impl Entry {
    /// The entry of `event`, before it has its place. Events of one payment are of one key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when the event has no form on the wire.
    pub fn of(event: &Event) -> Result<Self, StoreError> {
        let payload = serde_json::to_string(event).map_err(|error| StoreError::Corrupt {
            reason: format!("event {}: {error}", event.id),
        })?;
        Ok(Self {
            seq: 0,
            message_id: event.id.clone(),
            event_id: event.id.clone(),
            kind: event.event_type().to_owned(),
            key: event.data.payment_id().unwrap_or(&event.id).to_owned(),
            payload,
            correlation_id: event.correlation_id.clone(),
            history: Vec::new(),
        })
    }
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        let reason = error.to_string();
        match error {
            StoreError::Corrupt { .. } => Self::Refused { reason },
            _ => Self::Unavailable { reason },
        }
    }
}
