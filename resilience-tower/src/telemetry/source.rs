//! What each policy tells a collector.

use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::balance::{Balancer, EndpointSnapshot};
use resilience_core::breaker::{CircuitBreaker, Mode, Registry, State};
use resilience_core::bulkhead::{Bulkhead, Reason};
use resilience_core::chaos::Chaos;
use resilience_core::deadline::Deadlines;
use resilience_core::rate_limit::{KeyedRateLimiter, LeasedRateLimiter, RateLimiter};
use resilience_core::retry::{RetryBudget, RetryPolicy};

use super::family as of;
use super::samples::Samples;

/// Gives a policy for as long as there is one.
pub(super) type WayBack<S> = Box<dyn Fn() -> Option<S> + Send + Sync>;

/// A policy that a [`Collector`](super::Collector) can publish. Sealed.
///
/// | policy | label `policy` |
/// |---|---|
/// | [`CircuitBreaker`], [`Registry`] | `breaker` |
/// | [`RateLimiter`], [`LeasedRateLimiter`], [`KeyedRateLimiter`] | `rate_limit` |
/// | [`Bulkhead`] | `bulkhead` |
/// | [`AdaptiveLimit`] | `adaptive` |
/// | [`RetryPolicy`], with its budget | `retry` |
/// | [`RetryBudget`] | `retry_budget` |
/// | [`Deadlines`] | `deadline` |
/// | [`Balancer`] | `balance` |
/// | [`Chaos`] | `chaos` |
/// | `fallback::Fallbacks` | `fallback` |
pub trait Source: Observe {}

impl<S: Observe> Source for S {}

/// The methods of [`Source`], which are not for others.
pub trait Observe: Sized + 'static {
    /// The value of the label `policy`.
    const POLICY: &'static str;

    fn way_back(&self) -> WayBack<Self>;

    fn observe(&self, samples: &mut Samples<'_>);
}

const STATES: [State; 3] = [State::Closed, State::HalfOpen, State::Open];
const MODES: [Mode; 5] = [
    Mode::Automatic,
    Mode::ForcedOpen,
    Mode::ForcedClosed,
    Mode::Disabled,
    Mode::ObserveOnly,
];

/// Where a breaker stands: one of each, the others zero.
fn stand(samples: &mut Samples<'_>, state: State, mode: Mode) {
    for one in STATES {
        samples.gauge(&of::BREAKER_STATE, one.as_str(), count(one == state));
    }
    for one in MODES {
        samples.gauge(&of::BREAKER_MODE, one.as_str(), count(one == mode));
    }
}

fn count(is: bool) -> f64 {
    f64::from(u8::from(is))
}

impl Observe for CircuitBreaker {
    const POLICY: &'static str = "breaker";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        stand(samples, figures.state, figures.mode);
        samples.gauge(&of::WINDOW_CALLS, "", figures.calls as f64);
        samples.gauge(&of::WINDOW_FAILURES, "", figures.failures as f64);
        samples.gauge(&of::WINDOW_SLOW, "", figures.slow_calls as f64);
        let by = figures.opened_by;
        for (cause, openings) in [
            ("consecutive_failures", by.consecutive_failures),
            ("failure_count", by.failure_count),
            ("failure_rate", by.failure_rate),
            ("slow_call_rate", by.slow_call_rate),
            ("probe_failed", by.probe_failed),
            ("by_hand", by.by_hand),
        ] {
            samples.count(&of::BREAKER_OPENED, cause, openings);
        }
        samples.count(&of::REFUSED, "not_closed", figures.rejected);
        samples.count(&of::WOULD_HAVE_REFUSED, "", figures.would_have_refused);
        samples.count(&of::STALE, "", figures.stale);
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}

impl<K: Send + Sync + 'static> Observe for Registry<K> {
    const POLICY: &'static str = "breaker";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    /// No counters of the breakers: they go with those that make room.
    fn observe(&self, samples: &mut Samples<'_>) {
        self.for_each(|_, breaker| stand(samples, breaker.state(), breaker.mode()));
        samples.gauge(&of::KEYS, "", self.len() as f64);
        samples.gauge(&of::MAX_KEYS, "", self.max() as f64);
        samples.count(&of::EVICTED, "idle", self.evicted());
        samples.count(&of::NO_ROOM, "", self.full());
    }
}

