//! The time of single operations, by the CPU's time stamp counter.

use quanta::Clock;

/// Reads the time stamp counter, or the system's clock where that is not steady.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    clock: Clock,
}

impl Stopwatch {
    /// Calibrates, once per process, for some milliseconds.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Clock::new(),
        }
    }

    /// How long `operation` takes, in nanoseconds, two reads of the counter included.
    #[inline]
    pub fn time(&self, operation: impl FnOnce()) -> u64 {
        let start = self.clock.raw();
        operation();
        let end = self.clock.raw();
        self.clock.delta_as_nanos(start, end)
    }
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}

/// How many operations took how long: exact to the nanosecond below 65 µs, above by value.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// By nanoseconds.
    short: Box<[u32]>,
    long: Vec<u64>,
}

const SHORT: usize = 1 << 16;

impl Histogram {
    /// Without any.
    #[must_use]
    pub fn new() -> Self {
        Self {
            short: vec![0; SHORT].into_boxed_slice(),
            long: Vec::with_capacity(1 << 10),
        }
    }

    /// Adds one operation.
    #[inline]
    pub fn add(&mut self, nanos: u64) {
        let place = usize::try_from(nanos).unwrap_or(usize::MAX);
        match self.short.get_mut(place) {
            Some(count) => *count = count.saturating_add(1),
            None => self.long.push(nanos),
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.short.iter_mut().zip(&other.short) {
            *count = count.saturating_add(*more);
        }
        self.long.extend(&other.long);
    }

    /// The least time that `share` of the operations do not exceed, in nanoseconds; 0 of none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let all = self
            .short
            .iter()
            .map(|count| u64::from(*count))
            .sum::<u64>()
            + self.long.len() as u64;
        // At most `all`, so the conversion back is exact enough.
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (nanos, count) in (0..).zip(&self.short) {
            seen += u64::from(*count);
            if seen >= wanted {
                return nanos;
            }
        }
        let mut long = self.long.clone();
        long.sort_unstable();
        let place = usize::try_from(wanted - seen).unwrap_or(usize::MAX);
        long.get(place - 1).copied().unwrap_or(0)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_least_time_that_the_share_does_not_exceed() {
        let mut histogram = Histogram::new();
        (1..=1_000).for_each(|nanos| histogram.add(nanos));
        assert_eq!(histogram.quantile(0.5), 500);
        assert_eq!(histogram.quantile(0.999), 999);
        assert_eq!(histogram.quantile(1.0), 1_000);
        assert_eq!(Histogram::new().quantile(0.999), 0);
    }

    #[test]
    fn long_times_count_and_are_exact() {
        let mut histogram = Histogram::new();
        (0..98).for_each(|_| histogram.add(1));
        let mut other = Histogram::new();
        other.add(5_000_000);
        other.add(900_000);
        histogram.merge(&other);
        assert_eq!(histogram.quantile(0.98), 1);
        assert_eq!(histogram.quantile(0.99), 900_000);
        assert_eq!(histogram.quantile(1.0), 5_000_000);
    }

    #[test]
    fn a_stopwatch_times_what_it_runs() {
        let mut ran = false;
        Stopwatch::new().time(|| ran = true);
        assert!(ran);
    }
}
