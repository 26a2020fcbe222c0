//! A handle on a running gateway, for a status page, an admin API or a test.

use std::sync::Arc;
use std::time::Duration;

use resilience_core::breaker::{self, CircuitBreaker, Mode};
use resilience_core::bulkhead;
use resilience_core::rate_limit::Quota;

use crate::policy::rate_limit::Limiter;
use tokio::sync::watch;

use crate::config::{BalanceStrategy, Config, EndpointConfig};
use crate::reload::{self, ReloadReport, ReloadTrigger};
use crate::route::Route;
use crate::server::Inner;
use crate::upstream::service::{RegisterError, Told};
use crate::upstream::{Upstream, View};

pub use crate::upstream::service::EndpointSource;

/// Reads a running gateway; clones are cheap and outlive it.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: Arc<Inner>,
}

/// One address of an upstream, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointState {
    /// The upstream's name.
    pub upstream: String,
    /// `host:port`.
    pub address: String,
    /// Whether TLS is spoken to it.
    pub tls: bool,
    /// Its circuit breaker.
    pub breaker: breaker::Snapshot,
    /// Requests sent whose answers have not ended.
    pub in_flight: u64,
    /// Idle connections kept.
    pub idle_connections: usize,
    /// Its weight; 0: no new requests.
    pub weight: u32,
    /// The weight that its source says.
    pub configured_weight: u32,
    /// Where it comes from.
    pub source: EndpointSource,
    /// The rest of its registration.
    pub expires_in: Option<Duration>,
    /// Its priority group.
    pub priority: u8,
    /// Where it runs.
    pub zone: Option<String>,
    /// What the health checks found; `true` without any.
    pub healthy: bool,
    /// The rest of its ejection.
    pub ejected_for: Option<Duration>,
    /// The peak EWMA of its latency; `None` before its first answer.
    pub latency: Option<Duration>,
    /// Answers that counted as successes, since it came.
    pub successes: u64,
    /// Failures, likewise.
    pub failures: u64,
    /// It is healthy, not ejected, and its breaker lets requests through.
    pub is_up: bool,
}

/// A route, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteState {
    /// What metrics and logs call it.
    pub name: String,
    /// Its prefix.
    pub prefix: String,
    /// `false`: it answers 404, as it or all its upstreams are switched off.
    pub enabled: bool,
    /// Whether its requests are shared out by weight.
    pub is_split: bool,
    /// Its upstreams with their weights; one of weight 1 without a split.
    pub upstreams: Vec<(String, u32)>,
}

/// A limit on the requests of a service at once, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkheadState {
    /// The upstream's name.
    pub upstream: String,
    /// The settings in force.
    pub config: bulkhead::Config,
    /// They were set at run time, and the configuration says otherwise.
    pub changed: bool,
    /// Requests that have a place.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub queued: usize,
}

/// A service behind the gateway, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpstreamState {
    /// Its name.
    pub name: String,
    /// Whether its routes are served.
    pub enabled: bool,
    /// How its endpoints are chosen; `None`: always the first.
    pub strategy: Option<BalanceStrategy>,
    /// Whether endpoints may be registered.
    pub registers: bool,
    /// The most requests at once that wait for an answer, as found out by now; `None` without
    /// `adaptive`.
    pub adaptive_limit: Option<u32>,
    /// Its circuit breaker; `None` without `service_breaker`.
    pub breaker: Option<breaker::Snapshot>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointState>,
}

/// A rate limit, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RateLimitState {
    /// Its name, as metrics show it: that of the limit, after that of the route whose own it is.
    pub name: String,
    /// What each client may do.
    pub quota: Quota,
    /// It was set at run time, and the configuration says otherwise.
    pub changed: bool,
    /// Clients that are remembered.
    pub clients: usize,
}

/// What the cache keeps, at one moment.
#[cfg(feature = "cache")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CacheState {
    /// Addresses with an answer, or a mark that theirs cannot be kept.
    pub addresses: usize,
    /// What they count as, heads included; at least `max_bytes / max_entries` each.
    pub bytes: u64,
}

impl Handle {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// The breaker of the endpoint at `index` (in the order of the configuration) of `upstream`.
    pub fn breaker(&self, upstream: &str, index: usize) -> Option<CircuitBreaker> {
        let snapshot = self.inner.snapshot.load();
        let endpoints = snapshot.upstreams.get(upstream)?.service.endpoints();
        endpoints
            .get(index)
            .map(|endpoint| endpoint.breaker.clone())
    }

