//! For any history the keyed limiter equals the plainest code that could be right: one bucket per
//! key in a map, filled by hand.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    clock::ManualClock,
    rate_limit::{Admitted, KeyedRateLimiter, Limited, Quota},
};

type Fixed = BuildHasherDefault<DefaultHasher>;
type Limiter = KeyedRateLimiter<u64, Fixed>;

const QUOTAS: [(u32, u32); 5] = [(1, 1), (3, 2), (3, 6), (10, 5), (17, 40)];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// By this many nanoseconds forwards.
    Wait(u64),
    /// By this many nanoseconds backwards.
    Back(u64),
    /// A call of a key with a cost, under the common quota or one of its own.
    Call(u64, u32, Option<usize>),
    Refund(u64, u32),
    Peek(u64, u32),
    Reset(u64),
    SetQuota(usize),
}

fn step(keys: u64) -> impl Strategy<Value = Step> {
    let quota = || 0..QUOTAS.len();
    prop_oneof![
        3 => (0..900_000_000_u64).prop_map(Step::Wait),
        1 => (0..900_000_000_u64).prop_map(Step::Back),
        9 => (0..keys, 0..8_u32, prop::option::weighted(0.3, quota()))
            .prop_map(|(key, cost, quota)| Step::Call(key, cost, quota)),
        2 => (0..keys, 0..4_u32).prop_map(|(key, n)| Step::Refund(key, n)),
        1 => (0..keys, 0..4_u32).prop_map(|(key, n)| Step::Peek(key, n)),
        1 => (0..keys).prop_map(Step::Reset),
        1 => quota().prop_map(Step::SetQuota),
    ]
}

fn quota(place: usize) -> Quota {
    let (permits, burst) = QUOTAS[place];
    Quota::per_second(permits).unwrap().burst(burst).unwrap()
}

/// What was missing from a bucket, in nanoseconds of refill, at some time.
#[derive(Clone, Copy)]
struct Bucket {
    missing: u64,
    at: u64,
    quota: Quota,
}

type Answer = (Result<(), Option<u64>>, u32);

impl Bucket {
    /// What is missing now. A clock that has stepped back has to make up for that first.
    fn missing(&self, now: u64) -> u64 {
        if now < self.at {
            self.missing + (self.at - now)
        } else {
            self.missing.saturating_sub(now - self.at)
        }
    }

    /// The same share of another quota's bucket.
    fn convert(&mut self, now: u64, quota: Quota) {
        let missing = self.missing(now);
        let (from, to) = (fill(&self.quota), fill(&quota));
        self.quota = quota;
        if missing > 0 && from != to {
            let share = u128::from(missing.min(from)) * u128::from(to);
            let share = share.div_ceil(u128::from(from)) as u64;
            self.missing = share + missing.saturating_sub(from);
            self.at = now;
        }
    }

    fn call(&mut self, now: u64, cost: u32, quota: Quota) -> Answer {
        self.convert(now, quota);
        let missing = self.missing(now) + interval(&quota) * u64::from(cost);
        let answer = if cost == 0 {
            Ok(())
        } else if cost > quota.burst_size() {
            Err(None)
        } else if missing <= fill(&quota) {
            (self.missing, self.at) = (missing, now);
            Ok(())
        } else {
            Err(Some(missing - fill(&quota)))
        };
        let left = fill(&quota).saturating_sub(self.missing(now)) / interval(&quota);
        (answer, left as u32)
    }

    fn refund(&mut self, now: u64, n: u32, quota: Quota) {
        self.convert(now, quota);
        let missing = self.missing(now);
        if missing > 0 {
            self.missing = missing.saturating_sub(interval(&quota) * u64::from(n));
            self.at = now;
        }
    }
}

fn interval(quota: &Quota) -> u64 {
    quota.replenish_interval().as_nanos() as u64
}

fn fill(quota: &Quota) -> u64 {
    interval(quota) * u64::from(quota.burst_size())
}

fn told(real: Result<Admitted, Limited>) -> Answer {
    match real {
        Ok(admitted) => (Ok(()), admitted.remaining),
        Err(limited) => {
            let wait = limited.retry_after.map(|wait| wait.as_nanos() as u64);
            (Err(wait), limited.remaining)
        }
    }
}

