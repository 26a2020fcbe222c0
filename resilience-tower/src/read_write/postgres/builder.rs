//! How a node is reached.

use std::{fmt, sync::Arc, time::Duration};

use deadpool_postgres::{ConfigConnectImpl, Connect};
use tokio_postgres::{
    Config, NoTls, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use super::{look::Looks, node::Node, session};

/// A connection to a server that is gone is given up after so long.
pub(super) const GIVEN_UP: Duration = Duration::from_secs(10);

/// Half of what a lease may take to connect by default.
const POOL_WAIT: Duration = Duration::from_millis(500);

/// How a [`Node`] is reached.
///
/// Defaults: no TLS; looks as the role of the leases; 16 connections that read and 16 that write, at most,
/// one of which is waited for 0.5 s; histories by `pg_read_file`; synchronous commits.
#[must_use]
pub struct NodeBuilder {
    config: Config,
    looks: Option<Config>,
    connect: Arc<dyn Connect>,
    pool_size: usize,
    pool_wait: Duration,
    history_function: Option<String>,
    asynchronous_commit: bool,
}

impl NodeBuilder {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            looks: None,
            connect: Arc::new(ConfigConnectImpl { tls: NoTls }),
            pool_size: 16,
            pool_wait: POOL_WAIT,
            history_function: None,
            asynchronous_commit: false,
        }
    }

    /// Another role, database or timeout for looks. Without a `connect_timeout` and
    /// `tcp_user_timeout` of its own: 10 s.
    pub fn looks(mut self, config: Config) -> Self {
        self.looks = Some(config);
        self
    }

    /// TLS, for looks and leases.
    pub fn tls<T>(mut self, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        self.connect = Arc::new(ConfigConnectImpl { tls });
        self
    }

    /// The most connections that read, and the most that write; 0 counts as 1. Leases beyond wait.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = size.max(1);
        self
    }

    /// How long a lease waits for a place in the pool: shorter than the `connect_timeout` of the cluster, or
    /// a pool that is used up counts as a failure of the node.
    pub fn pool_wait(mut self, time: Duration) -> Self {
        self.pool_wait = time;
        self
    }

    /// The name of a function that gives the text of the history file of a timeline (`int`), as in
    /// the [module's docs](super).
    pub fn history_function(mut self, name: impl Into<String>) -> Self {
        self.history_function = Some(name.into());
        self
    }

    /// Some commits are asynchronous, by whatever process: the primary's position is then its insert
    /// position. What an open transaction has written counts for it, and so for the lag of
    /// replicas, until it is flushed; on an otherwise idle cluster that may be never.
    pub fn asynchronous_commit(mut self, on: bool) -> Self {
        self.asynchronous_commit = on;
        self
    }

    /// The node. Nothing is connected yet.
    pub fn build(self) -> Node {
        let mut looks = self.looks.unwrap_or_else(|| self.config.clone());
        if looks.get_connect_timeout().is_none() {
            looks.connect_timeout(GIVEN_UP);
        }
        if looks.get_tcp_user_timeout().is_none() {
            looks.tcp_user_timeout(GIVEN_UP);
        }
        let pool = |reads| {
            session::pool(
                Arc::clone(&self.connect),
                self.config.clone(),
                reads,
                self.pool_size,
                self.pool_wait,
            )
        };
        Node {
            reads: pool(true),
            writes: pool(false),
            looks: Looks::new(Arc::clone(&self.connect), looks, self.history_function),
            asynchronous: self.asynchronous_commit,
        }
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
