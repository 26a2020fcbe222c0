//! The quota in force, which every call reads.

use super::{super::quota::Quota, fills::Terms, lock::Lock};
use crate::primitive::{AtomicU64, Ordering};

/// Quotas that fit in the ring.
const RING: u64 = 4;

/// A quota that is read by every call and may be replaced at any time.
///
/// Version v lies at place v mod 4 and is written before the version is published; so a reader is
/// disturbed only when three changes happen within its few loads, and then reads again.
#[derive(Debug)]
pub(super) struct LiveQuota {
    version: AtomicU64,
    ring: [Parts; RING as usize],
    writing: Lock<()>,
}

/// A quota as two words.
#[derive(Debug)]
struct Parts {
    interval: AtomicU64,
    /// `[code: 32 | burst: 32]`
    sizes: AtomicU64,
}

impl Parts {
    fn new(terms: &Terms) -> Self {
        Self {
            interval: AtomicU64::new(terms.quota.interval()),
            sizes: AtomicU64::new(sizes(terms)),
        }
    }
}

fn sizes(terms: &Terms) -> u64 {
    terms.code << 32 | u64::from(terms.quota.burst_size())
}

impl LiveQuota {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            version: AtomicU64::new(0),
            ring: std::array::from_fn(|_| Parts::new(terms)),
            writing: Lock::new(()),
        }
    }

    #[inline]
    pub(super) fn load(&self) -> Terms {
        loop {
            // ORDERING: Acquire. Pairs with the publishing store: the parts of this version, or of
            // a later one at the same place, are seen.
            let version = self.version.load(Ordering::Acquire);
            let parts = &self.ring[(version % RING) as usize];
            // ORDERING: Acquire. Pairs with the stores of a writer three versions later, who has
            // published at least two of them before: the check below sees that.
            let interval = parts.interval.load(Ordering::Acquire);
            let sizes = parts.sizes.load(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed).wrapping_sub(version) < RING - 1 {
                return Terms {
                    quota: Quota::from_parts(interval, sizes as u32),
                    code: sizes >> 32,
                };
            }
        }
    }

    pub(super) fn store(&self, terms: &Terms) {
        let _writing = self.writing.lock();
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        let parts = &self.ring[(version % RING) as usize];
        // ORDERING: Release, see `load`.
        parts
            .interval
            .store(terms.quota.interval(), Ordering::Release);
        parts.sizes.store(sizes(terms), Ordering::Release);
        self.version.store(version, Ordering::Release);
    }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::{super::fills::Fills, *};

    #[test]
    fn a_stored_quota_is_the_one_that_is_loaded() {
        let fills = Fills::new();
        let quotas = (1..20).map(|n| Quota::per_minute(n).unwrap().burst(n + 3).unwrap());
        let live = LiveQuota::new(&fills.terms(Quota::per_second(7).unwrap()));
        for quota in quotas {
            let terms = fills.terms(quota);
            live.store(&terms);
            assert_eq!(live.load().quota, quota);
            assert_eq!(live.load().code, terms.code);
        }
    }
}
