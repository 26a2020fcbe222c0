//! What was decided on a call: by which policy, why, and when to try again.
//!
//! One record for all policies. A refusal has it in its error ([`Decided`]), and a response made of
//! a refusal (`into_response` and `into_grpc_response` of layers and stacks) in its extensions, where
//! `Admission::of` (feature `http`) finds it. An answer has it there when a `stack` (feature of that
//! name) was told to.
//!
//! ```
//! use resilience_core::breaker::CircuitBreaker;
//! use resilience_core::breaker::Mode;
//! use resilience_tower::admission::{Admission, Decision, Policy};
//!
//! let breaker = CircuitBreaker::new("payments");
//! breaker.set_mode(Mode::ForcedOpen);
//! let refused = Admission::from(breaker.try_acquire().unwrap_err());
//! assert_eq!(refused.policy(), Some(Policy::Breaker));
//! assert_eq!(refused.decision(), Decision::Refused);
//! assert_eq!(refused.reason(), "forced_open");
//! ```

mod classify;
mod decided;
#[cfg(feature = "http")]
mod extensions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use resilience_core::breaker::Rejected;
use resilience_core::deadline::TimeUp;
use resilience_core::load_shed::Shed;
use resilience_core::rate_limit::{Limited, wait::WaitRefused};
use resilience_core::{adaptive, bulkhead, coalesce};

pub use self::classify::IgnoreRefused;
#[cfg(feature = "http")]
pub use self::classify::IgnoreRefusedResponse;
#[cfg(feature = "stack")]
pub(crate) use self::classify::about_the_upstream;
pub use self::decided::Decided;

/// A policy.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Policy {
    /// What matters least is refused first.
    LoadShed,
    /// So many calls in a time, whoever makes them.
    RateLimit,
    /// The time of the call in all.
    Deadline,
    /// More attempts.
    Retry,
    /// Another attempt beside a slow one.
    Hedge,
    /// No calls to an upstream that fails.
    Breaker,
    /// So many calls at once.
    Bulkhead,
    /// As many calls at once as the upstream bears.
    Adaptive,
    /// So many attempts in a time, as the upstream allows.
    UpstreamQuota,
    /// The time of one attempt.
    AttemptTimeout,
    /// Calls for one key share one call.
    Coalesce,
    /// One of several endpoints.
    Balance,
    /// The right node of a replicated store.
    ReadWrite,
}

impl Policy {
    /// The name in descriptions and metric labels, such as `attempt_timeout`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoadShed => "load_shed",
            Self::RateLimit => "rate_limit",
            Self::Deadline => "deadline",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Breaker => "breaker",
            Self::Bulkhead => "bulkhead",
            Self::Adaptive => "adaptive",
            Self::UpstreamQuota => "upstream_quota",
            Self::AttemptTimeout => "attempt_timeout",
            Self::Coalesce => "coalesce",
            Self::Balance => "balance",
            Self::ReadWrite => "read_write",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// All policies let the call pass. Whether it went well is not theirs to say.
    Admitted,
    /// The call was not made, or not made again.
    Refused,
    /// The call was made, and given up when its time was up.
    TimeUp,
}

impl Decision {
    /// `admitted`, `refused` or `time_up`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::TimeUp => "time_up",
        }
    }
}

/// Which policy decided on a call, why, and when to try again.
///
/// Cheap to clone: the name is shared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admission {
    name: Option<Arc<str>>,
    retry_after: Option<Duration>,
    reason: &'static str,
    attempts: u32,
    policy: Option<Policy>,
    decision: Decision,
}

impl Admission {
    /// The policy that decided; `None` when all let the call pass.
    pub const fn policy(&self) -> Option<Policy> {
        self.policy
    }

    /// What was decided.
    pub const fn decision(&self) -> Decision {
        self.decision
    }

    /// The policy's word for why: `open`, `full`, `limited`, `attempt` and so on, as used in metric
    /// labels; `admitted` when all let the call pass.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// After what time another answer is likely; `None` when that is not known, or waiting is in
    /// vain.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// How many attempts had begun, one that was refused included. 0 when the call was refused before
    /// its first; 1 for a policy by itself, outside of a stack.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The stack's name; `None` for a policy by itself, outside of a stack.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    const fn new(
        policy: Option<Policy>,
        decision: Decision,
        reason: &'static str,
        retry_after: Option<Duration>,
    ) -> Self {
        Self {
            name: None,
            retry_after,
            reason,
            attempts: 1,
            policy,
            decision,
        }
    }
}

#[cfg(feature = "stack")]
impl Admission {
    pub(crate) fn admitted(name: Arc<str>, attempts: u32) -> Self {
        let mut admitted = Self::new(None, Decision::Admitted, "admitted", None);
        (admitted.name, admitted.attempts) = (Some(name), attempts);
        admitted
    }

    /// The same, of a policy at this place, after so many attempts.
    pub(crate) const fn at(mut self, policy: Policy, attempts: u32) -> Self {
        self.policy = Some(policy);
        self.after(attempts)
    }

