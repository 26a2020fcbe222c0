//! A backend: this program again, in a process of its own that can be killed.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// Serves for ever: a GET is answered with the backend's number, a POST after its body, an id, was
/// put into the log.
pub(crate) async fn serve(address: SocketAddr, number: usize, log: &Path) -> io::Result<()> {
    let log = OpenOptions::new().append(true).create(true).open(log)?;
    let log = Arc::new(log);
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let log = Arc::clone(&log);
        let service = service_fn(move |request| answer(request, number, Arc::clone(&log)));
        tokio::spawn(async move {
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    number: usize,
    log: Arc<File>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if *request.method() == Method::POST {
        let Ok(body) = request.into_body().collect().await else {
            return Ok(Response::new(Full::default()));
        };
        let mut line = body.to_bytes().to_vec();
        line.push(b'\n');
        // One write, so that a line is there whole or not at all, also after a kill.
        let mut log = &*log;
        if log.write_all(&line).is_err() {
            std::process::exit(1);
        }
        // Long enough that a kill finds requests that are done but not answered: those a gateway
        // must not send again.
        sleep(Duration::from_millis(2)).await;
    }
    Ok(Response::new(Full::from(number.to_string())))
}

/// A backend and the log of its POSTs, which outlives it.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    number: usize,
    log: PathBuf,
    child: Option<Child>,
}

impl Backend {
    /// Starts the backend of that number on a free port.
    pub(crate) async fn start(number: usize, folder: &Path) -> io::Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0").await?;
        let mut backend = Self {
            address: free.local_addr()?,
            number,
            log: folder.join(format!("posts-{number}")),
            child: None,
        };
        drop(free);
        backend.restart().await?;
        Ok(backend)
    }

    /// Starts it again on its port, and waits until it listens.
    pub(crate) async fn restart(&mut self) -> io::Result<()> {
        let child = Command::new(std::env::current_exe()?)
            .arg("backend")
            .arg(self.address.to_string())
            .arg(self.number.to_string())
            .arg(&self.log)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        for _ in 0..1000 {
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other("a backend does not start"))
    }

    /// Kills it (SIGKILL).
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// The ids of its POSTs.
    pub(crate) fn posts(&self) -> io::Result<Vec<u64>> {
        match fs::read_to_string(&self.log) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
