//! A limit per key, with a hard cap on keys.
//!
//! # The table
//!
//! All memory is reserved at construction: buckets of four places, 16 bytes each, so that a bucket
//! is one cache line; four places for every three keys. A key may lie in one of two buckets that
//! its hash names. Keys are not stored, but 44 bits of their hash, beside those that chose the
//! buckets. So nothing ever grows, is rehashed or swept as a whole, and no call allocates.
//!
//! A new key takes, under the short lock of its shard (at most 64 shards), the first of:
//!
//! 1. below the cap: an empty place of its eight; the place of a recovered key (one that has its
//!    whole burst back, and so loses nothing); a place made by moving other keys to their other
//!    bucket (up to three moves, looked for in 42 buckets);
//! 2. at the cap: the place of a recovered key among its eight; else the next eight keys in turn are
//!    looked at (in at most sixteen buckets), and those of them that have recovered dropped, which
//!    makes room as in 1;
//! 3. else the place of the key nearest to its whole burst, among its eight and, if one of its eight is
//!    empty, those next eight. That one is evicted early: when it comes back it starts with its
//!    whole burst.
//!
//! So an early eviction takes the nearest to recovery of eight keys at least (of all, if fewer are
//! held), and never one that has spent more than another of them: a flood of new keys gives no spent
//! key its burst back.
//!
//! So below the cap a key that has not recovered is kept as long as there is a way to move others
//! aside. At the cap three quarters of the places are taken, or fewer; filling tables of 9 to
//! 1 000 000 keys to their cap, a way was never missing in 36 million insertions.
//!
//! # Concurrency
//!
//! A call of a key that is held takes no lock: it reads the place, and exchanges its time. It is
//! repeated only because another call of this key was admitted. It waits for the short lock only
//! when its place is being moved, evicted or brought to another quota in that moment.

mod check;
mod fills;
mod live;
mod lock;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod place;
mod slot;
mod table;

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    marker::PhantomData,
    sync::Arc,
};

pub use self::check::KeyedCost;
use self::{fills::Terms, live::LiveQuota, table::Table};
use super::{Admitted, Limited, cell, quota::Quota, ticks::Ticks};
use crate::clock::SharedClock;

/// A rate limit per key; clones are handles on the same one.
///
/// Never holds more than `max_keys` keys. A new key that finds them all taken gets the place of one
/// that has its whole burst back (it loses nothing); where it meets none, that of the one nearest to
/// it, of eight or more. A key that was evicted before it recovered starts with its whole
/// burst when it comes back: with too few keys the limiter **fails open** for those, never for keys
/// it holds. Size `max_keys` above the keys that come while a bucket fills, and watch
/// [`evicted_early`](KeyedSnapshot::evicted_early), which then stays 0. No sweep and no timer; an
/// eviction looks at a bounded number of places, whatever the size.
///
/// Below the cap no key is evicted early, unless 42 buckets that keys might move to are full, which
/// was not seen in 36 million insertions. In any interval t a key that is held is admitted at most
/// burst + rate × t.
///
/// # Keys
///
/// Keys are hashed, not stored, so they need to be neither `Eq` nor `Clone` nor `Sized`:
/// `KeyedRateLimiter<str>` takes a `&str`. Two keys with the same hash share a bucket. With the
/// default hasher (SipHash under a random key, so that nobody can choose colliding keys) a key meets
/// such another one among those held with a probability of 8 × 2^-44, about 5 × 10^-13, at any size. A
/// [hasher of one's own](Self::with_hasher) should spread keys over all 64 bits, and should be keyed
/// if strangers choose the keys. As no key is stored, keys cannot be listed.
///
/// # Memory
///
/// Reserved at construction, and never more, whatever the type of the keys: 21.4 bytes per key (up to
/// 43 below 192 keys, and 1 KiB at most below 25) and 5 to 13 KiB. `max_keys` is at least 1 and at most 2^28
/// (5.7 GB); other values are taken as the nearest of these.
///
/// # Quotas
///
/// There is one [quota](Self::set_quota) for all keys, which may be changed at any time; or the
/// caller names one [per call](Self::try_acquire_with), for example by the key's tariff. A key that
/// is met under another quota than the last time keeps its balance in proportion: whoever lacked a
/// third of the old burst lacks a third of the new one, rounded up to a nanosecond. Up to 512 fill
/// times (burst × interval) that a limiter meets are remembered exactly, further ones to 15
/// significant bits: with those a key may lose up to 1 / 16 384 of the burst in a change, and
/// two that are closer to each other than that count as equal.
///
/// # Examples
///
/// ```
/// use resilience_core::rate_limit::{KeyedRateLimiter, Quota};
///
/// let limiter = KeyedRateLimiter::<str>::new(Quota::per_minute(2)?, 100_000);
/// assert!(limiter.try_acquire("ada").is_ok());
/// assert!(limiter.try_acquire("ada").is_ok());
/// assert!(limiter.try_acquire("ada").is_err());
/// assert!(limiter.try_acquire("grace").is_ok());
/// # Ok::<(), resilience_core::rate_limit::QuotaError>(())
/// ```
pub struct KeyedRateLimiter<K: ?Sized, S = RandomState> {
    inner: Arc<Inner<S>>,
    keys: PhantomData<fn(&K)>,
}

