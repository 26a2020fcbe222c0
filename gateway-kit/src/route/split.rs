//! One route over several upstreams by weight: canary releases, blue-green switches.

use std::collections::HashMap;

use parking_lot::Mutex;
use resilience_core::balance::{Balancer, Config, Criteria, Endpoint, Strategy};
use resilience_core::clock::SharedClock;

use crate::config::RouteConfig;
use crate::upstream::SetWeight;

/// The shares of a route's upstreams, which outlive a configuration.
#[derive(Debug)]
pub(crate) struct Split {
    /// The route's label.
    pub(crate) name: String,
    /// The upstreams by name.
    balancer: Balancer<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    configured: Vec<(String, u32)>,
    /// Weights set at run time, by upstream.
    set: HashMap<String, SetWeight>,
}

impl Split {
    /// Shares of nobody, before it is [configured](Self::configure).
    pub(crate) fn new(name: &str, clock: &SharedClock) -> Self {
        Self {
            name: name.to_owned(),
            balancer: Balancer::with_clock(Config::default(), clock.clone()),
            state: Mutex::default(),
        }
    }

    /// Puts the shares of `route` in force; an upstream that is switched off has none.
    pub(crate) fn configure(&self, route: &RouteConfig, is_on: impl Fn(&str) -> bool) {
        let strategy = match route.split_key {
            Some(_) => Strategy::ConsistentHash,
            None => Strategy::SmoothWeighted,
        };
        let config = Config::builder()
            .strategy(strategy)
            .consecutive_failures(None)
            .success_rate_deviations(None);
        // All of it in its range.
        if let Ok(config) = config.build() {
            self.balancer.set_config(config);
        }
        let shares = route.split.iter().map(|share| {
            let weight = if is_on(&share.upstream) {
                share.weight
            } else {
                0
            };
            (share.upstream.clone(), weight)
        });
        let mut state = self.state.lock();
        state.configured = shares.collect();
        self.apply(&mut state);
    }

    /// The name of the upstream for a request of this key; `None` if none has a weight.
    pub(crate) fn choose<R>(&self, key: Option<u64>, look: impl FnOnce(&str) -> R) -> Option<R> {
        let criteria = key.map_or_else(Criteria::default, |key| Criteria::default().key(key));
        let pick = self.balancer.pick_by(criteria).ok()?;
        let found = look(pick.name());
        // Only the turn was wanted.
        pick.pass_over();
        Some(found)
    }

    /// The shares of now.
    pub(crate) fn shares(&self) -> Vec<(String, u32)> {
        let endpoints = self.balancer.snapshot().endpoints.into_iter();
        let shares = endpoints.map(|one| (one.name.to_string(), one.weight));
        shares.collect()
    }

    /// Gives upstreams other shares at once, until those in the configuration change; whether all
    /// are in the split.
    pub(crate) fn set_weights(&self, weights: &[(&str, u32)]) -> bool {
        let mut state = self.state.lock();
        let mut set = state.set.clone();
        for (upstream, weight) in weights {
            let mut configured = state.configured.iter();
            let Some((name, configured)) = configured.find(|(name, _)| name == upstream) else {
                return false;
            };
            set.insert(name.clone(), SetWeight::new(*configured, *weight));
        }
        state.set = set;
        self.apply(&mut state);
        true
    }

    fn apply(&self, state: &mut State) {
        let State { configured, set } = state;
        set.retain(|upstream, set| {
            let mut configured = configured.iter();
            configured.any(|(name, weight)| name == upstream && set.holds(*weight))
        });
        let endpoints = configured.iter().map(|(name, weight)| {
            let weight = set.get(name).map_or(*weight, |set| set.weight);
            Endpoint::new(name.as_str(), ()).weight(weight)
        });
        // Names come once, weights are in their range.
        if let Err(error) = self.balancer.set_endpoints(endpoints) {
            tracing::error!(route = %self.name, %error, "split not changed");
        }
    }
}
