//! Random numbers for jitter and choices; not for secrets.

use std::hash::{BuildHasher, RandomState};

use crate::primitive::{AtomicU64, Ordering};

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A shared SplitMix64 generator: one addition to a word per number.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    /// Differs from process to process and from one to the next.
    pub(crate) fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(0))
    }

    /// The same numbers for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// 64 random bits.
    pub(crate) fn bits(&self) -> u64 {
        // ORDERING: Relaxed. Nothing is published by it.
        mix(self.0.fetch_add(STEP, Ordering::Relaxed))
    }
}

/// SplitMix64's finaliser: spreads a seed over all bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Evenly from 0 up to, not including, 1.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation (Vigna, splitmix64.c) for seed 1234567.
    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let random = Random::seeded(1_234_567);
        let numbers: Vec<u64> = (0..5).map(|_| random.bits()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn a_unit_is_at_least_0_and_below_1() {
        assert!(unit(0) == 0.0 && unit(u64::MAX) < 1.0);
    }

    #[test]
    fn two_generators_differ() {
        assert_ne!(Random::new().bits(), Random::new().bits());
    }
}
