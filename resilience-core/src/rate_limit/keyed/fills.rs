//! How a slot remembers under which fill time it was written: a code of twenty bits.
//!
//! ```text
//! 0                 an empty slot
//! 1 ..= 704 511     a floating-point number of 15 significant bits
//! 2^20 - EXACT ..   one of the fill times kept exactly, by its place
//! ```

use super::super::quota::Quota;
use crate::primitive::{AtomicU64, Ordering};

/// Width of the code.
pub(super) const CODE_BITS: u32 = 20;
/// Leading bits of a fill time that its inexact code keeps.
const KEPT_BITS: u32 = 15;
/// Fill times that are kept exactly: more than a service has tariffs. In 4 KiB.
const EXACT: usize = if cfg!(resilience_loom) { 2 } else { 512 };
/// Places looked at for one of them.
const LOOKS: usize = 8;
/// Code of the first of them.
const FIRST_EXACT: u64 = (1 << CODE_BITS) - EXACT as u64;

/// A quota and the code of its fill time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) quota: Quota,
    pub(super) code: u64,
}

/// Fill times met so far. None is ever taken out, so a code means the same for ever.
#[derive(Debug)]
pub(super) struct Fills {
    exact: Box<[AtomicU64]>,
}

impl Fills {
    pub(super) fn new() -> Self {
        Self {
            exact: (0..EXACT).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    #[inline]
    pub(super) fn terms(&self, quota: Quota) -> Terms {
        Terms {
            quota,
            code: self.code(quota.fill()),
        }
    }

    /// The code of a fill time: exact if it has a place, or is given one now.
    #[inline]
    fn code(&self, fill: u64) -> u64 {
        let start = (fill.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        for look in 0..LOOKS.min(EXACT) {
            let place = (start + look) % EXACT;
            // PANIC-FREE: a remainder by the length.
            if self.is_at(place, fill) {
                return FIRST_EXACT + place as u64;
            }
        }
        inexact(fill)
    }

    /// Whether a place holds this fill time, which an empty one does from now on.
    #[inline]
    fn is_at(&self, place: usize, fill: u64) -> bool {
        // ORDERING: Relaxed. A place is written once. Who has a code from a slot has it from
        // somebody who has seen the place written.
        let mut held = self.exact[place].load(Ordering::Relaxed);
        if held == 0 {
            held = self.exact[place]
                .compare_exchange(0, fill, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|held| held, |_| fill);
        }
        held == fill
    }

    /// The shortest and the longest fill time that may have this code.
    pub(super) fn of(&self, code: u64) -> (u64, u64) {
        let place = code.checked_sub(FIRST_EXACT);
        match place.and_then(|place| self.exact.get(place as usize)) {
            Some(exact) => {
                // A code is given out for written places only; 0 is the code of an empty slot.
                let fill = exact.load(Ordering::Relaxed).max(1);
                (fill, fill)
            }
            None => fills(code.max(1)),
        }
    }
}

/// Below 2^15 ns it is exact. The longest fill, a year, is below 2^55 ns.
#[inline]
fn inexact(fill: u64) -> u64 {
    let shift = (u64::BITS - fill.leading_zeros()).saturating_sub(KEPT_BITS);
    (u64::from(shift) << (KEPT_BITS - 1)) + (fill >> shift)
}

fn fills(code: u64) -> (u64, u64) {
    let shift = (code >> (KEPT_BITS - 1)).saturating_sub(1);
    let kept = code - (shift << (KEPT_BITS - 1));
    (kept << shift, ((kept + 1) << shift) - 1)
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;

    proptest! {
        #[test]
        fn an_inexact_code_stands_for_fills_within_one_in_16384(
            fill in prop_oneof![1..YEAR + 1, 1..100_000_u64],
        ) {
            let code = inexact(fill);
            prop_assert!(code > 0 && code < FIRST_EXACT);
            let (least, most) = fills(code);
            prop_assert!(least <= fill && fill <= most);
            prop_assert!(most - least <= least / (1 << (KEPT_BITS - 1)));
        }

        #[test]
        fn a_longer_fill_never_has_a_smaller_inexact_code(a in 1..YEAR, b in 1..YEAR) {
            prop_assert!(inexact(a.min(b)) <= inexact(a.max(b)));
        }
    }

    #[test]
    fn codes_are_exact_until_the_places_are_taken_and_never_change() {
        let fills = Fills::new();
        let coded: Vec<_> = (1..if cfg!(miri) { 200 } else { 5000_u64 })
            .map(|n| n * 1_234_567_891)
            .map(|fill| (fill, fills.code(fill)))
            .collect();
        let exact = |code| code >= FIRST_EXACT;
        assert!(coded[..100].iter().all(|(_, code)| exact(*code)));
        assert!(coded.iter().filter(|(_, code)| exact(*code)).count() <= EXACT);
        for (fill, code) in coded {
            assert_eq!(fills.code(fill), code);
            let (least, most) = fills.of(code);
            assert!(least <= fill && fill <= most && code < 1 << CODE_BITS);
            assert!(!exact(code) || least == most);
        }
    }
}
