//! A place for one server: its name, directory and port, and what runs there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::Signal;

use crate::Error;
use crate::error::tail_of;
use crate::home::{Home, Server};
use crate::port::Port;
use crate::wait::Wait;

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) home: Arc<Home>,
    name: String,
    dir: PathBuf,
    port: Port,
    server: Mutex<Option<Arc<Server>>>,
}

impl Place {
    pub(crate) fn make(home: &Arc<Home>, name: String) -> Result<Self, Error> {
        Ok(Self {
            dir: home.make(&name)?,
            port: Port::reserve()?,
            home: Arc::clone(home),
            name,
            server: Mutex::new(None),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn log_tail(&self) -> String {
        tail_of(&self.log())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn server(&self) -> Option<Arc<Server>> {
        self.server.lock().clone()
    }

    /// What runs; one that has ended by itself is still here.
    pub(crate) fn running(&self) -> Result<Arc<Server>, Error> {
        self.server()
            .ok_or_else(|| Error::State(format!("{}: does not run", self.name)))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.server().is_some_and(|server| server.ended().is_none())
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        Some(self.server()?.id())
    }

    pub(crate) fn launch(&self, command: Command) -> Result<(), Error> {
        if self.is_running() {
            return Err(Error::State(format!("{}: runs already", self.name)));
        }
        let server = self.home.serve(&self.name, command, &self.log())?;
        *self.server.lock() = Some(Arc::new(server));
        Ok(())
    }

    /// One step of a wait for something that the server does.
    pub(crate) async fn again(&self, wait: &mut Wait) -> Result<(), Error> {
        self.running()?.again(wait).await
    }

    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        self.running()?.freeze().await
    }

    pub(crate) fn thaw(&self) -> Result<(), Error> {
        self.running()?.thaw();
        Ok(())
    }

    pub(crate) async fn kill(&self) -> Result<(), Error> {
        self.running()?.kill().await?;
        *self.server.lock() = None;
        Ok(())
    }

    pub(crate) async fn end(&self, signal: Signal) -> Result<(), Error> {
        self.running()?.end(signal).await?;
        *self.server.lock() = None;
        Ok(())
    }

    /// Runs a client program of this server to its end.
    pub(crate) async fn run(&self, what: &str, command: Command) -> Result<String, Error> {
        let what = format!("{}: {what}", self.name);
        self.home.run(&what, command).await
    }
}

/// What every public node can do, by its field `place`.
macro_rules! node_methods {
    () => {
        /// Its name in its cluster.
        #[must_use]
        pub fn name(&self) -> &str {
            self.place.name()
        }

        /// Its port on 127.0.0.1; the same for the cluster's life.
        #[must_use]
        pub fn port(&self) -> u16 {
            self.place.port()
        }

        /// The end of its log.
        #[must_use]
        pub fn log_tail(&self) -> String {
            self.place.log_tail()
        }

        /// Whether its process runs, also when it is frozen.
        #[must_use]
        pub fn is_running(&self) -> bool {
            self.place.is_running()
        }

        /// The id of its (first) process, while it runs.
        #[must_use]
        pub fn pid(&self) -> Option<u32> {
            self.place.pid()
        }

        /// SIGSTOP to the server and all its processes: connections stay, nothing answers.
        ///
        /// # Errors
        ///
        /// [`Error::State`](crate::Error::State) when it does not run.
        pub async fn freeze(&self) -> Result<(), crate::Error> {
            self.place.freeze().await
        }

        /// Ends [`freeze`](Self::freeze).
        ///
        /// # Errors
        ///
        /// [`Error::State`](crate::Error::State) when it does not run.
        pub fn thaw(&self) -> Result<(), crate::Error> {
            self.place.thaw()
        }

        /// `kill -9`: the server and all its processes at once.
        ///
        /// # Errors
        ///
        /// [`Error::State`](crate::Error::State) when it does not run.
        pub async fn kill(&self) -> Result<(), crate::Error> {
            self.place.kill().await
        }

        /// [`stop`](Self::stop) and [`start`](Self::start).
        ///
        /// # Errors
        ///
        /// As those.
        pub async fn restart(&self) -> Result<(), crate::Error> {
            self.stop().await?;
            self.start().await
        }
    };
}
pub(crate) use node_methods;
