//! Pooled connections, each of which knows to which run of the server it leads.

use std::{fmt, sync::Arc, time::Duration};

use deadpool::{
    Runtime,
    managed::{self, Metrics, RecycleError, RecycleResult},
};
use deadpool_postgres::{ClientWrapper, Connect};
use resilience_core::balance::hash_key;
use tokio_postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow};

use super::error::Error;

pub(super) type Pool = managed::Pool<Manager>;
pub(super) type Pooled = managed::Object<Manager>;

/// Who answers. It stays the same for as long as a connection lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Server {
    /// The system identifier.
    pub(super) cluster: u64,
    /// Which run of the server.
    pub(super) run: u64,
    /// Size of a log segment.
    pub(super) segment: u64,
}

/// The server's start, and that of its statistics: they begin anew after a crash, also if the
/// postmaster has outlived it.
const WHO: &str = "SELECT system_identifier, \
     concat(extract(epoch FROM pg_postmaster_start_time()), '/', extract(epoch FROM stats_reset)), \
     bytes_per_wal_segment \
     FROM pg_control_system(), pg_control_init(), pg_stat_bgwriter";

impl Server {
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        let answer = client.simple_query(WHO).await?;
        let told = rows(&answer).next().and_then(|row| {
            let cluster = row.get(0)?.parse::<i64>().ok()?.cast_unsigned();
            let run = hash_key(row.get(1)?.as_bytes());
            let segment = row.get(2)?.parse().ok()?;
            Some(Self {
                cluster,
                run,
                segment,
            })
        });
        told.ok_or(Error::answer("who the server is"))
    }
}

/// The rows of all statements of a message.
pub(super) fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

pub(super) struct Session {
    pub(super) client: ClientWrapper,
    pub(super) server: Server,
    reads: bool,
}

impl Session {
    /// It is as it was when it was new, as far as freshness depends on it: no transaction is open,
    /// whose snapshot may be old, and one that must not write still may not.
    pub(super) async fn is_clean(&self) -> bool {
        let asked = "SELECT transaction_timestamp() = statement_timestamp(), \
                     current_setting('default_transaction_read_only')";
        let answer = self.client.simple_query(asked).await;
        // A transaction that failed answers with an error.
        answer.is_ok_and(|answer| {
            rows(&answer).next().is_some_and(|row| {
                row.get(0) == Some("t") && (!self.reads || row.get(1) == Some("on"))
            })
        })
    }
}

pub(super) struct Manager {
    connect: Arc<dyn Connect>,
    config: Config,
    reads: bool,
}

pub(super) fn pool(
    connect: Arc<dyn Connect>,
    config: Config,
    reads: bool,
    size: usize,
    wait: Duration,
) -> Pool {
    let manager = Manager {
        connect,
        config,
        reads,
    };
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(wait))
        .runtime(Runtime::Tokio1)
        .build()
        .expect("it has a runtime")
}

impl managed::Manager for Manager {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session, Error> {
        let connected = self.connect.connect(&self.config).await;
        let (client, task) = connected.map_err(Error::NotConnected)?;
        let client = ClientWrapper::new(client, task);
        if self.reads {
            let read_only = "SET default_transaction_read_only = on";
            let set = client.batch_execute(read_only).await;
            set.map_err(Error::NotConnected)?;
        }
        let server = Server::of(&client).await;
        let server = server.map_err(|error| match error {
            Error::Postgres(error) => Error::NotConnected(error),
            error => error,
        })?;
        Ok(Session {
            client,
            server,
            reads: self.reads,
        })
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        match session.client.is_closed() {
            true => Err(RecycleError::message("closed")),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}
