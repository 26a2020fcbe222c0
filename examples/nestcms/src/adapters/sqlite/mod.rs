//! SQLite behind the ports: the embedded default.
//!
//! One connection writes and a pool reads (WAL), so that writers queue in the program
//! and not on the file lock. The SQL keeps to what PostgreSQL also speaks; what is
//! SQLite's own (`PRAGMA`, `BEGIN IMMEDIATE`) stays in `database.rs`.

mod audit;
mod content;
mod database;
mod jobs;
mod outbox;
mod payments;
pub(super) mod rows;
mod tasks;

pub use audit::SqliteAudit;
pub use content::SqliteContent;
pub use database::{Database, DatabaseError};
pub use payments::SqliteStore;
pub use tasks::SqliteTasks;
