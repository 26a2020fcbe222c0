//! Redis: a primary, its replicas and sentinels; or a lone server.
//!
//! Servers write what they take to a file before they answer (`appendonly`), so
//! that one that is killed comes back with its data. No password: the servers take
//! connections from this machine only and can be told neither to load code nor to
//! write elsewhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::home::Home;
use crate::place::{Place, node_methods};
use crate::port::retry_taken_ports;
use crate::relay::Relay;
use crate::wait::Wait;
use crate::{Error, program};

/// The name under which the sentinels watch the primary.
pub const SERVICE: &str = "primary";

/// How a cluster is made. `Config::default()`: two replicas, no sentinel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How many replicas.
    pub replicas: usize,
    /// How many sentinels; more than half of them decide.
    pub sentinels: usize,
    /// After so long without an answer a sentinel takes the primary for down; 2 s.
    /// Shorter, a busy machine makes failovers that nobody asked for.
    pub down_after: Duration,
    /// Settings of every server beyond those of the harness, as in `redis.conf`.
    pub settings: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            replicas: 2,
            sentinels: 0,
            down_after: Duration::from_secs(2),
            settings: Vec::new(),
        }
    }
}

impl Config {
    /// One server, nothing else: for limiters and caches.
    #[must_use]
    pub fn lone() -> Self {
        Self::default().with_replicas(0)
    }

    /// So many replicas.
    #[must_use]
    pub fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// So many sentinels.
    #[must_use]
    pub fn with_sentinels(mut self, sentinels: usize) -> Self {
        self.sentinels = sentinels;
        self
    }

    /// How long the sentinels wait for an answer of the primary.
    #[must_use]
    pub fn with_down_after(mut self, down_after: Duration) -> Self {
        self.down_after = down_after;
        self
    }

    /// One more setting for every server, as `maxmemory` and `10mb`.
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
    sentinels: Vec<Sentinel>,
    home: Arc<Home>,
}

#[derive(Clone, Debug)]
struct Programs {
    server: PathBuf,
    cli: PathBuf,
}

/// One Redis server of a [`Cluster`].
///
/// Every operation returns once what it says is the case; after 60 s it fails with
/// [`Error::TimedOut`] and the end of the server's log.
#[derive(Debug)]
pub struct Node {
    place: Place,
    programs: Programs,
    stream: Option<Relay>,
}

/// One sentinel of a [`Cluster`].
#[derive(Debug)]
pub struct Sentinel {
    place: Place,
    programs: Programs,
}

impl Cluster {
    /// Starts a cluster; returns once every replica has what the primary has, and
    /// the sentinels know them all and one another (that takes some seconds).
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without Redis, otherwise what failed with the end of the
    /// log. Nothing stays behind.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends and removes what it has started.
    pub async fn start(config: Config) -> Result<Self, Error> {
        retry_taken_ports(|| Self::try_start(config.clone())).await
    }

    async fn try_start(config: Config) -> Result<Self, Error> {
        let programs = Programs {
            server: program::find("redis-server", "redis-server", &[])?,
            cli: program::find("redis-cli", "redis-tools", &[])?,
        };
        let home = Home::create("redis", program::user("redis"))?;
        let mut cluster = Self {
            nodes: Vec::new(),
            sentinels: Vec::new(),
            home,
        };
        for number in 0..=config.replicas {
            let node = cluster.prepare_node(number, &config, &programs)?;
            node.start().await?;
            cluster.nodes.push(node);
        }
        cluster.wait_caught_up().await?;
        for number in 0..config.sentinels {
            let sentinel = cluster.prepare_sentinel(number, &config, &programs)?;
            sentinel.start().await?;
            cluster.sentinels.push(sentinel);
        }
        for sentinel in &cluster.sentinels {
            sentinel
                .wait_knows(config.replicas, config.sentinels)
                .await?;
        }
        Ok(cluster)
    }

    fn prepare_node(
        &self,
        number: usize,
        config: &Config,
        programs: &Programs,
    ) -> Result<Node, Error> {
        let place = Place::make(&self.home, format!("redis{number}"))?;
        let mut settings = SETTINGS.map(str::to_owned).to_vec();
        settings.push(format!("port {}", place.port()));
        settings.push(format!("dir {}", place.dir().display()));
        settings.extend(
            config
                .settings
                .iter()
                .map(|(name, value)| format!("{name} {value}")),
        );
        let mut stream = None;
        if let Some(primary) = self.nodes.first() {
            // A sentinel would lead the replica past a relay again.
            if config.sentinels == 0 {
                stream = Some(Relay::start(address(primary.port()))?);
            }
            let port = stream.as_ref().map_or_else(|| primary.port(), Relay::port);
            settings.push(format!("replicaof 127.0.0.1 {port}"));
        } else if config.sentinels == 0 {
            stream = Some(Relay::start(address(place.port()))?);
        }
        let file = place.dir().join("redis.conf");
        self.home.write(&file, &(settings.join("\n") + "\n"))?;
        Ok(Node {
            place,
            programs: programs.clone(),
            stream,
        })
    }

