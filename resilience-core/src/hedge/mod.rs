//! Hedges: a second attempt beside one that takes longer than most.
//!
//! Where a few attempts take much longer than the others (one replica of many is slow, one
//! connection lost a packet), the first of two answers is seldom late: [The Tail at Scale] (Dean and
//! Barroso, 2013). The price is load, and load is what an upstream in trouble has too much of. So
//! hedges are paid for out of the same [`RetryBudget`] as retries.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | when does a hedge begin? | when an attempt has taken longer than the measured [quantile](Config::quantile); the next one as long after that one |
//! | and before enough is measured? | after the [fixed delay](Config::fixed_delay), or not at all |
//! | how many has one call? | `max_hedges` |
//! | how many have all? | retries and hedges of all that share a budget: in any span of t seconds with n first attempts at most burst + share × n + floor × t, whatever races; see [`RetryBudget`] |
//! | who earns? | every first attempt, once: inside of retries with the same budget the policy is made by [`inside_retry`](HedgePolicy::inside_retry), for the retry policy counts the call |
//! | a deadline? | a hedge that has less time than half of the attempts take is not begun, and takes nothing from the budget |
//! | a change of settings? | for the next decision of every call; one that waits for its hedge goes on waiting for as long |
//! | a hedge that was granted and not begun? | the budget has it back |
//! | who hears of it? | who [subscribed](HedgePolicy::subscribe): when the delay is learned, lost, or has doubled or halved since it was told, and what becomes of the budget |
//!
//! # What is measured
//!
//! The time of *attempts*, first ones and hedges alike, from their begin to their answer. An attempt
//! that lost, was cancelled or failed has no such time: it would have taken longer than it did. It
//! counts as that (a censored observation: [Kaplan and Meier], 1958), and not as an answer, which would
//! make a slow upstream look fast, nor as nothing at all, which would as well: the slow attempts are
//! the ones that lose.
//!
//! The estimate is the end of a bucket whose width is a sixteenth of the time: above the exact
//! quantile of what is counted, by less than 6.25 %, between 1 µs and 18 minutes. It is worked out
//! again with the first attempt in each bucket and every 16th there. When a window is over, all
//! counts are halved: of n attempts at a steady pace those of the last window make up half or more.
//!
//! # Concurrency
//!
//! Lock-free, and no call allocates. A call reads the clock when an attempt begins and when it ends;
//! measuring is one addition to the count of a bucket; reading the estimate is one load. Some hundred
//! counts are summed up when the estimate is worked out, by the caller whose attempt asked for it.
//! A clock that steps back forgets nothing early.
//!
//! [The Tail at Scale]: https://research.google/pubs/the-tail-at-scale/
//! [Kaplan and Meier]: https://doi.org/10.1080/01621459.1958.10501452

mod buckets;
mod change;
mod config;
mod latency;
#[cfg(all(test, resilience_loom))]
mod loom_tests;

use std::{
    fmt,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use arc_swap::ArcSwap;

use self::{buckets::Ended, latency::Latency};
pub use self::{
    change::Change,
    config::{Config, ConfigBuilder},
};
use crate::{
    clock::SharedClock,
    events::Events,
    primitive::{AtomicU64, Ordering},
    retry::{BudgetSpent, RetryBudget},
};
pub use crate::{events::Subscription, settings::ConfigError};

/// Decides on hedges; clones are handles on the same one.
///
/// One per kind of call: attempts that take ten times as long as others make their hedges late, or
/// those of the others early.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use resilience_core::hedge::{Config, HedgePolicy};
/// use resilience_core::retry::RetryBudget;
///
/// let config = Config::builder().fixed_delay(Duration::from_millis(50)).build()?;
/// let policy = HedgePolicy::new(config, RetryBudget::default());
///
/// let (mut call, first) = policy.begin();
/// assert_eq!(call.delay(), Some(Duration::from_millis(50)));
/// // 50 ms later there is no answer.
/// let hedge = call.hedge(None)?.begin();
/// // The hedge is answered first.
/// hedge.answered();
/// drop(first);
/// assert_eq!(policy.snapshot().won, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HedgePolicy(Arc<Inner>);

struct Inner {
    config: ArcSwap<Config>,
    budget: RetryBudget,
    /// Whether first attempts earn here.
    earns: bool,
    clock: SharedClock,
    latency: Latency,
    counts: Counts,
    /// The delay that subscribers were told last, in nanoseconds; `NEVER` for none.
    told: AtomicU64,
    events: Arc<Events<Change>>,
}

/// No delay is as long.
const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    won: AtomicU64,
    no_budget: AtomicU64,
    no_time: AtomicU64,
}

