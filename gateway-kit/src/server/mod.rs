//! Listening, serving and stopping.

mod answer;
mod bare;
mod builder;
mod client_body;
mod connection;
pub(crate) mod framing;
mod interim;
mod limits;
#[cfg(feature = "http2")]
mod stall;
mod stream;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::builder::Builder;
pub(crate) use self::client_body::{ClientBody, SlowClient, is_stream};
pub(crate) use self::connection::ConnectionSlot;
use self::connection::Serving;
pub(crate) use self::interim::Interim;
use self::limits::{PerClient, Slot};
use crate::alarm::Alarm;
use crate::config::{Config, ServerConfig};
use crate::handle::Handle;
use crate::headers;
use crate::layers::Layers;
use crate::reload::{self, Live};
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("tls: {0}")]
    Certificate(String),
    /// The configuration was built by hand and contradicts itself.
    #[error("configuration: {0}")]
    Settings(String),
}

/// What a gateway, its handles and its services share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) layers: Layers,
    pub(crate) live: Live,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<tls::Tls>>,
}

/// The connection a request came on.
#[derive(Clone, Debug)]
pub(crate) struct Downstream {
    pub(crate) peer: SocketAddr,
    pub(crate) tls: bool,
    /// It came to the address of the admin.
    #[cfg(feature = "admin")]
    pub(crate) admin: bool,
    /// The peer as upstreams are told it.
    pub(crate) address: HeaderValue,
    /// For the waits of its requests, if they come one after the other.
    pub(crate) alarm: Option<Arc<Alarm>>,
}

impl Downstream {
    /// A connection of the public address.
    pub(crate) fn new(peer: SocketAddr, tls: bool) -> Self {
        Self {
            peer,
            tls,
            #[cfg(feature = "admin")]
            admin: false,
            address: headers::told(peer.ip()),
            alarm: None,
        }
    }
}

/// A reverse proxy.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use gateway_kit::{Config, Gateway};
///
/// let gateway = Gateway::bind(Config::from_file("gateway.toml")?).await?;
/// println!("listening on {}", gateway.local_addr());
/// gateway.serve(std::future::pending()).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
    /// One, or two if TLS has an address of its own.
    listeners: Vec<Listener>,
    #[cfg(feature = "admin")]
    admin: Option<Admin>,
    limit: Arc<Semaphore>,
    clients: Arc<PerClient>,
}

/// The address of the admin, with limits of its own: it answers when the public one is full.
#[cfg(feature = "admin")]
#[derive(Debug)]
struct Admin {
    listener: Listener,
    limit: Arc<Semaphore>,
    server: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: bool,
}

