//! Keys in random order.

/// Keys below a bound in random order, for about a nanosecond each.
///
/// A linear congruential generator (Knuth's MMIX constants): random enough that neither a
/// cache nor a branch predictor learns the order.
#[derive(Clone, Debug)]
pub struct Keys {
    state: u64,
    below: u64,
}

impl Keys {
    /// Keys in `0..below`; each seed has its own order.
    ///
    /// `below` is at most 2^32.
    #[must_use]
    pub fn new(seed: u64, below: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            below,
        }
    }

    /// The next key.
    #[inline]
    pub fn next_key(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The high half is the random one; scaled down without a division.
        ((self.state >> 32) * self.below) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_the_bound_and_reach_all_of_it() {
        let mut keys = Keys::new(7, 10);
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[usize::try_from(keys.next_key()).unwrap()] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
