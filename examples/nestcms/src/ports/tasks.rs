//! The queue of tasks.

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;

use crate::domain::task::{Priority, Task};

/// A task in the hands of one worker, for as long as its visibility timeout runs.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The task, [begun](Task::begin).
    pub task: Task,
    /// By which the queue knows this lease from an earlier or later one; made by the queue.
    pub receipt: String,
}

/// Unfinished tasks, by [`Priority::ALL`]: those that wait, and those that run.
pub type Backlog = [u64; 3];

/// Keeps tasks until they are done. It delivers at least once: a worker that dies, or is cut off
/// for longer than the visibility timeout, leaves its task to the next.
pub trait TaskQueue: Debug + Send + Sync {
    /// Queues a new task; `false` if one of its id is there.
    fn push<'a>(&'a self, task: &'a Task) -> BoxFuture<'a, Result<bool, QueueError>>;

    /// Takes up to `most` tasks of `priority` that are due.
    fn take(
        &self,
        priority: Priority,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<Lease>, QueueError>>;

    /// Starts the visibility timeout anew. `false`: the lease is known to be lost.
    fn extend<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<bool, QueueError>>;

    /// Keeps `task` as what became of the lease, and ends it; what is queued again is due after
    /// `delay`. `false`: the lease was lost, and nothing is changed.
    fn settle<'a>(
        &'a self,
        lease: &'a Lease,
        task: &'a Task,
        delay: Duration,
    ) -> BoxFuture<'a, Result<bool, QueueError>>;

    /// The task of that id; finished ones are kept for a while.
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Task>, QueueError>>;

    /// Dead tasks, at most `most`.
    fn dead(&self, most: usize) -> BoxFuture<'_, Result<Vec<Task>, QueueError>>;

    /// Gives a dead task all its runs again; `None` if none of that id is dead.
    fn requeue<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Task>, QueueError>>;

    /// How much there is to do.
    fn depth(&self) -> BoxFuture<'_, Result<Backlog, QueueError>>;

    /// Drops what has been done for longer than it is kept; how many.
    fn retain(&self) -> BoxFuture<'_, Result<u64, QueueError>>;
}

/// The queue did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the task queue is not available: {reason}")]
pub struct QueueError {
    /// Why, for the log.
    pub reason: String,
}
