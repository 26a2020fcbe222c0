//! Chaos: faults on purpose, to see how a stack takes them.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | when does anything happen? | only while it is [switched on](Chaos::switch_on); it begins switched off |
//! | what happens? | a call takes longer, is answered by an error, or is broken off; latency goes with both others |
//! | to which calls? | drawn by lot, each kind in the share that its rate says; of calls that the caller asks for alone |
//! | the same again? | the n-th call that is asked for has the same fate for the same seed and settings, whichever thread asks |
//! | a change of settings? | for calls that begin after it; the numbers that are drawn stay the same, so a lower rate hits some of the calls that the higher one hits, and no other |
//!
//! # Concurrency
//!
//! Lock-free, and no call allocates. Switched off, a call costs one relaxed load.

mod config;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

pub use self::config::{Abort, Config, ConfigBuilder};
pub use crate::settings::ConfigError;
use crate::{
    primitive::{AtomicU64, Ordering},
    random::{Random, mix, unit},
};

/// Draws the faults of calls; clones are handles on the same one.
///
/// # Examples
///
/// ```
/// use resilience_core::chaos::{Chaos, Config, End};
///
/// let chaos = Chaos::with_seed(Config::builder().error_rate(0.5).build()?, 7);
/// assert!(chaos.draw().is_none(), "it is switched off");
/// chaos.switch_on();
/// let drawn = (0..1_000).filter_map(|_| chaos.draw());
/// let errors = drawn.filter(|fault| fault.end == Some(End::Error)).count();
/// assert!((450..550).contains(&errors));
/// # Ok::<(), resilience_core::chaos::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Chaos(Arc<Inner>);

struct Inner {
    /// 1 while it is switched on.
    on: AtomicU64,
    config: ArcSwap<Config>,
    random: Random,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    latencies: AtomicU64,
    errors: AtomicU64,
    aborts: AtomicU64,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Fault {
    /// How much longer it takes.
    pub latency: Option<Duration>,
    /// How it ends, if not by its own answer.
    pub end: Option<End>,
}

/// How a call ends that has no answer of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// It is answered by an error.
    Error,
    /// It is broken off.
    Abort(Abort),
}

/// Counts since the handle was made, of calls while it was switched on. Each wraps at 2^64.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whether it is switched on.
    pub on: bool,
    /// Calls that might have been hit.
    pub calls: u64,
    /// Those that took longer.
    pub latencies: u64,
    /// Those that were answered by an error.
    pub errors: u64,
    /// Those that were broken off.
    pub aborts: u64,
}

impl Default for Chaos {
    /// All rates 0, switched off.
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Chaos {
    /// Switched off, with a seed that differs from one to the next.
    pub fn new(config: Config) -> Self {
        Self::of(config, Random::new())
    }

    /// Switched off; the same faults for the same seed.
    pub fn with_seed(config: Config, seed: u64) -> Self {
        Self::of(config, Random::seeded(seed))
    }

    fn of(config: Config, random: Random) -> Self {
        Self(Arc::new(Inner {
            on: AtomicU64::new(0),
            config: ArcSwap::from_pointee(config),
            random,
            counts: Counts::default(),
        }))
    }

    /// What happens to the next call; `None` while it is switched off, and for a call that is
    /// spared.
    #[inline]
    pub fn draw(&self) -> Option<Fault> {
        if self.is_on() { self.0.draw() } else { None }
    }

    /// Whether it is switched on.
    #[inline]
    pub fn is_on(&self) -> bool {
        // ORDERING: Relaxed. A call beside the switch goes by either state; nothing is published.
        self.0.on.load(Ordering::Relaxed) != 0
    }

    /// Faults from now on, for all handles at once.
    pub fn switch_on(&self) {
        self.0.on.store(1, Ordering::Relaxed);
    }

    /// No more faults from now on. Calls that were hit before go on as drawn: one that never
    /// answers is ended by whoever drops it.
    pub fn switch_off(&self) {
        self.0.on.store(0, Ordering::Relaxed);
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        **self.0.config.load()
    }

    /// Changes the settings, for calls that begin after it. Does not switch it on.
    pub fn set_config(&self, config: Config) {
        self.0.config.store(Arc::new(config));
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
        let counts = &self.0.counts;
        Snapshot {
            on: self.is_on(),
            calls: read(&counts.calls),
            latencies: read(&counts.latencies),
            errors: read(&counts.errors),
            aborts: read(&counts.aborts),
        }
    }
}

impl Inner {
    /// One number per call, whatever the settings: the next call's does not depend on them.
    #[cold]
    fn draw(&self) -> Option<Fault> {
        let config = **self.config.load();
        let bits = self.random.bits();
        let part = |kind: u64| unit(mix(bits ^ kind));
        let fault = Fault {
            latency: (part(1) < config.latency_rate()).then(|| latency(&config, part(2))),
            end: end(&config, part(3)),
        };
        count(&self.counts.calls);
        if fault.latency.is_some() {
            count(&self.counts.latencies);
        }
        match fault.end {
            Some(End::Error) => count(&self.counts.errors),
            Some(End::Abort(_)) => count(&self.counts.aborts),
            None if fault.latency.is_none() => return None,
            None => {}
        }
        Some(fault)
    }
}

fn latency(config: &Config, part: f64) -> Duration {
    let least = config.latency();
    let most = config.latency_max().unwrap_or(least);
    least + most.saturating_sub(least).mul_f64(part)
}

/// Errors from the lower end, aborts from the upper one: a rate that changes moves only its own.
fn end(config: &Config, part: f64) -> Option<End> {
    if part < config.error_rate() {
        Some(End::Error)
    } else if part >= 1.0 - config.abort_rate() {
        Some(End::Abort(config.abort()))
    } else {
        None
    }
}

fn count(counter: &AtomicU64) {
    // ORDERING: Relaxed, as above.
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("config", &self.config())
            .field("snapshot", &self.snapshot())
            .finish()
    }
}