/// Why a call has no hedge.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Stop {
    /// It has had all its attempts.
    #[error("all attempts were made")]
    Attempts,
    /// The budget is spent: too many others are retried or hedged.
    #[error("the retry budget is spent")]
    Budget,
    /// Its deadline would most likely be over before the answer.
    #[error("the deadline comes before the answer")]
    Deadline,
}

impl Stop {
    /// `attempts`, `budget` or `deadline`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
        }
    }
}

/// The figures of a hedge policy at one moment. Counts are since it was made, and wrap at 2^64.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// After what time a call that begins now asks for a hedge; `None` for never.
    pub delay: Option<Duration>,
    /// The time that half of the attempts take at most; `None` while too few are measured.
    pub median: Option<Duration>,
    /// Attempts that count for the two.
    pub samples: u64,
    /// Hedges that were begun.
    pub begun: u64,
    /// Those of them that answered first.
    pub won: u64,
    /// Hedges that were not begun because the budget was spent.
    pub no_budget: u64,
    /// Hedges that were not begun because too little time was left.
    pub no_time: u64,
    /// Events that did not fit the channel of a subscriber to this policy.
    pub lost_events: u64,
}

impl HedgePolicy {
    /// A policy on the default clock. `budget` is that of the upstream, shared with all others
    /// that add to its load.
    pub fn new(config: Config, budget: RetryBudget) -> Self {
        Self::with_clock(config, budget, SharedClock::default())
    }

    /// A policy on a clock of one's own, by which attempts are timed.
    pub fn with_clock(config: Config, budget: RetryBudget, clock: impl Into<SharedClock>) -> Self {
        Self::of(config, budget, true, clock.into())
    }

    /// A policy for attempts of a [`RetryPolicy`](crate::retry::RetryPolicy) with the same budget:
    /// that one counts the calls, and this one only spends. Otherwise a retry would earn.
    pub fn inside_retry(
        config: Config,
        budget: RetryBudget,
        clock: impl Into<SharedClock>,
    ) -> Self {
        Self::of(config, budget, false, clock.into())
    }

    fn of(config: Config, budget: RetryBudget, earns: bool, clock: SharedClock) -> Self {
        Self(Arc::new(Inner {
            latency: Latency::new(clock.nanos(), &config),
            told: AtomicU64::new(word(delay(None, &config))),
            config: ArcSwap::from_pointee(config),
            budget,
            earns,
            clock,
            counts: Counts::default(),
            events: Arc::default(),
        }))
    }

    /// A call begins with its first attempt, which earns its share of the budget.
    #[inline]
    pub fn begin(&self) -> (Call, Attempt) {
        self.begin_unhedged();
        let inner = &*self.0;
        let now = inner.clock.nanos();
        let call = Call {
            policy: self.clone(),
            begun: 0,
            delay: inner.delay(now),
        };
        (call, Attempt::begin(self.clone(), now, false))
    }

    /// A call begins that must not be made twice: it earns as any other, and is not measured, for
    /// it may take longer than those that are hedged.
    #[inline]
    pub fn begin_unhedged(&self) {
        if self.0.earns {
            self.0.budget.deposit();
        }
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        **self.0.config.load()
    }

