//! Random numbers that are the same on every platform: comparisons and basic arithmetic alone.

use std::time::Duration;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Vigna); one stream for each thing that happens by chance, so that a change in one
/// does not shift the others.
#[derive(Clone, Debug)]
pub(super) struct Stream(u64);

impl Stream {
    /// The stream number `purpose` of a simulation.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(mix(seed) ^ purpose))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Evenly from 0 up to, not including, 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `many`.
    pub(super) fn below(&mut self, many: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(many);
        (wide >> 64) as u64
    }

    /// Exponential with mean 1, by von Neumann's method (1951): no logarithm, whose last digit
    /// would depend on the platform.
    pub(super) fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let mut last = first;
            let mut falling = 1_u32;
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                last = next;
                falling += 1;
            }
            if falling % 2 == 1 {
                return whole + first;
            }
            whole += 1.0;
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How long something takes, by chance: the work on a call, the thinking of a user.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Times {
    spread: Spread,
    tail: Option<(f64, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    Even { least: Duration, most: Duration },
    Exponential { mean: Duration },
}

impl Times {
    /// Always the same.
    pub const fn exactly(time: Duration) -> Self {
        Self::between(time, time)
    }

    /// Evenly between two times; all the same when `most` is not more than `least`.
    pub const fn between(least: Duration, most: Duration) -> Self {
        Self {
            spread: Spread::Even { least, most },
            tail: None,
        }
    }

    /// Evenly, a quarter more or less than `time`.
    pub fn around(time: Duration) -> Self {
        Self::between(time * 3 / 4, time * 5 / 4)
    }

    /// Exponentially distributed around a mean: many short times, a few that are several times it.
    pub const fn exponential(mean: Duration) -> Self {
        Self {
            spread: Spread::Exponential { mean },
            tail: None,
        }
    }

    /// A share of them (0 to 1) takes `more` on top: a pause, a lost packet.
    ///
    /// # Panics
    ///
    /// When the share is not from 0 to 1.
    pub fn tail(mut self, share: f64, more: Duration) -> Self {
        assert_share(share);
        self.tail = Some((share, more));
        self
    }

    /// In nanoseconds.
    pub(super) fn draw(&self, random: &mut Stream) -> u64 {
        let time = match self.spread {
            Spread::Even { least, most } => {
                let least = nanos(least);
                let span = nanos(most).saturating_sub(least);
                least + (span as f64 * random.unit()) as u64
            }
            Spread::Exponential { mean } => (nanos(mean) as f64 * random.exponential()) as u64,
        };
        let more = match self.tail {
            Some((share, more)) if random.unit() < share => nanos(more),
            _ => 0,
        };
        time.saturating_add(more)
    }
}

pub(super) fn assert_share(share: f64) {
    assert!((0.0..=1.0).contains(&share), "a share is from 0 to 1");
}

/// Whole nanoseconds; the most that fit are 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vigna, splitmix64.c, for seed 1234567.
    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut stream = Stream(1_234_567);
        assert_eq!(stream.bits(), 6_457_827_717_110_365_317);
        assert_eq!(stream.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn exponential_times_have_their_mean_and_median() {
        let mut stream = Stream::new(1, 0);
        let mut drawn: Vec<f64> = (0..100_000).map(|_| stream.exponential()).collect();
        drawn.sort_by(f64::total_cmp);
        let mean = drawn.iter().sum::<f64>() / 100_000.0;
        assert!((0.99..1.01).contains(&mean), "{mean}");
        assert!((0.68..0.71).contains(&drawn[50_000]), "{}", drawn[50_000]);
        // e^-3 is 0.0498.
        let above = drawn.iter().filter(|time| **time > 3.0).count();
        assert!((4_700..5_300).contains(&above), "{above}");
    }

    #[test]
    fn even_times_stay_between_their_ends_and_reach_them() {
        let mut stream = Stream::new(1, 0);
        let times = Times::around(Duration::from_millis(100));
        let drawn: Vec<u64> = (0..10_000).map(|_| times.draw(&mut stream)).collect();
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!((75_000_000..75_100_000).contains(least), "{least}");
        assert!((124_900_000..=125_000_000).contains(most), "{most}");
    }

    #[test]
    fn a_tail_has_its_share() {
        let mut stream = Stream::new(1, 0);
        let times = Times::exactly(Duration::from_millis(1)).tail(0.1, Duration::from_secs(1));
        let slow = (0..10_000)
            .filter(|_| times.draw(&mut stream) > 1_000_000)
            .count();
        assert!((900..1_100).contains(&slow), "{slow}");
    }
}
