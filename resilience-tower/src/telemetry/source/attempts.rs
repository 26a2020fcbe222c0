use resilience_core::balance::{Balancer, EndpointSnapshot};
use resilience_core::hedge::HedgePolicy;
use resilience_core::retry::{BudgetSnapshot, RetryBudget, RetryPolicy};

use super::{Observe, WayBack};
use crate::telemetry::family as of;
use crate::telemetry::samples::Samples;

impl Observe for RetryPolicy {
    const POLICY: &'static str = "retry";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.count(&of::RETRIES, "", figures.retries);
        let stopped = figures.stopped;
        for (reason, stops) in [
            ("attempts", stopped.attempts),
            ("budget", stopped.budget),
            ("deadline", stopped.deadline),
            ("retry_after", stopped.retry_after),
        ] {
            samples.count(&of::RETRY_STOPPED, reason, stops);
        }
        tell_budget(samples, figures.budget);
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}

impl Observe for RetryBudget {
    const POLICY: &'static str = "retry_budget";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.count(&of::REFUSED, "budget", figures.refused);
        tell_budget(samples, figures);
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}

impl Observe for HedgePolicy {
    const POLICY: &'static str = "hedge";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.count(&of::HEDGES, "", figures.begun);
        samples.count(&of::HEDGES_WON, "", figures.won);
        samples.count(&of::HEDGES_STOPPED, "budget", figures.no_budget);
        samples.count(&of::HEDGES_STOPPED, "deadline", figures.no_time);
        samples.span(&of::HEDGE_DELAY, figures.delay);
        tell_budget(samples, self.budget().snapshot());
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}

pub(super) fn tell_budget(samples: &mut Samples<'_>, budget: BudgetSnapshot) {
    samples.gauge(&of::BUDGET_BALANCE, "", budget.balance.into());
    samples.gauge(&of::BUDGET_BURST, "", budget.config.burst_size().into());
}

impl<T: Send + Sync + 'static> Observe for Balancer<T> {
    const POLICY: &'static str = "balance";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    /// No label tells endpoints apart: they come and go, with names that nobody bounds.
    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        for one in ["ready", "ejected", "unhealthy", "drained"] {
            let there = |endpoint: &&EndpointSnapshot| state(endpoint) == one;
            let endpoints = figures.endpoints.iter().filter(there).count();
            samples.gauge(&of::ENDPOINTS, one, endpoints as f64);
        }
        let in_flight = figures.endpoints.iter().map(|one| f64::from(one.in_flight));
        samples.gauge(&of::IN_FLIGHT, "", in_flight.sum());
        samples.count(&of::EJECTIONS, "", figures.ejections);
        samples.count(&of::REFUSED, "no_endpoint", figures.refused);
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}

fn state(endpoint: &EndpointSnapshot) -> &'static str {
    if endpoint.weight == 0 {
        "drained"
    } else if !endpoint.healthy {
        "unhealthy"
    } else if endpoint.ejected_for.is_some() {
        "ejected"
    } else {
        "ready"
    }
}