impl Gateway {
    /// Compiles the configuration and starts to listen; connections wait until
    /// [`serve`](Self::serve) takes them.
    ///
    /// # Errors
    /// An address is taken or not ours, a certificate cannot be used, or a configuration built
    /// by hand contradicts itself.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        Self::builder(config).bind().await
    }

    /// A gateway with more than a configuration: a clock, layers of your own.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// Where the gateway listens; the port is the real one also if the configuration says 0.
    pub fn local_addr(&self) -> SocketAddr {
        // There is always one; the unspecified address is never seen.
        let first = self.listeners.first();
        first.map_or_else(|| ([0, 0, 0, 0], 0).into(), |first| first.address)
    }

    /// Where the gateway speaks TLS: an address of its own, or [`local_addr`](Self::local_addr).
    #[cfg(feature = "tls")]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        let listener = self.listeners.iter().find(|listener| listener.tls);
        listener.map(|listener| listener.address)
    }

    /// Where the admin listens; `None` if it is off or has no address of its own.
    #[cfg(feature = "admin")]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.listener.address)
    }

    /// A handle on the running state: breakers, upstreams, metrics.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.inner))
    }

    /// Serves until `shutdown` is done, then stops in order: readiness answers 503, after the
    /// configured delay no connection is accepted, running requests are finished within the
    /// configured timeout, what is left is closed.
    ///
    /// # Errors
    /// None at present: a failed accept is logged and tried again.
    ///
    /// # Cancel safety
    /// Dropping the future closes all connections at once.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let stopping = async {
            shutdown.await;
            self.inner.shared.drain();
            tracing::info!("stopping: readiness is 503");
            let delay = self.inner.live.config().shutdown.delay;
            tokio::time::sleep(delay).await;
        };
        let mut stopping = std::pin::pin!(stopping);
        let mut sweep = tokio::time::interval(SWEEP);
        let mut certificates = std::pin::pin!(watch_certificates(Arc::clone(&self.inner)));
        let mut source = std::pin::pin!(reload::watch(&self.inner));
        loop {
            tokio::select! {
                () = &mut stopping => break,
                () = &mut certificates => {}
                () = &mut source => {}
                accepted = self.accept() => match accepted {
                    Ok(accepted) => {
                        if let Some(connection) = self.connection(accepted, &stopped) {
                            connections.spawn(connection);
                        }
                    }
                    Err(error) => not_accepted(&error).await,
                },
                accepted = self.accept_admin() => match accepted {
                    Ok(accepted) => {
                        if let Some(connection) = self.connection(accepted, &stopped) {
                            connections.spawn(connection);
                        }
                    }
                    Err(error) => not_accepted(&error).await,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                _ = sweep.tick() => self.sweep(),
            }
        }
        drop(self.listeners);
        tracing::info!(
            connections = connections.len(),
            "stopping: no longer accepting"
        );
        // Nobody listens any more if there is no connection.
        let _ = stop.send(true);
        let tunnels = &self.inner.shared.tunnels;
        let finish = async {
            while connections.join_next().await.is_some() {}
            tunnels.finished().await;
        };
        let timeout = self.inner.live.config().shutdown.timeout;
        let end = Instant::now() + timeout;
        if tokio::time::timeout_at(end, finish).await.is_err() {
            tracing::warn!("stopping: closing connections that did not finish in time");
        }
        connections.shutdown().await;
        tunnels.close();
        tunnels.finished().await;
        #[cfg(feature = "otel")]
        self.inner.shared.flush_spans(end).await;
        Ok(())
    }

    async fn accept(&self) -> io::Result<Accepted> {
        // The semaphore is never closed.
        let limit = Arc::clone(&self.limit);
        let permit = limit.acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer, tls) = std::future::poll_fn(|cx| {
            for listener in &self.listeners {
                if let Poll::Ready(accepted) = listener.socket.poll_accept(cx) {
                    let tls = listener.tls;
                    return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, tls)));
                }
            }
            Poll::Pending
        })
        .await?;
        Ok(Accepted {
            stream,
            downstream: Downstream::new(peer, tls),
            permit,
        })
    }

    #[cfg(not(feature = "admin"))]
    async fn accept_admin(&self) -> io::Result<Accepted> {
        std::future::pending().await
    }

    /// A connection to the admin's own address; never done without one.
    #[cfg(feature = "admin")]
    async fn accept_admin(&self) -> io::Result<Accepted> {
        let Some(admin) = &self.admin else {
            return std::future::pending().await;
        };
        let limit = Arc::clone(&admin.limit);
        let permit = limit.acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = admin.listener.socket.accept().await?;
        Ok(Accepted {
            stream,
            downstream: Downstream {
                admin: true,
                ..Downstream::new(peer, admin.listener.tls)
            },
            permit,
        })
    }

    /// The limits of a connection.
    fn limits(&self, snapshot: &Snapshot, downstream: &Downstream) -> Arc<ServerConfig> {
        #[cfg(feature = "admin")]
        if let Some(admin) = self.admin.as_ref().filter(|_| downstream.admin) {
            return Arc::clone(&admin.server);
        }
        let _ = downstream;
        Arc::clone(&snapshot.server)
    }

    /// Serves one connection to its end; `None` if its client has too many.
    fn connection(
        &self,
        accepted: Accepted,
        stop: &watch::Receiver<bool>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Accepted {
            stream,
            downstream,
            permit,
        } = accepted;
        let snapshot = self.inner.snapshot.load();
        let server = &self.limits(&snapshot, &downstream);
        let client = downstream.peer.ip();
        let most = server
            .max_connections_per_client
            .filter(|_| !snapshot.is_trusted(client));
        let Some(slot) = Slot::take(permit, &self.clients, client, most) else {
            tracing::debug!(%client, "too many connections of one client");
            self.inner.shared.metrics.connections_refused.increment(1);
            return None;
        };
        // Small answers go out at once; a failure costs only that.
        let _ = stream.set_nodelay(true);
        let serving = Serving {
            inner: Arc::clone(&self.inner),
            downstream,
            server: Arc::clone(server),
            slot: ConnectionSlot::new(slot),
            stop: stop.clone(),
        };
        #[cfg(feature = "tls")]
        let acceptor = self.inner.tls.as_ref().filter(|_| serving.downstream.tls);
        #[cfg(feature = "tls")]
        let acceptor = acceptor.map(|tls| (tls.acceptor(), tls.handshake_timeout()));
        Some(async move {
            #[cfg(feature = "tls")]
            if let Some((acceptor, timeout)) = acceptor {
                return serving.tls(stream, acceptor, timeout).await;
            }
            serving.plain(stream).await;
        })
    }

    fn sweep(&self) {
        for upstream in self.inner.snapshot.load().upstreams.values() {
            for endpoint in upstream.service.endpoints().iter() {
                endpoint.pool.sweep();
            }
        }
        self.inner.shared.metrics.upkeep();
    }
}

