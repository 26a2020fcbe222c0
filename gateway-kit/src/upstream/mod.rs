//! The services behind the gateway: endpoints, who gets the next request, one attempt.

pub(crate) mod balance;
pub(crate) mod call;
pub(crate) mod discovery;
pub(crate) mod forward;
pub(crate) mod limits;
pub(crate) mod pace;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod service;
#[cfg(test)]
mod simulation;
pub(crate) mod upgrade;
pub(crate) mod upload;

use std::sync::Arc;

use resilience_core::balance::EndpointSnapshot;
use resilience_core::breaker::{CircuitBreaker, Mode, State};
use tokio::task::JoinHandle;

use crate::config::UpstreamConfig;
use crate::metrics::{BreakerMetrics, EndpointMetrics};
use crate::upstream::pool::Pool;
use crate::upstream::service::Service;

/// One address of an upstream.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) upstream: String,
    /// Where it is connected to, `host:port`.
    pub(crate) address: String,
    /// Its name in `Host`, `host:port`.
    pub(crate) authority: String,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metrics: Arc<EndpointMetrics>,
}

/// A service behind the gateway, as one snapshot sees it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) settings: UpstreamConfig,
    pub(crate) service: Arc<Service>,
}

impl Upstream {
    /// The limit that was found out, if it is in force.
    /// The breaker over all calls to the service; `None` without one.
    pub(crate) fn service_breaker(&self) -> Option<(&CircuitBreaker, &BreakerMetrics)> {
        let limits = &self.service.limits;
        let on = self.settings.service_breaker.is_some();
        on.then(|| limits.breaker())
    }

    pub(crate) fn adaptive_limit(&self) -> Option<u32> {
        let limits = &self.service.limits;
        self.settings.adaptive.map(|_| limits.adaptive_limit())
    }
}

/// An endpoint, and what the balancer knows of it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) known: EndpointSnapshot,
}

impl View {
    /// Whether requests may go to it: healthy, not ejected, and its breaker lets calls through.
    pub(crate) fn is_up(&self) -> bool {
        let breaker = self.endpoint.breaker.snapshot();
        // An open breaker whose time is over admits the next call. Counting it as down would keep
        // that call away, and the gateway unready for ever.
        let waits = breaker.state == State::Open
            && (breaker.mode == Mode::ForcedOpen
                || breaker.retry_after.is_some_and(|wait| !wait.is_zero()));
        self.known.healthy && self.known.ejected_for.is_none() && !waits
    }
}

/// A weight set at run time; holds while the configured one is what it was then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetWeight {
    configured: u32,
    pub(crate) weight: u32,
}

impl SetWeight {
    /// The weight, at most the heaviest there is.
    pub(crate) fn new(configured: u32, weight: u32) -> Self {
        let weight = weight.min(1000);
        Self { configured, weight }
    }

    pub(crate) const fn holds(self, configured: u32) -> bool {
        self.configured == configured
    }
}

/// A task that ends with this.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) const fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
