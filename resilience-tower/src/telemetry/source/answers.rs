//! Policies that answer for the upstream.

use resilience_core::coalesce::Reason;

use super::{Observe, WayBack};
use crate::coalesce::Coalescing;
use crate::telemetry::family as of;
use crate::telemetry::samples::Samples;

impl Observe for Coalescing {
    const POLICY: &'static str = "coalesce";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        samples.gauge(&of::KEYS, "", self.snapshot().keys as f64);
        tell_shared(samples, self);
    }
}

fn tell_shared(samples: &mut Samples<'_>, calls: &Coalescing) {
    let figures = calls.snapshot();
    samples.count(&of::COALESCED, "leader", figures.calls);
    samples.count(&of::COALESCED, "follower", figures.followers);
    samples.count(&of::REFUSED, Reason::Keys.as_str(), figures.refused_keys);
    let followers = Reason::Followers.as_str();
    samples.count(&of::REFUSED, followers, figures.refused_followers);
}

#[cfg(feature = "cache")]
impl<K, V> Observe for crate::cache::Store<K, V>
where
    K: std::hash::Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    const POLICY: &'static str = "cache";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        for (answer, calls) in [
            ("hit", figures.hits),
            ("stale", figures.stale_hits),
            ("stale_if_error", figures.error_hits),
            ("negative", figures.negative_hits),
            ("miss", figures.misses),
            ("revalidated", figures.revalidated),
            ("bypassed", figures.bypassed),
        ] {
            samples.count(&of::CACHE_ANSWERS, answer, calls);
        }
        samples.count(&of::CACHE_RENEWALS, "begun", figures.revalidations);
        samples.count(&of::CACHE_RENEWALS, "failed", figures.revalidations_failed);
        samples.count(&of::CACHE_NOT_KEPT, "", figures.not_kept);
        samples.count(&of::EVICTED, "weight", figures.evictions);
        samples.gauge(&of::KEYS, "", figures.entries as f64);
        samples.gauge(&of::CACHE_WEIGHT, "", figures.weight as f64);
        tell_shared(samples, self.coalescing());
    }
}
