//! What is known of a service, whatever the configuration: its endpoints with their breakers and
//! pools, and the balancer among them. A snapshot refers to it; a later one finds it again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use resilience_core::balance::{self, Balancer, Change, Event, Subscription};
use resilience_core::breaker::CircuitBreaker;
use resilience_core::clock::{Clock, SharedClock};
use tokio::runtime;

use crate::config::balance::{MOST, settings};
use crate::config::{Config, EndpointConfig, EndpointUrl, HealthConfig, UpstreamConfig};
use crate::metrics::{EndpointMetrics, Metrics};
use crate::upstream::limits::Limits;
use crate::upstream::pool::{Pool, Settings, Target};
use crate::upstream::{Endpoint, SetWeight, Task, View, discovery, probe};

/// One service behind the gateway.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) balancer: Balancer<Arc<Endpoint>>,
    pub(crate) limits: Limits,
    /// In the order in which they were told.
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Held by whoever changes endpoints or settings.
    state: Mutex<State>,
    clock: SharedClock,
    /// From the first configuration on, so that its own endpoints are no news.
    events: OnceLock<Subscription>,
}

/// Where endpoints come from, besides the configuration; the first that knows an address says
/// what it is like.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Source {
    /// A name, `host:port`.
    Dns(String),
    File(PathBuf),
}

/// Where an endpoint comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EndpointSource {
    /// `endpoints` in the configuration.
    Config,
    /// A name.
    Dns,
    /// A file.
    File,
    /// It was registered at run time.
    Registered,
}

impl EndpointSource {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Dns => "dns",
            Self::File => "file",
            Self::Registered => "registered",
        }
    }
}

/// What the source of an endpoint says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) weight: u32,
    pub(crate) tls: bool,
    pub(crate) source: EndpointSource,
    /// Of its registration.
    pub(crate) left: Option<Duration>,
}

/// An endpoint as a source tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Spec {
    /// Where it is connected to, `host:port`.
    address: String,
    url: EndpointUrl,
    weight: u32,
    priority: u8,
    zone: Option<String>,
}

/// What the endpoints are made of.
#[derive(Debug, Default)]
struct State {
    /// `None` before the first configuration.
    settings: Option<UpstreamConfig>,
    found: BTreeMap<Source, Vec<Spec>>,
    /// By address.
    registered: BTreeMap<String, Registered>,
    /// Weights set at run time, by address.
    weights: HashMap<String, SetWeight>,
    /// By address.
    checks: HashMap<String, Check>,
    discovery: Vec<Task>,
}

/// An endpoint registered at run time.
#[derive(Debug)]
struct Registered {
    spec: Spec,
    /// On the gateway's clock.
    until: Duration,
}

/// The health checks of one endpoint.
#[derive(Debug)]
struct Check {
    endpoint: Arc<Endpoint>,
    config: HealthConfig,
    _task: Task,
}

/// Why an endpoint was not registered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// There is no such upstream.
    #[error("there is no upstream of that name")]
    UnknownUpstream,
    /// The upstream does not say `discovery = { api = true }`.
    #[error("this upstream takes no registrations; discovery.api is not true")]
    NotOpen,
    /// A weight above 1000.
    #[error("the weight must be from 0 to 1000")]
    Weight,
    /// The registration would end at once, or hardly ever.
    #[error("the time must be from 1 s to 1 day")]
    Time,
    /// There are as many as may be.
    #[error("there are {MOST} registrations already, and no more may be")]
    TooMany,
}

impl Spec {
    /// As a list of endpoints has it.
    pub(crate) fn of(config: &EndpointConfig) -> Self {
        Self {
            address: config.url.authority().to_owned(),
            url: config.url.clone(),
            weight: config.weight,
            priority: config.priority,
            zone: config.zone.clone(),
        }
    }

    /// One address of a name.
    pub(crate) fn at(address: SocketAddr, name: &EndpointConfig) -> Self {
        Self {
            address: address.to_string(),
            ..Self::of(name)
        }
    }
}

