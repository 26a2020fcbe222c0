//! Whether one call is tried again, and when.

use std::{
    fmt,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{Backoff, BudgetSnapshot, BudgetSpent, Change, RetryBudget};
use crate::{
    clock::{Clock, SharedClock},
    events::{Events, Subscription},
    primitive::{AtomicU64, Ordering},
    random::Random,
    settings::{ConfigError, LONGEST, span, whole},
};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: 3 attempts in all, [`Backoff::default`], an upstream may ask for 30 s at most.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    max_attempts: u32,
    backoff: Backoff,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    max_retry_after: Duration,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::default(),
            max_retry_after: Duration::from_secs(30),
        }
    }
}

impl ConfigBuilder {
    /// Attempts in all, the first included; 1 (never again) to 100.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How long to wait between attempts.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The longest that an upstream may ask to wait (`Retry-After`); 0 to 1 day. A call whose
    /// upstream asks for longer is not tried again: coming back earlier is what it asked not to
    /// do.
    pub const fn max_retry_after(mut self, longest: Duration) -> Self {
        self.max_retry_after = longest;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// The first setting out of its range, with its value and what is allowed.
    pub fn build(self) -> Result<Config, ConfigError> {
        Config::try_from(self)
    }
}

/// Checked settings of a [`RetryPolicy`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        whole("max_attempts", settings.max_attempts, 1, 100)?;
        span("max_retry_after", settings.max_retry_after, Duration::ZERO)?;
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Attempts in all, the first included.
    pub const fn max_attempts(&self) -> u32 {
        self.settings.max_attempts
    }

    /// How long to wait between attempts.
    pub const fn backoff(&self) -> Backoff {
        self.settings.backoff
    }

    /// The longest that an upstream may ask to wait.
    pub const fn max_retry_after(&self) -> Duration {
        self.settings.max_retry_after
    }
}

/// Decides on retries; clones are handles on the same one.
///
/// # Concurrency
///
/// Calls take no lock. A call under way goes on by the settings it began with.
///
/// # Examples
///
/// ```
/// use resilience_core::retry::{RetryPolicy, Stop};
///
/// let policy = RetryPolicy::default();
/// let mut call = policy.begin();
/// assert!(call.retry(None, None).is_ok(), "a second attempt, after this wait");
/// assert!(call.retry(None, None).is_ok(), "a third one");
/// assert_eq!(call.retry(None, None), Err(Stop::Attempts));
/// ```
#[derive(Clone)]
pub struct RetryPolicy(Arc<Inner>);

struct Inner {
    config: ArcSwap<Config>,
    budget: RetryBudget,
    clock: SharedClock,
    random: Random,
    counts: Counts,
    events: Arc<Events<Change>>,
}

/// Written only by calls that failed.
#[derive(Default)]
struct Counts {
    retries: AtomicU64,
    attempts: AtomicU64,
    budget: AtomicU64,
    deadline: AtomicU64,
    retry_after: AtomicU64,
}

/// The figures of a policy at one moment. Each count wraps at 2^64.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Further attempts that were granted since the policy was made.
    pub retries: u64,
    /// Failed attempts that were not tried again.
    pub stopped: Stopped,
    /// The budget, with all others that share it.
    pub budget: BudgetSnapshot,
    /// Events that did not fit the channel of a subscriber to this policy.
    pub lost_events: u64,
}

/// Failed attempts that were not tried again since a policy was made, by [`Stop`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stopped {
    /// The call had had all its attempts.
    pub attempts: u64,
    /// The budget was spent.
    pub budget: u64,
    /// The deadline would have been over.
    pub deadline: u64,
    /// The upstream asked for too long a wait.
    pub retry_after: u64,
}

/// Why a call is not tried again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Stop {
    /// It has had all its attempts.
    Attempts,
    /// The budget is spent: too many others are being retried.
    Budget,
    /// Its deadline would be over before the next attempt.
    Deadline,
    /// The upstream asked for a longer wait than is allowed.
    RetryAfter,
}

impl Stop {
    /// `attempts`, `budget`, `deadline` or `retry_after`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::RetryAfter => "retry_after",
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "all attempts were made",
            Self::Budget => "the retry budget is spent",
            Self::Deadline => "the deadline comes before the next attempt",
            Self::RetryAfter => "the upstream asked for a longer wait than is allowed",
        })
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new(Config::default(), RetryBudget::default())
    }
}

impl RetryPolicy {
    /// A policy on the default clock. `budget` is that of the upstream, shared with all others
    /// that add to its load.
    pub fn new(config: Config, budget: RetryBudget) -> Self {
        Self::with_clock(config, budget, SharedClock::default())
    }

    /// A policy on a clock of one's own, by which deadlines are counted.
    pub fn with_clock(config: Config, budget: RetryBudget, clock: impl Into<SharedClock>) -> Self {
        Self::of(config, budget, clock.into(), Random::new())
    }

