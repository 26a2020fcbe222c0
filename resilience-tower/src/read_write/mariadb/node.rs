//! One node.

use std::{fmt, time::Duration};

use mysql_async::{Conn, Opts, OptsBuilder, Row, from_row_opt, prelude::Queryable};
use parking_lot::Mutex;
use resilience_core::{
    balance::hash_key,
    route::{Failure, GtidSet, Intent, Observation},
};

use super::{
    connection::{self, Connection, Pools},
    epochs::Epochs,
    error::Error,
    seen::Seen,
};

/// One node of MariaDB, for a [`Cluster`](crate::read_write::Cluster).
///
/// # Examples
///
/// ```
/// use resilience_tower::read_write::mariadb::{Epochs, Node};
///
/// let epochs = Epochs::new("failover.epochs")?;
/// let opts = mysql_async::Opts::from_url("mysql://app:secret@10.0.0.4/shop")?;
/// let node = Node::builder(opts, "shop").epochs(&epochs).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Node {
    opts: Opts,
    cluster: u64,
    epochs: Option<Epochs>,
    pool_wait: Duration,
    /// Taken out while the node is asked, so that one whose answer did not come is gone.
    observer: Mutex<Option<Observer>>,
    /// What was looked at last.
    last: Mutex<Option<Last>>,
}

struct Observer {
    connection: Conn,
    incarnation: u64,
}

struct Last {
    incarnation: u64,
    epoch: u64,
    pools: Pools,
}

/// Settings of a [`Node`].
///
/// Default: a place in the pool is waited for 0.5 s.
#[derive(Debug)]
#[must_use]
pub struct NodeBuilder {
    opts: Opts,
    cluster: Box<str>,
    epochs: Option<Option<Epochs>>,
    pool_wait: Duration,
}

/// Half of what a lease may take to connect by default.
const POOL_WAIT: Duration = Duration::from_millis(500);

impl NodeBuilder {
    /// The table in which promotions are counted, of all nodes of the cluster.
    pub fn epochs(mut self, epochs: &Epochs) -> Self {
        self.epochs = Some(Some(epochs.clone()));
        self
    }

    /// Nobody counts promotions.
    ///
    /// See [`mariadb`](super#what-it-cannot-know) for what is not known then.
    pub fn without_epochs(mut self) -> Self {
        self.epochs = Some(None);
        self
    }

    /// How long a lease waits for a place in the pool: shorter than the `connect_timeout` of the cluster, or
    /// a pool that is used up counts as a failure of the node.
    pub fn pool_wait(mut self, time: Duration) -> Self {
        self.pool_wait = time;
        self
    }

    /// The node. No connection is made yet.
    ///
    /// # Errors
    ///
    /// [`Error::Table`] if it was not said where promotions are counted.
    pub fn build(self) -> Result<Node, Error> {
        Ok(Node {
            opts: self.opts,
            cluster: hash_key(self.cluster.as_bytes()),
            epochs: self.epochs.ok_or(Error::Table)?,
            pool_wait: self.pool_wait,
            observer: Mutex::default(),
            last: Mutex::default(),
        })
    }
}

impl Node {
    /// Settings of the node that `opts` lead to; those of the pool are for reads and writes each.
    /// `cluster` is a name that all nodes share.
    pub fn builder(opts: impl Into<Opts>, cluster: &str) -> NodeBuilder {
        // Without this, the driver connects a second time where there is a socket.
        let opts: Opts = opts.into();
        let opts = match opts.socket() {
            Some(_) => opts,
            None => OptsBuilder::from_opts(opts).prefer_socket(false).into(),
        };
        NodeBuilder {
            opts,
            cluster: cluster.into(),
            epochs: None,
            pool_wait: POOL_WAIT,
        }
    }

    async fn ask(&self) -> Result<(u64, Option<Seen>), Error> {
        let idle = self.observer.lock().take();
        if let Some(mut observer) = idle
            && let Ok(seen) = self.ask_by(&mut observer).await
        {
            let incarnation = observer.incarnation;
            *self.observer.lock() = Some(observer);
            return Ok((incarnation, seen));
        }
        // One that broke says nothing about the node.
        let connection = Conn::new(self.opts.clone()).await;
        let mut connection = connection.map_err(Error::Connect)?;
        let incarnation = connection::run(&mut connection).await?;
        let mut observer = Observer {
            connection,
            incarnation,
        };
        let seen = self.ask_by(&mut observer).await?;
        *self.observer.lock() = Some(observer);
        Ok((incarnation, seen))
    }

    async fn ask_by(&self, observer: &mut Observer) -> Result<Option<Seen>, Error> {
        Seen::ask(&mut observer.connection, self.epochs.as_ref()).await
    }

    fn note(&self, incarnation: u64, epoch: u64) {
        let mut last = self.last.lock();
        match &mut *last {
            Some(last) if last.incarnation == incarnation => last.epoch = epoch,
            last => {
                let pools = Pools::new(&self.opts, incarnation);
                *last = Some(Last {
                    incarnation,
                    epoch,
                    pools,
                });
            }
        }
    }
}

impl crate::read_write::Node for Node {
    type Position = GtidSet;
    type Connection = Connection;
    type Error = Error;

    async fn observe(&self, at: Duration) -> Result<Observation<GtidSet>, Error> {
        let (incarnation, seen) = self.ask().await?;
        let seen = seen.ok_or(Error::Promotion)?;
        self.note(incarnation, seen.epoch);
        let answer = Observation::new(seen.role, self.cluster, seen.epoch, seen.position, at);
        let answer = answer.incarnation(incarnation);
        Ok(match seen.history {
            Some(history) => answer.history(history),
            None => answer,
        })
    }

    async fn connect(&self, incarnation: u64, intent: Intent) -> Result<Connection, Error> {
        let (pool, epoch) = match &*self.last.lock() {
            Some(last) if last.incarnation == incarnation => {
                let pool = match intent.writes() {
                    true => &last.pools.writes,
                    false => &last.pools.reads,
                };
                (pool.clone(), last.epoch)
            }
            _ => return Err(Error::Changed),
        };
        let (connection, place) = pool.get(self.pool_wait).await?;
        Ok(Connection {
            connection,
            epoch,
            _place: place,
        })
    }

    async fn position(&self, connection: &mut Connection) -> Result<(u64, GtidSet), Error> {
        let told = self.told(connection).await;
        // What was committed must not run again.
        told.map_err(|error| Error::NoToken(Box::new(error)))
    }

    fn failure(&self, error: &Error) -> Failure {
        error.failure()
    }
}

impl Node {
    async fn told(&self, connection: &mut Connection) -> Result<(u64, GtidSet), Error> {
        let epoch = match &self.epochs {
            Some(epochs) => epochs.newest(),
            None => connection.epoch.to_string(),
        };
        let question = format!("SELECT @@last_gtid, @@GLOBAL.gtid_current_pos, {epoch}");
        let answer: Option<Row> = connection.query_first(question).await?;
        let answer = answer.and_then(|row| from_row_opt(row).ok());
        let (written, current, epoch): (String, String, u64) = answer.ok_or(Error::Answer)?;
        if epoch != connection.epoch {
            return Err(Error::Changed);
        }
        // A session that wrote nothing has seen no more than all that is there.
        let position = if written.is_empty() {
            &current
        } else {
            &written
        };
        Ok((epoch, GtidSet::last(position)?))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("host", &self.opts.ip_or_hostname())
            .field("port", &self.opts.tcp_port())
            .field("epochs", &self.epochs)
            .finish_non_exhaustive()
    }
}