impl Service {
    /// A service that has no endpoints before it is [configured](Self::configure).
    pub(crate) fn new(name: &str, metrics: &Metrics, clock: &SharedClock) -> Self {
        let balancer = Balancer::with_clock(balance::Config::default(), clock.clone());
        Self {
            name: name.to_owned(),
            balancer,
            limits: Limits::new(name, metrics.service(name), clock),
            endpoints: ArcSwap::default(),
            state: Mutex::default(),
            clock: clock.clone(),
            events: OnceLock::new(),
        }
    }

    /// Puts settings in force. What stays by its address keeps its breaker, its latency and, if
    /// nothing changed that connections depend on, its pool.
    pub(crate) fn configure(self: &Arc<Self>, config: &Config, upstream: &UpstreamConfig) {
        let mut state = self.state.lock();
        // The configuration was checked.
        if let Ok(settings) = settings(&upstream.balance, &upstream.ejection)
            && settings != self.balancer.config()
        {
            self.balancer.set_config(settings);
        }
        self.balancer.set_zone(config.zone.as_deref());
        self.limits.configure(upstream);
        let before = state.settings.replace(upstream.clone());
        if before.and_then(|before| before.discovery) != upstream.discovery {
            self.discover(&mut state);
        }
        self.apply(&mut state);
        self.events.get_or_init(|| {
            let service = self.name.clone();
            self.balancer.subscribe(move |event| log(&service, event))
        });
    }

    /// Begins to look for endpoints as the settings say. What was found before stays until there
    /// is news, as far as its source is still asked.
    fn discover(self: &Arc<Self>, state: &mut State) {
        state.discovery.clear();
        let discovery = state.settings.as_ref();
        let discovery = discovery.and_then(|settings| settings.discovery.as_ref());
        let Some(config) = discovery else {
            state.found.clear();
            state.registered.clear();
            return;
        };
        state.found.retain(|source, _| match source {
            Source::Dns(name) => config.dns.iter().any(|one| one.url.authority() == name),
            Source::File(path) => config.file.as_ref() == Some(path),
        });
        if !config.api {
            state.registered.clear();
        }
        match runtime::Handle::try_current() {
            Ok(runtime) => {
                state.discovery = discovery::start(&Arc::downgrade(self), config, &runtime);
            }
            Err(_) => tracing::error!(service = %self.name, "no discovery outside of a runtime"),
        }
    }

    /// The endpoints of now.
    pub(crate) fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// The endpoints of now, and what is known of them.
    pub(crate) fn views(&self) -> Vec<View> {
        let endpoints = self.endpoints();
        let known = self.balancer.snapshot().endpoints.into_iter();
        let mut known: HashMap<_, _> = known.map(|one| (Arc::clone(&one.name), one)).collect();
        let views = endpoints.iter().filter_map(|endpoint| {
            Some(View {
                known: known.remove(endpoint.address.as_str())?,
                endpoint: Arc::clone(endpoint),
            })
        });
        views.collect()
    }

    /// What the sources say of the endpoints of now, by address.
    pub(crate) fn told(&self) -> HashMap<String, Told> {
        let state = self.state.lock();
        let now = self.clock.now();
        let configured: HashSet<&str> = match &state.settings {
            Some(settings) => {
                let endpoints = settings.endpoints.iter();
                endpoints.map(|one| one.url.authority()).collect()
            }
            None => HashSet::new(),
        };
        let told = state.endpoints().into_iter().map(|spec| {
            let address = spec.address.as_str();
            let mut found = state.found.iter();
            let mut source = found.find_map(|(source, specs)| {
                let there = specs.iter().any(|one| one.address == address);
                there.then_some(match source {
                    Source::Dns(_) => EndpointSource::Dns,
                    Source::File(_) => EndpointSource::File,
                })
            });
            if configured.contains(address) {
                source = Some(EndpointSource::Config);
            }
            let registered = state.registered.get(address).filter(|_| source.is_none());
            let told = Told {
                weight: spec.weight,
                tls: spec.url.is_tls(),
                source: source.unwrap_or(EndpointSource::Registered),
                left: registered.map(|one| one.until.saturating_sub(now)),
            };
            (spec.address, told)
        });
        told.collect()
    }

