//! PostgreSQL: a primary and its streaming replicas.
//!
//! The nodes listen on 127.0.0.1 with a password made for this cluster, and on a
//! socket in the cluster's directory. Each replica reaches its upstream through a
//! [`Relay`](crate::Relay) of its own, so that one stream can fail alone. A crash
//! of the machine is not survived (`fsync` is off); `kill -9` is.
//!
//! A node keeps its settings outside of its data directory, so that neither a base
//! backup nor `pg_rewind` brings along those of another.

mod node;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::node::{Backup, Node};
use crate::home::Home;
use crate::port::retry_taken_ports;
use crate::wait::Wait;
use crate::{Error, program};

/// How a cluster is made. `Config::default()`: three replicas, no settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How many replicas stream from the primary.
    pub replicas: usize,
    /// Settings of every node beyond those of the harness, as in
    /// `postgresql.conf`: name and value, the value without quotes.
    pub settings: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            replicas: 3,
            settings: Vec::new(),
        }
    }
}

impl Config {
    /// So many replicas.
    #[must_use]
    pub fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// One more setting for every node, as `synchronous_commit` and `off`.
    #[must_use]
    pub fn with_setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A running cluster. Node 0 begins as the primary.
///
/// Dropping it kills every process and removes the directory, also while a panic
/// unwinds; if this process is killed, its guard does the same.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    shared: Arc<Shared>,
}

/// What the nodes of a cluster have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) home: Arc<Home>,
    pub(crate) programs: Programs,
    pub(crate) password: String,
    pub(crate) settings: Vec<(String, String)>,
    /// Where the sockets of all nodes are.
    pub(crate) sockets: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
    pub(crate) psql: PathBuf,
    pub(crate) basebackup: PathBuf,
    pub(crate) rewind: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, Error> {
        let folders = program::postgres_folders();
        let find = |name| program::find(name, "postgresql", &folders);
        Ok(Self {
            initdb: find("initdb")?,
            postgres: find("postgres")?,
            psql: find("psql")?,
            basebackup: find("pg_basebackup")?,
            rewind: find("pg_rewind")?,
        })
    }
}

impl Cluster {
    /// Starts a cluster; returns once every replica streams and has what the
    /// primary has.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without PostgreSQL, otherwise what failed with the end of
    /// the log. Nothing stays behind.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends and removes what it has started.
    pub async fn start(config: Config) -> Result<Self, Error> {
        retry_taken_ports(|| Self::try_start(config.clone())).await
    }

    async fn try_start(config: Config) -> Result<Self, Error> {
        let programs = Programs::find()?;
        let home = Home::create("postgres", program::user("postgres"))?;
        let sockets = home.make("sockets")?;
        let shared = Arc::new(Shared {
            programs,
            password: crate::secret()?,
            settings: config.settings,
            sockets,
            home,
        });
        let nodes = (0..=config.replicas)
            .map(|number| Node::prepare(number, Arc::clone(&shared)))
            .collect::<Result<_, _>>()?;
        let cluster = Self { nodes, shared };
        cluster.first_start().await?;
        Ok(cluster)
    }

    async fn first_start(&self) -> Result<(), Error> {
        let primary = &self.nodes[0];
        primary.init().await?;
        // While nothing runs, a copy of the files is a base backup.
        for replica in &self.nodes[1..] {
            replica.copy_from(primary).await?;
            replica.set_upstream(Some(primary));
        }
        for node in &self.nodes {
            node.launch()?;
        }
        for node in &self.nodes {
            node.wait_ready().await?;
        }
        for replica in &self.nodes[1..] {
            replica.wait_streaming().await?;
        }
        self.wait_caught_up().await
    }

    /// All nodes, by number, in whatever role.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    ///
    /// # Panics
    ///
    /// When there is no node of that number.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// Waits until every node that follows `node` has replayed what `node` has
    /// flushed at the time of the call. Nodes that do not run, and those whose
    /// stream is cut or stalled, are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], as while replay is paused.
    pub async fn wait_followers_of(&self, node: &Node) -> Result<(), Error> {
        let position = node.position().await?;
        for replica in &self.nodes {
            if replica.follows(node) {
                replica.wait_replayed(position).await?;
            }
        }
        Ok(())
    }

    /// [`wait_followers_of`](Self::wait_followers_of) every running primary.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], as while replay is paused.
    pub async fn wait_caught_up(&self) -> Result<(), Error> {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            if !node.in_recovery().await? {
                self.wait_followers_of(node).await?;
            }
        }
        Ok(())
    }

    /// The port of every node's address, for URLs of several hosts:
    /// `127.0.0.1:20001,127.0.0.1:20002`.
    #[must_use]
    pub fn hosts(&self) -> String {
        let hosts: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        hosts.join(",")
    }

    /// The password of user `postgres` on 127.0.0.1.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.shared.password
    }

    /// The private directory with data, settings and logs.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.shared.home.dir()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.home.close();
    }
}

/// Waits until `node` has replayed up to `position`.
async fn wait_replayed(node: &Node, position: u64) -> Result<(), Error> {
    let mut wait = Wait::new(format!("{}: replay up to {position:#x}", node.name()));
    while node.position().await? < position {
        node.again(&mut wait).await?;
    }
    Ok(())
}
