//! MariaDB: a primary and its replicas, by GTID.
//!
//! The nodes listen on 127.0.0.1 for user `app`, with a password made for this
//! cluster, and on a socket in the cluster's directory for `root`. Each replica
//! reaches its primary through a [`Relay`] of its own. Semi-synchronous
//! replication is off, so a primary that is killed may take acknowledged writes along.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;

use crate::home::Home;
use crate::place::{Place, node_methods};
use crate::port::retry_taken_ports;
use crate::relay::Relay;
use crate::wait::Wait;
use crate::{Error, program};

/// The database that user `app` may do everything in.
pub const DATABASE: &str = "app";

/// How a cluster is made. `Config::default()`: one replica, no settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How many replicas.
    pub replicas: usize,
    /// Settings of every server beyond those of the harness, as on its command line:
    /// `max_connections` and `500`.
    pub settings: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            replicas: 1,
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

    /// One more setting for every server.
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

#[derive(Debug)]
struct Shared {
    home: Arc<Home>,
    install: PathBuf,
    server: PathBuf,
    client: PathBuf,
    password: String,
    settings: Vec<(String, String)>,
    /// An installed data directory that no server ever ran on.
    template: PathBuf,
}

/// One MariaDB server of a [`Cluster`].
///
/// Every operation returns once what it says is the case; after 60 s it fails with
/// [`Error::TimedOut`] and the end of the server's log.
#[derive(Debug)]
pub struct Node {
    place: Place,
    stream: Relay,
    state: Mutex<State>,
    shared: Arc<Shared>,
}

/// What a server is told when it starts.
#[derive(Clone, Copy, Debug)]
struct State {
    read_only: bool,
    /// New with each rebuild: a server passes over events that carry its own.
    server_id: usize,
}

impl Cluster {
    /// Starts a cluster; returns once every replica has what the primary has.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without MariaDB, otherwise what failed with the end of the
    /// log. Nothing stays behind.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends and removes what it has started.
    pub async fn start(config: Config) -> Result<Self, Error> {
        retry_taken_ports(|| Self::try_start(config.clone())).await
    }

    async fn try_start(config: Config) -> Result<Self, Error> {
        let server = |program| program::find(program, "mariadb-server", &[]);
        let (install, server) = (server("mariadb-install-db")?, server("mariadbd")?);
        let client = program::find("mariadb", "mariadb-client", &[])?;
        let home = Home::create("mariadb", program::user("mysql"))?;
        let shared = Arc::new(Shared {
            install,
            server,
            client,
            password: crate::secret()?,
            settings: config.settings,
            template: home.make("template")?,
            home,
        });
        let nodes = (0..=config.replicas)
            .map(|number| Node::prepare(number, Arc::clone(&shared)))
            .collect::<Result<_, _>>()?;
        let cluster = Self { nodes, shared };
        cluster.shared.install().await?;
        for node in &cluster.nodes {
            node.copy_template().await?;
            node.launch()?;
        }
        for node in &cluster.nodes {
            node.wait_answers().await?;
            node.make_users().await?;
        }
        for replica in &cluster.nodes[1..] {
            replica.follow(&cluster.nodes[0]).await?;
        }
        Ok(cluster)
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

    /// The password of user `app` on 127.0.0.1.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.shared.password
    }

    /// The private directory with data and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.shared.home.dir()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.home.close();
    }
}

impl Shared {
    async fn install(&self) -> Result<(), Error> {
        let mut command = self.home.command(&self.install);
        command
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args([
                "--skip-test-db",
                "--skip-name-resolve",
                "--innodb-log-file-size=8M",
            ])
            // A server that starts removes what others have in a shared one.
            .arg(format!("--tmpdir={}", self.home.dir().display()))
            .arg(format!("--datadir={}", self.template.display()));
        self.home.run("mariadb-install-db", command).await?;
        Ok(())
    }
}

impl Node {
    fn prepare(number: usize, shared: Arc<Shared>) -> Result<Self, Error> {
        let place = Place::make(&shared.home, format!("mariadb{number}"))?;
        Ok(Self {
            stream: Relay::start(address(place.port()))?,
            place,
            state: Mutex::new(State {
                read_only: number != 0,
                server_id: number + 1,
            }),
            shared,
        })
    }

    node_methods!();

    /// `mysql://` URL of database [`DATABASE`] with user `app` (all rights in that
    /// database, and to see how replication stands) and password.
    #[must_use]
    pub fn url(&self) -> String {
        let password = &self.shared.password;
        format!(
            "mysql://app:{password}@127.0.0.1:{}/{DATABASE}",
            self.port()
        )
    }

