//! NATS with JetStream: one server.
//!
//! No password: it takes connections from this machine only. What it has
//! acknowledged survives a `kill -9`; like the other engines' data, not a crash of
//! the machine.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::home::Home;
use crate::place::{Place, node_methods};
use crate::port::retry_taken_ports;
use crate::wait::Wait;
use crate::{Error, program};

/// A running server with JetStream.
///
/// Dropping it kills the process and removes the directory, also while a panic
/// unwinds; if this process is killed, its guard does the same.
#[derive(Debug)]
pub struct Server {
    place: Place,
    program: PathBuf,
    home: Arc<Home>,
}

impl Server {
    /// Makes and starts a server; returns once it takes connections.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without NATS, otherwise what failed with the end of the
    /// log. Nothing stays behind.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends and removes what it has started.
    pub async fn launch() -> Result<Self, Error> {
        retry_taken_ports(Self::try_launch).await
    }

    async fn try_launch() -> Result<Self, Error> {
        let program = program::find("nats-server", "nats-server", &[])?;
        let home = Home::create("nats", program::user("nats"))?;
        let server = Self {
            place: Place::make(&home, "nats0".into())?,
            program,
            home,
        };
        server.start().await?;
        Ok(server)
    }

    node_methods!();

    /// `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// The private directory with data and log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// Ends it cleanly.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it does not run.
    pub async fn stop(&self) -> Result<(), Error> {
        self.place.end(Signal::TERM).await
    }

    /// Starts it again with the streams it had; returns once it takes connections.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it runs; [`Error::Ended`] when it does not come up.
    pub async fn start(&self) -> Result<(), Error> {
        let mut command = self.home.command(&self.program);
        command
            .args([
                "-a",
                "127.0.0.1",
                "-p",
                &self.port().to_string(),
                "-js",
                "-sd",
            ])
            .arg(self.place.dir());
        self.place.launch(command)?;
        let mut wait = Wait::new(format!("{}: greets with JetStream", self.name()));
        while !self.greets().await {
            self.place.again(&mut wait).await?;
        }
        Ok(())
    }

    /// Whether it sends the line that begins a connection.
    async fn greets(&self) -> bool {
        let greeting = async {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).await?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await?;
            Ok::<_, std::io::Error>(line)
        };
        match timeout(Duration::from_secs(1), greeting).await {
            Ok(Ok(line)) => line.starts_with("INFO ") && line.contains("\"jetstream\":true"),
            _ => false,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.home.close();
    }
}
