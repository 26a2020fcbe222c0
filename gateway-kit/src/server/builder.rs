//! From a configuration to a gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::{Extensions, Request, Response};
use resilience_core::clock::SharedClock;
use tokio::sync::Semaphore;
use tower_layer::Layer;
use tower_service::Service;

use crate::body::{Body, BoxError};
use crate::config::{Config, RouteConfig, Source};
use crate::embed::GatewayService;
use crate::layers::{Layered, Layers, Next};
use crate::policy::transform::Transform;
use crate::reload::Live;
#[cfg(feature = "admin")]
use crate::server::Admin;
#[cfg(feature = "tls")]
use crate::server::tls::Tls;
use crate::server::{Error, Gateway, Inner, Listener, addresses};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::wall::WallClock;

/// Makes a [`Gateway`], or a [`GatewayService`] for a program that listens itself.
///
/// A layer at one of the three places is a tower layer over `Request<Body>` and
/// `Response<Body>`; one per place (compose several with
/// `tower::ServiceBuilder`). An error of a layer is answered with 500.
#[must_use]
pub struct Builder {
    config: Config,
    clock: SharedClock,
    wall: WallClock,
    source: Option<Source>,
    layers: Layers,
    transforms: Vec<(String, Arc<dyn Transform>)>,
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
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            clock: SharedClock::default(),
            wall: WallClock::default(),
            source: None,
            layers: Layers::default(),
            transforms: Vec::new(),
        }
    }

    /// The clock of breakers, limits and idle connections. Timeouts of the network follow
    /// tokio's time.
    pub fn clock(mut self, clock: impl Into<SharedClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The time of day: for dates, never for waits.
    pub fn wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.wall = WallClock::new(now);
        self
    }

    /// Where the configuration comes from: what
    /// [`Handle::reload_source`](crate::Handle::reload_source) reads, and [`Gateway::serve`]
    /// follows. Default nowhere.
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
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

    /// Changes requests and answers of the route of that name (`route.name`, or what stands for
    /// it); several run in the order in which they were given. It outlives reloads, as long as
    /// there is a route of the name.
    pub fn transform(mut self, route: impl Into<String>, transform: impl Transform) -> Self {
        self.transforms.push((route.into(), Arc::new(transform)));
        self
    }

    /// Does all that [`bind`](Self::bind) does but listen: the files that the configuration names
    /// are read.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), Error> {
        #[cfg(feature = "tls")]
        self.tls()?;
        Snapshot::compile(&self.config, &Shared::new(self.clock.clone())).map(|_| ())
    }

    /// Compiles the configuration and starts to listen.
    ///
    /// # Errors
    /// An address is taken or not ours, a certificate cannot be used, or a configuration built
    /// by hand contradicts itself.
    pub async fn bind(self) -> Result<Gateway, Error> {
        let config = self.config.clone();
        #[cfg(feature = "tls")]
        let tls = self.tls()?;
        let inner = self.compile(
            true,
            #[cfg(feature = "tls")]
            tls,
        )?;
        let mut listeners = Vec::new();
        for (address, tls) in addresses(&config) {
            listeners.push(Listener::bind(address, tls).await?);
        }
        #[cfg(feature = "admin")]
        let admin = Admin::bind(&config).await?;
        Ok(Gateway {
            limit: Arc::new(Semaphore::new(config.server.max_connections)),
            clients: Arc::default(),
            inner,
            listeners,
            #[cfg(feature = "admin")]
            admin,
        })
    }

    /// Compiles the configuration into a service for a program that listens itself; `peer`
    /// finds the client's address in what that program's server puts into a request. `listen`,
    /// `tls`, `server` (but for `extra_methods`) and `shutdown` are without effect.
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
        let inner = self.compile(
            false,
            #[cfg(feature = "tls")]
            None,
        )?;
        Ok(GatewayService::new(inner, peer))
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> Result<Option<Arc<Tls>>, Error> {
        let http2 = cfg!(feature = "http2") && self.config.server.http2;
        let tls = self.config.tls.as_ref();
        tls.map(|settings| Tls::new(settings, http2).map(Arc::new))
            .transpose()
            .map_err(|error| Error::Certificate(error.to_string()))
    }

    fn compile(
        self,
        listens: bool,
        #[cfg(feature = "tls")] tls: Option<Arc<Tls>>,
    ) -> Result<Arc<Inner>, Error> {
        let mut shared = Shared::new(self.clock);
        shared.wall = self.wall;
        for (route, transform) in self.transforms {
            if !self
                .config
                .routes
                .iter()
                .any(|known| known.label() == route)
            {
                let known: Vec<_> = self.config.routes.iter().map(RouteConfig::label).collect();
                let known = known.join(", ");
                return Err(Error::Settings(format!(
                    "a transform is for the route {route:?}; there are: {known}"
                )));
            }
            shared.transforms.entry(route).or_default().push(transform);
        }
        let shared = Arc::new(shared);
        // Looks at the files before they are read: what changes in between is then a change.
        let live = Live::start(self.config.clone(), self.source, listens, &shared);
        let snapshot = Snapshot::compile(&self.config, &shared)?;
        snapshot.attach(&self.config, &shared);
        Ok(Arc::new(Inner {
            snapshot: ArcSwap::from_pointee(snapshot),
            layers: self.layers,
            live,
            shared,
            #[cfg(feature = "tls")]
            tls,
        }))
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