    fn prepare_sentinel(
        &self,
        number: usize,
        config: &Config,
        programs: &Programs,
    ) -> Result<Sentinel, Error> {
        let place = Place::make(&self.home, format!("sentinel{number}"))?;
        let settings = format!(
            "bind 127.0.0.1\nport {}\ndir {}\n\
             sentinel monitor {SERVICE} 127.0.0.1 {} {}\n\
             sentinel down-after-milliseconds {SERVICE} {}\n\
             sentinel failover-timeout {SERVICE} 10000\n\
             sentinel parallel-syncs {SERVICE} {}\n",
            place.port(),
            place.dir().display(),
            self.nodes[0].port(),
            config.sentinels / 2 + 1,
            config.down_after.as_millis(),
            config.replicas.max(1),
        );
        self.home
            .write(&place.dir().join("sentinel.conf"), &settings)?;
        Ok(Sentinel {
            place,
            programs: programs.clone(),
        })
    }

    /// All servers, by number, in whatever role.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One server.
    ///
    /// # Panics
    ///
    /// When there is no node of that number.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// The sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Sentinel] {
        &self.sentinels
    }

    /// Waits until every running replica is linked to its primary and has all that
    /// the primary had written at the time of the call.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], as while a stream is cut.
    pub async fn wait_caught_up(&self) -> Result<(), Error> {
        let mut written = 0;
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            if node.is_primary().await? {
                written = written.max(node.offset().await?);
            }
        }
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            if !node.is_primary().await? {
                node.wait_linked().await?;
                node.wait_offset(written).await?;
            }
        }
        Ok(())
    }

    /// Waits until every running sentinel names another primary than `old`, and that
    /// one takes writes; gives it.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] with the end of the log of a sentinel.
    pub async fn wait_failover_from(&self, old: &Node) -> Result<&Node, Error> {
        let mut wait = Wait::new(format!("failover from {}", old.name()));
        loop {
            if let Some(node) = self.agreed().await?
                && node.port() != old.port()
                && node.is_running()
                && node.is_primary().await?
            {
                return Ok(node);
            }
            wait.again(|| self.sentinels.iter().map(Sentinel::log_tail).collect())
                .await?;
        }
    }

    /// The node that all running sentinels name.
    async fn agreed(&self) -> Result<Option<&Node>, Error> {
        let mut named = None;
        for sentinel in self
            .sentinels
            .iter()
            .filter(|sentinel| sentinel.is_running())
        {
            let port = sentinel.primary_port().await?;
            if *named.get_or_insert(port) != port {
                return Ok(None);
            }
        }
        Ok(self.nodes.iter().find(|node| Some(node.port()) == named))
    }

    /// The private directory with data, settings and logs.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.home.dir()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.home.close();
    }
}

impl Node {
    node_methods!();

    /// `redis://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// The network between this node and its primary, to be cut, stalled and opened
    /// again; `None` in a cluster with sentinels, which know nothing of it.
    #[must_use]
    pub fn stream(&self) -> Option<&Relay> {
        self.stream.as_ref()
    }

    /// Runs a command by `redis-cli`; gives the reply as that writes it when it does
    /// not write to a terminal: one line for each value.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the server's message.
    pub async fn command(&self, words: &[&str]) -> Result<String, Error> {
        cli(&self.place, &self.programs, words).await
    }

