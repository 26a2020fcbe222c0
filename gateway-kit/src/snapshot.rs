//! One configuration, compiled: immutable, read without a lock by every request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::config::{Config, Network};
use crate::headers::Origin;
use crate::limit::ClientLimiter;
use crate::route::{Route, Table};
use crate::shared::{Shared, Upstream};

/// What a request needs to know of the configuration.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) table: Table,
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
    pub(crate) limiter: Option<ClientLimiter>,
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
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let upstream = upstreams.get(&route.upstream).ok_or_else(|| {
                Error::Settings(format!("route {} names no upstream", route.prefix))
            })?;
            routes.push(Arc::new(Route::new(route, Arc::clone(upstream))));
        }
        let table = Table::new(&routes).map_err(|error| Error::Settings(error.to_string()))?;
        Ok(Self {
            table,
            upstreams,
            limiter: shared.limiter(config)?,
            body_timeout: config.server.body_timeout,
            trusted: config.trusted_proxies.clone(),
        })
    }

    pub(crate) fn origin(&self, peer: IpAddr) -> Origin {
        Origin {
            peer,
            trusted: self.is_trusted(peer),
        }
    }

    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}
