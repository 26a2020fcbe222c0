//! Several limits at once, all or none.

use std::{sync::Arc, time::Duration};

use super::{Admitted, Limited, RateLimiter, line::Granted};

pub(super) use self::part::{Part, Taken};

mod part {
    use super::{Admitted, Limited};

    /// What a limit has to do for `check_all`.
    pub trait Part {
        /// The bucket: limits of the same one are counted together. Buckets are taken from in the
        /// order of this, the same for all callers, see `check_all`.
        fn bucket(&self) -> (usize, u64);

        /// What is asked of it.
        fn cost(&self) -> u32;

        /// What `take` would answer.
        fn peek(&self, n: u32) -> Result<Admitted, Limited>;

        /// Takes `n`.
        fn take(&self, n: u32) -> Result<(Admitted, Taken), Limited>;

        /// Undoes a `take`.
        fn put_back(&self, taken: Taken);
    }

    /// What was taken: filling time, of a bucket that took `fill` to fill.
    #[derive(Clone, Copy, Debug)]
    pub struct Taken {
        pub(crate) nanos: u64,
        pub(crate) fill: u64,
    }
}

/// One limit and a cost, as [`check_all`] takes them: a [`RateLimiter`] (cost 1) or its
/// [`cost`](RateLimiter::cost), or a key of a [`KeyedRateLimiter`](super::KeyedRateLimiter). Sealed.
pub trait Check: Part {}

/// A [`RateLimiter`] and a cost, for [`check_all`].
#[derive(Clone, Copy, Debug)]
pub struct Cost<'a> {
    limiter: &'a RateLimiter,
    n: u32,
}

impl<'a> Cost<'a> {
    pub(super) fn new(limiter: &'a RateLimiter, n: u32) -> Self {
        Self { limiter, n }
    }
}

/// All limits admitted a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct AllAdmitted {
    /// The place, in the list, of the limit that has the least left (the first of several).
    pub tightest: usize,
    /// Its answer.
    pub admitted: Admitted,
}

/// At least one limit refused a call, and nothing was taken from any.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("limit {refused_by} of several: {limited}")]
#[non_exhaustive]
pub struct NotAll {
    /// The place, in the list, of the limit that asks for the longest wait (the first of several).
    pub refused_by: usize,
    /// Its answer: after its `retry_after` all limits admit the call, if no other comes first.
    pub limited: Limited,
}

/// Takes from all `limits`, or from none.
///
/// With an empty list every call is admitted: `None`. A limit that is named twice is asked for the
/// sum of both costs. Meant for a few limits: the work grows with the square of their number.
///
/// First all limits are asked without taking anything; if one refuses, so does this. Then they are
/// taken from, one after the other, always in the same order whatever the list's. If one was used
/// up in between by another call, what was taken goes back and all is asked again (a few times).
///
/// # Errors
///
/// [`NotAll`], with the longest wait of all.
///
/// # Concurrency
///
/// Lock-free. No limit is ever exceeded, and what goes back is what was taken. Between taking and
/// putting back, a few instructions, another call may be refused by one of the limits for
/// permits that come back; the wait it is told is then too long, never too short. This happens
/// only when some other call was admitted in that moment: of callers that race, in
/// any order of their lists, one at least is admitted if there is enough for one.
///
/// # Examples
///
/// ```
/// use resilience_core::rate_limit::{Quota, RateLimiter, check_all};
///
/// let address = RateLimiter::new(Quota::per_second(10)?);
/// let tenant = RateLimiter::new(Quota::per_minute(1)?);
/// assert!(check_all(&[&address, &tenant]).is_ok());
/// let refused = check_all(&[&address.cost(3), &tenant]).unwrap_err();
/// assert_eq!(refused.refused_by, 1);
/// assert_eq!(address.snapshot().remaining, 9);
/// # Ok::<(), resilience_core::rate_limit::QuotaError>(())
/// ```
pub fn check_all(limits: &[&dyn Check]) -> Result<Option<AllAdmitted>, NotAll> {
    each(limits.len(), |place| limits[place])
}

/// Tries, when permits are taken by others between asking and taking.
const TRIES: u32 = 4;

/// As [`check_all`], for limits that are found by their place.
pub(super) fn each<P: Part>(
    len: usize,
    limit: impl Fn(usize) -> P,
) -> Result<Option<AllAdmitted>, NotAll> {
    let all = All { len, limit };
    let mut answer = all.ask().and_then(|()| all.take());
    for _ in 1..TRIES {
        if answer.is_ok() {
            break;
        }
        // Refused at once, or by what is true now rather than by what was lost in a race.
        all.ask()?;
        answer = all.take();
    }
    answer
}