    /// One field of `INFO replication`; empty when there is none of that name.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn replication(&self, field: &str) -> Result<String, Error> {
        let text = self.command(&["info", "replication"]).await?;
        let value = text
            .lines()
            .find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':'));
        Ok(value.unwrap_or_default().to_owned())
    }

    /// Whether it takes itself for a primary.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn is_primary(&self) -> Result<bool, Error> {
        Ok(self.replication("role").await? == "master")
    }

    /// Its replication offset: written as a primary, applied as a replica.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn offset(&self) -> Result<u64, Error> {
        let mut field = "master_repl_offset";
        if !self.is_primary().await? {
            field = "slave_repl_offset";
        }
        Ok(self.replication(field).await?.parse().unwrap_or_default())
    }

    /// Waits until its offset is `offset` or more.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], as while its stream is cut.
    pub async fn wait_offset(&self, offset: u64) -> Result<(), Error> {
        let mut wait = Wait::new(format!("{}: offset {offset}", self.name()));
        while self.offset().await? < offset {
            self.place.again(&mut wait).await?;
        }
        Ok(())
    }

    /// Waits until it is linked to its primary.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], as while its stream is cut.
    pub async fn wait_linked(&self) -> Result<(), Error> {
        let mut wait = Wait::new(format!("{}: linked to its primary", self.name()));
        while self.replication("master_link_status").await? != "up" {
            self.place.again(&mut wait).await?;
        }
        Ok(())
    }

    /// Answers no client for so long (`CLIENT PAUSE`); the other ways to be slow are
    /// [`freeze`](Self::freeze) and [`stream`](Self::stream).
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn pause_clients(&self, time: Duration) -> Result<(), Error> {
        self.command(&["client", "pause", &time.as_millis().to_string(), "all"])
            .await?;
        Ok(())
    }

    /// Makes it a primary (`REPLICAOF NO ONE`).
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn promote(&self) -> Result<(), Error> {
        self.command(&["replicaof", "no", "one"]).await?;
        Ok(())
    }

    /// Makes it a replica of `primary`; returns once it is linked. What only this
    /// node has is lost.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command); [`Error::TimedOut`] as while its stream is cut.
    pub async fn follow(&self, primary: &Self) -> Result<(), Error> {
        let mut port = primary.port();
        if let Some(stream) = &self.stream {
            stream.retarget(address(port));
            port = stream.port();
        }
        self.command(&["replicaof", "127.0.0.1", &port.to_string()])
            .await?;
        // Asked of the primary: this node may not have noticed yet that the link to
        // the former one is closed.
        let me = format!("port={},state=online", self.port());
        let mut wait = Wait::new(format!("{}: followed by {}", primary.name(), self.name()));
        while !primary
            .command(&["info", "replication"])
            .await?
            .contains(&me)
        {
            self.place.again(&mut wait).await?;
        }
        self.wait_linked().await
    }

    /// Ends it cleanly.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it does not run.
    pub async fn stop(&self) -> Result<(), Error> {
        self.place.end(Signal::TERM).await
    }

    /// Starts it again in the role that its settings file gives it; sentinels and
    /// `CONFIG REWRITE` change that file. Returns once it answers.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it runs; [`Error::Ended`] when it does not come up.
    pub async fn start(&self) -> Result<(), Error> {
        let mut command = self.place.home.command(&self.programs.server);
        command.arg(self.place.dir().join("redis.conf"));
        self.place.launch(command)?;
        wait_answers(&self.place, &self.programs).await
    }
}

impl Sentinel {
    node_methods!();

    /// `redis://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Runs a command, as [`Node::command`].
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the sentinel's message.
    pub async fn command(&self, words: &[&str]) -> Result<String, Error> {
        cli(&self.place, &self.programs, words).await
    }

    /// The port of the node that it takes for the primary.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn primary_port(&self) -> Result<u16, Error> {
        let reply = self
            .command(&["sentinel", "get-master-addr-by-name", SERVICE])
            .await?;
        let port = reply.lines().nth(1).and_then(|port| port.parse().ok());
        port.ok_or_else(|| Error::State(format!("{}: names no primary: {reply}", self.name())))
    }

    async fn wait_knows(&self, replicas: usize, sentinels: usize) -> Result<(), Error> {
        let known = format!("slaves={replicas},sentinels={sentinels}");
        let mut wait = Wait::new(format!("{}: knows {known}", self.name()));
        while !self.command(&["info", "sentinel"]).await?.contains(&known) {
            self.place.again(&mut wait).await?;
        }
        Ok(())
    }

    /// Ends it cleanly.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it does not run.
    pub async fn stop(&self) -> Result<(), Error> {
        self.place.end(Signal::TERM).await
    }

    /// Starts it again with what it knew.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it runs; [`Error::Ended`] when it does not come up.
    pub async fn start(&self) -> Result<(), Error> {
        let mut command = self.place.home.command(&self.programs.server);
        command
            .arg(self.place.dir().join("sentinel.conf"))
            .arg("--sentinel");
        self.place.launch(command)?;
        wait_answers(&self.place, &self.programs).await
    }
}

async fn cli(place: &Place, programs: &Programs, words: &[&str]) -> Result<String, Error> {
    let mut command = place.home.command(&programs.cli);
    command
        .args(["-e", "-p", &place.port().to_string()])
        .args(words);
    let reply = place.run(&words.join(" "), command).await?;
    Ok(reply.trim_end().to_owned())
}

async fn wait_answers(place: &Place, programs: &Programs) -> Result<(), Error> {
    let mut wait = Wait::new(format!("{}: answers", place.name()));
    loop {
        // Until it listens, and while it loads its data, the client fails.
        match cli(place, programs, &["ping"]).await {
            Ok(_) => return Ok(()),
            Err(Error::Failed { .. }) => place.again(&mut wait).await?,
            Err(error) => return Err(error),
        }
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What all servers have: loopback only, data in a file, synchronization at once.
const SETTINGS: [&str; 10] = [
    "bind 127.0.0.1",
    "daemonize no",
    "save \"\"",
    "appendonly yes",
    "appendfsync no",
    "repl-diskless-sync yes",
    "repl-diskless-sync-delay 0",
    "repl-ping-replica-period 1",
    "enable-protected-configs no",
    "enable-debug-command no",
];
