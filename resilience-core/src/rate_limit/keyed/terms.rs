//! The quota that a call is judged by, and its code in a slot.

use super::{super::quota::Quota, lock::Lock};
use crate::primitive::{AtomicU64, Ordering};

/// Width of the code of a fill time in a slot.
pub(super) const CODE_BITS: u32 = 20;
/// Leading bits of a fill time that its code keeps.
const KEPT_BITS: u32 = 15;

/// A quota and the code of its fill time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) quota: Quota,
    pub(super) code: u64,
}

impl Terms {
    #[inline]
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            quota,
            code: code(quota.fill()),
        }
    }
}

/// The code of a fill time: a floating-point number of 15 significant bits, never 0.
///
/// Below 2^15 ns it is exact. The longest fill, a year, is below 2^55 ns, so that the code stays
/// below 2^20.
#[inline]
pub(super) fn code(fill: u64) -> u64 {
    let shift = (u64::BITS - fill.leading_zeros()).saturating_sub(KEPT_BITS);
    (u64::from(shift) << (KEPT_BITS - 1)) + (fill >> shift)
}

/// The shortest and the longest fill time with this code.
pub(super) fn fills(code: u64) -> (u64, u64) {
    let shift = (code >> (KEPT_BITS - 1)).saturating_sub(1);
    let kept = code - (shift << (KEPT_BITS - 1));
    (kept << shift, ((kept + 1) << shift) - 1)
}

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
    pub(super) fn new(quota: Quota) -> Self {
        let terms = Terms::new(quota);
        Self {
            version: AtomicU64::new(0),
            ring: std::array::from_fn(|_| Parts::new(&terms)),
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

    pub(super) fn store(&self, quota: Quota) {
        let _writing = self.writing.lock();
        let terms = Terms::new(quota);
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        let parts = &self.ring[(version % RING) as usize];
        // ORDERING: Release, see `load`.
        parts.interval.store(quota.interval(), Ordering::Release);
        parts.sizes.store(sizes(&terms), Ordering::Release);
        self.version.store(version, Ordering::Release);
    }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;

    proptest! {
        #[test]
        fn a_code_fits_its_bits_and_stands_for_fills_within_one_in_16384(
            fill in prop_oneof![1..YEAR + 1, 1..100_000_u64],
        ) {
            let code = code(fill);
            prop_assert!(code > 0 && code < 1 << CODE_BITS);
            let (least, most) = fills(code);
            prop_assert!(least <= fill && fill <= most);
            prop_assert!(most - least <= least / (1 << (KEPT_BITS - 1)));
        }

        #[test]
        fn a_longer_fill_never_has_a_smaller_code(a in 1..YEAR, b in 1..YEAR) {
            prop_assert!(code(a.min(b)) <= code(a.max(b)));
        }
    }

    #[test]
    fn a_stored_quota_is_the_one_that_is_loaded() {
        let quotas = (1..20).map(|n| Quota::per_minute(n).unwrap().burst(n + 3).unwrap());
        let live = LiveQuota::new(Quota::per_second(7).unwrap());
        for quota in quotas {
            live.store(quota);
            assert_eq!(live.load().quota, quota);
            assert_eq!(live.load().code, Terms::new(quota).code);
        }
    }
}
