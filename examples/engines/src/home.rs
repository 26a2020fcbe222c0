//! The private directory of a cluster, its processes, and the guard that removes
//! both however this process ends.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::error::tail_of;
use crate::program::User;
use crate::wait::{BOUND, Wait};
use crate::{Error, family};

/// Waits for one line before it becomes the program, so that the guard knows of a
/// process before the process does anything. Without that line it ends.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// What makes a program of an engine behave otherwise than its arguments say.
const FOREIGN: [&str; 3] = ["PG", "MYSQL", "MARIADB"];

/// A directory only for one cluster, and the processes of that cluster.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    user: Option<User>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The leaders of what runs.
    running: BTreeSet<u32>,
    /// `None` once closed.
    guard: Option<Child>,
}

impl Home {
    pub(crate) fn create(engine: &str, user: Option<User>) -> Result<Arc<Self>, Error> {
        let dir = make_dir(engine)?;
        // From here on whatever fails, dropping removes the directory.
        let home = Arc::new(Self {
            dir,
            user,
            state: Mutex::new(State {
                running: BTreeSet::new(),
                guard: None,
            }),
        });
        if let Some(user) = user {
            chown(&home.dir, Some(user.id), Some(user.group))
                .map_err(Error::path("chown", &home.dir))?;
        }
        let guard = Command::new("sh")
            .arg("-c")
            .arg(include_str!("guard.sh"))
            .arg("guard")
            .arg(&home.dir)
            .current_dir("/")
            // Out of reach of what ends this process and its group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("sh"))?;
        home.state.lock().guard = Some(guard);
        Ok(home)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory in it, which belongs to the servers.
    pub(crate) fn make(&self, name: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let dir = self.dir.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(Error::path("make", &dir))?;
        if let Some(user) = self.user {
            chown(&dir, Some(user.id), Some(user.group)).map_err(Error::path("chown", &dir))?;
        }
        Ok(dir)
    }

    /// Writes a file which belongs to the servers.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        fs::write(path, text).map_err(Error::path("write", path))?;
        if let Some(user) = self.user {
            chown(path, Some(user.id), Some(user.group)).map_err(Error::path("chown", path))?;
        }
        Ok(())
    }

    /// `program` behind the gate, as the servers' user; arguments are added to it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, "sh"]).arg(program);
        command.current_dir(&self.dir).process_group(0);
        for (name, _) in std::env::vars_os() {
            let foreign = |prefix: &&str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            if FOREIGN.iter().any(foreign) {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("HOME", &self.dir);
        if let Some(user) = self.user {
            command.uid(user.id).gid(user.group);
        }
        command.stdin(Stdio::piped());
        command
    }

    /// Runs a program to its end and gives what it wrote.
    pub(crate) async fn run(&self, what: &str, command: Command) -> Result<String, Error> {
        self.run_within(what, command, BOUND).await
    }

    pub(crate) async fn run_within(
        &self,
        what: &str,
        mut command: Command,
        bound: Duration,
    ) -> Result<String, Error> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.spawn().map_err(Error::io(what))?;
        let leader = child.id().unwrap_or_default();
        self.enter(leader)?;
        let mut task = Task {
            home: self,
            leader,
            over: false,
        };
        if let Some(mut gate) = child.stdin.take() {
            gate.write_all(b"\n").await.map_err(Error::io(what))?;
        }
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let ended = timeout(bound, async {
            tokio::join!(read_all(&mut out), read_all(&mut err), child.wait())
        });
        let Ok((out, err, status)) = ended.await else {
            return Err(Error::TimedOut {
                what: what.into(),
                bound,
                log: String::new(),
            });
        };
        let status = status.map_err(Error::io(what))?;
        task.over = true;
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        Err(Error::Failed {
            what: what.into(),
            status: status.to_string(),
            output: String::from_utf8_lossy(&[out, err].concat()).into_owned(),
        })
    }

    /// Starts a server, which writes to `log`.
    pub(crate) fn serve(
        self: &Arc<Self>,
        what: &str,
        mut command: Command,
        log: &Path,
    ) -> Result<Server, Error> {
        let open = || File::options().create(true).append(true).open(log);
        let out = open().map_err(Error::path("open", log))?;
        let err = open().map_err(Error::path("open", log))?;
        let mut child = command
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(Error::io(what))?;
        let gate = child.stdin.take();
        let server = Server {
            name: what.into(),
            leader: child.id(),
            home: Arc::clone(self),
            log: log.into(),
            child: Mutex::new(child),
        };
        // On an error the server is dropped, and so ended.
        self.enter(server.leader)?;
        if let Some(mut gate) = gate {
            gate.write_all(b"\n").map_err(Error::io(what))?;
        }
        Ok(server)
    }

