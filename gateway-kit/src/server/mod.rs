//! Listening, serving and stopping.

pub(crate) mod framing;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use resilience_core::clock::SharedClock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::body::Body;
use crate::config::{Config, ServerConfig, ShutdownConfig};
use crate::handle::Handle;
use crate::server::framing::Watched;
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
    /// The configuration was built by hand and contradicts itself.
    #[error("configuration: {0}")]
    Settings(String),
}

/// What a gateway, its handles and its services share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) shared: Arc<Shared>,
}

/// The connection a request came on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Downstream {
    pub(crate) peer: SocketAddr,
    pub(crate) tls: bool,
}

/// A reverse proxy that listens on one address.
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
    listener: TcpListener,
    local_addr: SocketAddr,
    server: ServerConfig,
    shutdown: ShutdownConfig,
}

impl Gateway {
    /// Compiles the configuration and starts to listen; connections wait until
    /// [`serve`](Self::serve) takes them.
    ///
    /// # Errors
    /// The address is taken or not ours, or a configuration built by hand contradicts itself.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        Self::bind_with_clock(config, SharedClock::std()).await
    }

    /// The same with a clock for breakers, limits and idle connections. Timeouts of the network
    /// follow tokio's time.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_with_clock(
        config: Config,
        clock: impl Into<SharedClock>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(clock.into()));
        let snapshot = Snapshot::compile(&config, &shared)?;
        let listen = |source| Error::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        Ok(Self {
            inner: Arc::new(Inner {
                snapshot: ArcSwap::from_pointee(snapshot),
                shared,
            }),
            listener,
            local_addr,
            server: config.server,
            shutdown: config.shutdown,
        })
    }

    /// Where the gateway listens; the port is the real one also if the configuration says 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle on the running state: breakers, upstreams, metrics.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.inner))
    }

    /// The gateway as a service for requests of `peer`, for use behind another server.
    pub fn service(&self, peer: SocketAddr) -> GatewayService {
        GatewayService {
            inner: Arc::clone(&self.inner),
            downstream: Downstream { peer, tls: false },
        }
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
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let limit = Arc::new(Semaphore::new(self.server.max_connections));
        let stopping = async {
            shutdown.await;
            self.inner.shared.drain();
            tracing::info!("stopping: readiness is 503");
            tokio::time::sleep(self.shutdown.delay).await;
        };
        let mut stopping = std::pin::pin!(stopping);
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = &mut stopping => break,
                accepted = self.accept(&limit) => match accepted {
                    Ok((stream, peer, slot)) => {
                        connections.spawn(self.connection(stream, peer, slot, &graceful));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        // Out of descriptors, most likely: give some time to come back.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                _ = sweep.tick() => self.sweep(),
            }
        }
        drop(self.listener);
        tracing::info!(
            connections = connections.len(),
            "stopping: no longer accepting"
        );
        let finish = async {
            graceful.shutdown().await;
            while connections.join_next().await.is_some() {}
        };
        if tokio::time::timeout(self.shutdown.timeout, finish)
            .await
            .is_err()
        {
            tracing::warn!("stopping: closing connections that did not finish in time");
        }
        connections.shutdown().await;
        Ok(())
    }

    async fn accept(
        &self,
        limit: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        // The semaphore is never closed.
        let slot = Arc::clone(limit)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, peer) = self.listener.accept().await?;
        Ok((stream, peer, slot))
    }

    /// Serves one connection to its end.
    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: OwnedSemaphorePermit,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Small answers go out at once; a failure costs only that.
        let _ = stream.set_nodelay(true);
        let (stream, framing) = Watched::new(stream);
        let inner = Arc::clone(&self.inner);
        let downstream = Downstream { peer, tls: false };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let inner = Arc::clone(&inner);
            let end = framing.body_end();
            let mut request = request.map(|body| Body::from(body).watched(end));
            framing.restore(request.headers_mut());
            async move { Ok::<_, Infallible>(inner.handle(request, downstream).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.server.header_timeout)
            .max_headers(self.server.max_headers)
            .max_buf_size(self.server.max_head_bytes)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(slot);
        }
    }

    fn sweep(&self) {
        for upstream in self.inner.snapshot.load().upstreams.values() {
            for endpoint in &upstream.endpoints {
                endpoint.pool.sweep();
            }
        }
        self.inner.shared.metrics.upkeep();
    }
}

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// The pause after a failed accept, which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The gateway as a [`tower_service::Service`]: always ready, never an error. Clones share
/// everything.
#[derive(Clone, Debug)]
pub struct GatewayService {
    inner: Arc<Inner>,
    downstream: Downstream,
}

impl GatewayService {
    /// Answers one request with any body.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        self.inner.handle(request, self.downstream).await
    }
}

impl tower_service::Service<Request<Incoming>> for GatewayService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request.map(Body::from)).await) })
    }
}
