use std::{sync::Arc, time::Duration};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::{held::Grant, plan::Plan, slots::Slots, terms::Terms};
use crate::{
    clock::SharedClock,
    primitive::{AtomicU64, Ordering},
    rate_limit::{
        Limited, cell,
        quota::{Quota, QuotaError},
        ticks::Ticks,
    },
};

/// What one process holds of a limit that is kept in a store. Clones are handles on the same one.
///
/// A call spends by itself ([`spend`](Self::spend)). Where that is not possible, or the block is
/// nearly used up, somebody asks the store: [`ask`](Self::ask) says whether, and for how much;
/// [`granted`](Self::granted) or [`failed`](Self::failed) ends it.
///
/// # When the store is asked
///
/// One at a time. When a quarter of a block is left, or a call finds nothing; not before a quarter of a
/// lease has passed since an answer that was cut short, and not before the permits can be there that
/// the store said were missing. What is refused meanwhile knows its wait.
///
/// # Concurrency
///
/// [`spend`](Self::spend) and a refusal by [`ask`](Self::ask) are lock-free. Those who ask take a short
/// lock.
#[derive(Clone, Debug)]
pub struct Lease {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots: Slots,
    /// Read by refusals.
    known: CachePadded<Known>,
    ticks: Ticks,
    terms: arc_swap::ArcSwap<Terms>,
    plan: Mutex<Plan>,
}

/// What the store said last, by this process's clock.
#[derive(Debug)]
struct Known {
    /// When the store's bucket is full if nobody takes from it.
    full_at: AtomicU64,
    /// Before this the store is not asked.
    again_at: AtomicU64,
}

/// What came of a call that wanted to spend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Spent {
    /// Admitted.
    Yes,
    /// Admitted, and it is time to [`ask`](Lease::ask) for the next block.
    AskSoon,
    /// There are not as many here.
    No,
}

/// What a call that found nothing is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ask {
    /// Ask the store.
    Now(Asked),
    /// Somebody asks already: wait for the answer, then spend.
    Wait,
    /// There are permits: spend them.
    Spend,
    /// It is refused.
    Refused(Limited),
}

/// A question to the store; to be ended by [`Lease::granted`] or [`Lease::failed`].
#[derive(Clone, Debug)]
#[must_use = "nobody else asks until it is ended"]
pub struct Asked {
    least: u32,
    want: u32,
    /// Before it was asked.
    at: u64,
    terms: Arc<Terms>,
}

/// The figures of a [`Lease`] at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LeaseSnapshot {
    /// The quota in force.
    pub quota: Quota,
    /// What can be spent here at once.
    pub left: u64,
    /// What was free in the store by its last answer, and has come back since; others may have
    /// taken it.
    pub remaining: u32,
}

impl Asked {
    /// The fewest permits that are of use.
    pub fn least(&self) -> u32 {
        self.least
    }

    /// The permits wanted.
    pub fn want(&self) -> u32 {
        self.want
    }

    /// The quota of the bucket in the store.
    pub fn common(&self) -> Quota {
        self.terms.common
    }
}

impl Lease {
    /// Holds nothing yet, on the default clock.
    ///
    /// # Errors
    ///
    /// When the terms are those of [`Terms::exact`].
    pub fn new(terms: Terms) -> Result<Self, QuotaError> {
        Self::with_clock(terms, SharedClock::default())
    }

