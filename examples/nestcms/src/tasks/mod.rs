//! Work that goes on after the answer.
//!
//! ```text
//! API, listeners ──submit──▶ TaskQueue ──take──▶ Workers ──run──▶ Work ──▶ store, cache, channel
//!                              ▲  │                  │
//!              failed: after a delay  └─ visibility  └─ done, failed, handed back
//! ```
//!
//! The queue delivers at least once, and each [`Work`] has its effect once: by the id of its task,
//! or by the version that it replaces.

mod channel;
mod service;
mod turns;
mod work;
mod workers;

pub use channel::QueuedChannel;
pub use service::{NewTask, TaskService};
pub use work::{Jobs, Publish, Work, WorkError};
pub use workers::{Rules, Workers};

/// Publishes the article that the payload names, at the version that it names.
pub const PUBLISH: &str = "article.publish";
/// Hands the message in the payload to its channel.
pub const MESSAGE: &str = "message.send";
