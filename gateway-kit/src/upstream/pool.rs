//! Connections to one endpoint, kept and used again.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use resilience_core::clock::{Clock, SharedClock};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::config::UpstreamConfig;
use crate::upstream::upload::Upload;

/// The idle connections of one endpoint; the most recently used first, so that surplus ones
/// grow old and are closed.
#[derive(Debug)]
pub(crate) struct Pool {
    /// `host:port`.
    address: String,
    settings: Settings,
    clock: SharedClock,
    idle: Mutex<Vec<Idle>>,
}

/// All that connections to an endpoint depend on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Duration,
}

/// One connection; closed when dropped.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Upload>,
    _driver: Driver,
}

/// The task that moves the bytes of a connection; ends with the connection.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection in use. Dropped before the answer has ended, the connection closes: its
/// remaining bytes belong to nobody.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    connection: Connection,
}

/// Why no response head came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nothing was sent: the request is whole and may go elsewhere.
    #[error("no connection to the upstream")]
    Unsent {
        request: Box<Request<Upload>>,
        timed_out: bool,
    },
    /// Something was sent; whether the upstream acted on it is not known.
    #[error("the upstream broke off before it answered")]
    Broken(#[source] hyper::Error),
}

impl Settings {
    pub(crate) const fn of(config: &UpstreamConfig) -> Self {
        Self {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            max_idle: config.max_idle,
        }
    }
}

impl Pool {
    pub(crate) fn new(address: String, settings: Settings, clock: SharedClock) -> Self {
        Self {
            address,
            settings,
            clock,
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(crate) const fn settings(&self) -> Settings {
        self.settings
    }

    /// Sends a request on an idle connection, else on a new one.
    ///
    /// A request is sent again only when the connection handed it back untouched, so that none
    /// is ever doubled, a `POST` included.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection in use.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        // Each turn uses an idle connection up, so this ends.
        while let Some(mut connection) = self.take_idle() {
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, self.lease(connection))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Broken(error.into_error())),
                },
            }
        }
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(timed_out) => {
                let request = Box::new(request);
                return Err(SendError::Unsent { request, timed_out });
            }
        };
        match connection.sender.try_send_request(request).await {
            Ok(response) => Ok((response, self.lease(connection))),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => SendError::Unsent {
                    request: Box::new(request),
                    timed_out: false,
                },
                None => SendError::Broken(error.into_error()),
            }),
        }
    }

    /// Closes connections that have been idle too long.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        // The closed ones are dropped outside the lock.
        let stale: Vec<Idle> = {
            let mut idle = self.idle.lock();
            idle.extract_if(.., |idle| !self.is_fresh(idle, now))
                .collect()
        };
        drop(stale);
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    fn is_fresh(&self, idle: &Idle, now: Duration) -> bool {
        now.saturating_sub(idle.since) < self.settings.idle_timeout
            && !idle.connection.sender.is_closed()
    }

    fn take_idle(&self) -> Option<Connection> {
        let now = self.clock.now();
        loop {
            let newest = self.idle.lock().pop()?;
            if self.is_fresh(&newest, now) && newest.connection.sender.is_ready() {
                return Some(newest.connection);
            }
        }
    }

    /// A new connection, or whether the wait for it was too long.
    async fn connect(&self) -> Result<Connection, bool> {
        let connecting = async {
            let stream = TcpStream::connect(self.address.as_str()).await.ok()?;
            // Answers wait for small segments otherwise; a failure costs only that.
            let _ = stream.set_nodelay(true);
            http1::Builder::new()
                .max_header_size(64 * 1024)
                .handshake(TokioIo::new(stream))
                .await
                .ok()
        };
        let (sender, driver) = tokio::time::timeout(self.settings.connect_timeout, connecting)
            .await
            .map_err(|_| true)?
            .ok_or(false)?;
        // What goes wrong on the connection is told to the request that uses it.
        let task = tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Connection {
            sender,
            _driver: Driver(task.abort_handle()),
        })
    }

    fn lease(self: &Arc<Self>, connection: Connection) -> Lease {
        Lease {
            pool: Arc::clone(self),
            connection,
        }
    }

    fn put(&self, connection: Connection) {
        let since = self.clock.now();
        let mut idle = self.idle.lock();
        if idle.len() < self.settings.max_idle && !connection.sender.is_closed() {
            idle.push(Idle { connection, since });
            return;
        }
        drop(idle);
        drop(connection);
    }
}

impl Lease {
    /// The answer has ended: keeps the connection for the next request.
    pub(crate) fn give_back(self) {
        let Self {
            pool,
            mut connection,
        } = self;
        if connection.sender.is_ready() {
            pool.put(connection);
            return;
        }
        // The driver has not yet noticed the end, or still sends a request body whose answer
        // came early. The first takes a moment, the second is not worth waiting for.
        tokio::spawn(async move {
            let ready = tokio::time::timeout(SETTLE, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.put(connection);
            }
        });
    }
}

/// Longest wait for a connection to be ready again after its answer ended.
const SETTLE: Duration = Duration::from_millis(500);
