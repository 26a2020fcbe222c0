//! One limit for all, of which each thread holds a few permits in advance.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::{
    Limited,
    quota::{Quota, QuotaError},
    ticks::Ticks,
    word::Bucket,
};
use crate::{
    clock::SharedClock,
    primitive::{AtomicU64, Ordering},
    stripe::{STRIPES, Stripe},
};

/// A rate limit for hot paths: threads take permits from the common bucket in blocks and spend
/// them alone, without a clock and without a locked instruction. Clones are handles on the same
/// one.
///
/// # What holds
///
/// Admitted in any span t ≤ burst + rate × t, exactly: the common bucket is smaller than the burst
/// by all that threads may hold (block × threads).
///
/// # What it costs
///
/// - A thread may be refused while others hold permits that they do not use, at most
///   block × (threads − 1); never any of the rate, only of the burst.
/// - A call may cost at most [`max_cost`](Self::max_cost), burst − block × threads.
/// - An admission tells no figures, for it knows none.
///
/// # Who holds what
///
/// The first `threads` threads that come hold a lease (of the first 31 threads of the process that
/// use any policy here); others take each permit from the common bucket. A thread whose lease is used up takes `block` permits, or if there are not so many what
/// its call lacks, so nobody hoards while permits are short. A lease has no age: what a thread does
/// not spend stays with it until it calls [`give_back`](Self::give_back), and what it leaves when it
/// ends is the next thread's that comes in its place.
///
/// # Concurrency
///
/// Lock-free; a call that is served by the lease is wait-free. Nothing is allocated by a call.
///
/// # Examples
///
/// ```
/// use resilience_core::rate_limit::{LeasedRateLimiter, Quota};
///
/// // Two threads hold up to 16 permits each; the common bucket has the other 968.
/// let limiter = LeasedRateLimiter::new(Quota::per_second(1000)?, 16, 2)?;
/// assert!(limiter.try_acquire().is_ok());
/// assert_eq!(limiter.max_cost(), 968);
/// # Ok::<(), resilience_core::rate_limit::QuotaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LeasedRateLimiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// By stripe; only those whose stripes are exclusive and who came in time are used.
    leases: [CachePadded<Lease>; STRIPES],
    bucket: Bucket,
    ticks: Ticks,
    block: u32,
    threads: u32,
    /// Leases that may still be given out.
    free: AtomicU64,
    /// Held by those who change the quota, never by those who take.
    changes: Mutex<()>,
}

/// Written by the thread that has the stripe, and by nobody else.
#[derive(Debug)]
struct Lease {
    left: AtomicU64,
    state: AtomicU64,
}

/// No thread of this stripe has asked yet; it has a lease; it came too late for one.
const NEW: u64 = 0;
const HELD: u64 = 1;
const NONE: u64 = 2;

/// The figures of a [`LeasedRateLimiter`] at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LeasedSnapshot {
    /// The quota in force.
    pub quota: Quota,
    /// What the common bucket would give at once.
    pub remaining: u32,
    /// What threads hold; not exact while they call.
    pub leased: u64,
}

impl LeasedRateLimiter {
    /// A limiter with its whole burst on the default clock: up to `threads` (1 to 31) threads hold
    /// up to `block` permits (1 or more) each.
    ///
    /// # Errors
    ///
    /// When a number is out of range, or the burst is below block × (threads + 1).
    pub fn new(quota: Quota, block: u32, threads: u32) -> Result<Self, QuotaError> {
        Self::with_clock(quota, block, threads, SharedClock::default())
    }

