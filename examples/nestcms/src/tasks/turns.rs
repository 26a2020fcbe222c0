//! Whose turn it is.

use crate::domain::task::Priority;

/// Turns of each priority in a round of twelve, by [`Priority::ALL`].
const WEIGHTS: [i32; 3] = [8, 3, 1];

/// Weighted turns, as nginx and LVS smooth them: each that waits gains its weight, the richest is
/// next and pays the sum of all. Who has nothing to do gains nothing, so nobody saves turns up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    credit: [i32; 3],
}

impl Turns {
    /// The next among those that wait; of equals the most urgent.
    pub(super) fn next(&mut self, waits: [bool; 3]) -> Option<Priority> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (n, waits) in waits.into_iter().enumerate() {
            if !waits {
                self.credit[n] = 0;
                continue;
            }
            total += WEIGHTS[n];
            self.credit[n] += WEIGHTS[n];
            if best.is_none_or(|best| self.credit[n] > self.credit[best]) {
                best = Some(n);
            }
        }
        let best = best?;
        self.credit[best] -= total;
        Some(Priority::ALL[best])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_round_is_eight_three_one_and_begins_with_the_critical() {
        let mut turns = Turns::default();
        let round: Vec<_> = (0..12).filter_map(|_| turns.next([true; 3])).collect();
        let count = |priority| round.iter().filter(|p| **p == priority).count();
        assert_eq!(round[0], Priority::Critical);
        assert_eq!(Priority::ALL.map(count), [8, 3, 1]);
    }

    #[test]
    fn nobody_waits_nobody_is_next() {
        assert_eq!(Turns::default().next([false; 3]), None);
    }

    proptest! {
        /// Whatever the others do: who waits has a turn within a round.
        #[test]
        fn nobody_starves(others in prop::collection::vec(any::<[bool; 2]>(), 60), who in 0_usize..3) {
            let mut turns = Turns::default();
            let mut since = 0;
            for [a, b] in others {
                let mut waits = [a, b, false];
                waits.rotate_right(who + 1);
                waits[who] = true;
                since = match turns.next(waits) {
                    Some(next) if next == Priority::ALL[who] => 0,
                    _ => since + 1,
                };
                prop_assert!(since < 24, "passed over {since} times");
            }
        }
    }
}
