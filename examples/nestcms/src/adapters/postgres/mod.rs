//! PostgreSQL behind the ports: a primary and its replicas, through the read/write split.
//!
//! Each statement says whether it reads or writes. What writes is one transaction on the primary,
//! and gives a mark; what reads goes to a replica that has the mark of the read. Payments and jobs
//! are read on the primary: decisions are made from them.

/// Runs `$work` in one transaction on the primary, and commits.
macro_rules! transaction {
    ($postgres:expr, |$tx:ident| $work:expr) => {
        $postgres.write(move |mut client| async move {
            let $tx = client.transaction().await?;
            let value = $work.await?;
            $crate::adapters::postgres::cluster::commit($tx, value).await
        })
    };
}

mod audit;
mod cluster;
mod content;
mod figures;
mod jobs;
mod migrations;
mod outbox;
mod payments;
mod users;

pub use audit::PostgresAudit;
pub use cluster::{NodesError, Postgres};
pub use content::PostgresContent;
pub use payments::PostgresStore;
pub use users::PostgresUsers;
