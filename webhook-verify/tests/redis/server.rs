//! A real `redis-server` of one test: its own port, its own folder, gone at the end.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

pub(crate) struct Server {
    port: u16,
    folder: PathBuf,
    process: Child,
    // Kept open: the server writes its log there.
    _log: BufReader<ChildStdout>,
}

impl Server {
    /// A server that answers.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!(
            "webhook-verify-redis-{}-{number}",
            std::process::id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        // Redis cannot be asked for any free port; one that was just free is taken by
        // somebody else only now and then.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|socket| socket.local_addr())
                .unwrap()
                .port();
            if let Some((process, log)) = launch(port, &folder) {
                return Self {
                    port,
                    folder,
                    process,
                    _log: log,
                };
            }
        }
        panic!("redis-server finds no free port");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Kills it and starts an empty one in its place.
    pub(crate) fn restart_empty(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Starts an empty one in place of the one that was killed.
    pub(crate) fn start_again(&mut self) {
        let (process, log) = launch(self.port, &self.folder).expect("the port is still ours");
        self.process = process;
        self._log = log;
    }

    /// Stops the process; the system still accepts connections for it.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let done = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &id])
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process dies of this as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `None` when the server ended before it was ready.
fn launch(port: u16, folder: &PathBuf) -> Option<(Child, BufReader<ChildStdout>)> {
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string()])
        .args(["--bind", "127.0.0.1"])
        .args(["--save", ""])
        .args(["--appendonly", "no"])
        .args(["--daemonize", "no"])
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is missing: run `make deps`");
    let mut log = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line.contains("Ready to accept connections") {
            return Some((process, log));
        }
        line.clear();
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}
