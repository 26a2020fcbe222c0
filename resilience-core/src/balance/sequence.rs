//! Whose turn it is, for whole rounds in advance.

/// The order of smooth weighted round robin. It repeats itself after as many turns as the weights
/// add up to, and so it can be worked out when the endpoints change: a turn is then one addition
/// to a counter and a look.
#[derive(Debug, Default)]
pub(super) struct Sequence(Box<[u32]>);

/// The longest round that is kept, unless there are more endpoints. 64 KiB.
const LONGEST: u64 = 1 << 14;

impl Sequence {
    /// One turn for each whose weight is not 0.
    pub(super) fn equal(weights: &[u32]) -> Self {
        let turns = (0..).zip(weights).filter(|(_, weight)| **weight > 0);
        Self(turns.map(|(index, _)| index).collect())
    }

    /// As many turns for each as its weight; of weights that have a common divisor, in their
    /// lowest terms. Shares of a round longer than [`LONGEST`] are rounded to fit, to one turn at
    /// least.
    pub(super) fn smooth(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
        if weights.iter().all(|weight| weight / divisor <= 1) {
            // One turn each, without a look at all for every turn.
            return Self::equal(weights);
        }
        let sum: u64 = weights.iter().map(|w| u64::from(w / divisor)).sum();
        let shares: Vec<i64> = weights
            .iter()
            .map(|weight| match u64::from(weight / divisor) {
                0 => 0,
                share if sum <= LONGEST => share,
                share => (share * LONGEST / sum).max(1),
            })
            .map(|share| i64::try_from(share).unwrap_or(i64::MAX))
            .collect();
        let round: i64 = shares.iter().sum();
        let mut current = vec![0_i64; shares.len()];
        let turns = (0..round).filter_map(|_| {
            for (current, share) in current.iter_mut().zip(&shares) {
                *current += share;
            }
            // The first of the highest, as in nginx.
            let (best, _) = current
                .iter()
                .enumerate()
                .filter(|(index, _)| shares[*index] > 0)
                .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
            current[best] -= round;
            u32::try_from(best).ok()
        });
        Self(turns.collect())
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn at(&self, turn: u64) -> Option<usize> {
        let round = self.0.len() as u64;
        if round == 0 {
            return None;
        }
        // Most of the time both fit into 32 bits, which divide faster.
        let place = match (u32::try_from(turn), u32::try_from(round)) {
            (Ok(turn), Ok(round)) => (turn % round) as usize,
            _ => (turn % round) as usize,
        };
        Some(self.0[place] as usize)
    }

    /// The turns of a round.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_is_that_of_nginx() {
        // From the message of nginx's commit 52327e0627f4, "Upstream: smooth weighted round-robin
        // balancing".
        assert_eq!(*Sequence::smooth(&[5, 1, 1]).0, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn weights_with_a_common_divisor_make_a_short_round() {
        assert_eq!(*Sequence::smooth(&[300, 0, 100]).0, [0, 0, 2, 0]);
    }

    /// By the general rule this would take some seconds, for each change of the set.
    #[test]
    fn as_many_equal_weights_as_there_may_be_cost_one_look_each() {
        let mut weights = vec![7; 65_536];
        weights[1] = 0;
        let sequence = Sequence::smooth(&weights);
        assert_eq!(sequence.len(), 65_535);
        assert_eq!(sequence.0[..3], [0, 2, 3]);
    }

    #[test]
    fn nobody_has_a_turn_if_all_weights_are_0() {
        assert_eq!(Sequence::smooth(&[0, 0]).at(7), None);
        assert_eq!(Sequence::equal(&[0, 0]).at(7), None);
        assert_eq!(Sequence::smooth(&[]).at(0), None);
    }

    #[test]
    fn a_round_is_never_longer_than_what_is_kept() {
        let weights = [1_000, 999, 1, 0].repeat(30);
        let sequence = Sequence::smooth(&weights);
        assert!(sequence.len() as u64 <= LONGEST + weights.len() as u64);
        for index in (0..weights.len() as u32).filter(|index| index % 4 != 3) {
            assert!(sequence.0.contains(&index), "{index}");
        }
    }

    proptest! {
        #[test]
        fn each_has_as_many_turns_in_a_round_as_its_weight(
            weights in prop::collection::vec(0_u32..60, 1..12),
        ) {
            let sequence = Sequence::smooth(&weights);
            let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
            for (index, weight) in weights.iter().enumerate() {
                let turns = sequence.0.iter().filter(|turn| **turn as usize == index).count();
                prop_assert_eq!(turns as u32, weight / divisor);
            }
        }

        /// In any span of a round nobody is a whole turn or more ahead or behind, times the
        /// endpoints: the bound by which the heavy ones are "spread out".
        #[test]
        fn the_turns_of_each_are_spread_over_the_round(
            weights in prop::collection::vec(1_u32..30, 2..8),
        ) {
            let sequence = Sequence::smooth(&weights);
            let sum: u32 = weights.iter().sum();
            let mut turns = vec![0_f64; weights.len()];
            for (done, turn) in (1..).zip(&sequence.0) {
                turns[*turn as usize] += 1.0;
                for (turns, weight) in turns.iter().zip(&weights) {
                    let due = f64::from(done) * f64::from(*weight) / f64::from(sum);
                    prop_assert!((turns - due).abs() < weights.len() as f64);
                }
            }
        }
    }
}