    /// Tells the guard of a process.
    fn enter(&self, leader: u32) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.guard.is_none() {
            return Err(Error::State("the cluster is closed".into()));
        }
        state.running.insert(leader);
        state.tell("add", leader);
        Ok(())
    }

    fn leave(&self, leader: u32) {
        let mut state = self.state.lock();
        if state.running.remove(&leader) {
            state.tell("drop", leader);
        }
    }

    /// Kills all processes and removes the directory; the second time nothing.
    pub(crate) fn close(&self) {
        let (running, guard) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.running), state.guard.take())
        };
        let mut killed: Vec<u32> = running.into_iter().flat_map(family::kill).collect();
        // SIGKILL cannot be refused; the bound is for a system that hangs.
        for _ in 0..5_000 {
            killed.retain(|id| family::alive(*id));
            if killed.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        remove_segments(&self.dir);
        let _ = fs::remove_dir_all(&self.dir);
        if let Some(mut guard) = guard {
            // With anything left over the guard gets to do it: it reads the end.
            if let Some(mut pipe) = guard.stdin.take()
                && killed.is_empty()
                && !self.dir.exists()
            {
                let _ = pipe.write_all(b"done\n");
            }
            let _ = guard.wait();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn tell(&mut self, word: &str, leader: u32) {
        if let Some(pipe) = self.guard.as_mut().and_then(|guard| guard.stdin.as_mut()) {
            // A guard that was killed guards no more; the cluster works all the same.
            let _ = pipe.write_all(format!("{word} {leader}\n").as_bytes());
        }
    }
}

/// A program that is to end; killed with its children where it is not waited for.
#[derive(Debug)]
struct Task<'a> {
    home: &'a Home,
    leader: u32,
    over: bool,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.over {
            family::kill(self.leader);
        }
        self.home.leave(self.leader);
    }
}

async fn read_all(pipe: &mut Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut all).await;
    }
    all
}

/// A server that was started; killed on drop.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    leader: u32,
    home: Arc<Home>,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Server {
    pub(crate) fn id(&self) -> u32 {
        self.leader
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&self) -> Option<String> {
        match self.child.lock().try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// One step of a wait for something this server does.
    pub(crate) async fn again(&self, wait: &mut Wait) -> Result<(), Error> {
        if let Some(status) = self.ended() {
            return Err(Error::Ended {
                what: wait.what().into(),
                status,
                log: tail_of(&self.log),
            });
        }
        wait.again(|| tail_of(&self.log)).await
    }

    /// Stops it with all its children, as if the machine did not run.
    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        let mut wait = Wait::new(format!("{}: stopped by SIGSTOP", self.name));
        while !family::freeze(self.leader) {
            self.again(&mut wait).await?;
        }
        Ok(())
    }

    pub(crate) fn thaw(&self) {
        family::thaw(self.leader);
    }

    /// SIGKILL to it and all its children; returns once all are gone.
    pub(crate) async fn kill(&self) -> Result<(), Error> {
        let mut killed = family::kill(self.leader);
        let mut wait = Wait::new(format!("{}: gone after SIGKILL", self.name));
        loop {
            killed.retain(|id| family::alive(*id));
            if killed.is_empty() && self.ended().is_some() {
                self.home.leave(self.leader);
                return Ok(());
            }
            wait.again(String::new).await?;
        }
    }

    /// Sends a signal and waits for the end.
    pub(crate) async fn end(&self, signal: Signal) -> Result<(), Error> {
        self.thaw();
        family::signal(self.leader, signal);
        let mut wait = Wait::new(format!("{}: ended by {signal:?}", self.name));
        while self.ended().is_none() {
            wait.again(|| tail_of(&self.log)).await?;
        }
        self.home.leave(self.leader);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended().is_none() {
            family::kill(self.leader);
            let _ = self.child.lock().wait();
        }
        self.home.leave(self.leader);
    }
}

fn make_dir(engine: &str) -> Result<PathBuf, Error> {
    // ORDERING: a counter; the directory itself decides whether a name is free.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let parent = std::env::temp_dir();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{engine}-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            // Of a process that had the same number, and whose guard was killed too.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::path("make", &dir)(error)),
        }
    }
}

fn remove_segments(dir: &Path) {
    for node in fs::read_dir(dir).into_iter().flatten().flatten() {
        remove_segment(&node.path().join("data/postmaster.pid"));
    }
}

/// Removes the System V segment of a killed PostgreSQL, which its pid file names: a
/// few bytes, but the system has only 4096 of them.
pub(crate) fn remove_segment(pid_file: &Path) {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    // Line 7 is `key id`.
    if let Some(id) = text
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().nth(1))
    {
        let _ = Command::new("ipcrm")
            .args(["-m", id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