    /// Its socket, where `root` needs no password.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.place.dir().join("socket")
    }

    /// The network between this node and its primary, to be cut, stalled and opened
    /// again. It keeps its state when the node is restarted or follows another.
    #[must_use]
    pub fn stream(&self) -> &Relay {
        &self.stream
    }

    // What it knows.

    /// Runs SQL in database [`DATABASE`] by the program `mariadb` as `root`, who is not
    /// bound by `read_only`; gives the rows with tabs between columns.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the server's message.
    pub async fn sql(&self, sql: &str) -> Result<String, Error> {
        self.client(sql, &["--skip-column-names", "--database", DATABASE])
            .await
    }

    async fn client(&self, sql: &str, more: &[&str]) -> Result<String, Error> {
        let mut command = self.shared.home.command(&self.shared.client);
        command
            .args(["--no-defaults", "--batch", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()))
            .args(more)
            .args(["--execute", sql]);
        let rows = self.place.run(sql, command).await?;
        Ok(rows.trim_end().to_owned())
    }

    /// One field of `SHOW REPLICA STATUS`; empty on a primary.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn replication(&self, field: &str) -> Result<String, Error> {
        let text = self.client("show replica status", &["--vertical"]).await?;
        let value = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(field)?.strip_prefix(": "));
        Ok(value.unwrap_or_default().to_owned())
    }

    /// Whether it follows another node.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn is_replica(&self) -> Result<bool, Error> {
        Ok(!self.replication("Master_Port").await?.is_empty())
    }

    /// What it has, as a GTID position: written or applied (`gtid_current_pos`).
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn position(&self) -> Result<String, Error> {
        self.sql("select @@gtid_current_pos").await
    }

    /// Waits until this replica has applied `position`, as [`position`](Self::position) gives it.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when the SQL thread has ended with an error;
    /// [`Error::TimedOut`], as while it is stopped.
    pub async fn wait_applied(&self, position: &str) -> Result<(), Error> {
        let mut wait = Wait::new(format!("{}: applied {position}", self.name()));
        let applied = format!("select master_gtid_wait('{position}', 0.5)");
        while self.sql(&applied).await? != "0" {
            let problem = self.replication("Last_SQL_Error").await?;
            if !problem.is_empty() {
                return Err(Error::State(format!("{}: {problem}", self.name())));
            }
            self.place.again(&mut wait).await?;
        }
        Ok(())
    }

    // Faults that leave it running.

    /// Stops applying; what comes is still received.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn stop_sql_thread(&self) -> Result<(), Error> {
        self.sql("stop replica sql_thread").await?;
        Ok(())
    }

    /// Stops receiving; what has come is still applied.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn stop_io_thread(&self) -> Result<(), Error> {
        self.sql("stop replica io_thread").await?;
        Ok(())
    }

    /// Lets both threads go on.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn start_threads(&self) -> Result<(), Error> {
        self.sql("start replica").await?;
        Ok(())
    }

    /// Applies each event so long after it was written, in whole seconds (a part
    /// counts as one); zero ends that.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn set_apply_delay(&self, delay: Duration) -> Result<(), Error> {
        let seconds = delay.as_millis().div_ceil(1000);
        let sql = format!("stop replica; change master to master_delay = {seconds}; start replica");
        self.sql(&sql).await?;
        Ok(())
    }

    // What ends it or starts it.

    /// Makes it a primary: it applies what it has received, unless its SQL thread is
    /// stopped, and takes writes.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql); [`Error::TimedOut`] as while a delay is set.
    pub async fn promote(&self) -> Result<(), Error> {
        self.stop_io_thread().await?;
        if self.replication("Slave_SQL_Running").await? == "Yes" {
            let received = self.replication("Gtid_IO_Pos").await?;
            self.wait_applied(&received).await?;
        }
        self.sql("stop replica; reset replica all; set global read_only = 0")
            .await?;
        self.state.lock().read_only = false;
        Ok(())
    }

    /// Makes it a replica of `primary` from the position it has, which takes no writes;
    /// returns once it has what `primary` has.
    ///
    /// # Errors
    ///
    /// [`Error::State`] with the server's message when it has what `primary` lacks
    /// (then [`rebuild`](Self::rebuild) it); [`Error::TimedOut`] as while its stream is cut.
    pub async fn follow(&self, primary: &Self) -> Result<(), Error> {
        self.state.lock().read_only = true;
        self.stream.retarget(address(primary.port()));
        let sql = format!(
            "set global read_only = 1; stop replica; set global gtid_slave_pos = @@gtid_current_pos; \
             change master to master_host = '127.0.0.1', master_port = {}, master_user = 'replication', \
             master_password = '{}', master_use_gtid = slave_pos, master_connect_retry = 1; start replica",
            self.stream.port(),
            self.shared.password
        );
        self.sql(&sql).await?;
        let mut wait = Wait::new(format!("{}: follows {}", self.name(), primary.name()));
        // The thread runs before the primary has looked at the position; a log is named
        // once it has taken it.
        while self.replication("Master_Log_File").await?.is_empty() {
            // 1236: refused by the primary's log, and so for good.
            if self.replication("Last_IO_Errno").await? == "1236" {
                let reason = self.replication("Last_IO_Error").await?;
                return Err(Error::State(format!("{}: {reason}", self.name())));
            }
            self.place.again(&mut wait).await?;
        }
        self.wait_applied(&primary.position().await?).await
    }

    /// Throws its data away and makes it a replica of `primary`, from the first event on.
    /// It is ended first if it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`], [`Error::TimedOut`] as while its stream is cut.
    pub async fn rebuild(&self, primary: &Self) -> Result<(), Error> {
        if self.is_running() {
            self.kill().await?;
        }
        let data = self.data();
        fs::remove_dir_all(&data).map_err(Error::path("remove", &data))?;
        self.copy_template().await?;
        {
            let mut state = self.state.lock();
            state.read_only = true;
            state.server_id += 1000;
        }
        self.start().await?;
        self.make_users().await?;
        self.follow(primary).await
    }

    /// Ends it cleanly.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it does not run.
    pub async fn stop(&self) -> Result<(), Error> {
        self.place.end(Signal::TERM).await
    }

    /// Starts it again in the role it had: one that was the primary takes writes, a
    /// replica goes on following. Returns once it answers.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it runs; [`Error::Ended`] when it does not come up.
    pub async fn start(&self) -> Result<(), Error> {
        self.launch()?;
        self.wait_answers().await
    }

    // The parts.

    fn launch(&self) -> Result<(), Error> {
        let dir = self.place.dir().display();
        let state = *self.state.lock();
        let mut command = self.shared.home.command(&self.shared.server);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={dir}/pid"))
            .arg(format!("--tmpdir={dir}"))
            .arg(format!("--port={}", self.port()))
            .arg(format!("--server-id={}", state.server_id))
            .arg(format!("--read-only={}", u8::from(state.read_only)))
            .args(SETTINGS);
        for (name, value) in &self.shared.settings {
            command.arg(format!("--{name}={value}"));
        }
        self.place.launch(command)
    }

    async fn wait_answers(&self) -> Result<(), Error> {
        let mut wait = Wait::new(format!("{}: answers", self.name()));
        loop {
            match self.client("select 1", &[]).await {
                Ok(_) => return Ok(()),
                Err(Error::Failed { .. }) => self.place.again(&mut wait).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Not into the log: every node makes its own.
    async fn make_users(&self) -> Result<(), Error> {
        let password = &self.shared.password;
        let sql = format!(
            "set sql_log_bin = 0; \
             drop user if exists 'root'@'127.0.0.1', 'root'@'::1', ''@'localhost'; \
             create database {DATABASE}; \
             create user 'app'@'127.0.0.1' identified by '{password}'; \
             grant all on {DATABASE}.* to 'app'@'127.0.0.1'; \
             grant binlog monitor, replica monitor on *.* to 'app'@'127.0.0.1'; \
             create user 'replication'@'127.0.0.1' identified by '{password}'; \
             grant replication replica on *.* to 'replication'@'127.0.0.1'"
        );
        self.client(&sql, &[]).await?;
        Ok(())
    }

    async fn copy_template(&self) -> Result<(), Error> {
        let mut command = self.shared.home.command(Path::new("cp"));
        command
            .args(["-R", "--preserve=mode", "--reflink=auto"])
            .arg(&self.shared.template)
            .arg(self.data());
        self.place.run("copy of the files", command).await?;
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.place.dir().join("data")
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What all nodes have: loopback only, GTIDs, little memory, no syncing to disk (but
/// all is written at each commit, so that it survives a `kill -9`).
const SETTINGS: [&str; 15] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--log-slave-updates=1",
    "--relay-log=relay",
    "--gtid-strict-mode=1",
    "--slave-net-timeout=10",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=8M",
    "--innodb-use-native-aio=0",
    "--aria-pagecache-buffer-size=8M",
    "--key-buffer-size=8M",
];
