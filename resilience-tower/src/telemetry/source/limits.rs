use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::bulkhead::{Bulkhead, Reason, Registry};
use resilience_core::load_shed::{Class, LoadShed};
use resilience_core::rate_limit::{KeyedRateLimiter, LeasedRateLimiter, RateLimiter};

use super::{Observe, WayBack};
use crate::telemetry::family as of;
use crate::telemetry::samples::Samples;

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

#[cfg(all(feature = "rate-limit", feature = "redis"))]
impl Observe for crate::rate_limit::redis::RedisLimiter {
    const POLICY: &'static str = "rate_limit";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    /// What remains, and keys, only with leases: of others Redis alone knows.
    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::RATE_BURST, "", figures.quota.burst_size().into());
        if let Some(lease) = figures.lease {
            let remaining = lease.left.saturating_add(lease.remaining.into());
            samples.gauge(&of::RATE_REMAINING, "", remaining as f64);
        }
        if figures.max_keys > 0 {
            samples.gauge(&of::KEYS, "", figures.keys as f64);
            samples.gauge(&of::MAX_KEYS, "", figures.max_keys as f64);
            samples.count(&of::EVICTED, "idle", figures.evicted as u64);
            samples.count(&of::NO_ROOM, "", figures.no_room);
        }
        samples.count(&of::RATE_QUESTIONS, "answered", figures.answered);
        samples.count(&of::RATE_QUESTIONS, "failed", figures.failed);
        samples.count(&of::RATE_OUTAGE, "open", figures.outage_open);
        samples.count(&of::RATE_OUTAGE, "closed", figures.outage_closed);
        samples.count(&of::RATE_OUTAGE, "local", figures.outage_local);
        samples.count(&of::REFUSED, "outage", figures.outage_closed);
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
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}

impl<K: Send + Sync + 'static> Observe for Registry<K> {
    const POLICY: &'static str = "bulkhead";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    /// No counters of the bulkheads: they go with those that make room.
    fn observe(&self, samples: &mut Samples<'_>) {
        let (mut in_flight, mut limit, mut queued) = (0.0, 0.0, 0.0);
        self.for_each(|_, bulkhead| {
            let figures = bulkhead.snapshot();
            in_flight += f64::from(figures.in_flight);
            limit += f64::from(figures.limit);
            queued += figures.queued as f64;
        });
        samples.gauge(&of::IN_FLIGHT, "", in_flight);
        samples.gauge(&of::LIMIT, "", limit);
        samples.gauge(&of::QUEUED, "", queued);
        samples.gauge(&of::KEYS, "", self.len() as f64);
        samples.gauge(&of::MAX_KEYS, "", self.max() as f64);
        samples.count(&of::EVICTED, "idle", self.evicted());
        samples.count(&of::NO_ROOM, "", self.full());
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
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}

impl Observe for LoadShed {
    const POLICY: &'static str = "load_shed";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        samples.gauge(&of::IN_FLIGHT, "", figures.in_flight.into());
        if let Some(limit) = figures.limit {
            samples.gauge(&of::LIMIT, "", limit.into());
        }
        samples.gauge(&of::SHED_LEVEL, "", figures.level.into());
        samples.span(&of::QUEUE_DELAY, figures.delay);
        if let Some(share) = figures.cpu {
            samples.gauge(&of::CPU, "", share);
        }
        for class in Class::ALL {
            samples.count(&of::ADMITTED, class.as_str(), figures.admitted(class));
            samples.count(&of::SHED, class.as_str(), figures.shed(class));
        }
        let shed = Class::ALL.iter().map(|class| figures.shed(*class));
        samples.count(&of::REFUSED, "shed", shed.sum());
        samples.count(&of::SHED_CHANGES, "rise", figures.rises);
        samples.count(&of::SHED_CHANGES, "fall", figures.falls);
        samples.count(&of::LOST_EVENTS, "", figures.lost_events);
    }
}