    /// As [`new`](Self::new), on a clock of one's own.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_clock(
        quota: Quota,
        block: u32,
        threads: u32,
        clock: impl Into<SharedClock>,
    ) -> Result<Self, QuotaError> {
        let most = STRIPES as u32 - 1;
        if threads == 0 || threads > most {
            return Err(QuotaError::new("threads", threads, format!("1 to {most}")));
        }
        if block == 0 {
            return Err(QuotaError::new("block", block, "1 or more"));
        }
        let common = common(quota, block, threads)?;
        let lease = |_| {
            CachePadded::new(Lease {
                left: AtomicU64::new(0),
                state: AtomicU64::new(NEW),
            })
        };
        Ok(Self {
            inner: Arc::new(Inner {
                leases: std::array::from_fn(lease),
                bucket: Bucket::new(common),
                ticks: Ticks::new(clock.into()),
                block,
                threads,
                free: AtomicU64::new(threads.into()),
                changes: Mutex::new(()),
            }),
        })
    }

    /// The quota in force.
    pub fn quota(&self) -> Quota {
        self.inner.quota()
    }

    /// The most that one call may cost: burst − block × threads.
    pub fn max_cost(&self) -> u32 {
        self.inner.bucket.quota().burst_size()
    }

    /// Changes the quota; the balance of the common bucket is kept in proportion, see
    /// [`RateLimiter::set_quota`](super::RateLimiter::set_quota). What threads hold they keep: it was
    /// paid for.
    ///
    /// # Errors
    ///
    /// When the burst is below block × (threads + 1); nothing is changed then.
    pub fn set_quota(&self, quota: Quota) -> Result<(), QuotaError> {
        let inner = &*self.inner;
        let common = common(quota, inner.block, inner.threads)?;
        let _lock = inner.changes.lock();
        if inner.bucket.quota() != common {
            inner.bucket.set_quota(common, || inner.ticks.now());
        }
        Ok(())
    }

    /// Admits one call now or refuses it, at once.
    ///
    /// # Errors
    ///
    /// As [`try_acquire_n`](Self::try_acquire_n).
    #[inline]
    pub fn try_acquire(&self) -> Result<(), Limited> {
        self.try_acquire_n(1)
    }

    /// Admits a call of cost `n` now or refuses it, all or nothing. Cost 0 is always admitted, a
    /// cost above [`max_cost`](Self::max_cost) never.
    ///
    /// # Errors
    ///
    /// [`Limited`]: `remaining` is what this thread could spend now, and `retry_after` the exact wait
    /// for this thread, if no other takes from the common bucket first.
    #[inline]
    pub fn try_acquire_n(&self, n: u32) -> Result<(), Limited> {
        let inner = &*self.inner;
        let stripe = Stripe::current();
        if stripe.exclusive {
            // PANIC-FREE: an index is below STRIPES.
            let lease = &inner.leases[stripe.index];
            if lease.spend(n.into()) {
                return Ok(());
            }
        }
        inner.take(stripe, n)
    }

    /// Puts what the calling thread holds back into the common bucket, for a thread that will not
    /// call for a while. It may take a lease again whenever it likes.
    pub fn give_back(&self) {
        let inner = &*self.inner;
        let stripe = Stripe::current();
        if !stripe.exclusive {
            return;
        }
        let now = inner.ticks.now();
        let lease = &inner.leases[stripe.index];
        // At most a block.
        let left = lease.left.load(Ordering::Relaxed) as u32;
        lease.left.store(0, Ordering::Relaxed);
        // Nobody waits in line for a common bucket.
        let _ = inner.bucket.refund(left, now);
    }

    /// The figures of now; takes nothing.
    pub fn snapshot(&self) -> LeasedSnapshot {
        let inner = &*self.inner;
        let leases = inner.leases.iter();
        LeasedSnapshot {
            quota: inner.quota(),
            remaining: inner.bucket.snapshot(inner.ticks.now()).remaining,
            leased: leases.map(|lease| lease.left.load(Ordering::Relaxed)).sum(),
        }
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.inner);
        move || weak.upgrade().map(|inner| Self { inner })
    }
}

/// The quota of the common bucket.
fn common(quota: Quota, block: u32, threads: u32) -> Result<Quota, QuotaError> {
    let least = u64::from(block) * (u64::from(threads) + 1);
    let burst = quota.burst_size();
    if u64::from(burst) < least {
        let allowed = format!("{least} (block × (threads + 1)) or more");
        return Err(QuotaError::new("burst", burst, allowed));
    }
    quota.burst(burst - block * threads)
}

impl Lease {
    // ORDERING: Relaxed in all. Only the thread that has the stripe writes; the next thread that
    // gets the stripe has seen all its writes (see `stripe`). Permits publish nothing.
    #[inline]
    fn spend(&self, n: u64) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        if left < n {
            return false;
        }
        self.left.store(left - n, Ordering::Relaxed);
        true
    }
}

impl Inner {
    fn quota(&self) -> Quota {
        let common = self.bucket.quota();
        let burst = common.burst_size() + self.block * self.threads;
        // The burst was one before, and is the reserve more than the common one.
        common.burst(burst).unwrap_or(common)
    }

    #[cold]
    fn take(&self, stripe: Stripe, n: u32) -> Result<(), Limited> {
        // Read first, for a clock of one's own may call this limiter in turn.
        let now = self.ticks.now();
        match self.lease_of(stripe) {
            Some(lease) => self.take_for(lease, n, now),
            None => {
                let taken = self.bucket.take(n, now);
                taken.map(|_| ()).map_err(|limited| self.told(limited, 0))
            }
        }
    }

    fn take_for(&self, lease: &Lease, n: u32, now: u64) -> Result<(), Limited> {
        if lease.spend(n.into()) {
            return Ok(());
        }
        // Less than n, and never above a block.
        let left = lease.left.load(Ordering::Relaxed) as u32;
        // What the common bucket never gives, it does not give together with a lease either.
        let never = n > self.bucket.quota().burst_size();
        let lacks = if never { n } else { n - left };
        let block = self.block.max(lacks);
        if self.bucket.take(block, now).is_ok() {
            // Below a block again, or nothing.
            let left = u64::from(block - lacks);
            lease.left.store(left, Ordering::Relaxed);
            return Ok(());
        }
        let taken = self.bucket.take(lacks, now);
        taken.map_err(|limited| self.told(limited, left))?;
        lease.left.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// The lease of a stripe; given out at the first asking while there are any.
    fn lease_of(&self, stripe: Stripe) -> Option<&Lease> {
        if !stripe.exclusive {
            return None;
        }
        // PANIC-FREE: an index is below STRIPES.
        let lease = &*self.leases[stripe.index];
        if lease.state.load(Ordering::Relaxed) == NEW {
            let one_less = |free: u64| free.checked_sub(1);
            // ORDERING: Relaxed. It only counts.
            let given = self
                .free
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            let state = if given.is_ok() { HELD } else { NONE };
            lease.state.store(state, Ordering::Relaxed);
        }
        (lease.state.load(Ordering::Relaxed) == HELD).then_some(lease)
    }

    /// A refusal of the common bucket, as this limiter tells it to a thread that holds `left`.
    fn told(&self, limited: Limited, left: u32) -> Limited {
        Limited {
            burst: self.quota().burst_size(),
            remaining: limited.remaining.saturating_add(left),
            ..limited
        }
    }
}