    /// The breaker over all calls to `upstream`, if it has `service_breaker`.
    pub fn service_breaker(&self, upstream: &str) -> Option<CircuitBreaker> {
        let snapshot = self.inner.snapshot.load();
        let breaker = snapshot.upstreams.get(upstream)?.service_breaker();
        breaker.map(|(breaker, _)| breaker.clone())
    }

    /// The breakers of all endpoints, by upstream and endpoint; their names are
    /// `upstream/host:port`.
    pub fn breakers(&self) -> Vec<CircuitBreaker> {
        let snapshot = self.inner.snapshot.load();
        let upstreams = snapshot.upstreams.values();
        upstreams
            .flat_map(|upstream| {
                let endpoints = upstream.service.endpoints();
                let breakers = endpoints.iter().map(|endpoint| endpoint.breaker.clone());
                breakers.collect::<Vec<_>>()
            })
            .collect()
    }

    /// All endpoints as they are now.
    pub fn endpoints(&self) -> Vec<EndpointState> {
        let upstreams = self.upstreams().into_iter();
        upstreams.flat_map(|upstream| upstream.endpoints).collect()
    }

    /// Registers an endpoint of an upstream whose `discovery.api` is true, for so long; again,
    /// before that time is over, to renew it. 1 s to 1 day.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing is changed then.
    pub fn register(
        &self,
        upstream: &str,
        endpoint: &EndpointConfig,
        time: Duration,
    ) -> Result<(), RegisterError> {
        let snapshot = self.inner.snapshot.load();
        let upstream = snapshot.upstreams.get(upstream);
        let upstream = upstream.ok_or(RegisterError::UnknownUpstream)?;
        upstream.service.register(endpoint, time)?;
        self.inner.shared.changed();
        Ok(())
    }

    /// Takes out an endpoint that was registered, by its address `host:port`; whether it was
    /// there. Requests that run there end.
    pub fn deregister(&self, upstream: &str, address: &str) -> bool {
        let snapshot = self.inner.snapshot.load();
        let upstream = snapshot.upstreams.get(upstream);
        let there = upstream.is_some_and(|upstream| upstream.service.deregister(address));
        self.changed(there)
    }

