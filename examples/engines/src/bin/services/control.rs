//! How a second call of the program reaches the first: a socket in the directory, one
//! line asked, an answer until the end of the connection, its first line `ok` or `error`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::running::Running;
use crate::{Failure, fault, in_file};

/// The listening side; removes the socket on drop.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    pub(crate) fn listen(path: &Path) -> Result<Self, Failure> {
        // Of a program that was killed: the caller holds the lock of the directory.
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(in_file("listen on", path))?;
        let control = Self {
            listener,
            path: path.into(),
        };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(control)
    }

    /// Answers one request after the other until one is `stop`; gives that one's connection.
    pub(crate) async fn serve(&self, running: &Running, env: &str) -> UnixStream {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                continue;
            };
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream.read_line(&mut line).await.is_err() {
                continue;
            }
            let answered = match line.trim_end() {
                "stop" => return stream.into_inner(),
                "status" => Ok(running.status().await),
                "env" => Ok(env.to_owned()),
                request => fault::run(running, request).await,
            };
            answer(stream.into_inner(), answered).await;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

pub(crate) async fn answer(mut stream: UnixStream, answer: Result<String, Failure>) {
    let text = match answer {
        Ok(text) => format!("ok\n{text}"),
        Err(error) => format!("error\n{error}"),
    };
    // One who asked and went away needs no answer.
    let _ = stream.write_all(text.as_bytes()).await;
}

pub(crate) async fn listens(path: &Path) -> bool {
    UnixStream::connect(path).await.is_ok()
}

pub(crate) async fn ask(path: &Path, request: &str) -> Result<String, Failure> {
    let mut stream = UnixStream::connect(path)
        .await
        .map_err(|error| format!("nothing runs here: {}: {error}", path.display()))?;
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    match text.split_once('\n') {
        Some(("ok", rest)) => Ok(rest.to_owned()),
        Some(("error", rest)) => Err(rest.into()),
        _ => Err("the program ended before it answered".into()),
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let _ = fs::remove_file(path);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())
    };
    Ok(write().map_err(in_file("write", path))?)
}

/// The signals that end the program.
#[derive(Debug)]
pub(crate) struct Ended {
    interrupted: Signal,
    terminated: Signal,
}

impl Ended {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupted: signal(SignalKind::interrupt())?,
            terminated: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
    }
}
