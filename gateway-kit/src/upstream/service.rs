//! What is known of a service, whatever the configuration: its endpoints with their breakers and
//! pools, and the balancer among them. A snapshot refers to it; a later one finds it again.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use resilience_core::balance::{Balancer, Change, Event, Subscription};
use resilience_core::breaker::CircuitBreaker;
use resilience_core::clock::SharedClock;

use crate::config::balance::settings;
use crate::config::{Config, EndpointConfig, UpstreamConfig};
use crate::metrics::Metrics;
use crate::upstream::pool::{Pool, Settings};
use crate::upstream::{Endpoint, SetWeight, View};

/// One service behind the gateway.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) balancer: Balancer<Arc<Endpoint>>,
    /// In the order of the configuration.
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Held by whoever changes endpoints or settings.
    state: Mutex<State>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    _events: Subscription,
}

/// What the endpoints are made of.
#[derive(Debug, Default)]
struct State {
    /// `None` before the first configuration.
    settings: Option<UpstreamConfig>,
    /// Weights set at run time.
    weights: HashMap<String, SetWeight>,
}

impl Service {
    /// A service that has no endpoints before it is [configured](Self::configure).
    pub(crate) fn new(name: &str, metrics: &Arc<Metrics>, clock: &SharedClock) -> Self {
        let balancer = Balancer::with_clock(Default::default(), clock.clone());
        let service = name.to_owned();
        let events = balancer.subscribe(move |event| log(&service, event));
        Self {
            name: name.to_owned(),
            balancer,
            endpoints: ArcSwap::default(),
            state: Mutex::default(),
            metrics: Arc::clone(metrics),
            clock: clock.clone(),
            _events: events,
        }
    }

    /// Puts settings in force. What stays by its address keeps its breaker, its latency and, if
    /// nothing changed that connections depend on, its pool.
    pub(crate) fn configure(&self, config: &Config, upstream: &UpstreamConfig) {
        let mut state = self.state.lock();
        // The configuration was checked.
        if let Ok(settings) = settings(&upstream.balance, &upstream.ejection)
            && settings != self.balancer.config()
        {
            self.balancer.set_config(settings);
        }
        self.balancer.set_zone(config.zone.as_deref());
        state.settings = Some(upstream.clone());
        self.apply(&mut state);
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

    /// Gives an endpoint another weight, 0 to drain it, until the configured one changes or the
    /// endpoint goes; whether it is there.
    pub(crate) fn set_weight(&self, address: &str, weight: u32) -> bool {
        let mut state = self.state.lock();
        let endpoints = state.endpoints();
        let found = endpoints.iter().find(|one| one.url.authority() == address);
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
        let Some(settings) = &state.settings else {
            return;
        };
        let wanted = state.endpoints();
        let before = self.endpoints();
        let known = before.iter().map(|one| (one.address.as_str(), one));
        let known: HashMap<_, _> = known.collect();
        let mut endpoints = Vec::with_capacity(wanted.len());
        let mut members = Vec::with_capacity(wanted.len());
        for (index, one) in wanted.iter().enumerate() {
            let address = one.url.authority();
            let endpoint = self.endpoint(one, settings, known.get(address).copied());
            // Without balancing all requests are the first one's.
            let weight = match settings.balance.on() {
                Some(_) => state.weight(one),
                None => u32::from(index == 0),
            };
            let member = resilience_core::balance::Endpoint::new(address, Arc::clone(&endpoint))
                .weight(weight)
                .priority(one.priority)
                .zone(one.zone.as_deref().map(Arc::from));
            members.push(member);
            endpoints.push(endpoint);
        }
        let addresses: HashMap<_, _> = wanted
            .iter()
            .map(|one| (one.url.authority(), one.weight))
            .collect();
        let stays = |address: &String, set: &mut SetWeight| {
            let configured = addresses.get(address.as_str());
            configured.is_some_and(|weight| set.holds(*weight))
        };
        let mut weights = std::mem::take(&mut state.weights);
        weights.retain(stays);
        state.weights = weights;
        // Addresses come once and weights are in their range: all was checked.
        if let Err(error) = self.balancer.set_endpoints(members) {
            tracing::error!(service = %self.name, %error, "endpoints not changed");
            return;
        }
        self.endpoints.store(Arc::new(endpoints));
    }

    /// The endpoint, with what is known of it.
    fn endpoint(
        &self,
        one: &EndpointConfig,
        config: &UpstreamConfig,
        known: Option<&Arc<Endpoint>>,
    ) -> Arc<Endpoint> {
        let settings = Settings::of(config);
        let address = one.url.authority();
        let (breaker, metrics) = match known {
            Some(known) => {
                if *known.breaker.config() != config.breaker {
                    known.breaker.set_config(config.breaker.clone());
                }
                if known.pool.settings() == settings {
                    return Arc::clone(known);
                }
                (known.breaker.clone(), Arc::clone(&known.metrics))
            }
            None => {
                let name = format!("{}/{address}", self.name);
                let clock = self.clock.clone();
                let breaker = CircuitBreaker::with_clock(&name, config.breaker.clone(), clock);
                let metrics = self.metrics.endpoint(&self.name, address, &breaker);
                (breaker, Arc::new(metrics))
            }
        };
        let pool = Pool::new(address.to_owned(), settings, self.clock.clone());
        Arc::new(Endpoint {
            upstream: self.name.clone(),
            address: address.to_owned(),
            authority: one.url.authority().to_owned(),
            breaker,
            pool: Arc::new(pool),
            metrics,
        })
    }
}

impl State {
    /// All endpoints there are to be.
    fn endpoints(&self) -> Vec<EndpointConfig> {
        let settings = self.settings.as_ref();
        settings.map_or_else(Vec::new, |settings| settings.endpoints.clone())
    }

    fn weight(&self, endpoint: &EndpointConfig) -> u32 {
        match self.weights.get(endpoint.url.authority()) {
            Some(set) if set.holds(endpoint.weight) => set.weight,
            _ => endpoint.weight,
        }
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
