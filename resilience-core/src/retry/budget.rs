//! How many retries and hedges there may be, for all calls together.

use std::{
    fmt,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use parking_lot::Mutex;

use super::{change::BudgetChange, pace::Pace};
use crate::{
    clock::SharedClock,
    events::{Events, Subscription},
    primitive::{AtomicU64, Ordering},
    rate_limit::{Admitted, Bucket, Quota},
    settings::{ConfigError, check, whole},
};

/// The settings of a [`RetryBudget`], checked.
///
/// Default: a fifth of the first attempts, and 10 per second.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Unchecked"))]
#[must_use]
pub struct BudgetConfig {
    share: f64,
    floor_per_second: u32,
    burst: u32,
}

#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    share: f64,
    floor_per_second: u32,
    burst: Option<u32>,
}

#[cfg(feature = "serde")]
impl Default for Unchecked {
    fn default() -> Self {
        let default = BudgetConfig::default();
        Self {
            share: default.share,
            floor_per_second: default.floor_per_second,
            burst: None,
        }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for BudgetConfig {
    type Error = ConfigError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ConfigError> {
        let config = Self::new(unchecked.share, unchecked.floor_per_second)?;
        match unchecked.burst {
            Some(burst) => config.burst(burst),
            None => Ok(config),
        }
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            share: 0.2,
            floor_per_second: 10,
            burst: 10,
        }
    }
}

/// The most retries per second, and at once, that may be asked for.
const MOST: u32 = 1_000_000;

impl BudgetConfig {
    /// `share` retries per first attempt (0 to 1), and `floor_per_second` more per second (0 to
    /// 1 000 000), so that a client with few calls may retry as well. The burst is what
    /// the floor earns in a second, and 10 at least.
    ///
    /// # Errors
    ///
    /// A setting out of its range.
    pub fn new(share: f64, floor_per_second: u32) -> Result<Self, ConfigError> {
        check("share", share, (0.0..=1.0).contains(&share), || {
            "0 to 1".into()
        })?;
        whole("floor_per_second", floor_per_second, 0, MOST)?;
        Ok(Self {
            share,
            floor_per_second,
            burst: floor_per_second.max(10),
        })
    }

    /// The most retries that are saved up, 1 to 1 000 000, whatever was earned and not used. With
    /// 1, the part of a share that does not make a whole retry is lost when one is there already.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn burst(mut self, retries: u32) -> Result<Self, ConfigError> {
        whole("burst", retries, 1, MOST)?;
        self.burst = retries;
        Ok(self)
    }

    /// Retries per first attempt.
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// Retries per second beside the share.
    pub const fn floor_per_second(&self) -> u32 {
        self.floor_per_second
    }

    /// The most retries that are saved up.
    pub const fn burst_size(&self) -> u32 {
        self.burst
    }

    /// A bucket in which one retry is one permit, filled by the floor.
    fn quota(&self) -> Quota {
        let interval = 1_000_000_000_u64.div_ceil(self.floor_per_second.max(1).into());
        Quota::unchecked(interval, self.burst)
    }

    /// What one first attempt earns, in nanoseconds of filling; rounded down, so that no sum is
    /// above the share.
    fn earns(&self, quota: &Quota) -> u64 {
        (self.share * quota.replenish_interval().as_nanos() as f64) as u64
    }
}

/// A budget for retries and hedges; clones are handles on the same one.
///
/// One per upstream, shared by all that adds load to it: a retry policy, a hedge policy, several
/// clients. Over any span of t seconds in which there are n first attempts, at most
///
/// ```text
/// burst + share × n + floor per second × t
/// ```
///
/// retries and hedges are admitted, whatever races: the balance is one word, and never below zero.
/// Attempts that succeed earn as much as those that fail, and what is earned above the burst is
/// forgotten, so a long quiet time does not buy a storm.
///
/// # Concurrency
///
/// Lock-free, and no call allocates. While nothing is being retried the balance is full, and a
/// first attempt only reads it. Changes of settings exclude each other by a short lock.
///
/// # Examples
///
/// ```
/// use resilience_core::retry::{BudgetConfig, RetryBudget};
///
/// let budget = RetryBudget::new(BudgetConfig::new(0.2, 0)?.burst(1)?);
/// assert!(budget.try_withdraw().is_ok(), "the burst");
/// assert!(budget.try_withdraw().is_err());
/// (0..5).for_each(|_| budget.deposit());
/// assert!(budget.try_withdraw().is_ok(), "a fifth of five");
/// # Ok::<(), resilience_core::retry::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RetryBudget(Arc<Inner>);

struct Inner {
    bucket: Bucket,
    pace: Pace,
    /// What one first attempt earns, under the quota in force; see `BudgetConfig::earns`.
    earns: AtomicU64,
    refused: AtomicU64,
    /// 1 from the first refusal on until half of the burst is there again, else 0.
    spent: AtomicU64,
    events: Arc<Events<BudgetChange>>,
    /// The settings in force; held by those who read or change them, not by calls.
    config: Mutex<BudgetConfig>,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the retry budget is spent")]
#[non_exhaustive]
pub struct BudgetSpent {
    /// When the floor alone will have earned the next one; `None` without a floor.
    pub earned_after: Option<Duration>,
}

/// The figures of a budget at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// The settings in force.
    pub config: BudgetConfig,
    /// Retries that would be admitted at once.
    pub balance: u32,
    /// How many were refused since the budget was made.
    pub refused: u64,
    /// Whether it is spent, and has not been asked with half of its burst there since.
    pub spent: bool,
    /// Events that did not fit the channel of a subscriber.
    pub lost_events: u64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(BudgetConfig::default())
    }
}

