//! Any sequence of calls on direct limiters, one by one and several at once: each answer is a plain
//! bucket's, each told wait is exact, and what is admitted in any span keeps to the bound.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resilience_core::{
    clock::ManualClock,
    rate_limit::{Check, NotAll, RateLimiter, check_all},
};
use resilience_fuzz::{
    Choices,
    bucket::{Bucket, Ledger},
    limits::{LATEST, YEAR, moved, quota, rate, shown, told},
};

const LIMITERS: usize = 3;

fuzz_target!(|data: &[u8]| {
    let _ = run(Choices::new(data));
});

struct Case {
    limiter: RateLimiter,
    bucket: Bucket,
    ledger: Ledger,
}

fn run(mut choices: Choices<'_>) -> Option<()> {
    let clock = ManualClock::new();
    let origin = choices.one_of(&[0, 5_000_000_000, u64::MAX - 1_000_000_000, u64::MAX / 2])?;
    clock.set(Duration::from_nanos(origin));
    // A clock that counts from far off, from 1970 for example, is counted from its first reading.
    let zero = if origin < YEAR { 0 } else { origin };
    let mut cases = Vec::new();
    for _ in 0..LIMITERS {
        let quota = quota(&mut choices)?;
        cases.push(Case {
            limiter: RateLimiter::with_clock(quota, clock.clone()),
            bucket: Bucket::new(rate(quota)),
            ledger: Ledger::new(rate(quota)),
        });
    }
    let mut time = origin;
    while let Some(step) = choices.byte() {
        let now = shown(time, zero);
        let which = usize::from(step >> 4) % LIMITERS;
        let case = &mut cases[which];
        match step & 15 {
            0..=4 => take(case, u32::from(step & 15), now, &clock, (time, zero)),
            5 => take(case, u32::from(choices.short()?), now, &clock, (time, zero)),
            6 | 7 => {
                let by = moved(&mut choices)?;
                let to = time.saturating_add(by);
                // The limiters' time may stand still (before the origin, at the end of the range);
                // the bound then gives more than they take.
                cases
                    .iter_mut()
                    .for_each(|case| case.ledger.advance(to - time));
                time = to;
            }
            8 => time = time.saturating_sub(moved(&mut choices)?),
            9 => {
                let n = choices.one_of(&[0, 1, 2, 3, 1000, u32::MAX])?;
                case.limiter.refund(n);
                let before = case.bucket.missing(now);
                case.bucket.refund(n, now);
                // At most what is missing comes back.
                let back = (before - case.bucket.missing(now)) as f64;
                let fill = case.bucket.rate().fill() as f64;
                case.ledger.refunded(back / fill);
            }
            10 => {
                let quota = quota(&mut choices)?;
                case.limiter.set_quota(quota);
                case.bucket.set_rate(rate(quota), now);
                // The share is rounded up, in one step or in two.
                let seen = case.limiter.snapshot().reset_after.as_nanos();
                let right = case.bucket.missing(now);
                assert!(seen == right || seen == right + 1, "{seen} for {right}");
                if seen > right {
                    case.bucket.adopt(seen, now);
                }
                case.ledger.set_rate(rate(quota));
                assert_eq!(case.limiter.quota(), quota);
            }
            11 | 12 => take_all(&mut cases, &mut choices, now)?,
            13 => {
                let n = u32::from(choices.byte()?);
                let told = told(case.limiter.peek(n));
                assert_eq!(told, case.bucket.peek(n, now), "peek");
            }
            14 => {
                let seen = case.limiter.snapshot();
                let right = case.bucket.peek(0, now);
                assert_eq!(seen.remaining, right.remaining);
                assert_eq!(seen.reset_after.as_nanos(), right.reset_after);
            }
            _ => {
                // A clone is a handle on the same bucket.
                let clone = case.limiter.clone();
                assert_eq!(told(clone.peek(1)), case.bucket.peek(1, now));
            }
        }
        clock.set(Duration::from_nanos(time));
    }
    Some(())
}

impl Case {
    fn book(&mut self, n: u32) {
        let share = f64::from(n) / f64::from(self.bucket.rate().burst);
        assert!(
            self.ledger.admitted(share, 0),
            "more than burst + rate x time"
        );
    }
}

fn take(case: &mut Case, n: u32, now: u128, clock: &ManualClock, (time, zero): (u64, u64)) {
    let rate = case.bucket.rate();
    let told = told(case.limiter.try_acquire_n(n));
    assert_eq!(told, case.bucket.take(n, now), "cost {n}, {rate:?}");
    match told.answer {
        Ok(()) => case.book(n),
        Err(Some(wait)) => {
            // One nanosecond before it is refused, at it admitted; unless time stands still.
            let wait = u64::try_from(wait).expect("at most a year and the steps back");
            let due = time.max(zero).checked_add(wait);
            if let Some(due) = due.filter(|_| now + u128::from(wait) <= LATEST) {
                clock.set(Duration::from_nanos(due - 1));
                assert!(case.limiter.peek(n).is_err(), "admitted too early");
                clock.set(Duration::from_nanos(due));
                assert!(case.limiter.peek(n).is_ok(), "the wait was too short");
            }
        }
        Err(None) => assert!(n > rate.burst),
    }
}

fn take_all(cases: &mut [Case], choices: &mut Choices<'_>, now: u128) -> Option<()> {
    let named = choices.below(4)?;
    let mut list = Vec::new();
    for _ in 0..named {
        list.push((choices.below(LIMITERS)?, u32::from(choices.byte()? % 8)));
    }
    let costs: Vec<_> = list
        .iter()
        .map(|(which, n)| cases[*which].limiter.cost(*n))
        .collect();
    let limits: Vec<&dyn Check> = costs.iter().map(|cost| cost as &dyn Check).collect();
    let real = check_all(&limits);

    let mut asked = [None; LIMITERS];
    for (place, (which, n)) in list.iter().enumerate() {
        let (_, sum) = asked[*which].get_or_insert((place, 0));
        *sum += n;
    }
    let asked: Vec<_> = (0..LIMITERS)
        .filter_map(|which| asked[which].map(|(place, sum)| (place, which, sum)))
        .collect();
    // The longest wait; never is longest; of equal ones the first in the list.
    let refused = asked
        .iter()
        .filter_map(|(place, which, sum)| {
            let told = cases[*which].bucket.peek(*sum, now);
            let wait = told.answer.err()?;
            Some((wait.unwrap_or(u128::MAX), usize::MAX - place, told))
        })
        .max_by_key(|(wait, first, _)| (*wait, *first));
    match (real, refused) {
        (
            Err(NotAll {
                refused_by,
                limited,
                ..
            }),
            Some((_, first, right)),
        ) => {
            assert_eq!(refused_by, usize::MAX - first);
            assert_eq!(told(Err(limited)), right);
        }
        (Ok(answer), None) => {
            let mut tightest: Option<(u32, usize)> = None;
            for (place, which, sum) in asked {
                let case = &mut cases[which];
                case.book(sum);
                let left = case.bucket.take(sum, now).remaining;
                tightest = Some(tightest.map_or((left, place), |seen| seen.min((left, place))));
            }
            let answer = answer.map(|all| (all.admitted.remaining, all.tightest));
            assert_eq!(answer, tightest);
        }
        (real, model) => panic!("{real:?} but the model {model:?}"),
    }
    Some(())
}
