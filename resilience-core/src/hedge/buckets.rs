//! How long attempts take: counts in buckets whose widths grow with the time.

use std::{fmt, time::Duration};

use crate::primitive::{AtomicU64, Ordering};

/// Each doubling of the time is cut into this many buckets: an estimate is above what it estimates
/// by less than a sixteenth.
const PARTS: u64 = 1 << PART_BITS;
const PART_BITS: u32 = if cfg!(resilience_loom) { 0 } else { 4 };

/// Below 2^10 ns, a microsecond, all times are one.
const SHORTEST_BITS: u32 = 10;

/// So many doublings are told apart, up to 2^40 ns (18 minutes); longer times count as that.
const DOUBLINGS: usize = if cfg!(resilience_loom) { 2 } else { 30 };

/// One for less than the shortest time.
const BUCKETS: usize = 1 + DOUBLINGS * PARTS as usize;

/// What one attempt counts, so that it can be halved eight times before it is forgotten.
const ONE: u64 = 1 << 8;

/// Attempts by how long they took, and by how long they had taken when they were given up.
///
/// ```text
/// bucket 0            up to 2^10 ns
/// bucket 1 + 16 d + p from 2^(10 + d) (1 + p / 16) ns on, up to 2^(10 + d) (1 + (p + 1) / 16) ns
/// ```
pub(super) struct Buckets {
    each: Box<[Bucket]>,
}

#[derive(Debug, Default)]
struct Bucket {
    answered: AtomicU64,
    given_up: AtomicU64,
}

/// How an attempt ended, as far as its time is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// It took that long.
    Answered,
    /// It would have taken longer.
    GivenUp,
}

/// What the buckets say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Estimate {
    /// Attempts that count, in whole.
    pub(super) samples: u64,
    /// As much is answered by then as was asked for; or the longest time known, if so many were
    /// given up that nobody can say.
    pub(super) quantile: Duration,
    /// Half is answered by then.
    pub(super) median: Duration,
}

impl Buckets {
    pub(super) fn new() -> Self {
        Self {
            each: (0..BUCKETS).map(|_| Bucket::default()).collect(),
        }
    }

    /// Counts an attempt. Answers true when the estimate should be worked out again: after the
    /// first in its bucket and every 16th there.
    #[inline]
    pub(super) fn record(&self, nanos: u64, ended: Ended) -> bool {
        // PANIC-FREE: an index is below BUCKETS.
        let bucket = &self.each[index(nanos)];
        let counter = match ended {
            Ended::Answered => &bucket.answered,
            Ended::GivenUp => &bucket.given_up,
        };
        // ORDERING: Relaxed. Each count stands for itself, and an estimate that misses some of
        // those that come meanwhile is that of a moment earlier.
        let before = counter.fetch_add(ONE, Ordering::Relaxed);
        (before / ONE).is_multiple_of(16)
    }

    /// Halves all counts `times` times. An attempt that is counted meanwhile is halved or not, and
    /// never lost.
    pub(super) fn halve(&self, times: u32) {
        let halved = |count: u64| (count > 0).then(|| count.checked_shr(times).unwrap_or(0));
        for bucket in &self.each {
            for counter in [&bucket.answered, &bucket.given_up] {
                // Nothing is written where nothing is counted.
                let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, halved);
            }
        }
    }

    /// The times of `share` and of half of the attempts, by the product-limit estimator (Kaplan
    /// and Meier, 1958): an attempt that was given up counts among those that might still have
    /// been answered up to then, and says nothing about later.
    pub(super) fn estimate(&self, share: f64) -> Estimate {
        let mut counts = [(0_u64, 0_u64); BUCKETS];
        let mut all = 0_u64;
        for (count, bucket) in counts.iter_mut().zip(&self.each) {
            let answered = bucket.answered.load(Ordering::Relaxed);
            let given_up = bucket.given_up.load(Ordering::Relaxed);
            *count = (answered, given_up);
            all = all.saturating_add(answered).saturating_add(given_up);
        }
        let mut estimate = Estimate {
            samples: all / ONE,
            ..Estimate::default()
        };
        let (mut waiting, mut unanswered) = (all, 1.0);
        let (mut quantile, mut median, mut longest) = (None, None, 0);
        for (at, (answered, given_up)) in counts.into_iter().enumerate() {
            let here = answered.saturating_add(given_up);
            if here == 0 {
                continue;
            }
            longest = at;
            unanswered *= 1.0 - answered as f64 / waiting.max(1) as f64;
            waiting = waiting.saturating_sub(here);
            // The sum of the rounding of some hundred products is far below.
            if unanswered <= 0.5 + 1e-9 {
                median.get_or_insert(at);
            }
            if unanswered <= 1.0 - share + 1e-9 {
                quantile.get_or_insert(at);
                break;
            }
        }
        estimate.quantile = ends(quantile.unwrap_or(longest));
        estimate.median = ends(median.unwrap_or(longest));
        estimate
    }

    #[cfg(all(test, resilience_loom))]
    pub(super) fn sum(&self) -> u64 {
        let counts = self.each.iter();
        counts.map(|one| one.answered.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buckets({BUCKETS})")
    }
}

/// The bucket of a time.
fn index(nanos: u64) -> usize {
    let Some(doubling) = nanos
        .checked_ilog2()
        .and_then(|log| log.checked_sub(SHORTEST_BITS))
    else {
        return 0;
    };
    let part = (nanos >> (SHORTEST_BITS + doubling - PART_BITS)) % PARTS;
    let at = 1 + u64::from(doubling) * PARTS + part;
    usize::try_from(at).map_or(BUCKETS - 1, |at| at.min(BUCKETS - 1))
}

