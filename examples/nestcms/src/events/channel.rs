//! Messages to people: the port, one adapter on the database, one in memory.
//!
//! The database adapter is a list of what would have been sent: nothing leaves the
//! machine yet. Real mail, chat and SMS services will stand behind the same port.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use crate::domain::event::Timestamp;

/// The way that a message takes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ChannelKind {
    /// E-mail.
    Mail,
    /// Team chat.
    Slack,
    /// Text message to a telephone.
    Sms,
    /// Push message to an app.
    Push,
}

impl ChannelKind {
    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Slack => "slack",
            Self::Sms => "sms",
            Self::Push => "push",
        }
    }
}

/// A message to one recipient.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Message {
    /// The way it takes.
    pub channel: ChannelKind,
    /// Address, room or number.
    pub recipient: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// The event that caused it.
    pub event_id: String,
    /// The request that caused it.
    pub correlation_id: String,
    /// When the event happened.
    pub at: Timestamp,
}

/// A message could not be handed over.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a message could not be handed over: {reason}")]
pub struct ChannelError {
    /// Why, for the log.
    pub reason: String,
}

/// Takes messages to people.
pub trait Channel: Debug + Send + Sync + 'static {
    /// Hands `message` over. The same event on the same channel to the same recipient is
    /// one message, however often it is handed over.
    fn send(&self, message: Message) -> BoxFuture<'_, Result<(), ChannelError>>;
}

/// Writes messages to the table `notifications`.
#[derive(Clone, Debug)]
pub struct SqliteChannel {
    pool: SqlitePool,
}

impl SqliteChannel {
    /// Writes through `pool`, whose migrations have run.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }
}

impl Channel for SqliteChannel {
    fn send(&self, message: Message) -> BoxFuture<'_, Result<(), ChannelError>> {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO notifications \
                 (event_id, channel, recipient, subject, body, correlation_id, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (event_id, channel, recipient) DO NOTHING",
            )
            .bind(&message.event_id)
            .bind(message.channel.as_str())
            .bind(&message.recipient)
            .bind(&message.subject)
            .bind(&message.body)
            .bind(&message.correlation_id)
            .bind(message.at.to_string())
            .execute(&self.pool)
            .await
            .map_err(|error| ChannelError {
                reason: error.to_string(),
            })?;
            tracing::info!(
                channel = message.channel.as_str(),
                event_id = message.event_id,
                correlation_id = message.correlation_id,
                "message queued"
            );
            Ok(())
        })
    }
}

/// Keeps messages in memory, for tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryChannel {
    sent: Arc<Mutex<Vec<Message>>>,
}

impl MemoryChannel {
    /// What was handed over so far.
    #[must_use]
    pub fn sent(&self) -> Vec<Message> {
        self.sent.lock().clone()
    }
}

impl Channel for MemoryChannel {
    fn send(&self, message: Message) -> BoxFuture<'_, Result<(), ChannelError>> {
        let mut sent = self.sent.lock();
        let same = |m: &Message| {
            m.event_id == message.event_id
                && m.channel == message.channel
                && m.recipient == message.recipient
        };
        if !sent.iter().any(same) {
            sent.push(message);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
