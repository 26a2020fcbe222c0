//! One node and what can happen to it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;

use super::Shared;
use crate::home::remove_segment;
use crate::place::{Place, node_methods};
use crate::relay::{Flow, Relay};
use crate::wait::Wait;
use crate::{Error, family};

/// One PostgreSQL server of a [`Cluster`](super::Cluster).
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

#[derive(Debug, Default)]
struct State {
    /// The port of the node it is to follow.
    upstream: Option<u16>,
    /// Its own settings, beside those of the whole cluster.
    settings: BTreeMap<String, String>,
}

/// A base backup: what a node was at some position.
///
/// It lies in the cluster's directory and goes with it.
#[derive(Clone, Debug)]
pub struct Backup {
    dir: PathBuf,
}

impl Node {
    pub(super) fn prepare(number: usize, shared: Arc<Shared>) -> Result<Self, Error> {
        let place = Place::make(&shared.home, format!("pg{number}"))?;
        let hosts = "local all all trust\nlocal replication all trust\n\
                     host all all 127.0.0.1/32 password\nhost replication all 127.0.0.1/32 password\n";
        shared.home.write(&place.dir().join("pg_hba.conf"), hosts)?;
        Ok(Self {
            stream: Relay::start(address(place.port()))?,
            place,
            state: Mutex::new(State::default()),
            shared,
        })
    }

    node_methods!();

