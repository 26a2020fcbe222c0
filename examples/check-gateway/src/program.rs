//! The `gateway` program, and its configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::client;

/// How a program is told of another configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Notice {
    /// It sees that the file has changed.
    File,
    /// SIGHUP, while it does not look at the file.
    Signal,
}

impl Notice {
    /// In turns; the first configuration is number 0.
    pub(crate) fn of(turn: usize) -> Self {
        match turn % 2 {
            0 => Self::Signal,
            _ => Self::File,
        }
    }
}

/// The program, which ends with this.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    config: PathBuf,
}

impl Program {
    /// An address that is free.
    pub(crate) async fn address() -> io::Result<SocketAddr> {
        TcpListener::bind("127.0.0.1:0").await?.local_addr()
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start(
        program: &Path,
        address: SocketAddr,
        config: &str,
        folder: &Path,
    ) -> io::Result<Self> {
        let file = folder.join("gateway.toml");
        fs::write(&file, config)?;
        let child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .kill_on_drop(true)
            .spawn()?;
        for _ in 0..1000 {
            if TcpStream::connect(address).await.is_ok() {
                let config = file;
                return Ok(Self {
                    child,
                    address,
                    config,
                });
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other("the gateway does not start"))
    }

    /// Puts another configuration in place of the file, and waits until it is in force.
    pub(crate) async fn reload(&self, config: &str, notice: Notice) -> io::Result<()> {
        let before = self.reloads().await?;
        let beside = self.config.with_extension("new");
        fs::write(&beside, config)?;
        fs::rename(&beside, &self.config)?;
        if notice == Notice::Signal {
            let id = self.child.id();
            let id = id.ok_or_else(|| io::Error::other("the gateway has ended"))?;
            let kill = ["-HUP".to_owned(), id.to_string()];
            if !Command::new("kill").args(kill).status().await?.success() {
                return Err(io::Error::other("no SIGHUP"));
            }
        }
        for _ in 0..1000 {
            if self.reloads().await? > before {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other(format!("no reload by {notice:?}")))
    }

    /// Configurations that came in force since the start.
    async fn reloads(&self) -> io::Result<u64> {
        let (_, metrics) = client::get(self.address, "/metrics").await?;
        let prefix = "config_reloads_total{result=\"applied\"} ";
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix(prefix)?.parse().ok());
        count.ok_or_else(|| io::Error::other("no count of reloads"))
    }
}