    /// All upstreams as they are now, by name.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        let snapshot = self.inner.snapshot.load();
        let upstreams = snapshot.upstreams.values();
        for upstream in upstreams.clone() {
            upstream.service.expire();
        }
        let state = |upstream: &Arc<Upstream>| UpstreamState {
            name: upstream.name.clone(),
            enabled: upstream.settings.enabled,
            strategy: upstream
                .settings
                .balance
                .on()
                .map(|balance| balance.strategy),
            registers: {
                let discovery = upstream.settings.discovery.as_ref();
                discovery.is_some_and(|discovery| discovery.api)
            },
            adaptive_limit: upstream.adaptive_limit(),
            breaker: upstream
                .service_breaker()
                .map(|(breaker, _)| breaker.snapshot()),
            endpoints: {
                let told = upstream.service.told();
                let views = upstream.service.views();
                let views = views.iter();
                views
                    .map(|view| endpoint(view, told.get(&view.endpoint.address)))
                    .collect()
            },
        };
        upstreams.map(state).collect()
    }

    /// All routes, in the order of the configuration.
    pub fn routes(&self) -> Vec<RouteState> {
        let snapshot = self.inner.snapshot.load();
        let state = |route: &Arc<Route>| RouteState {
            name: route.label.clone(),
            prefix: route.prefix.clone(),
            enabled: route.enabled,
            is_split: route.split.is_some(),
            upstreams: match &route.split {
                Some(split) => split.shares(),
                None => {
                    let upstreams = route.upstreams().iter();
                    upstreams
                        .map(|upstream| (upstream.name.clone(), 1))
                        .collect()
                }
            },
        };
        snapshot.routes.iter().map(state).collect()
    }

    /// Gives the upstreams of a route with a split other weights, all at once and until the
    /// configured ones change; whether the route has such a split. A weight above 1000 is 1000.
    pub fn set_split(&self, route: &str, weights: &[(&str, u32)]) -> bool {
        let snapshot = self.inner.snapshot.load();
        let mut routes = snapshot.routes.iter();
        let split = routes.find_map(|one| one.split.as_ref().filter(|_| one.label == route));
        let done = split.is_some_and(|split| split.set_weights(weights));
        self.changed(done)
    }

    /// Gives the endpoint at `address` of `upstream` another weight, 0 (no new requests) to 1000;
    /// whether it is there. It holds until the configured weight changes, or the endpoint goes.
    pub fn set_weight(&self, upstream: &str, address: &str, weight: u32) -> bool {
        let snapshot = self.inner.snapshot.load();
        let upstream = snapshot.upstreams.get(upstream);
        let there = upstream.is_some_and(|upstream| upstream.service.set_weight(address, weight));
        self.changed(there)
    }

    /// Gives the endpoint no new requests; those that run end. Whether it is there.
    pub fn drain(&self, upstream: &str, address: &str) -> bool {
        self.set_weight(upstream, address, 0)
    }

    /// All rate limits as they are now, by name.
    pub fn rate_limits(&self) -> Vec<RateLimitState> {
        let limiters = self.inner.shared.limiters.all();
        let state = |limiter: &Arc<Limiter>| RateLimitState {
            name: limiter.name.clone(),
            quota: limiter.quota(),
            changed: limiter.is_changed(),
            clients: limiter.keys(),
        };
        let mut states: Vec<_> = limiters.iter().map(state).collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        states
    }

    /// Changes what each client of a limit may do; whether there is one of that name. What a client
    /// has used stays used, in proportion. It holds until the configured limit changes.
    pub fn set_rate_limit(&self, name: &str, quota: Quota) -> bool {
        let limiter = self.inner.shared.limiters.get(name);
        let there = limiter.is_some_and(|limiter| {
            limiter.set_quota(quota);
            true
        });
        self.changed(there)
    }

    /// All bulkheads as they are now, by upstream.
    pub fn bulkheads(&self) -> Vec<BulkheadState> {
        let snapshot = self.inner.snapshot.load();
        let upstreams = snapshot.upstreams.values();
        let state = |upstream: &Arc<Upstream>| {
            let (bulkhead, changed) = upstream.service.limits.bulkhead()?;
            let now = bulkhead.snapshot();
            Some(BulkheadState {
                upstream: upstream.name.clone(),
                config: bulkhead.config(),
                changed,
                in_flight: now.in_flight,
                queued: now.queued,
            })
        };
        upstreams.filter_map(state).collect()
    }

    /// Changes how many requests an upstream may have at once; whether it has a bulkhead. Requests
    /// that run there end. It holds until the configured bulkhead changes.
    pub fn set_bulkhead(&self, upstream: &str, config: bulkhead::Config) -> bool {
        let snapshot = self.inner.snapshot.load();
        let upstream = snapshot.upstreams.get(upstream);
        let there = upstream.is_some_and(|one| one.service.limits.set_bulkhead(config));
        self.changed(there)
    }

    /// Says who decides for the breaker of the endpoint at `address` of `upstream`, or for all of
    /// its breakers; whether there are any. It holds until it is said anew.
    pub fn set_breaker_mode(&self, upstream: &str, address: Option<&str>, mode: Mode) -> bool {
        self.each_breaker(upstream, address, |breaker| breaker.set_mode(mode))
    }

    /// Closes the same breakers and has them forget what they counted; whether there are any.
    pub fn reset_breaker(&self, upstream: &str, address: Option<&str>) -> bool {
        self.each_breaker(upstream, address, CircuitBreaker::reset)
    }

    fn each_breaker(
        &self,
        upstream: &str,
        address: Option<&str>,
        act: impl Fn(&CircuitBreaker),
    ) -> bool {
        let snapshot = self.inner.snapshot.load();
        let Some(upstream) = snapshot.upstreams.get(upstream) else {
            return false;
        };
        let endpoints = upstream.service.endpoints();
        let endpoints = endpoints.iter();
        let mut found = false;
        for one in endpoints.filter(|one| address.is_none_or(|address| address == one.address)) {
            act(&one.breaker);
            found = true;
        }
        self.changed(found)
    }

    /// A number that goes up with every change of settings, by a reload or by this handle.
    pub fn revision(&self) -> u64 {
        self.inner.shared.revision()
    }

    fn changed(&self, done: bool) -> bool {
        if done {
            self.inner.shared.changed();
        }
        done
    }

    #[cfg(feature = "admin")]
    pub(crate) fn shared(&self) -> &crate::shared::Shared {
        &self.inner.shared
    }

    /// What the cache keeps; `None` if no route has one.
    #[cfg(feature = "cache")]
    pub fn cache(&self) -> Option<CacheState> {
        let store = self.inner.shared.current_store()?;
        let (addresses, bytes) = store.sizes();
        Some(CacheState { addresses, bytes })
    }

    /// Forgets all answers kept of an address, `"shop.example.com/products?page=2"`; whether there
    /// were any. One that is on its way is not kept either.
    #[cfg(feature = "cache")]
    pub fn purge(&self, address: &str) -> bool {
        let store = self.inner.shared.current_store();
        store.is_some_and(|store| store.forget_address(address))
    }

    /// Forgets all whose address begins so, `"shop.example.com/products/"`, or all of a host, or
    /// with `""` all; how many addresses that were.
    #[cfg(feature = "cache")]
    pub fn purge_below(&self, start: &str) -> usize {
        let store = self.inner.shared.current_store();
        store.map_or(0, |store| store.forget_below(start))
    }

    /// Forgets all answers of a route; how many addresses that were.
    #[cfg(feature = "cache")]
    pub fn purge_route(&self, route: &str) -> usize {
        let store = self.inner.shared.current_store();
        store.map_or(0, |store| store.forget_route(route))
    }

    /// The metrics as `/metrics` shows them.
    pub fn metrics(&self) -> String {
        self.inner.render_metrics()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.inner.live.config()
    }

    /// Tells each configuration that comes in force.
    pub fn configs(&self) -> watch::Receiver<Arc<Config>> {
        self.inner.live.configs()
    }

    /// Puts another configuration in force, or tells why not: then all stays as it is. Requests
    /// and connections that are open go on; endpoints that stay keep their breakers, pools and
    /// health.
    ///
    /// Reads the files that the configuration names, so it blocks; one reload runs at a time.
    pub fn reload(&self, config: Config) -> ReloadReport {
        self.inner.reload(ReloadTrigger::Call, Some(config))
    }

    /// Reads the configuration again from its [source](crate::Builder::source) and puts it in
    /// force, as [`reload`](Self::reload) does.
    pub fn reload_source(&self, trigger: ReloadTrigger) -> ReloadReport {
        self.inner.reload(trigger, None)
    }

    /// What became of the last reloads, the latest first; 100 at most. The start is one of them.
    pub fn reloads(&self) -> Vec<ReloadReport> {
        self.inner.live.history()
    }

    /// Follows changes of the [source](crate::Builder::source) without end;
    /// [`Gateway::serve`](crate::Gateway::serve) does it by itself.
    pub async fn watch_source(&self) {
        reload::watch(&self.inner).await;
    }

    /// Reads the files of the certificates again, for connections that begin from now on. The
    /// gateway also looks for changes itself.
    ///
    /// # Errors
    /// A file cannot be used; the old certificates stay.
    #[cfg(feature = "tls")]
    pub fn reload_certificates(&self) -> Result<(), crate::Error> {
        let Some(tls) = &self.inner.tls else {
            return Ok(());
        };
        tls.reread()
            .map_err(|error| crate::Error::Certificate(error.to_string()))
    }

    /// Whether the gateway has begun to stop.
    pub fn is_stopping(&self) -> bool {
        self.inner.shared.is_draining()
    }
}

fn endpoint(view: &View, told: Option<&Told>) -> EndpointState {
    EndpointState {
        is_up: view.is_up(),
        upstream: view.endpoint.upstream.clone(),
        address: view.endpoint.address.clone(),
        tls: told.is_some_and(|told| told.tls),
        breaker: view.endpoint.breaker.snapshot(),
        in_flight: view.known.in_flight.into(),
        idle_connections: view.endpoint.pool.idle(),
        weight: view.known.weight,
        configured_weight: told.map_or(view.known.weight, |told| told.weight),
        source: told.map_or(EndpointSource::Config, |told| told.source),
        expires_in: told.and_then(|told| told.left),
        successes: view.known.successes,
        failures: view.known.failures,
        priority: view.known.priority,
        zone: view.known.zone.as_deref().map(str::to_owned),
        healthy: view.known.healthy,
        ejected_for: view.known.ejected_for,
        latency: view.known.latency,
    }
}