    /// Replaces what a source has found.
    pub(crate) fn update(&self, source: Source, found: Vec<Spec>) {
        let mut state = self.state.lock();
        if state.found.get(&source) != Some(&found) {
            state.found.insert(source, found);
            self.apply(&mut state);
        }
    }

    /// Adds an endpoint, or renews it with what is said of it now.
    pub(crate) fn register(
        &self,
        endpoint: &EndpointConfig,
        time: Duration,
    ) -> Result<(), RegisterError> {
        const TIMES: std::ops::RangeInclusive<Duration> =
            Duration::from_secs(1)..=Duration::from_secs(86_400);
        if endpoint.weight > 1000 {
            return Err(RegisterError::Weight);
        }
        if !TIMES.contains(&time) {
            return Err(RegisterError::Time);
        }
        let mut state = self.state.lock();
        let discovery = state.settings.as_ref();
        let discovery = discovery.and_then(|settings| settings.discovery.as_ref());
        if !discovery.is_some_and(|discovery| discovery.api) {
            return Err(RegisterError::NotOpen);
        }
        let now = self.clock.now();
        let ended = state.expire(now);
        let spec = Spec::of(endpoint);
        let known = state.registered.get(&spec.address);
        if known.is_none() && state.registered.len() >= MOST {
            return Err(RegisterError::TooMany);
        }
        let changed = known.is_none_or(|known| known.spec != spec);
        let until = now.saturating_add(time);
        let registered = Registered { spec, until };
        let address = registered.spec.address.clone();
        state.registered.insert(address, registered);
        if changed || ended {
            self.apply(&mut state);
        }
        Ok(())
    }

    /// Takes a registered endpoint out; whether it was there.
    pub(crate) fn deregister(&self, address: &str) -> bool {
        let mut state = self.state.lock();
        let there = state.registered.remove(address).is_some();
        if there {
            self.apply(&mut state);
        }
        there
    }

    /// Takes registered endpoints out whose time is over.
    pub(crate) fn expire(&self) {
        let mut state = self.state.lock();
        if state.expire(self.clock.now()) {
            self.apply(&mut state);
        }
    }

    /// Gives an endpoint another weight, 0 to drain it, until the configured one changes or the
    /// endpoint goes; whether it is there.
    pub(crate) fn set_weight(&self, address: &str, weight: u32) -> bool {
        let mut state = self.state.lock();
        let endpoints = state.endpoints();
        let found = endpoints.iter().find(|one| one.address == address);
        let Some(configured) = found.map(|one| one.weight) else {
            return false;
        };
        let set = SetWeight::new(configured, weight);
        state.weights.insert(address.to_owned(), set);
        self.apply(&mut state);
        true
    }

    /// Makes the balancer's endpoints what `state` says: known ones keep all that is known of
    /// them, new ones are made, and the rest gets no new requests. Those that run there end; its
    /// idle connections are closed with the last of them.
    fn apply(&self, state: &mut State) {
        let Some(settings) = state.settings.clone() else {
            return;
        };
        let wanted = state.endpoints();
        state.forget(&wanted);
        let before = self.endpoints();
        let known = before.iter().map(|one| (one.address.as_str(), one));
        let known: HashMap<_, _> = known.collect();
        let mut endpoints = Vec::with_capacity(wanted.len());
        let mut members = Vec::with_capacity(wanted.len());
        for (index, spec) in wanted.iter().enumerate() {
            let address = spec.address.as_str();
            let endpoint = self.endpoint(spec, &settings, known.get(address).copied());
            // Without balancing all requests are the first one's.
            let weight = match settings.balance.on() {
                Some(_) => state.weight(spec),
                None => u32::from(index == 0),
            };
            let member = balance::Endpoint::new(address, Arc::clone(&endpoint))
                .weight(weight)
                .priority(spec.priority)
                .zone(spec.zone.as_deref().map(Arc::from));
            members.push(member);
            endpoints.push(endpoint);
        }
        // Addresses come once and weights are in their range: all was checked.
        if let Err(error) = self.balancer.set_endpoints(members) {
            tracing::error!(service = %self.name, %error, "endpoints not changed");
            return;
        }
        self.check(state, &endpoints, &known, settings.health.as_ref());
        let stay = endpoints.iter().map(|one| (one.address.as_str(), one));
        let stay: HashMap<_, _> = stay.collect();
        for old in before.iter() {
            let next = stay.get(old.address.as_str());
            if next.is_none_or(|next| !Arc::ptr_eq(&next.pool, &old.pool)) {
                old.pool.retire();
            }
        }
        self.endpoints.store(Arc::new(endpoints));
    }