    /// As [`new`](Self::new), on a clock of one's own.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_clock(terms: Terms, clock: impl Into<SharedClock>) -> Result<Self, QuotaError> {
        check(&terms)?;
        let ticks = Ticks::new(clock.into());
        let now = ticks.now();
        Ok(Self {
            inner: Arc::new(Inner {
                slots: Slots::new(),
                known: CachePadded::new(Known {
                    full_at: AtomicU64::new(now),
                    again_at: AtomicU64::new(now),
                }),
                ticks,
                terms: arc_swap::ArcSwap::from_pointee(terms),
                plan: Mutex::new(Plan::new(now)),
            }),
        })
    }

    /// The terms in force.
    pub fn terms(&self) -> Terms {
        **self.inner.terms.load()
    }

    /// Changes the terms, from the next question on. What is held stays, until its lease ends.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn set_terms(&self, terms: Terms) -> Result<(), QuotaError> {
        check(&terms)?;
        let inner = &*self.inner;
        let _lock = inner.plan.lock();
        inner.terms.store(Arc::new(terms));
        // What was missing was missing of another bucket.
        let now = inner.ticks.now();
        inner.known.full_at.store(now, Ordering::Relaxed);
        inner.known.again_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Admits a call of cost `n` if that much is held here. Cost 0 always is.
    #[inline]
    pub fn spend(&self, n: u32) -> Spent {
        if n == 0 {
            return Spent::Yes;
        }
        let inner = &*self.inner;
        match inner.slots.spend(n.into(), inner.ticks.now()) {
            Some(false) => Spent::Yes,
            Some(true) => Spent::AskSoon,
            None => Spent::No,
        }
    }

    /// The refusal of a call of cost `n` that need not be asked about; what [`ask`](Self::ask) would
    /// answer.
    pub fn refusal(&self, n: u32) -> Option<Limited> {
        self.inner.refused(n, self.inner.ticks.now())
    }

    /// What a call of cost `n` is to do that could not be spent. With `ahead`, for the call
    /// that was told [`Spent::AskSoon`]: whether to ask for the next block; nothing waits for it.
    pub fn ask(&self, n: u32, ahead: bool) -> Ask {
        let inner = &*self.inner;
        let now = inner.ticks.now();
        if let Some(limited) = inner.refused(n, now) {
            return Ask::Refused(limited);
        }
        let mut plan = inner.plan.lock();
        if plan.asking {
            return Ask::Wait;
        }
        // Again, for another may have been answered meanwhile.
        if let Some(limited) = inner.refused(n, now) {
            return Ask::Refused(limited);
        }
        let lefts = inner.slots.lefts(now);
        if ahead && inner.slots.is_full(now) || !ahead && lefts.iter().any(|left| *left >= n.into())
        {
            return Ask::Spend;
        }
        let terms = inner.terms.load_full();
        plan.asking = true;
        let block = plan.want(inner.slots.unspent(), now, &terms);
        let least = if ahead { 1 } else { n.max(1) };
        Ask::Now(Asked {
            least,
            want: block.max(least),
            at: now,
            terms,
        })
    }

    /// The store answered.
    ///
    /// More permits than were wanted count as that many.
    pub fn granted(&self, asked: &Asked, grant: Grant) {
        let inner = &*self.inner;
        let now = inner.ticks.now();
        let terms = &asked.terms;
        let mut plan = inner.plan.lock();
        plan.asking = false;
        let permits = grant.permits.min(asked.want);
        if permits > 0 {
            // From before the question: the store granted it later than that.
            inner.slots.put(permits, asked.at + terms.life(), now);
            plan.came(inner.slots.unspent(), now);
        }
        if **inner.terms.load() != **terms {
            return;
        }
        let missing = grant.missing.min(terms.common.fill());
        // ORDERING: Relaxed. Each is a time of its own; who reads an old one asks in vain, or
        // is refused as if it had come a moment earlier.
        inner.known.full_at.store(now + missing, Ordering::Relaxed);
        if permits < asked.want {
            let again_at = now + terms.pace();
            inner.known.again_at.store(again_at, Ordering::Relaxed);
        }
    }

    /// The store did not answer. Whether and when to ask again is for the caller to say.
    pub fn failed(&self, asked: &Asked) {
        let _ = asked;
        self.inner.plan.lock().asking = false;
    }

    /// The figures of now.
    pub fn snapshot(&self) -> LeaseSnapshot {
        let inner = &*self.inner;
        let now = inner.ticks.now();
        let terms = inner.terms.load();
        let full_at = inner.known.full_at.load(Ordering::Relaxed);
        LeaseSnapshot {
            quota: terms.quota,
            left: inner.slots.lefts(now).iter().sum(),
            remaining: cell::admitted(full_at, now, &terms.common).remaining,
        }
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.inner);
        move || weak.upgrade().map(|inner| Self { inner })
    }
}

impl Inner {
    /// The refusal of a call of cost `n` that needs no question.
    fn refused(&self, n: u32, now: u64) -> Option<Limited> {
        let again_at = self.known.again_at.load(Ordering::Relaxed);
        let full_at = self.known.full_at.load(Ordering::Relaxed);
        let terms = self.terms.load();
        let never = n > terms.max_cost();
        let pause = again_at.saturating_sub(now);
        // Others can only have taken more than is known here.
        let wait = match cell::decide(full_at, n, now, &terms.common) {
            Ok(_) => pause,
            Err(limited) => nanos(limited.retry_after).max(pause),
        };
        if wait == 0 && !never {
            return None;
        }
        let left = self.slots.lefts(now).iter().sum::<u64>();
        let wait = (!never).then_some(wait);
        Some(Limited {
            burst: terms.quota.burst_size(),
            // Two blocks of 20 bits.
            remaining: left as u32,
            ..cell::limited(full_at, now, &terms.common, wait)
        })
    }
}

/// At most the time to fill a bucket.
fn nanos(wait: Option<Duration>) -> u64 {
    wait.map_or(0, |wait| wait.as_nanos() as u64)
}

fn check(terms: &Terms) -> Result<(), QuotaError> {
    match terms.lease() {
        Some(_) => Ok(()),
        None => Err(QuotaError::new("lease", "none", "that of leased terms")),
    }
}
