//! How long an answer may be used again, and what for.
//!
//! Here are the rules, as functions of time; the entries themselves are kept by the layer `cache` of
//! `resilience-tower`.
//!
//! ```text
//! stored ────────── fresh ──────────┬─ stale while revalidate ─┬─ stale if error ──┬─ expired
//!        served                     │ served, and renewed      │ served only when  │ of no use
//!                                   │ beside                   │ the call fails    │
//! stored ────────── negative ───────┴─ expired
//! ```
//!
//! Both stale times count from the end of freshness, as in RFC 5861, so that the longer of the two
//! says how long an entry is of use. A negative answer (there is no such thing) has neither.
//!
//! ```
//! use std::time::Duration;
//! use resilience_core::cache::{Config, Freshness, Stamp, Terms};
//!
//! let config = Config::builder().stale_if_error(Duration::from_secs(60)).build()?;
//! let terms = Terms::fresh_for(Duration::from_secs(10));
//! let stamp = Stamp::new(terms, &config, Duration::ZERO);
//! assert_eq!(stamp.at(Duration::from_secs(9)), Freshness::Fresh);
//! assert_eq!(stamp.at(Duration::from_secs(10)), Freshness::StaleIfError);
//! assert_eq!(stamp.at(Duration::from_secs(70)), Freshness::Expired);
//! # Ok::<(), resilience_core::cache::ConfigError>(())
//! ```

mod config;

use std::time::Duration;

pub use self::config::{Config, ConfigBuilder};
pub use crate::settings::ConfigError;
use crate::{breaker::Outcome, settings::LONGEST};

/// For how long one answer is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Terms {
    fresh: Duration,
    while_revalidate: Option<Duration>,
    if_error: Option<Duration>,
    negative: bool,
}

impl Terms {
    /// Fresh for so long; stale as the settings say.
    pub const fn fresh_for(time: Duration) -> Self {
        Self {
            fresh: time,
            while_revalidate: None,
            if_error: None,
            negative: false,
        }
    }

    /// A negative answer, for so long; never stale.
    pub const fn negative_for(time: Duration) -> Self {
        Self {
            negative: true,
            ..Self::fresh_for(time)
        }
    }

    /// Whether it is a negative answer.
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// Another time for which the answer is served while it is renewed; zero for never. Means
    /// nothing to a negative one.
    pub const fn stale_while_revalidate(mut self, longest: Duration) -> Self {
        self.while_revalidate = Some(longest);
        self
    }

    /// Another time for which the answer is served when the upstream fails; zero for never. Means
    /// nothing to a negative one.
    pub const fn stale_if_error(mut self, longest: Duration) -> Self {
        self.if_error = Some(longest);
        self
    }
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Freshness {
    /// It is the answer.
    Fresh,
    /// It is the answer, and says that there is none.
    Negative,
    /// It is the answer, and is to be renewed.
    StaleWhileRevalidate,
    /// The upstream is asked, and only if it fails this is the answer.
    StaleIfError,
    /// Nothing.
    Expired,
}

/// The points in time of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    fresh_until: Duration,
    revalidate_until: Duration,
    error_until: Duration,
    negative: bool,
}

impl Stamp {
    /// Those of an answer that came at `now`. Times that the clock cannot hold end with the clock.
    pub fn new(terms: Terms, config: &Config, now: Duration) -> Self {
        let fresh_until = now.saturating_add(terms.fresh);
        let until = |own: Option<Duration>, usual: Option<Duration>| {
            if terms.negative {
                return fresh_until;
            }
            fresh_until.saturating_add(own.or(usual).unwrap_or_default())
        };
        Self {
            fresh_until,
            revalidate_until: until(terms.while_revalidate, config.stale_while_revalidate()),
            error_until: until(terms.if_error, config.stale_if_error()),
            negative: terms.negative,
        }
    }

    /// What the entry is good for at `now`. When the clock steps back, for what it was good then.
    pub fn at(&self, now: Duration) -> Freshness {
        if now < self.fresh_until {
            if self.negative {
                Freshness::Negative
            } else {
                Freshness::Fresh
            }
        } else if now < self.revalidate_until {
            Freshness::StaleWhileRevalidate
        } else if now < self.error_until {
            Freshness::StaleIfError
        } else {
            Freshness::Expired
        }
    }

    /// Whether the entry may stand in for an upstream that failed at `now`.
    pub fn stands_in(&self, now: Duration) -> bool {
        !self.negative && now < self.revalidate_until.max(self.error_until)
    }

    /// When it is not fresh any more.
    pub const fn fresh_until(&self) -> Duration {
        self.fresh_until
    }
}

impl Config {
    /// Until when an entry is not tried to be renewed, after a call at `now` that ended like this;
    /// `None` when it was a success.
    ///
    /// An upstream that asks to stay away is obeyed, for a day at most.
    pub fn pause_after(&self, outcome: Outcome, now: Duration) -> Option<Duration> {
        let asked = match outcome {
            Outcome::Success => return None,
            Outcome::Overloaded { retry_after } => retry_after.unwrap_or_default().min(LONGEST),
            // What says nothing of the upstream brings nothing new either.
            _ => Duration::ZERO,
        };
        Some(now.saturating_add(asked.max(self.revalidation_pause())))
    }
}
