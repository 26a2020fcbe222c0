//! One configuration, compiled: immutable, read without a lock by every request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::config::{Config, Network, ServerConfig, UpstreamConfig};
use crate::guard::Guard;
use crate::headers::Origin;
use crate::policy::Policies;
use crate::policy::rate_limit::ClientLimit;
use crate::route::{Route, Table};
use crate::server::Downstream;
use crate::shared::Shared;
use crate::upstream::Upstream;

/// What a request needs to know of the configuration.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) table: Table,
    /// In the order of the configuration.
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
    /// For requests without a route; those of a route are with the route.
    pub(crate) policies: Policies,
    pub(crate) body_timeout: Duration,
    pub(crate) guard: Guard,
    /// For connections that begin while this snapshot is the current one.
    pub(crate) server: Arc<ServerConfig>,
    trusted: Vec<Network>,
}

impl Snapshot {
    /// Compiles `config`. What runs by an earlier snapshot goes on as it was until
    /// [`attach`](Self::attach).
    pub(crate) fn compile(config: &Config, shared: &Shared) -> Result<Self, Error> {
        let upstream = |(name, settings): (&String, &UpstreamConfig)| {
            let upstream = Upstream {
                name: name.clone(),
                settings: settings.clone(),
                service: shared.service(name),
            };
            (name.clone(), Arc::new(upstream))
        };
        let upstreams: BTreeMap<_, _> = config.upstreams.iter().map(upstream).collect();
        let policies = Policies {
            client_limit: shared.limiter(config)?.map(ClientLimit),
        };
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let upstream = |name: &str| {
                upstreams.get(name).cloned().ok_or_else(|| {
                    Error::Settings(format!("route {} names no upstream", route.prefix))
                })
            };
            let targets = route.upstreams().map(upstream).collect::<Result<_, _>>()?;
            let split = (!route.split.is_empty()).then(|| shared.split(&route.label()));
            let compiled = Route::new(route, targets, split, policies.clone());
            routes.push((route, Arc::new(compiled)));
        }
        let table = Table::new(&routes).map_err(Error::Settings)?;
        let routes = routes.into_iter().map(|(_, route)| route).collect();
        let extra = config.server.extra_methods.iter();
        let extra = extra.filter_map(|method| method.parse().ok());
        // What a route asks for by name is known.
        let named = config.routes.iter().flat_map(|route| &route.methods);
        let methods = extra.chain(named.map(|method| method.method().clone()));
        Ok(Self {
            table,
            routes,
            upstreams,
            policies,
            body_timeout: config.server.body_timeout,
            guard: Guard::new().with_methods(methods),
            server: Arc::new(config.server.clone()),
            trusted: config.trusted_proxies.clone(),
        })
    }

    /// Puts the `config` that this was compiled from in force: endpoints that stay keep what is
    /// known of them, also where their settings change, and those gone get no new requests.
    pub(crate) fn attach(&self, config: &Config, shared: &Shared) {
        let services = self.upstreams.values();
        let services: Vec<_> = services.map(|one| Arc::clone(&one.service)).collect();
        let splits = self.routes.iter();
        let splits: Vec<_> = splits.filter_map(|route| route.split.clone()).collect();
        shared.attach(config, &services, &splits);
    }

    pub(crate) fn origin(&self, downstream: Downstream) -> Origin {
        let peer = downstream.peer.ip();
        Origin {
            peer,
            trusted: self.is_trusted(peer),
            scheme: if downstream.tls { "https" } else { "http" },
        }
    }

    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}
