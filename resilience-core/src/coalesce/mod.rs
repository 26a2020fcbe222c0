//! Calls for the same key share one answer: who may join, and who may not.
//!
//! Here are the rules; the calls themselves are shared by the layer `coalesce` of
//! `resilience-tower`.
//!
//! | question | answer |
//! |---|---|
//! | nobody calls for this key? | the caller begins ([`Join::Begin`]), unless as many keys as may have a call under way |
//! | somebody does? | the caller follows ([`Join::Follow`]), unless as many as may do already |
//! | that call began long ago? | the caller begins another one; those who follow the old one go on to do so |
//!
//! ```
//! use std::time::Duration;
//! use resilience_core::coalesce::{Config, Join, Underway};
//!
//! let config = Config::builder().max_followers(1).build()?;
//! let call = Underway { began: Duration::ZERO, followers: 0 };
//! assert_eq!(config.join(Some(call), 1, Duration::from_secs(1)), Ok(Join::Follow));
//! assert_eq!(config.join(Some(call), 1, Duration::from_secs(31)), Ok(Join::Begin));
//! # Ok::<(), resilience_core::coalesce::ConfigError>(())
//! ```

mod config;

use std::{fmt, time::Duration};

pub use self::config::{Config, ConfigBuilder};
pub use crate::settings::ConfigError;

/// A call that others may join.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Underway {
    /// When it began.
    pub began: Duration,
    /// How many wait for its answer beside the one that began it.
    pub followers: usize,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Join {
    /// It goes to the upstream, and others may join it.
    Begin,
    /// It waits for the answer of the one under way.
    Follow,
}

/// A call can neither begin nor follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason} ({limit} may)")]
#[non_exhaustive]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// How many may.
    pub limit: u32,
}

/// Why a call can neither begin nor follow.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// As many keys as may have a call under way.
    Keys,
    /// As many calls as may wait for the one of this key.
    Followers,
}

impl Reason {
    /// `keys` or `followers`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Followers => "followers",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "as many keys as may have a call under way",
            Self::Followers => "as many calls as may wait for the answer of one",
        })
    }
}

impl Config {
    /// Whether a call at `now` begins or follows, where `underway` is the call of its key, and `keys`
    /// have one.
    ///
    /// A clock that steps back makes calls younger: they are joined for longer.
    ///
    /// # Errors
    ///
    /// It can neither: there are too many.
    pub fn join(
        &self,
        underway: Option<Underway>,
        keys: usize,
        now: Duration,
    ) -> Result<Join, Refused> {
        let refuse = |reason, limit| Err(Refused { reason, limit });
        match underway {
            // Takes the place of the old one, so that there are no more keys than before.
            Some(call) if self.is_too_old(call.began, now) => Ok(Join::Begin),
            Some(call) if call.followers >= self.max_followers() as usize => {
                refuse(Reason::Followers, self.max_followers())
            }
            Some(_) => Ok(Join::Follow),
            None if keys >= self.max_keys() as usize => refuse(Reason::Keys, self.max_keys()),
            None => Ok(Join::Begin),
        }
    }

    /// Whether a call that began then is not joined any more.
    pub fn is_too_old(&self, began: Duration, now: Duration) -> bool {
        self.join_within()
            .is_some_and(|longest| now.saturating_sub(began) >= longest)
    }
}