    /// Has these endpoints checked, and no others.
    fn check(
        &self,
        state: &mut State,
        endpoints: &[Arc<Endpoint>],
        known: &HashMap<&str, &Arc<Endpoint>>,
        health: Option<&HealthConfig>,
    ) {
        let mut checks = std::mem::take(&mut state.checks);
        let Some(health) = health else {
            for address in checks.keys() {
                self.balancer.set_health(address, true);
            }
            return;
        };
        let Ok(runtime) = runtime::Handle::try_current() else {
            tracing::error!(service = %self.name, "no health checks outside of a runtime");
            return;
        };
        let views = self.balancer.snapshot().endpoints;
        let down = views.iter().filter(|one| !one.healthy);
        let down: HashSet<&str> = down.map(|one| &*one.name).collect();
        for endpoint in endpoints {
            let address = endpoint.address.as_str();
            let running = checks.remove(address);
            let same =
                |check: &Check| check.config == *health && Arc::ptr_eq(&check.endpoint, endpoint);
            if let Some(check) = running.filter(same) {
                state.checks.insert(address.to_owned(), check);
                continue;
            }
            // One that stays is as healthy as it was.
            let healthy = match known.contains_key(address) {
                true => !down.contains(address),
                false => probe::initially(health),
            };
            if !healthy {
                self.balancer.set_health(address, false);
            }
            let (balancer, config) = (self.balancer.clone(), health.clone());
            let task = probe::check(Arc::clone(endpoint), balancer, config, healthy);
            let check = Check {
                endpoint: Arc::clone(endpoint),
                config: health.clone(),
                _task: Task::new(runtime.spawn(task)),
            };
            state.checks.insert(address.to_owned(), check);
        }
    }

    /// The endpoint, with what is known of it.
    fn endpoint(
        &self,
        spec: &Spec,
        config: &UpstreamConfig,
        known: Option<&Arc<Endpoint>>,
    ) -> Arc<Endpoint> {
        let settings = Settings::of(config);
        let (address, authority) = (&spec.address, spec.url.authority());
        let target = Target {
            address: address.clone(),
            authority: authority.to_owned(),
            tls: spec.url.is_tls(),
        };
        let (breaker, metrics) = match known {
            Some(known) => {
                if *known.breaker.config() != config.breaker {
                    known.breaker.set_config(config.breaker.clone());
                }
                if known.pool.is_for(&target, &settings) {
                    return Arc::clone(known);
                }
                (known.breaker.clone(), Arc::clone(&known.metrics))
            }
            None => {
                let name = format!("{}/{address}", self.name);
                let clock = self.clock.clone();
                let breaker = CircuitBreaker::with_clock(&name, config.breaker.clone(), clock);
                let metrics = EndpointMetrics::new(&self.name, address, &breaker);
                (breaker, Arc::new(metrics))
            }
        };
        let pool = Pool::new(target, settings, self.clock.clone());
        let pool = pool.measured(self.limits.connection_waits());
        Arc::new(Endpoint {
            upstream: self.name.clone(),
            address: address.clone(),
            authority: authority.to_owned(),
            breaker,
            pool: Arc::new(pool),
            metrics,
        })
    }
}