/// Runs a history on both, and compares every answer.
fn compare(limiter: &Limiter, clock: &ManualClock, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut common = limiter.quota();
    let (mut buckets, mut now) = (HashMap::<u64, Bucket>::new(), 0_u64);
    for step in steps {
        let full = Bucket {
            missing: 0,
            at: 0,
            quota: common,
        };
        match step {
            Step::Wait(by) => now += by,
            Step::Back(by) => now = now.saturating_sub(by),
            Step::SetQuota(place) => {
                common = quota(place);
                limiter.set_quota(common);
            }
            Step::Call(key, cost, place) => {
                let (quota, real) = match place {
                    Some(place) => {
                        let own = quota(place);
                        (own, limiter.try_acquire_with(&key, cost, own))
                    }
                    None => (common, limiter.try_acquire_n(&key, cost)),
                };
                let model = buckets.entry(key).or_insert(full).call(now, cost, quota);
                prop_assert_eq!(told(real), model);
            }
            Step::Refund(key, n) => {
                limiter.refund(&key, n);
                buckets.entry(key).or_insert(full).refund(now, n, common);
            }
            Step::Peek(key, n) => {
                let mut bucket = *buckets.entry(key).or_insert(full);
                prop_assert_eq!(told(limiter.peek(&key, n)), bucket.call(now, n, common));
            }
            Step::Reset(key) => {
                limiter.reset(&key);
                buckets.remove(&key);
            }
        }
        clock.set(Duration::from_nanos(now));
        prop_assert!(limiter.len() <= buckets.len());
    }
    prop_assert_eq!(limiter.snapshot().evicted_early, 0);
    Ok(())
}

fn new(max_keys: usize, place: usize) -> (Limiter, ManualClock) {
    let clock = ManualClock::new();
    let limiter =
        KeyedRateLimiter::with_hasher(quota(place), max_keys, clock.clone(), Fixed::default());
    (limiter, clock)
}

fn cases(many: u32) -> ProptestConfig {
    ProptestConfig::with_cases(if cfg!(miri) { 4 } else { many })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn with_room_for_all_each_key_has_a_bucket_of_its_own(
        first in 0..QUOTAS.len(), steps in prop::collection::vec(step(8), 0..200),
    ) {
        let (limiter, clock) = new(8, first);
        compare(&limiter, &clock, steps)?;
    }

    // Recovered keys may be dropped here, which only a clock that steps back could tell.
    #[test]
    fn with_room_for_many_keys_each_has_a_bucket_of_its_own(
        first in 0..QUOTAS.len(), steps in prop::collection::vec(step(300), 0..800),
    ) {
        let (limiter, clock) = new(300, first);
        let forwards = |step: &Step| !matches!(step, Step::Back(_));
        compare(&limiter, &clock, steps.into_iter().filter(forwards).collect())?;
    }

    // With fewer places than keys, too: between two early evictions, what a key is admitted in any
    // interval is at most its burst + rate × interval; and before the first nobody is refused what
    // a bucket of its own would give.
    #[test]
    fn any_interval_admits_at_most_burst_plus_rate_unless_a_key_is_evicted_early(
        place in 0..QUOTAS.len(), max_keys in 1..40_usize,
        steps in prop::collection::vec((0..400_000_000_u64, 0..40_u64, 1..8_u32), 0..400),
    ) {
        let (limiter, clock) = new(max_keys, place);
        let quota = quota(place);
        let (mut now, mut log) = (0_u64, HashMap::<u64, Vec<(u64, u32)>>::new());
        let mut forgotten = false;
        for (wait, key, cost) in steps {
            now += wait;
            clock.set(Duration::from_nanos(now));
            let before = limiter.snapshot().evicted_early;
            let admitted = limiter.try_acquire_n(&key, cost).is_ok();
            if limiter.snapshot().evicted_early > before {
                // Whose bucket it was cannot be told from outside: start all books anew.
                log.clear();
                forgotten = true;
            }
            if admitted {
                log.entry(key).or_default().push((now, cost));
            } else if !forgotten {
                let spent = within(&log, key, now, &quota) + u64::from(cost) * interval(&quota);
                prop_assert!(spent > fill(&quota));
            }
            prop_assert!(within(&log, key, now, &quota) <= fill(&quota));
            prop_assert!(limiter.len() <= max_keys);
        }
    }
}

/// The fullest account of a key: over all intervals that end now, what was admitted (as refill
/// time) less the interval.
fn within(log: &HashMap<u64, Vec<(u64, u32)>>, key: u64, now: u64, quota: &Quota) -> u64 {
    let mut sum = 0;
    let mut most = 0;
    for (at, cost) in log.get(&key).into_iter().flatten().rev() {
        sum += u64::from(*cost) * interval(quota);
        most = most.max(sum.saturating_sub(now - at));
    }
    most
}