impl RetryBudget {
    /// A budget with its whole burst, on the default clock.
    pub fn new(config: BudgetConfig) -> Self {
        Self::with_clock(config, SharedClock::default())
    }

    /// A budget with its whole burst, on a clock of one's own.
    pub fn with_clock(config: BudgetConfig, clock: impl Into<SharedClock>) -> Self {
        let quota = config.quota();
        Self(Arc::new(Inner {
            bucket: Bucket::new(quota),
            pace: Pace::new(clock.into(), config.floor_per_second > 0),
            earns: AtomicU64::new(config.earns(&quota)),
            refused: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            events: Arc::default(),
            config: Mutex::new(config),
        }))
    }

    /// A first attempt begins: it earns its share, whatever becomes of it.
    #[inline]
    pub fn deposit(&self) {
        self.0.deposit(self.0.pace.now());
    }

    /// As [`deposit`](Self::deposit), when the budget's clock reads `now`.
    #[inline]
    pub(crate) fn deposit_at(&self, now: Duration) {
        self.0.deposit(self.0.pace.at(now));
    }

    /// Asks for one retry or hedge.
    ///
    /// # Errors
    ///
    /// [`BudgetSpent`]: do not retry.
    #[inline]
    pub fn try_withdraw(&self) -> Result<(), BudgetSpent> {
        let inner = &*self.0;
        // ORDERING: Acquire, with the Release of `refused_now`: who sees the budget spent takes from
        // what was left then, and does not tell of a recovery what it took before. Who is refused
        // while another tells a recovery is not told of; the next refusal is.
        let spent = inner.spent.load(Ordering::Acquire) != 0;
        match inner.bucket.take(1, inner.pace.now()) {
            Ok(left) => {
                if spent {
                    inner.granted_again(left);
                }
                Ok(())
            }
            Err(limited) => {
                inner.refused.fetch_add(1, Ordering::Relaxed);
                if !spent {
                    inner.refused_now();
                }
                let floor = inner.pace.runs();
                Err(BudgetSpent {
                    earned_after: limited.retry_after.filter(|_| floor),
                })
            }
        }
    }

    /// Gives one back that was not used after all.
    pub fn refund(&self) {
        let inner = &*self.0;
        // Nobody waits in line for a budget.
        let _ = inner.bucket.refund(1, inner.pace.now());
    }

    /// The settings in force.
    pub fn config(&self) -> BudgetConfig {
        *self.0.config.lock()
    }

    /// Changes the settings, for all handles at once. What is saved up keeps its proportion to the
    /// burst; calls under way earn by the old share or the new one.
    pub fn set_config(&self, config: BudgetConfig) {
        let inner = &*self.0;
        let mut held = inner.config.lock();
        if *held == config {
            return;
        }
        let quota = config.quota();
        // Less first: what is earned in between is worth less than it should be, never more.
        inner.earns.store(0, Ordering::Relaxed);
        inner.pace.stop();
        inner.bucket.set_quota(quota, || inner.pace.now());
        if config.floor_per_second > 0 {
            inner.pace.run();
        }
        inner.earns.store(config.earns(&quota), Ordering::Relaxed);
        *held = config;
        drop(held);
        inner.events.emit(&BudgetChange::Settings(config));
    }

    /// The figures of now; takes nothing.
    pub fn snapshot(&self) -> BudgetSnapshot {
        let inner = &*self.0;
        let config = inner.config.lock();
        BudgetSnapshot {
            config: *config,
            balance: inner.bucket.snapshot(inner.pace.now()).remaining,
            refused: inner.refused.load(Ordering::Relaxed),
            spent: inner.spent.load(Ordering::Relaxed) != 0,
            lost_events: inner.events.lost(),
        }
    }

    /// Calls `callback` after each [change](BudgetChange) until the subscription is dropped. It is run
    /// by the retry or hedge that was asked for, or by who changed the settings, outside of any lock;
    /// what it panics is caught.
    pub fn subscribe(
        &self,
        callback: impl Fn(&BudgetChange) + Send + Sync + 'static,
    ) -> Subscription {
        self.0.events.subscribe(callback)
    }

    /// As [`subscribe`](Self::subscribe), by a channel that holds at most `capacity` events (at
    /// least 1). It never waits: an event that finds it full is dropped and
    /// [counted](BudgetSnapshot::lost_events).
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<BudgetChange>) {
        self.0.events.channel(capacity)
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }
}

impl Inner {
    #[inline]
    fn deposit(&self, now: u64) {
        // ORDERING: Relaxed. A call beside a change of settings earns by the old ones.
        let earned = self.earns.load(Ordering::Relaxed);
        self.bucket.earn(earned, now);
    }

    #[cold]
    fn refused_now(&self) {
        if self.spent.swap(1, Ordering::Release) == 0 {
            self.events.emit(&BudgetChange::Spent);
        }
    }

    /// One was granted, and so many are left, by a budget that had been spent.
    #[cold]
    fn granted_again(&self, left: Admitted) {
        let half = left.remaining + 1 >= left.burst.div_ceil(2);
        if half && self.spent.swap(0, Ordering::Relaxed) != 0 {
            self.events.emit(&BudgetChange::Recovered);
        }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("RetryBudget")
            .field("config", &snapshot.config)
            .field("balance", &snapshot.balance)
            .field("refused", &snapshot.refused)
            .finish()
    }
}
