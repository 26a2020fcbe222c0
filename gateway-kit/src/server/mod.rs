//! Listening, serving and stopping.

pub(crate) mod framing;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use resilience_core::clock::SharedClock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower_layer::Layer;
use tower_service::Service;

use crate::body::{Body, BoxError};
use crate::config::{Config, ServerConfig, ShutdownConfig};
use crate::embed::GatewayService;
use crate::handle::Handle;
use crate::layers::{Layered, Layers, Next};
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

/// Makes a [`Gateway`], or a [`GatewayService`] for a program that listens itself.
///
/// A layer at one of the three places is a tower layer over `Request<Body>` and
/// `Response<Body>`; one per place (compose several with
/// `tower::ServiceBuilder`). An error of a layer is answered with 500.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    config: Config,
    clock: SharedClock,
    layers: Layers,
}

/// A place for a layer.
macro_rules! place {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub fn $name<L>(mut self, layer: L) -> Self
        where
            L: Layer<Next>,
            L::Service:
                Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
            <L::Service as Service<Request<Body>>>::Error: Into<BoxError>,
            <L::Service as Service<Request<Body>>>::Future: Send,
        {
            self.layers.$name = Some(Layered::new(layer));
            self
        }
    };
}

impl Builder {
    /// The clock of breakers, limits and idle connections. Timeouts of the network follow
    /// tokio's time.
    pub fn clock(mut self, clock: impl Into<SharedClock>) -> Self {
        self.clock = clock.into();
        self
    }

    place! {
        /// Around everything after the guard and the built-in endpoints.
        edge
    }
    place! {
        /// Around what happens once the route is known: authentication, cache, compression.
        route
    }
    place! {
        /// Around the call to the service: retries, balancing, breaker. The request is as the
        /// service gets it, the answer as the service gave it.
        upstream
    }

    /// Compiles the configuration and starts to listen.
    ///
    /// # Errors
    /// The address is taken or not ours, or a configuration built by hand contradicts itself.
    pub async fn bind(self) -> Result<Gateway, Error> {
        let config = self.config.clone();
        let inner = self.compile()?;
        let listen = |source| Error::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        Ok(Gateway {
            inner,
            listener,
            local_addr,
            server: config.server,
            shutdown: config.shutdown,
        })
    }

    /// Compiles the configuration into a service for a program that listens itself; `peer`
    /// finds the client's address in what that program's server puts into a request. `listen`,
    /// `server` and `shutdown` are without effect.
    ///
    /// # Errors
    /// A configuration built by hand contradicts itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn build(config: gateway_kit::Config) -> Result<(), gateway_kit::Error> {
    /// use std::net::SocketAddr;
    /// # struct ConnectInfo<T>(T);
    /// # impl Clone for ConnectInfo<SocketAddr> { fn clone(&self) -> Self { Self(self.0) } }
    ///
    /// let proxy = gateway_kit::Gateway::builder(config)
    ///     .service(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0))?;
    /// // axum: Router::new().route(..).fallback_service(proxy)
    /// # let _ = proxy; Ok(()) }
    /// ```
    pub fn service(
        self,
        peer: impl Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Result<GatewayService, Error> {
        Ok(GatewayService::new(self.compile()?, peer))
    }

    fn compile(self) -> Result<Arc<Inner>, Error> {
        let shared = Arc::new(Shared::new(self.clock));
        let snapshot = Snapshot::compile(&self.config, &shared)?;
        snapshot.attach(&self.config, &shared);
        Ok(Arc::new(Inner {
            snapshot: ArcSwap::from_pointee(snapshot),
            shared,
            layers: self.layers,
        }))
    }
}

/// What a gateway, its handles and its services share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) layers: Layers,
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
        Self::builder(config).bind().await
    }

    /// A gateway with more than a configuration: a clock, layers of your own.
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            clock: SharedClock::std(),
            layers: Layers::default(),
        }
    }

    /// Where the gateway listens; the port is the real one also if the configuration says 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
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
            for endpoint in upstream.service.endpoints().iter() {
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
