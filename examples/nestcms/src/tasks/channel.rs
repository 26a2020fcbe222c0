//! Messages that go through the queue.

use futures_util::future::BoxFuture;
use serde_json::to_value;

use super::{MESSAGE, NewTask, TaskService};
use crate::{
    domain::task::Priority,
    events::{Channel, ChannelError, ChannelKind, Message},
};

/// Takes messages by queueing them; a worker hands them to the channel that sends. One that is down
/// holds no listener up.
#[derive(Clone, Debug)]
pub struct QueuedChannel {
    tasks: TaskService,
}

impl QueuedChannel {
    /// A channel over `tasks`.
    #[must_use]
    pub fn new(tasks: TaskService) -> Self {
        Self { tasks }
    }
}

impl Channel for QueuedChannel {
    fn send(&self, message: Message) -> BoxFuture<'_, Result<(), ChannelError>> {
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| ChannelError {
                reason: error.to_string(),
            };
            let payload = to_value(&message).map_err(|error| failed(&error))?;
            let channel = message.channel.as_str();
            let new = NewTask {
                kind: MESSAGE,
                payload,
                priority: urgency(message.channel),
                owner: None,
                key: Some(format!(
                    "{} {channel} {}",
                    message.event_id, message.recipient
                )),
            };
            let queued = self.tasks.submit(new);
            let queued = crate::correlation::scope(message.correlation_id.clone(), queued);
            queued.await.map(|_| ()).map_err(|error| failed(&error))
        })
    }
}

/// A telephone rings because somebody must act.
fn urgency(channel: ChannelKind) -> Priority {
    match channel {
        ChannelKind::Sms => Priority::Critical,
        _ => Priority::Normal,
    }
}
