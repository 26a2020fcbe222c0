//! Refusals.

use std::{fmt, time::Duration};

use super::state::State;

const NAME_BYTES: usize = 63;

/// The start of a breaker's name, inline, so that a refusal is `Copy` and allocates nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ShortName {
    len: u8,
    bytes: [u8; NAME_BYTES],
}

impl ShortName {
    /// Keeps at most 63 bytes; a longer name ends in `…`.
    pub(super) fn new(name: &str) -> Self {
        let mut bytes = [0; NAME_BYTES];
        let len = if name.len() <= NAME_BYTES {
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            name.len()
        } else {
            let kept = name.floor_char_boundary(NAME_BYTES - '…'.len_utf8());
            bytes[..kept].copy_from_slice(&name.as_bytes()[..kept]);
            bytes[kept..kept + 3].copy_from_slice("…".as_bytes());
            kept + 3
        };
        Self {
            len: len as u8,
            bytes,
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The breaker is open.
    Open,
    /// The breaker is half-open and its permits are spent.
    ProbesSpent,
    /// The breaker was forced open by hand.
    ForcedOpen,
}

impl Reason {
    /// `open`, `probes_spent` or `forced_open`, as used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ProbesSpent => "probes_spent",
            Self::ForcedOpen => "forced_open",
        }
    }
}

/// The breaker refused a call; the upstream never saw it.
#[derive(Clone, Copy, Eq, PartialEq)]
#[must_use]
pub struct Rejected {
    pub(super) name: ShortName,
    pub(super) state: State,
    pub(super) reason: Reason,
    /// Nanoseconds.
    pub(super) retry_after: u64,
}

impl Rejected {
    /// The breaker's name; of a name longer than 63 bytes the start, ending in `…`.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The breaker's state when it refused.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it refused.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// When to come back: the rest of the reset timeout, or while half-open the rest of the lease,
    /// after which the answer is sure to be another. Zero when that has passed. Nobody knows when a
    /// breaker that was forced open is let go; it answers the reset timeout.
    pub fn retry_after(&self) -> Duration {
        Duration::from_nanos(self.retry_after)
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("name", &self.name())
            .field("state", &self.state)
            .field("reason", &self.reason)
            .field("retry_after", &self.retry_after())
            .finish()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, wait) = (self.name(), self.retry_after());
        match self.reason {
            Reason::Open => write!(f, "circuit breaker {name} is open, retry in {wait:?}"),
            Reason::ProbesSpent => write!(
                f,
                "circuit breaker {name} is half-open and its probes are out, retry in {wait:?}"
            ),
            Reason::ForcedOpen => write!(f, "circuit breaker {name} is forced open"),
        }
    }
}

impl std::error::Error for Rejected {}

/// Why a call through [`CircuitBreaker::call`](super::CircuitBreaker::call) failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The call ran and failed.
    #[error(transparent)]
    Inner(E),
    /// The breaker refused the call; it was never started.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}