    /// The same, after so many attempts.
    pub(crate) const fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn named(mut self, name: &Arc<str>) -> Self {
        self.name = Some(Arc::clone(name));
        self
    }
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            write!(f, "{name}: ")?;
        }
        let (Some(policy), reason) = (self.policy, self.reason) else {
            return f.write_str(self.reason);
        };
        match self.decision {
            Decision::TimeUp => write!(f, "no answer in time ({policy}: {reason})")?,
            _ => write!(f, "refused ({policy}: {reason})")?,
        }
        match self.retry_after {
            Some(wait) => write!(f, ", retry in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl From<Rejected> for Admission {
    fn from(rejected: Rejected) -> Self {
        let reason = rejected.reason().as_str();
        let wait = Some(rejected.retry_after());
        Self::new(Some(Policy::Breaker), Decision::Refused, reason, wait)
    }
}

impl From<TimeUp> for Admission {
    /// Of the attempt for its own limit, else of the deadline.
    fn from(up: TimeUp) -> Self {
        let (policy, decision) = match up {
            TimeUp::Attempt { .. } => (Policy::AttemptTimeout, Decision::TimeUp),
            TimeUp::Refused { .. } => (Policy::Deadline, Decision::Refused),
            _ => (Policy::Deadline, Decision::TimeUp),
        };
        Self::new(Some(policy), decision, up.as_str(), None)
    }
}

impl From<Limited> for Admission {
    /// `limited`, or `never` for a cost above the burst.
    fn from(limited: Limited) -> Self {
        let wait = limited.retry_after;
        let reason = if wait.is_some() { "limited" } else { "never" };
        Self::new(Some(Policy::RateLimit), Decision::Refused, reason, wait)
    }
}

impl From<WaitRefused> for Admission {
    fn from(refused: WaitRefused) -> Self {
        let (reason, wait) = (refused.reason.as_str(), refused.limited.retry_after);
        Self::new(Some(Policy::RateLimit), Decision::Refused, reason, wait)
    }
}

#[cfg(feature = "rate-limit")]
impl From<crate::rate_limit::NoKey> for Admission {
    /// `no_key`.
    fn from(_: crate::rate_limit::NoKey) -> Self {
        Self::new(Some(Policy::RateLimit), Decision::Refused, "no_key", None)
    }
}

#[cfg(feature = "rate-limit")]
impl From<crate::rate_limit::Outage> for Admission {
    /// `outage`.
    fn from(outage: crate::rate_limit::Outage) -> Self {
        let wait = Some(outage.retry_after);
        Self::new(Some(Policy::RateLimit), Decision::Refused, "outage", wait)
    }
}

#[cfg(feature = "rate-limit")]
impl From<crate::rate_limit::Refusal> for Admission {
    /// As of its reason.
    fn from(refusal: crate::rate_limit::Refusal) -> Self {
        use crate::rate_limit::{NoKey, Reason};
        match refusal.reason {
            Reason::Limited { limited, .. } => limited.into(),
            Reason::NoKey => NoKey.into(),
            Reason::Wait { refused, .. } => refused.into(),
            Reason::Outage(outage) => outage.into(),
        }
    }
}

impl From<bulkhead::Refused> for Admission {
    fn from(refused: bulkhead::Refused) -> Self {
        let reason = refused.reason.as_str();
        Self::new(Some(Policy::Bulkhead), Decision::Refused, reason, None)
    }
}

impl From<adaptive::Refused> for Admission {
    /// `full`.
    fn from(_: adaptive::Refused) -> Self {
        Self::new(Some(Policy::Adaptive), Decision::Refused, "full", None)
    }
}

impl From<Shed> for Admission {
    fn from(shed: Shed) -> Self {
        let wait = Some(shed.retry_after());
        Self::new(
            Some(Policy::LoadShed),
            Decision::Refused,
            shed.reason(),
            wait,
        )
    }
}

impl From<coalesce::Refused> for Admission {
    fn from(refused: coalesce::Refused) -> Self {
        let reason = refused.reason.as_str();
        Self::new(Some(Policy::Coalesce), Decision::Refused, reason, None)
    }
}

#[cfg(feature = "balance")]
impl From<crate::balance::Unavailable> for Admission {
    fn from(unavailable: crate::balance::Unavailable) -> Self {
        let reason = unavailable.reason().as_str();
        Self::new(Some(Policy::Balance), Decision::Refused, reason, None)
    }
}

#[cfg(feature = "read-write")]
impl From<crate::read_write::Refusal> for Admission {
    /// As [`Refusal::as_str`](crate::read_write::Refusal::as_str).
    fn from(refusal: crate::read_write::Refusal) -> Self {
        use crate::read_write::Refusal;
        let decision = match refusal {
            Refusal::OutcomeUnknown { .. } => Decision::TimeUp,
            _ => Decision::Refused,
        };
        let (reason, wait) = (refusal.as_str(), refusal.retry_after());
        Self::new(Some(Policy::ReadWrite), decision, reason, wait)
    }
}