struct All<F> {
    len: usize,
    limit: F,
}

impl<P: Part, F: Fn(usize) -> P> All<F> {
    /// Whether all would admit now; the longest wait if not.
    fn ask(&self) -> Result<(), NotAll> {
        let mut longest: Option<NotAll> = None;
        for place in 0..self.len {
            let Err(limited) = (self.limit)(place).peek(self.sum(place)) else {
                continue;
            };
            if longest.is_none_or(|not_all| waits_longer(&limited, &not_all.limited)) {
                longest = Some(NotAll {
                    refused_by: place,
                    limited,
                });
            }
        }
        longest.map_or(Ok(()), Err)
    }

    fn take(&self) -> Result<Option<AllAdmitted>, NotAll> {
        self.take_after(None)
    }

    /// Takes from all buckets behind `last`. The stack keeps what is to be put back, so that
    /// nothing is allocated.
    fn take_after(&self, last: Option<(usize, u64)>) -> Result<Option<AllAdmitted>, NotAll> {
        let Some(place) = self.first_after(last) else {
            return Ok(None);
        };
        let limit = (self.limit)(place);
        let (admitted, taken) = limit.take(self.sum(place)).map_err(|limited| NotAll {
            refused_by: place,
            limited,
        })?;
        let rest = match self.take_after(Some(limit.bucket())) {
            Ok(rest) => rest,
            Err(not_all) => {
                limit.put_back(taken);
                return Err(not_all);
            }
        };
        let mine = AllAdmitted {
            tightest: place,
            admitted,
        };
        Ok(Some(match rest {
            Some(rest) if tighter(&rest, &mine) => rest,
            _ => mine,
        }))
    }

    /// The first place of the lowest bucket above `last`.
    fn first_after(&self, last: Option<(usize, u64)>) -> Option<usize> {
        (0..self.len)
            .map(|place| ((self.limit)(place).bucket(), place))
            .filter(|(bucket, _)| last.is_none_or(|last| *bucket > last))
            .min()
            .map(|(_, place)| place)
    }

    /// The costs of all limits of the same bucket.
    fn sum(&self, place: usize) -> u32 {
        let bucket = (self.limit)(place).bucket();
        (0..self.len)
            .map(&self.limit)
            .filter(|limit| limit.bucket() == bucket)
            .fold(0, |sum, limit| sum.saturating_add(limit.cost()))
    }
}

fn waits_longer(a: &Limited, b: &Limited) -> bool {
    // Never is longest.
    let wait = |limited: &Limited| limited.retry_after.unwrap_or(Duration::MAX);
    wait(a) > wait(b)
}

fn tighter(a: &AllAdmitted, b: &AllAdmitted) -> bool {
    (a.admitted.remaining, a.tightest) < (b.admitted.remaining, b.tightest)
}

impl<P: Part + ?Sized> Part for &P {
    fn bucket(&self) -> (usize, u64) {
        (**self).bucket()
    }

    fn cost(&self) -> u32 {
        (**self).cost()
    }

    fn peek(&self, n: u32) -> Result<Admitted, Limited> {
        (**self).peek(n)
    }

    fn take(&self, n: u32) -> Result<(Admitted, Taken), Limited> {
        (**self).take(n)
    }

    fn put_back(&self, taken: Taken) {
        (**self).put_back(taken);
    }
}

impl Check for RateLimiter {}

impl Part for RateLimiter {
    fn bucket(&self) -> (usize, u64) {
        (Arc::as_ptr(&self.inner).addr(), 0)
    }

    fn cost(&self) -> u32 {
        1
    }

    fn peek(&self, n: u32) -> Result<Admitted, Limited> {
        Self::peek(self, n)
    }

    fn take(&self, n: u32) -> Result<(Admitted, Taken), Limited> {
        let inner = &*self.inner;
        let Granted { admitted, taken } = inner.bucket.take_under(n, inner.now())?;
        Ok((admitted, taken))
    }

    fn put_back(&self, taken: Taken) {
        self.inner.give_back(taken);
    }
}

impl Check for Cost<'_> {}

impl Part for Cost<'_> {
    fn bucket(&self) -> (usize, u64) {
        self.limiter.bucket()
    }

    fn cost(&self) -> u32 {
        self.n
    }

    fn peek(&self, n: u32) -> Result<Admitted, Limited> {
        self.limiter.peek(n)
    }

    fn take(&self, n: u32) -> Result<(Admitted, Taken), Limited> {
        self.limiter.take(n)
    }

    fn put_back(&self, taken: Taken) {
        self.limiter.put_back(taken);
    }
}