/// Where a bucket ends.
fn ends(bucket: usize) -> Duration {
    let Some(within) = bucket.checked_sub(1) else {
        return Duration::from_nanos(1 << SHORTEST_BITS);
    };
    let (doubling, part) = (within as u64 / PARTS, within as u64 % PARTS);
    Duration::from_nanos((PARTS + part + 1) << (u64::from(SHORTEST_BITS - PART_BITS) + doubling))
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn of(answered: &[u64], given_up: &[u64]) -> Buckets {
        let buckets = Buckets::new();
        for nanos in answered {
            buckets.record(*nanos, Ended::Answered);
        }
        for nanos in given_up {
            buckets.record(*nanos, Ended::GivenUp);
        }
        buckets
    }

    /// tower's hedge had a bound of ten seconds, and failed to count calls above it (its issue 475).
    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for at in 0..BUCKETS - 1 {
            let end = ends(at).as_nanos() as u64;
            assert_eq!((index(end - 1), index(end)), (at, at + 1));
        }
        assert_eq!((index(0), index(u64::MAX)), (0, BUCKETS - 1));
        assert_eq!(ends(BUCKETS - 1), Duration::from_nanos(1 << 40));
    }

    #[test]
    fn the_first_of_a_bucket_and_every_16th_there_ask_for_a_new_estimate() {
        let buckets = Buckets::new();
        let asks = |nanos| buckets.record(nanos, Ended::Answered);
        let asked: Vec<u32> = (1..=40).filter(|_| asks(MS)).collect();
        assert_eq!(asked, [1, 17, 33]);
        assert!(asks(2 * MS) && !asks(2 * MS));
    }

    #[test]
    fn a_count_that_is_halved_eight_times_is_still_there_and_then_it_is_gone() {
        let buckets = of(&[5 * MS], &[5 * MS]);
        buckets.halve(7);
        buckets.halve(1);
        let known = buckets.estimate(0.5).quantile;
        assert!(known >= Duration::from_millis(5));
        buckets.halve(1);
        assert_eq!(buckets.estimate(0.5).quantile, ends(0));
        let buckets = of(&[5 * MS; 10], &[]);
        buckets.halve(1);
        assert_eq!(buckets.estimate(0.5).samples, 5);
        buckets.halve(64);
        assert_eq!(buckets.estimate(0.5).samples, 0);
    }

    /// A tenth is slow. Each slow attempt loses against its hedge and is dropped: without those the
    /// slow ones would be forgotten, and hedges begin earlier and earlier.
    #[test]
    fn attempts_that_lost_do_not_shorten_the_estimate() {
        let quick = vec![MS; 900];
        let before = of(&quick, &[]).estimate(0.95).quantile;
        let with_losers = of(&quick, &[20 * MS; 100]).estimate(0.95).quantile;
        assert!(before < Duration::from_micros(1_100));
        assert!(with_losers >= Duration::from_millis(20), "{with_losers:?}");
    }

    #[test]
    fn an_attempt_that_was_given_up_early_says_nothing_about_later() {
        let answered: Vec<u64> = (1..=100).map(|ms| ms * MS).collect();
        let alone = of(&answered, &[]).estimate(0.9);
        let beside = of(&answered, &[MS / 2; 500]).estimate(0.9);
        assert_eq!(alone.quantile, beside.quantile);
        assert_eq!((alone.samples, beside.samples), (100, 600));
    }

    /// The plainest product-limit estimate: for each time in order, all are looked at.
    fn model(answered: &[u64], given_up: &[u64], share: f64) -> Duration {
        let end_of = |nanos: &u64| ends(index(*nanos));
        let mut times: Vec<_> = answered.iter().chain(given_up).map(end_of).collect();
        times.sort();
        let all = times.clone();
        times.dedup();
        let mut unanswered = 1.0;
        for time in &times {
            let waiting = all.iter().filter(|other| *other >= time).count();
            let here = answered.iter().filter(|one| end_of(one) == *time).count();
            unanswered *= 1.0 - here as f64 / waiting as f64;
            if unanswered <= 1.0 - share + 1e-9 {
                return *time;
            }
        }
        *times.last().unwrap()
    }

    proptest! {
        #[test]
        fn the_estimate_is_above_the_exact_quantile_by_less_than_a_sixteenth(
            mut times in prop::collection::vec(1_024..1_u64 << 40, 1..300),
            share in 0.5..0.999_f64,
        ) {
            let estimate = of(&times, &[]).estimate(share);
            times.sort_unstable();
            let exact = |share: f64| {
                let rank = (share * times.len() as f64 - 1e-9).ceil() as usize;
                times[rank.max(1) - 1] as f64
            };
            for (share, found) in [(share, estimate.quantile), (0.5, estimate.median)] {
                let ratio = found.as_nanos() as f64 / exact(share);
                prop_assert!(ratio > 1.0 && ratio <= 1.0 + 1.0 / 16.0, "{}", ratio);
            }
            prop_assert_eq!(estimate.samples, times.len() as u64);
        }

        #[test]
        fn the_estimate_is_that_of_the_plainest_product_limit_estimator(
            answered in prop::collection::vec(0..1_u64 << 34, 0..100),
            given_up in prop::collection::vec(0..1_u64 << 34, 1..100),
            share in 0.5..0.999_f64,
        ) {
            let estimate = of(&answered, &given_up).estimate(share);
            prop_assert_eq!(estimate.quantile, model(&answered, &given_up, share));
            prop_assert_eq!(estimate.median, model(&answered, &given_up, 0.5));
        }
    }
}