#[derive(Debug)]
struct Inner<S> {
    hasher: S,
    core: Core,
}

/// All but the hasher: it knows keys by their hashes.
#[derive(Debug)]
struct Core {
    quota: LiveQuota,
    ticks: Ticks,
    table: Table,
}

/// The figures of a [`KeyedRateLimiter`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct KeyedSnapshot {
    /// Keys held now, recovered ones that nobody has evicted yet included.
    pub keys: usize,
    /// The most that are held.
    pub max_keys: usize,
    /// Keys evicted after they had their whole burst back, since the limiter was made.
    pub evicted_recovered: u64,
    /// Keys evicted before, since the limiter was made: each may have been admitted up to a burst
    /// more than its quota. If this rises, `max_keys` is too small.
    pub evicted_early: u64,
}

impl<K: ?Sized> KeyedRateLimiter<K> {
    /// A limiter for at most `max_keys` keys, on the default clock.
    pub fn new(quota: Quota, max_keys: usize) -> Self {
        Self::with_clock(quota, max_keys, SharedClock::default())
    }

    /// A limiter for at most `max_keys` keys, on a clock of one's own.
    pub fn with_clock(quota: Quota, max_keys: usize, clock: impl Into<SharedClock>) -> Self {
        Self::with_hasher(quota, max_keys, clock, RandomState::new())
    }
}

impl<K: ?Sized, S> KeyedRateLimiter<K, S> {
    /// A limiter for at most `max_keys` keys, on a clock and with a hasher of one's own.
    pub fn with_hasher(
        quota: Quota,
        max_keys: usize,
        clock: impl Into<SharedClock>,
        hasher: S,
    ) -> Self {
        let table = Table::new(max_keys);
        Self {
            inner: Arc::new(Inner {
                hasher,
                core: Core {
                    quota: LiveQuota::new(&table.fills.terms(quota)),
                    ticks: Ticks::new(clock.into()),
                    table,
                },
            }),
            keys: PhantomData,
        }
    }

    /// The quota of keys for which the caller names no other.
    pub fn quota(&self) -> Quota {
        self.inner.core.quota.load().quota
    }

    /// Changes the quota of all keys, at once and at no cost: each is brought to it, in proportion,
    /// when it is met next. A call that has begun may still be decided under the quota before.
    pub fn set_quota(&self, quota: Quota) {
        let core = &self.inner.core;
        core.quota.store(&core.table.fills.terms(quota));
    }

