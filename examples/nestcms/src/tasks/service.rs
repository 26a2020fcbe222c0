//! Queueing tasks, and asking what became of them.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use webhook_verify::clock::WallClock;

use crate::{
    correlation,
    domain::{
        event::Timestamp,
        task::{Priority, State, Task},
    },
    ports::{QueueError, TaskQueue},
};

/// A task that is to be queued.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// What is to be done.
    pub kind: &'static str,
    /// With what.
    pub payload: Value,
    /// How urgent it is.
    pub priority: Priority,
    /// The user who asks for it.
    pub owner: Option<String>,
    /// The same owner, kind and key are one task, however often it is queued.
    pub key: Option<String>,
}

/// The queue as the rest of the application sees it. Clones share everything.
#[derive(Clone, Debug)]
pub struct TaskService {
    queue: Arc<dyn TaskQueue>,
    wall: Arc<dyn WallClock>,
    wake: Arc<Notify>,
}

impl TaskService {
    /// A service over `queue`.
    #[must_use]
    pub fn new(queue: Arc<dyn TaskQueue>, wall: Arc<dyn WallClock>) -> Self {
        Self {
            queue,
            wall,
            wake: Arc::default(),
        }
    }

    /// Queues `new`; the id of its task, or of the one that was queued under its key before.
    ///
    /// # Errors
    ///
    /// [`QueueError`]: it may be queued or not. With a key it can be tried again.
    pub async fn submit(&self, new: NewTask) -> Result<String, QueueError> {
        let now = Timestamp::from_unix(self.wall.now());
        let id = match &new.key {
            Some(key) => named(&[new.owner.as_deref().unwrap_or(""), new.kind, key]),
            None => now.new_id(),
        };
        let task = Task {
            id,
            kind: new.kind.to_owned(),
            payload: new.payload,
            priority: new.priority,
            owner: new.owner,
            correlation_id: correlation::current(),
            state: State::Queued,
            runs: 0,
            history: Vec::new(),
            result: None,
            queued_at: now,
            changed_at: now,
        };
        if self.queue.push(&task).await? {
            self.wake.notify_one();
        }
        Ok(task.id)
    }

    /// The task of that id.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue does not answer.
    pub async fn find(&self, id: &str) -> Result<Option<Task>, QueueError> {
        self.queue.find(id).await
    }

    /// Dead tasks, at most `most`.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue does not answer.
    pub async fn dead(&self, most: usize) -> Result<Vec<Task>, QueueError> {
        self.queue.dead(most).await
    }

    /// Gives a dead task all its runs again; `None` if none of that id is dead.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue does not answer.
    pub async fn requeue(&self, id: &str) -> Result<Option<Task>, QueueError> {
        let task = self.queue.requeue(id).await?;
        self.wake.notify_one();
        Ok(task)
    }

    /// Drops what has been done for longer than it is kept; how many.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue does not answer.
    pub async fn retain(&self) -> Result<u64, QueueError> {
        self.queue.retain().await
    }

    /// The queue itself.
    #[must_use]
    pub fn queue(&self) -> &Arc<dyn TaskQueue> {
        &self.queue
    }

    pub(super) fn wall(&self) -> &Arc<dyn WallClock> {
        &self.wall
    }

    /// Ready once something was queued by this process.
    pub(super) async fn queued(&self) {
        self.wake.notified().await;
    }
}

/// An id that is the same for the same parts.
fn named(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_all_its_parts() {
        assert_eq!(named(&["a", "b"]), named(&["a", "b"]));
        assert_ne!(named(&["a", "b"]), named(&["ab", ""]));
        assert_eq!(named(&["a"]).len(), 32);
    }
}