impl Observe for RateLimiter {
    const POLICY: &'static str = "rate_limit";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::RATE_BURST, "", figures.quota.burst_size().into());
        samples.gauge(&of::RATE_REMAINING, "", figures.remaining.into());
        samples.gauge(&of::QUEUED, "", figures.queued as f64);
    }
}

impl Observe for LeasedRateLimiter {
    const POLICY: &'static str = "rate_limit";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        let remaining = figures.leased.saturating_add(figures.remaining.into());
        samples.gauge(&of::RATE_BURST, "", figures.quota.burst_size().into());
        samples.gauge(&of::RATE_REMAINING, "", remaining as f64);
    }
}

impl<K: ?Sized + 'static, S: Send + Sync + 'static> Observe for KeyedRateLimiter<K, S> {
    const POLICY: &'static str = "rate_limit";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::RATE_BURST, "", self.quota().burst_size().into());
        samples.gauge(&of::KEYS, "", figures.keys as f64);
        samples.gauge(&of::MAX_KEYS, "", figures.max_keys as f64);
        samples.count(&of::EVICTED, "recovered", figures.evicted_recovered);
        samples.count(&of::EVICTED, "early", figures.evicted_early);
    }
}

impl Observe for Bulkhead {
    const POLICY: &'static str = "bulkhead";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::IN_FLIGHT, "", figures.in_flight.into());
        samples.gauge(&of::LIMIT, "", figures.limit.into());
        samples.gauge(&of::QUEUED, "", figures.queued as f64);
        for reason in [
            Reason::Full,
            Reason::QueueFull,
            Reason::Deadline,
            Reason::Displaced,
        ] {
            let refused = figures.refused_for(reason);
            samples.count(&of::REFUSED, reason.as_str(), refused);
        }
    }
}

impl Observe for AdaptiveLimit {
    const POLICY: &'static str = "adaptive";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::IN_FLIGHT, "", figures.in_flight.into());
        samples.gauge(&of::LIMIT, "", figures.limit.into());
        samples.count(&of::REFUSED, "full", figures.refused);
        samples.span(&of::RTT, figures.last_rtt);
        samples.span(&of::USUAL_RTT, figures.usual_rtt);
        let overloaded = figures.overloaded_windows;
        let others = figures.windows.saturating_sub(overloaded);
        samples.count(&of::WINDOWS, "true", overloaded);
        samples.count(&of::WINDOWS, "false", others);
    }
}

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
        let budget = figures.budget;
        samples.gauge(&of::BUDGET_BALANCE, "", budget.balance.into());
        samples.gauge(&of::BUDGET_BURST, "", budget.config.burst_size().into());
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
        samples.gauge(&of::BUDGET_BALANCE, "", figures.balance.into());
        samples.gauge(&of::BUDGET_BURST, "", figures.config.burst_size().into());
    }
}

impl Observe for Deadlines {
    const POLICY: &'static str = "deadline";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.count(&of::TIMEOUTS, "attempt", figures.attempt);
        samples.count(&of::TIMEOUTS, "deadline", figures.deadline);
        samples.count(&of::REFUSED, "deadline", figures.refused);
    }
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

impl Observe for Chaos {
    const POLICY: &'static str = "chaos";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::CHAOS_ON, "", count(figures.on));
        samples.count(&of::CHAOS_FAULTS, "latency", figures.latencies);
        samples.count(&of::CHAOS_FAULTS, "error", figures.errors);
        samples.count(&of::CHAOS_FAULTS, "abort", figures.aborts);
    }
}

#[cfg(feature = "fallback")]
impl Observe for crate::fallback::Fallbacks {
    const POLICY: &'static str = "fallback";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.count(&of::FALLBACKS, "failure", figures.failure);
        samples.count(&of::FALLBACKS, "overloaded", figures.overloaded);
        samples.count(&of::FALLBACKS_LOST, "failed", figures.failed);
        samples.count(&of::FALLBACKS_LOST, "abandoned", figures.abandoned);
    }
}