impl State {
    /// All endpoints there are to be, each address once.
    fn endpoints(&self) -> Vec<Spec> {
        let settings = self.settings.iter();
        let configured = settings.flat_map(|settings| settings.endpoints.iter().map(Spec::of));
        let found = self.found.values().flatten().cloned();
        let registered = self.registered.values().map(|one| one.spec.clone());
        let mut seen = HashSet::new();
        configured
            .chain(found)
            .chain(registered)
            .filter(|spec| seen.insert(spec.address.clone()))
            .take(MOST)
            .collect()
    }

    /// Forgets weights of endpoints that are gone, or configured anew.
    fn forget(&mut self, wanted: &[Spec]) {
        if self.weights.is_empty() {
            return;
        }
        let configured = wanted.iter().map(|one| (one.address.as_str(), one.weight));
        let configured: HashMap<_, _> = configured.collect();
        self.weights.retain(|address, set| {
            let configured = configured.get(address.as_str());
            configured.is_some_and(|weight| set.holds(*weight))
        });
    }

    fn weight(&self, spec: &Spec) -> u32 {
        let set = self.weights.get(&spec.address);
        set.map_or(spec.weight, |set| set.weight)
    }

    /// Forgets registrations whose time is over; whether there were any.
    fn expire(&mut self, now: Duration) -> bool {
        let before = self.registered.len();
        self.registered.retain(|_, one| now < one.until);
        self.registered.len() < before
    }
}

/// What becomes of endpoints, for operators.
fn log(service: &str, event: &Event) {
    let endpoint = &*event.endpoint;
    let change = event.change.as_str();
    match event.change {
        Change::Ejected { cause, time } => {
            let cause = cause.as_str();
            tracing::warn!(service, endpoint, cause, ?time, "endpoint ejected");
        }
        Change::Unhealthy | Change::NoneLeft => {
            tracing::warn!(service, endpoint, change, "endpoint changed");
        }
        _ => tracing::info!(service, endpoint, change, "endpoint changed"),
    }
}

#[cfg(test)]
mod tests {
    use resilience_core::clock::ManualClock;

    use super::*;
    use crate::shared::Shared;
    use crate::snapshot::Snapshot;

    #[tokio::test]
    async fn there_are_so_many_registrations_and_no_more_until_one_ends() {
        let config = Config::from_toml("[upstream.shop]\ndiscovery = { api = true }\n").unwrap();
        let clock = ManualClock::new();
        let shared = Shared::new(SharedClock::new(clock.clone()));
        let snapshot = Snapshot::compile(&config, &shared).unwrap();
        snapshot.attach(&config, &shared);
        let service = &snapshot.upstreams["shop"].service;
        let endpoint = |n: usize| EndpointConfig::new(format!("http://a{n}:1").try_into().unwrap());
        let minute = Duration::from_secs(60);
        // One by one they would take a while.
        let known = (0..MOST - 1).map(|n| {
            let spec = Spec::of(&endpoint(n));
            let until = clock.now() + minute;
            (spec.address.clone(), Registered { spec, until })
        });
        service.state.lock().registered = known.collect();
        assert_eq!(service.register(&endpoint(MOST), minute * 2), Ok(()));
        let refused = service.register(&endpoint(MOST + 1), minute);
        assert_eq!(refused, Err(RegisterError::TooMany));
        // Those that are there are renewed.
        assert_eq!(service.register(&endpoint(7), minute * 2), Ok(()));
        assert_eq!(service.state.lock().registered.len(), MOST);
        clock.advance(minute);
        assert_eq!(service.register(&endpoint(MOST + 1), minute), Ok(()));
        let left = service.endpoints();
        let left: Vec<_> = left.iter().map(|one| one.address.as_str()).collect();
        assert_eq!(left, ["a10000:1", "a10001:1", "a7:1"]);
    }
}
