//! What the application needs from outside, as traits without any engine's types.

mod audit;
mod cache;
mod content;
mod events;
mod jobs;
mod outbox;
mod provider;
mod store;
mod tasks;

pub use audit::{Appended, AuditEntry, AuditStore};
pub use cache::{Cache, CacheError};
pub use content::{ContentStore, Kept, Mark, Pipelines, Repository, See};
pub use events::EventSink;
pub use jobs::{Job, JobKind, JobQueue};
pub use outbox::{
    Attempt, DeadLetter, Depth, Effect, Entry, Failed, Inbox, Outbox, PublishError, Publisher,
};
pub use provider::{
    Page, PageRequest, PaymentProvider, ProviderError, RefundRequest, Verdict, Verification,
};
pub use store::{Applied, Created, Expired, PaymentRepository, Settlement, StoreError};
pub use tasks::{Backlog, Lease, QueueError, TaskQueue};