    /// Hedges that one call may have, by the settings in force.
    #[inline]
    pub fn max_hedges(&self) -> u32 {
        self.0.config.load().max_hedges()
    }

    /// Changes the settings, for all handles at once.
    ///
    /// | setting | what becomes of it |
    /// |---|---|
    /// | `quantile`, `min_samples` | hold for calls that begin after it, by what is measured already |
    /// | `fixed_delay`, `min_delay` | hold for calls that begin after it |
    /// | `max_hedges` | holds for the next hedge of any call: with fewer, one may have had its last |
    /// | `window` | holds from the next halving on, which a shorter window may bring forward |
    pub fn set_config(&self, config: Config) {
        let inner = &*self.0;
        let before = inner.config.swap(Arc::new(config));
        inner.latency.work_out(&config);
        if *before != config {
            inner.events.emit(&Change::Settings(config));
        }
        inner.tell_delay(&config);
    }

    /// The budget.
    pub fn budget(&self) -> &RetryBudget {
        &self.0.budget
    }

    /// The clock by which attempts are timed.
    pub fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        // ORDERING: Relaxed. Counts on their own; nothing is published by them.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let inner = &*self.0;
        Snapshot {
            delay: inner.delay(inner.clock.nanos()),
            median: inner.latency.median(),
            samples: inner.latency.samples(),
            begun: read(&inner.counts.begun),
            won: read(&inner.counts.won),
            no_budget: read(&inner.counts.no_budget),
            no_time: read(&inner.counts.no_time),
            lost_events: inner.events.lost(),
        }
    }

    /// Calls `callback` after each [change](Change), of the policy and of its budget, until the
    /// subscription is dropped. It is run by the attempt that ended, the hedge that was asked for, or
    /// who changed the settings, outside of any lock; what it panics is caught.
    pub fn subscribe(&self, callback: impl Fn(&Change) + Send + Sync + 'static) -> Subscription {
        let callback = Arc::new(callback);
        let own = Arc::clone(&callback);
        let budget = &self.0.budget;
        let budget = budget.subscribe(move |change| callback(&Change::Budget(*change)));
        let events = &self.0.events;
        events.subscribe(move |change| own(change)).and(budget)
    }

    /// As [`subscribe`](Self::subscribe), by a channel that holds at most `capacity` events (at
    /// least 1). It never waits: an event that finds it full is dropped and
    /// [counted](Snapshot::lost_events).
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<Change>) {
        let (send, receiver) = self.0.events.sender(capacity);
        (self.subscribe(send), receiver)
    }
}

impl Inner {
    fn delay(&self, now: u64) -> Option<Duration> {
        let config = self.config.load();
        if self.latency.forget(now, &config) {
            self.tell_delay(&config);
        }
        delay(self.latency.quantile(), &config)
    }

    fn record(&self, began: u64, ended: Ended) {
        let now = self.clock.nanos();
        let took = now.saturating_sub(began);
        let config = self.config.load();
        if self.latency.record(now, took, ended, &config) {
            self.tell_delay(&config);
        }
    }