    /// `postgres://` URL of database `postgres` with user (a superuser) and password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// `postgres://` URL of another database.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}",
            self.shared.password,
            self.port()
        )
    }

    /// The directory of its socket, `.s.PGSQL.<port>`, where no password is asked for.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.shared.sockets
    }

    /// The network between this node and its upstream, to be cut, stalled and
    /// opened again. It keeps its state when the node is restarted or follows another.
    #[must_use]
    pub fn stream(&self) -> &Relay {
        &self.stream
    }

    // What it knows.

    /// Runs SQL in database `postgres` by `psql`, as a superuser, each statement in
    /// a transaction of its own; gives the rows with `|` between columns.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the server's message.
    pub async fn sql(&self, sql: &str) -> Result<String, Error> {
        self.sql_in("postgres", sql).await
    }

    /// [`sql`](Self::sql) in another database.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the server's message.
    pub async fn sql_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        let mut command = self.command(&self.shared.programs.psql);
        command
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(&self.shared.sockets)
            .args([
                "-p",
                &self.port().to_string(),
                "-U",
                "postgres",
                "-d",
                database,
                "-c",
                sql,
            ]);
        let rows = self
            .shared
            .home
            .run(&format!("{}: {sql}", self.name()), command)
            .await?;
        Ok(rows.trim_end().to_owned())
    }

    /// Whether it is a replica.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn in_recovery(&self) -> Result<bool, Error> {
        Ok(self.sql("select pg_is_in_recovery()").await? == "t")
    }

    /// What it has: flushed as a primary, replayed as a replica.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn position(&self) -> Result<u64, Error> {
        self.number(
            "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
             else pg_current_wal_flush_lsn() end - '0/0'",
        )
        .await
    }

    /// What it has received from its upstream, as a replica.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql); [`Error::State`] when it has received nothing since it started.
    pub async fn received(&self) -> Result<u64, Error> {
        self.number("select pg_last_wal_receive_lsn() - '0/0'")
            .await
    }

    /// The timeline of its last checkpoint or, on a primary, the present one.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn timeline(&self) -> Result<u64, Error> {
        self.number(
            "select case when pg_is_in_recovery() \
             then coalesce((select received_tli from pg_stat_wal_receiver), (select timeline_id from pg_control_checkpoint())) \
             else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end",
        )
        .await
    }

    async fn number(&self, sql: &str) -> Result<u64, Error> {
        let text = self.sql(sql).await?;
        text.parse()
            .map_err(|_| Error::State(format!("{}: {sql}: no number: {text:?}", self.name())))
    }

    /// Waits until it has replayed (as a primary: flushed) up to `position`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], as while replay is paused.
    pub async fn wait_replayed(&self, position: u64) -> Result<(), Error> {
        super::wait_replayed(self, position).await
    }

    /// Waits until it streams; after [`follow`](Self::follow) that is from the new upstream.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] with the end of the log, which tells a fork in the history.
    pub async fn wait_streaming(&self) -> Result<(), Error> {
        let mut wait = Wait::new(format!("{}: streams from its upstream", self.name()));
        while self.sql("select status from pg_stat_wal_receiver").await? != "streaming" {
            self.again(&mut wait).await?;
        }
        Ok(())
    }

    /// Makes sure that `others` can [follow](Self::follow) this replica once it is promoted, which one
    /// that has more than it never can: their streams are cut and stay so, and it receives until it
    /// has what they have. Called while the primary runs.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), and when it takes too long.
    pub async fn get_ahead_of(&self, others: &[&Self]) -> Result<(), Error> {
        let mut most = 0;
        for other in others {
            other.stream.cut();
            let mut wait = Wait::new(format!("{}: receives nothing", other.name()));
            let receivers = "select count(*) from pg_stat_wal_receiver where status = 'streaming'";
            while other.sql(receivers).await? != "0" {
                other.again(&mut wait).await?;
            }
            most = most.max(other.received().await?);
        }
        let mut wait = Wait::new(format!("{}: has received up to {most}", self.name()));
        while self.received().await? < most {
            self.again(&mut wait).await?;
        }
        Ok(())
    }

    pub(super) async fn again(&self, wait: &mut Wait) -> Result<(), Error> {
        self.place.again(wait).await
    }

    // Faults that leave it running.

    /// Stops replay; what is received is kept.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), and when it is no replica.
    pub async fn pause_replay(&self) -> Result<(), Error> {
        self.sql("select pg_wal_replay_pause()").await?;
        let mut wait = Wait::new(format!("{}: replay paused", self.name()));
        while self.sql("select pg_get_wal_replay_pause_state()").await? != "paused" {
            self.again(&mut wait).await?;
        }
        Ok(())
    }

    /// Lets replay go on.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), and when it is no replica.
    pub async fn resume_replay(&self) -> Result<(), Error> {
        self.sql("select pg_wal_replay_resume()").await?;
        Ok(())
    }

    /// Replays each commit so long after it was made; zero ends that.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_apply_delay(&self, delay: Duration) -> Result<(), Error> {
        self.set(
            "recovery_min_apply_delay",
            &format!("{}ms", delay.as_millis()),
        )
        .await
    }

    /// Changes a setting of this node (one that a reload changes) and reloads.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql); [`Error::TimedOut`] when the server does not take the value.
    pub async fn set(&self, name: &str, value: &str) -> Result<(), Error> {
        self.state.lock().settings.insert(name.into(), value.into());
        self.write_settings()?;
        let loaded = "select extract(epoch from pg_conf_load_time())";
        let before = self.sql(loaded).await?;
        let server = self.place.running()?;
        family::signal(server.id(), Signal::HUP);
        let mut wait = Wait::new(format!("{}: {name} = {value}", self.name()));
        while self.sql(loaded).await? == before {
            server.again(&mut wait).await?;
        }
        let problem = self
            .sql("select error from pg_file_settings where error is not null limit 1")
            .await?;
        if problem.is_empty() {
            return Ok(());
        }
        Err(Error::State(format!(
            "{}: {name} = {value}: {problem}",
            self.name()
        )))
    }

    // What ends it or starts it.

    /// Ends it cleanly: sessions are ended, what the replicas lack is sent to them.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it does not run; [`Error::TimedOut`] as while the stream
    /// to a replica stalls.
    pub async fn stop(&self) -> Result<(), Error> {
        self.place.end(Signal::INT).await
    }

    /// Starts it again in the role that its files give it: one that was the primary
    /// comes back as a primary. Returns once it takes connections.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it runs; [`Error::Ended`] when it does not come up.
    pub async fn start(&self) -> Result<(), Error> {
        self.launch()?;
        self.wait_ready().await
    }

    /// Makes it a primary, on a new timeline.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), and when it is no replica.
    pub async fn promote(&self) -> Result<(), Error> {
        self.sql("select pg_promote(false)").await?;
        let mut wait = Wait::new(format!("{}: promoted", self.name()));
        while self.in_recovery().await? {
            self.again(&mut wait).await?;
        }
        self.set_upstream(None);
        Ok(())
    }

    /// Makes this replica follow `upstream` from now on; returns once it streams.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it does not run; [`Error::TimedOut`] when it cannot follow,
    /// as while its stream is cut or when it has replayed more than `upstream` had at its promotion.
    pub async fn follow(&self, upstream: &Self) -> Result<(), Error> {
        self.place.running()?;
        self.set_upstream(Some(upstream));
        // Asked of the upstream: this node may not have noticed yet that the stream
        // from the former one is closed.
        let mut wait = Wait::new(format!("{}: followed by {}", upstream.name(), self.name()));
        let streams = format!(
            "select count(*) from pg_stat_replication where application_name = '{}' and state = 'streaming'",
            self.name()
        );
        while upstream.sql(&streams).await? != "1" {
            self.again(&mut wait).await?;
        }
        self.wait_streaming().await
    }

    /// Makes a former primary (or a replica that went astray) a replica of
    /// `upstream` by `pg_rewind`: what only this node has is lost. It is ended first
    /// if it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what `pg_rewind` wrote.
    pub async fn rewind(&self, upstream: &Self) -> Result<(), Error> {
        self.end_somehow().await?;
        // The control file names the new timeline only after a checkpoint.
        upstream.sql("checkpoint").await?;
        let mut command = self.command(&self.shared.programs.rewind);
        command
            .arg("--no-sync")
            .arg("--target-pgdata")
            .arg(self.data())
            .arg("--config-file")
            .arg(self.settings_file())
            .arg("--source-server")
            .arg(format!(
                "host='{}' port={} user=postgres dbname=postgres",
                self.shared.sockets.display(),
                upstream.port()
            ));
        // One that was killed is recovered first, by a server of a single user.
        self.forget_pid_file();
        self.write_settings()?;
        let what = format!("pg_rewind from {}", upstream.name());
        self.place.run(&what, command).await?;
        self.join(upstream).await
    }

    /// Throws its data away and makes it a replica of `upstream` from a new base
    /// backup. It is ended first if it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what `pg_basebackup` wrote.
    pub async fn rebuild(&self, upstream: &Self) -> Result<(), Error> {
        self.end_somehow().await?;
        self.remove_data()?;
        self.base_backup(upstream, &self.data()).await?;
        self.join(upstream).await
    }

    /// A base backup of what this node is now, for [`restore`](Self::restore).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what `pg_basebackup` wrote.
    pub async fn backup(&self) -> Result<Backup, Error> {
        let dir = self.shared.home.dir().join(format!(
            "backup-{}",
            fs::read_dir(self.shared.home.dir()).map_or(0, Iterator::count)
        ));
        self.base_backup(self, &dir).await?;
        Ok(Backup { dir })
    }

    /// Throws its data away and makes it a replica of `upstream` from an older
    /// backup, so at a lower position than it had. It is ended first if it runs.
    ///
    /// It catches up at once unless its [`stream`](Self::stream) is cut or stalled
    /// before; then this returns once it takes connections.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Ended`].
    pub async fn restore(&self, backup: &Backup, upstream: &Self) -> Result<(), Error> {
        self.end_somehow().await?;
        self.remove_data()?;
        self.copy(&backup.dir).await?;
        self.join(upstream).await
    }

    // The parts.

    /// Starts it as a replica of `upstream`.
    async fn join(&self, upstream: &Self) -> Result<(), Error> {
        self.set_upstream(Some(upstream));
        self.become_replica()?;
        self.start().await?;
        if self.stream.flow() == Flow::Open {
            self.wait_streaming().await?;
        }
        Ok(())
    }

    async fn end_somehow(&self) -> Result<(), Error> {
        if !self.is_running() {
            return Ok(());
        }
        // Without waiting for replicas that may not read any more.
        self.place.end(Signal::QUIT).await
    }

    pub(super) async fn init(&self) -> Result<(), Error> {
        let password = self.place.dir().join("password");
        self.shared.home.write(&password, &self.shared.password)?;
        let mut command = self.command(&self.shared.programs.initdb);
        command
            .args([
                "--no-sync",
                "--no-instructions",
                "--locale=C",
                "--encoding=UTF8",
            ])
            .args([
                "--username=postgres",
                "--auth-local=trust",
                "--auth-host=password",
            ])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(self.data());
        self.place.run("initdb", command).await?;
        fs::remove_file(&password).map_err(Error::path("remove", &password))
    }

    /// Takes the files of `other`, which does not run, and becomes a replica.
    pub(super) async fn copy_from(&self, other: &Self) -> Result<(), Error> {
        self.copy(&other.data()).await?;
        self.become_replica()
    }

    async fn copy(&self, from: &Path) -> Result<(), Error> {
        let mut command = self.command(Path::new("cp"));
        command
            .args(["-R", "--preserve=mode", "--reflink=auto"])
            .arg(from)
            .arg(self.data());
        self.place.run("copy of the files", command).await?;
        Ok(())
    }

    async fn base_backup(&self, from: &Self, to: &Path) -> Result<(), Error> {
        let mut command = self.command(&self.shared.programs.basebackup);
        command
            .args([
                "--no-sync",
                "--checkpoint=fast",
                "--wal-method=stream",
                "-h",
            ])
            .arg(&self.shared.sockets)
            .args(["-p", &from.port().to_string(), "-U", "postgres", "-D"])
            .arg(to);
        let what = format!("pg_basebackup from {}", from.name());
        self.place.run(&what, command).await?;
        Ok(())
    }

    fn become_replica(&self) -> Result<(), Error> {
        self.shared
            .home
            .write(&self.data().join("standby.signal"), "")
    }

    fn remove_data(&self) -> Result<(), Error> {
        let data = self.data();
        self.forget_pid_file();
        fs::remove_dir_all(&data).map_err(Error::path("remove", &data))
    }

    pub(super) fn set_upstream(&self, upstream: Option<&Self>) {
        self.state.lock().upstream = upstream.map(Self::port);
        if let Some(upstream) = upstream {
            self.stream.retarget(address(upstream.port()));
        }
    }

    /// Whether it runs and gets the stream of `node`.
    pub(super) fn follows(&self, node: &Self) -> bool {
        self.is_running()
            && self.stream.flow() == Flow::Open
            && self.state.lock().upstream == Some(node.port())
    }

    /// Starts the process.
    pub(super) fn launch(&self) -> Result<(), Error> {
        if self.is_running() {
            return Err(Error::State(format!("{}: runs already", self.name())));
        }
        self.write_settings()?;
        self.forget_pid_file();
        let mut command = self.command(&self.shared.programs.postgres);
        command
            .arg("-D")
            .arg(self.data())
            .arg("-c")
            .arg(format!("config_file={}", self.settings_file().display()));
        self.place.launch(command)
    }

    /// Waits until it takes connections.
    pub(super) async fn wait_ready(&self) -> Result<(), Error> {
        let server = self.place.running()?;
        let mut wait = Wait::new(format!("{}: takes connections", self.name()));
        // As `pg_ctl` does: line 8 of the file is the state.
        let ready = || {
            let text = fs::read_to_string(self.pid_file()).unwrap_or_default();
            text.lines()
                .nth(7)
                .is_some_and(|state| state.trim() == "ready")
        };
        while !ready() {
            server.again(&mut wait).await?;
        }
        Ok(())
    }

    /// Of a server that was killed: its process id may be another's by now, and the
    /// new server would refuse to start.
    fn forget_pid_file(&self) {
        remove_segment(&self.pid_file());
        let _ = fs::remove_file(self.pid_file());
    }

    fn write_settings(&self) -> Result<(), Error> {
        let own = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port().to_string()),
            (
                "unix_socket_directories",
                self.shared.sockets.display().to_string(),
            ),
            (
                "hba_file",
                self.place.dir().join("pg_hba.conf").display().to_string(),
            ),
            ("cluster_name", self.name().to_owned()),
            (
                "primary_conninfo",
                format!(
                    "host=127.0.0.1 port={} user=postgres password={} application_name={}",
                    self.stream.port(),
                    self.shared.password,
                    self.name()
                ),
            ),
        ];
        let state = self.state.lock();
        let fixed = SETTINGS.map(|(name, value)| (name, value.to_owned()));
        let shared = self.shared.settings.iter();
        // The last of a name counts.
        let all = fixed
            .iter()
            .chain(&own)
            .map(|(name, value)| (*name, value))
            .chain(shared.map(|(name, value)| (name.as_str(), value)))
            .chain(
                state
                    .settings
                    .iter()
                    .map(|(name, value)| (name.as_str(), value)),
            );
        let mut text = String::new();
        for (name, value) in all {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        drop(state);
        self.shared.home.write(&self.settings_file(), &text)
    }

    fn command(&self, program: &Path) -> Command {
        self.shared.home.command(program)
    }

    fn data(&self) -> PathBuf {
        self.place.dir().join("data")
    }

    fn pid_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    fn settings_file(&self) -> PathBuf {
        self.place.dir().join("postgresql.conf")
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What all nodes have: little memory, no syncing to disk, a log that replicas can
/// be behind in, `pg_rewind` possible, streams that come back at once.
const SETTINGS: [(&str, &str); 18] = [
    ("shared_buffers", "32MB"),
    // Files in the data directory, not in /dev/shm, where a kill would leave them.
    ("dynamic_shared_memory_type", "mmap"),
    ("max_connections", "200"),
    ("fsync", "off"),
    ("wal_level", "replica"),
    ("wal_log_hints", "on"),
    ("wal_keep_size", "512MB"),
    ("max_wal_senders", "16"),
    ("max_replication_slots", "16"),
    ("hot_standby", "on"),
    ("hot_standby_feedback", "on"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("recovery_target_timeline", "latest"),
    ("password_encryption", "md5"),
    ("log_line_prefix", "%m [%p] %a "),
    ("logging_collector", "off"),
    ("timezone", "UTC"),
];