    /// As [`with_clock`](Self::with_clock), with the same jitter for the same seed. For
    /// simulations.
    #[cfg(feature = "test-util")]
    pub fn with_seed(
        config: Config,
        budget: RetryBudget,
        clock: impl Into<SharedClock>,
        seed: u64,
    ) -> Self {
        Self::of(config, budget, clock.into(), Random::seeded(seed))
    }

    fn of(config: Config, budget: RetryBudget, clock: SharedClock, random: Random) -> Self {
        Self(Arc::new(Inner {
            config: ArcSwap::from_pointee(config),
            budget,
            clock,
            random,
            counts: Counts::default(),
            events: Arc::default(),
        }))
    }

    /// A call begins with its first attempt, which earns its share of the budget.
    #[inline]
    pub fn begin(&self) -> Attempts {
        self.0.budget.deposit();
        Attempts {
            policy: self.clone(),
            made: 1,
            wait: Duration::ZERO,
        }
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        **self.0.config.load()
    }

    /// Attempts in all, the first included, by the settings in force.
    #[inline]
    pub fn max_attempts(&self) -> u32 {
        self.0.config.load().max_attempts()
    }

    /// Changes the settings, for all handles at once. A decision that is taken after it is taken by
    /// the new ones: with fewer attempts a call under way may have had its last.
    pub fn set_config(&self, config: Config) {
        if *self.0.config.swap(Arc::new(config)) != config {
            self.0.events.emit(&Change::Settings(config));
        }
    }

    /// The budget.
    pub fn budget(&self) -> &RetryBudget {
        &self.0.budget
    }

    /// The clock by which deadlines are counted.
    pub fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// The figures of now; takes nothing.
    pub fn snapshot(&self) -> Snapshot {
        let counts = &self.0.counts;
        // ORDERING: Relaxed. Counts on their own; nothing is published by them.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            retries: read(&counts.retries),
            stopped: Stopped {
                attempts: read(&counts.attempts),
                budget: read(&counts.budget),
                deadline: read(&counts.deadline),
                retry_after: read(&counts.retry_after),
            },
            budget: self.0.budget.snapshot(),
            lost_events: self.0.events.lost(),
        }
    }

    /// Calls `callback` after each [change](Change), of the policy and of its budget, until the
    /// subscription is dropped. It is run by the retry that was asked for, or by who changed the
    /// settings, outside of any lock; what it panics is caught.
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

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("config", &self.config())
            .field("budget", &self.0.budget)
            .finish_non_exhaustive()
    }
}

/// The attempts of one call; made by [`RetryPolicy::begin`]. Dropping it ends the call.
#[derive(Clone, Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    made: u32,
    wait: Duration,
}

impl Attempts {
    /// Attempts made, or begun.
    pub const fn made(&self) -> u32 {
        self.made
    }

    /// The clock by which deadlines are counted.
    pub fn clock(&self) -> &SharedClock {
        self.policy.clock()
    }

    /// The last attempt failed in a way that another may mend. Answers how long to wait before
    /// the next, which is taken from the budget by this.
    ///
    /// `asked` is what the upstream asked for (`Retry-After`): the wait is that and the backoff on
    /// top, so that those who were sent away together do not come back together. `deadline`, by
    /// the policy's clock, must be later than the end of the wait.
    ///
    /// # Errors
    ///
    /// Why not to. Nothing is taken from the budget then, and every later answer is the same kind
    /// or [`Stop::Attempts`].
    pub fn retry(
        &mut self,
        asked: Option<Duration>,
        deadline: Option<Duration>,
    ) -> Result<Duration, Stop> {
        let decided = self.decide(asked, deadline);
        let counts = &self.policy.0.counts;
        let count = match decided {
            Ok(_) => &counts.retries,
            Err(Stop::Attempts) => &counts.attempts,
            Err(Stop::Budget) => &counts.budget,
            Err(Stop::Deadline) => &counts.deadline,
            Err(Stop::RetryAfter) => &counts.retry_after,
        };
        // ORDERING: Relaxed. A count for people to read.
        count.fetch_add(1, Ordering::Relaxed);
        decided
    }

    fn decide(
        &mut self,
        asked: Option<Duration>,
        deadline: Option<Duration>,
    ) -> Result<Duration, Stop> {
        let inner = &*self.policy.0;
        let config = **inner.config.load();
        if self.made >= config.max_attempts() {
            return Err(Stop::Attempts);
        }
        let asked = asked.unwrap_or_default();
        if asked > config.max_retry_after() {
            return Err(Stop::RetryAfter);
        }
        let random = inner.random.bits();
        let backoff = config.backoff().wait(self.made, self.wait, random);
        // At most two days.
        let wait = asked.min(LONGEST) + backoff;
        if deadline.is_some_and(|end| inner.clock.now().saturating_add(wait) >= end) {
            return Err(Stop::Deadline);
        }
        inner
            .budget
            .try_withdraw()
            .map_err(|BudgetSpent { .. }| Stop::Budget)?;
        self.made += 1;
        self.wait = backoff;
        Ok(wait)
    }
}