/// Takes certificates whose files have changed; never done.
async fn watch_certificates(inner: Arc<Inner>) {
    #[cfg(feature = "tls")]
    while let Some(tls) = &inner.tls {
        tokio::time::sleep(tls.reload_interval()).await;
        let tls = Arc::clone(tls);
        match tokio::task::spawn_blocking(move || tls.refresh()).await {
            Ok(Ok(true)) => tracing::info!("certificates replaced"),
            Ok(Err(error)) => tracing::warn!(%error, "certificates kept"),
            Ok(Ok(false)) | Err(_) => {}
        }
    }
    drop(inner);
    std::future::pending().await
}

/// Out of descriptors, most likely: give some time to come back.
async fn not_accepted(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// A connection that has not been looked at.
struct Accepted {
    stream: TcpStream,
    downstream: Downstream,
    permit: OwnedSemaphorePermit,
}

impl Listener {
    async fn bind(address: SocketAddr, tls: bool) -> Result<Self, Error> {
        let listen = |source| Error::Listen { address, source };
        let socket = TcpListener::bind(address).await.map_err(listen)?;
        let address = socket.local_addr().map_err(listen)?;
        Ok(Self {
            socket,
            address,
            tls,
        })
    }
}

#[cfg(feature = "admin")]
impl Admin {
    /// Listens for the admin, if it is on and has an address of its own.
    async fn bind(config: &Config) -> Result<Option<Self>, Error> {
        let Some(settings) = config.admin.as_ref().filter(|admin| admin.is_on()) else {
            if config.admin.is_some() {
                tracing::warn!(
                    "the admin is off: there is neither a token nor a list of addresses"
                );
            }
            return Ok(None);
        };
        let Some(address) = settings.listen.on() else {
            return Ok(None);
        };
        let listener = Listener::bind(*address, settings.tls).await?;
        tracing::info!(address = %listener.address, "the admin listens");
        Ok(Some(Self {
            listener,
            limit: Arc::new(Semaphore::new(crate::admin::MOST_CONNECTIONS)),
            server: Arc::new(crate::admin::server_config()),
        }))
    }
}

/// Where to listen, and whether by TLS.
fn addresses(config: &Config) -> Vec<(SocketAddr, bool)> {
    #[cfg(feature = "tls")]
    if let Some(tls) = &config.tls {
        return match tls.listen {
            Some(own) => vec![(config.listen, false), (own, true)],
            None => vec![(config.listen, true)],
        };
    }
    vec![(config.listen, false)]
}

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// The pause after a failed accept, which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
