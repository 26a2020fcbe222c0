//! A node as the router and the leases see it.

use std::time::Duration;

use deadpool::managed::{PoolError, TimeoutType};
use resilience_core::route::{Failure, Intent, Lsn, Observation};
use tokio_postgres::{Config, error::SqlState};

use super::{
    builder::NodeBuilder,
    connection::Connection,
    error::Error,
    look::Looks,
    session::{Pool, Pooled, rows},
    transaction::{POSITIONS, place},
};

/// One server of a PostgreSQL cluster. See the [module's docs](super).
#[derive(Debug)]
pub struct Node {
    pub(super) looks: Looks,
    pub(super) reads: Pool,
    pub(super) writes: Pool,
    pub(super) asynchronous: bool,
}

impl Node {
    /// A node with the defaults of [`NodeBuilder`]. Nothing is connected yet.
    pub fn new(config: Config) -> Self {
        Self::builder(config).build()
    }

    /// A node whose leases are connected by `config`, which names one host.
    pub fn builder(config: Config) -> NodeBuilder {
        NodeBuilder::new(config)
    }
}

impl crate::read_write::Node for Node {
    type Position = Lsn;
    type Connection = Connection;
    type Error = Error;

    async fn observe(&self, at: Duration) -> Result<Observation<Lsn>, Error> {
        self.looks.look(at, self.asynchronous).await
    }

    async fn connect(&self, incarnation: u64, intent: Intent) -> Result<Connection, Error> {
        let pool = if intent.writes() {
            &self.writes
        } else {
            &self.reads
        };
        loop {
            let pooled = pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => error,
                PoolError::Timeout(TimeoutType::Wait) => Error::Exhausted,
                _ => Error::Closed,
            })?;
            if pooled.server.run == incarnation {
                return Ok(Connection::new(pooled, self.asynchronous));
            }
            let fresh = Pooled::metrics(&pooled).recycle_count == 0;
            if fresh {
                // Of a run that nobody has looked at; the next call may take it. The connection for
                // looks does not tell, where the server goes on and only its statistics began anew.
                self.looks.forget(pooled.server.run).await;
                return Err(Error::Restarted);
            }
            drop(Pooled::take(pooled));
        }
    }

    async fn position(&self, connection: &mut Connection) -> Result<(u64, Lsn), Error> {
        let told = self.told(connection).await;
        // What was committed must not run again.
        told.map_err(|error| Error::NoToken(Box::new(error)))
    }

    fn failure(&self, error: &Error) -> Failure {
        error.failure()
    }
}

impl Node {
    async fn told(&self, connection: &Connection) -> Result<(u64, Lsn), Error> {
        let question = format!("SELECT current_setting('synchronous_commit'); {POSITIONS}");
        let answer = connection.simple_query(&question).await;
        let answer = answer.map_err(|error| match error.code() {
            Some(code) if *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => Error::NotPrimary,
            _ => error.into(),
        })?;
        let mut rows = rows(&answer);
        let (setting, positions) = (rows.next(), rows.next());
        let setting = setting.and_then(|row| row.get(0));
        let inserted = self.asynchronous || setting == Some("off");
        let told = positions.and_then(|row| place(row, inserted, connection.server()));
        told.ok_or(Error::answer("the position of a commit"))
    }
}