    /// After the estimate was worked out: whether subscribers should know.
    #[cold]
    fn tell_delay(&self, config: &Config) {
        let to = word(delay(self.latency.quantile(), config));
        // ORDERING: Relaxed. One of those who see the same move tells it.
        let from = self.told.load(Ordering::Relaxed);
        let swap = |from, to| {
            let told = &self.told;
            told.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_far(from, to) && swap(from, to).is_ok() {
            let [from, to] = [from, to].map(span);
            self.events.emit(&Change::Delay { from, to });
        }
    }
}

/// After what time a hedge is asked for, by the measured quantile.
fn delay(measured: Option<Duration>, config: &Config) -> Option<Duration> {
    let delay = measured.or_else(|| config.fixed_delay())?;
    (config.max_hedges() > 0).then(|| delay.max(config.min_delay()))
}

fn word(delay: Option<Duration>) -> u64 {
    // At most a day.
    delay.map_or(NEVER, |delay| delay.as_nanos() as u64)
}

fn span(word: u64) -> Option<Duration> {
    (word != NEVER).then(|| Duration::from_nanos(word))
}

/// Twice as long, half as long, or further.
const fn is_far(from: u64, to: u64) -> bool {
    from != to && (to >= from.saturating_mul(2) || from >= to.saturating_mul(2))
}

impl fmt::Debug for HedgePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgePolicy")
            .field("config", &self.config())
            .field("budget", &self.0.budget)
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

/// One call and its hedges; made by [`HedgePolicy::begin`]. Dropping it ends the call.
#[derive(Debug)]
pub struct Call {
    policy: HedgePolicy,
    begun: u32,
    delay: Option<Duration>,
}

impl Call {
    /// How long after the begin of the last attempt to ask for a hedge; `None` for never.
    pub const fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// Hedges that were granted.
    pub const fn hedges(&self) -> u32 {
        self.begun
    }

    /// The delay is over, and there is no answer: asks for a hedge, which is taken from the budget
    /// by this. `left` is the time until the deadline of the call.
    ///
    /// # Errors
    ///
    /// Why there is none. Nothing is taken from the budget then, and this call need not ask again.
    pub fn hedge(&mut self, left: Option<Duration>) -> Result<Grant, Stop> {
        let inner = &*self.policy.0;
        if self.begun >= inner.config.load().max_hedges() {
            return Err(Stop::Attempts);
        }
        let least = inner.latency.median().unwrap_or_default();
        if left.is_some_and(|left| left.is_zero() || left < least) {
            count(&inner.counts.no_time);
            return Err(Stop::Deadline);
        }
        inner.budget.try_withdraw().map_err(|BudgetSpent { .. }| {
            count(&inner.counts.no_budget);
            Stop::Budget
        })?;
        self.begun += 1;
        Ok(Grant {
            policy: self.policy.clone(),
            begun: false,
        })
    }
}

/// A hedge that is paid for. Dropped before it [begins](Self::begin), it is given back.
#[derive(Debug)]
#[must_use = "dropping the grant gives it back to the budget"]
pub struct Grant {
    policy: HedgePolicy,
    begun: bool,
}

impl Grant {
    /// The hedge begins.
    pub fn begin(mut self) -> Attempt {
        self.begun = true;
        let inner = &*self.policy.0;
        count(&inner.counts.begun);
        Attempt::begin(self.policy.clone(), inner.clock.nanos(), true)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if !self.begun {
            self.policy.0.budget.refund();
        }
    }
}

/// One attempt under way. Dropped without an answer, it counts as one that would have taken longer
/// than until then: it lost against another, failed, or was cancelled.
#[must_use = "dropping the attempt counts it as one without an answer"]
pub struct Attempt {
    policy: HedgePolicy,
    began: u64,
    hedge: bool,
    ended: Ended,
}

impl Attempt {
    fn begin(policy: HedgePolicy, began: u64, hedge: bool) -> Self {
        Self {
            policy,
            began,
            hedge,
            ended: Ended::GivenUp,
        }
    }

    /// The upstream answered, and its answer is that of the call.
    #[inline]
    pub fn answered(mut self) {
        self.ended = Ended::Answered;
        if self.hedge {
            count(&self.policy.0.counts.won);
        }
    }
}

impl Drop for Attempt {
    #[inline]
    fn drop(&mut self) {
        self.policy.0.record(self.began, self.ended);
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("hedge", &self.hedge)
            .finish_non_exhaustive()
    }
}

fn count(counter: &AtomicU64) {
    // ORDERING: Relaxed. A count for people to read.
    counter.fetch_add(1, Ordering::Relaxed);
}
