//! One configuration, compiled: immutable, read without a lock by every request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::config::{Config, Network};
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
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
    /// For requests without a route; those of a route are with the route.
    pub(crate) policies: Policies,
    pub(crate) body_timeout: Duration,
    trusted: Vec<Network>,
}

impl Snapshot {
    /// Compiles `config` and attaches it to the state in `shared`.
    pub(crate) fn compile(config: &Config, shared: &Shared) -> Result<Self, Error> {
        let upstreams: BTreeMap<String, Arc<Upstream>> = config
            .upstreams
            .iter()
            .map(|(name, settings)| (name.clone(), Arc::new(shared.upstream(name, settings))))
            .collect();
        let policies = Policies {
            client_limit: shared.limiter(config)?.map(ClientLimit),
        };
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let upstream = upstreams.get(&route.upstream).ok_or_else(|| {
                Error::Settings(format!("route {} names no upstream", route.prefix))
            })?;
            routes.push(Arc::new(Route::new(
                route,
                Arc::clone(upstream),
                policies.clone(),
            )));
        }
        let table = Table::new(&routes).map_err(|error| Error::Settings(error.to_string()))?;
        Ok(Self {
            table,
            upstreams,
            policies,
            body_timeout: config.server.body_timeout,
            trusted: config.trusted_proxies.clone(),
        })
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
