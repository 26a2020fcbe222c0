//! Connections, and which run of a server they lead to.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use mysql_async::{Conn, Opts, OptsBuilder, Pool, Row, from_row_opt, prelude::Queryable};
use resilience_core::balance::hash_key;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::error::{Error, OtherRun};

/// What a lease gives: a connection of `mysql_async`, to be used as such.
///
/// Dropped, it goes back to its pool, which rolls back what is open and resets it.
#[derive(Debug)]
pub struct Connection {
    pub(super) connection: Conn,
    /// Of the node, when this was leased.
    pub(super) epoch: u64,
    /// Given back after the connection.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Deref for Connection {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.connection
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.connection
    }
}

/// Both numbers are of the start of the statement, so that the difference is the same each time.
const RUN: &str = "SELECT CONCAT(CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED), ' ', @@GLOBAL.server_id, \
     ' ', @@GLOBAL.port, ' ', @@GLOBAL.hostname) \
     FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'";

/// The run of the server that a connection leads to, for as long as there is that connection.
pub(super) async fn run(connection: &mut Conn) -> Result<u64, Error> {
    let run: Option<Row> = connection.query_first(RUN).await?;
    let run = run.and_then(|run| from_row_opt::<String>(run).ok());
    run.map(|run| hash_key(run.as_bytes())).ok_or(Error::Answer)
}

/// Connections to one run of a server.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    pub(super) reads: Bounded,
    pub(super) writes: Bounded,
}

/// A pool that tells apart who waits for a place in it from who waits for the server.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    pool: Pool,
    places: Arc<Semaphore>,
}

impl Bounded {
    fn new(opts: OptsBuilder) -> Self {
        let opts = Opts::from(opts);
        let most = opts.pool_opts().constraints().max();
        Self {
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            pool: Pool::new(opts),
        }
    }

    pub(super) async fn get(&self, wait: Duration) -> Result<(Conn, OwnedSemaphorePermit), Error> {
        let place = timeout(wait, Arc::clone(&self.places).acquire_owned()).await;
        // It is never closed.
        let Ok(Ok(place)) = place else {
            return Err(Error::Exhausted);
        };
        let connection = self.pool.get_conn().await.map_err(Error::of_connect)?;
        Ok((connection, place))
    }
}

impl Pools {
    pub(super) fn new(opts: &Opts, wanted: u64) -> Self {
        let opts = OptsBuilder::from_opts(opts.clone()).after_connect(move |connection| {
            Box::pin(async move {
                match run(connection).await {
                    Ok(run) if run == wanted => Ok(()),
                    Err(Error::Statement(error)) => Err(error),
                    _ => Err(mysql_async::Error::Other(Box::new(OtherRun))),
                }
            })
        });
        let mut setup = opts_setup(&opts);
        let writes = Bounded::new(opts.clone());
        setup.push("SET SESSION TRANSACTION READ ONLY".into());
        Self {
            reads: Bounded::new(opts.setup(setup)),
            writes,
        }
    }
}

fn opts_setup(opts: &OptsBuilder) -> Vec<String> {
    Opts::from(opts.clone()).setup().to_vec()
}