    /// Keys held now, recovered ones that nobody has evicted yet included; never above `max_keys`.
    /// Cheap: it is counted.
    pub fn len(&self) -> usize {
        self.inner.core.table.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The figures of now. Takes the short lock of each shard, one after the other.
    pub fn snapshot(&self) -> KeyedSnapshot {
        let table = &self.inner.core.table;
        let (evicted_recovered, evicted_early) = table.evicted();
        KeyedSnapshot {
            keys: table.len(),
            max_keys: table.max_keys as usize,
            evicted_recovered,
            evicted_early,
        }
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + use<K, S> {
        let weak = Arc::downgrade(&self.inner);
        move || {
            let keys = PhantomData;
            weak.upgrade().map(|inner| Self { inner, keys })
        }
    }
}

impl<K: Hash + ?Sized, S: BuildHasher> KeyedRateLimiter<K, S> {
    /// Admits one call of `key` now or refuses it, at once.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    #[inline]
    pub fn try_acquire(&self, key: &K) -> Result<Admitted, Limited> {
        self.try_acquire_n(key, 1)
    }

    /// Admits a call of `key` of cost `n` now or refuses it, all or nothing. Cost 0 is always
    /// admitted; a cost above the burst is never admitted, and is told so at once. A key that is
    /// not held is given a place only if it is admitted at a cost.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    #[inline]
    pub fn try_acquire_n(&self, key: &K, n: u32) -> Result<Admitted, Limited> {
        self.decide(key, n, &self.inner.core.quota.load())
    }

    /// As [`try_acquire_n`](Self::try_acquire_n), by this quota instead of the common one.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    #[inline]
    pub fn try_acquire_with(&self, key: &K, n: u32, quota: Quota) -> Result<Admitted, Limited> {
        self.decide(key, n, &self.inner.core.table.fills.terms(quota))
    }

    /// What [`try_acquire_n`](Self::try_acquire_n) would answer now; takes nothing and holds no
    /// place. With `n` = 0 it tells the figures of the key, whatever they are.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    pub fn peek(&self, key: &K, n: u32) -> Result<Admitted, Limited> {
        let core = &self.inner.core;
        core.peek(self.inner.hash(key), n, &core.quota.load())
    }

    /// As [`peek`](Self::peek), by this quota instead of the common one.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    pub fn peek_with(&self, key: &K, n: u32, quota: Quota) -> Result<Admitted, Limited> {
        let core = &self.inner.core;
        core.peek(self.inner.hash(key), n, &core.table.fills.terms(quota))
    }

    /// Gives `n` permits of `key` back, for a call that was admitted and then did not take place.
    ///
    /// At most up to the whole burst. A key that is not held has it already, so nothing happens.
    /// A refund un-admits: in any interval, what is admitted less what is refunded keeps the bound.
    pub fn refund(&self, key: &K, n: u32) {
        self.give_back(key, n, &self.inner.core.quota.load());
    }

    /// As [`refund`](Self::refund), by the quota that the call was admitted by.
    pub fn refund_with(&self, key: &K, n: u32, quota: Quota) {
        self.give_back(key, n, &self.inner.core.table.fills.terms(quota));
    }

    /// Forgets `key`, which has its whole burst then; whether it was held.
    pub fn reset(&self, key: &K) -> bool {
        self.inner.core.table.remove(self.inner.hash(key))
    }

    #[inline]
    fn decide(&self, key: &K, n: u32, terms: &Terms) -> Result<Admitted, Limited> {
        self.inner.core.take(self.inner.hash(key), n, terms)
    }

    fn give_back(&self, key: &K, n: u32, terms: &Terms) {
        let nanos = terms.quota.interval().saturating_mul(n.into());
        let hash = self.inner.hash(key);
        self.inner.core.give_back(hash, nanos, terms);
    }
}

impl<S: BuildHasher> Inner<S> {
    #[inline]
    fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }
}

impl Core {
    /// Never 0, which is no time in a slot.
    #[inline]
    fn now(&self) -> u64 {
        self.ticks.now() + 1
    }

    #[inline]
    fn take(&self, hash: u64, n: u32, terms: &Terms) -> Result<Admitted, Limited> {
        self.table.take(hash, n, self.now(), terms)
    }

    fn peek(&self, hash: u64, n: u32, terms: &Terms) -> Result<Admitted, Limited> {
        let now = self.now();
        let time = self.table.look(hash, now, terms);
        let time = cell::decide(time, n, now, &terms.quota)?;
        Ok(cell::admitted(time, now, &terms.quota))
    }

    fn give_back(&self, hash: u64, nanos: u64, terms: &Terms) {
        self.table.give_back(hash, nanos, self.now(), terms);
    }
}

// By hand, as `K` need not be `Clone` or `Debug`.
impl<K: ?Sized, S> Clone for KeyedRateLimiter<K, S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            keys: PhantomData,
        }
    }
}

impl<K: ?Sized, S> fmt::Debug for KeyedRateLimiter<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiter")
            .field("quota", &self.quota())
            .field("table", &self.inner.core.table)
            .finish_non_exhaustive()
    }
}
