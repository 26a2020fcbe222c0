use resilience_core::breaker::{CircuitBreaker, Mode, Registry, State};
use resilience_core::chaos::Chaos;
use resilience_core::deadline::Deadlines;

use super::{Observe, WayBack, flag};
use crate::telemetry::family as of;
use crate::telemetry::samples::Samples;

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
        samples.gauge(&of::BREAKER_STATE, one.as_str(), flag(one == state));
    }
    for one in MODES {
        samples.gauge(&of::BREAKER_MODE, one.as_str(), flag(one == mode));
    }
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

impl Observe for Chaos {
    const POLICY: &'static str = "chaos";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::CHAOS_ON, "", flag(figures.on));
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
