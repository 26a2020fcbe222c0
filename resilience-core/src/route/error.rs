//! Why there is no node for a call, and what to do after a call failed.

use std::{fmt, time::Duration};

use super::request::Intent;

/// What to do about an error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Disposition {
    /// Ask for another node and call that: the call did not run, or may run twice.
    RetryElsewhere,
    /// The same call may succeed after this time.
    RetryLater(Duration),
    /// It will fail again.
    Never,
    /// It may have run: only the caller can tell, by looking.
    Ambiguous,
}

/// No node does for a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no node for the call: {reason}")]
#[non_exhaustive]
pub struct NoRoute {
    /// Why.
    pub reason: Reason,
    /// When it may be otherwise; `None`: never.
    pub retry_after: Option<Duration>,
}

impl NoRoute {
    /// [`RetryLater`](Disposition::RetryLater), or [`Never`](Disposition::Never) without a time.
    pub const fn disposition(&self) -> Disposition {
        match self.retry_after {
            Some(time) => Disposition::RetryLater(time),
            None => Disposition::Never,
        }
    }
}

/// Why no node does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody takes writes, or the one that did is not known to do so still.
    NoPrimary,
    /// Two primaries of one epoch.
    Conflict,
    /// No replica counts, and there is no primary.
    NoNode,
    /// No replica is as fresh as asked, and there is no primary.
    Behind,
    /// No replica will do, and no more reads may move to the primary.
    SpillSpent,
    /// The token is of another cluster.
    Foreign,
    /// The token is past the primary, which was asked since.
    Future,
    /// The write of the token is lost: a failover took a history that does not have it.
    Diverged,
    /// Nobody can tell whether the write of the token is in the history that goes on.
    UnknownHistory,
    /// The router takes no more calls.
    Draining,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoPrimary,
        Self::Conflict,
        Self::NoNode,
        Self::Behind,
        Self::SpillSpent,
        Self::Foreign,
        Self::Future,
        Self::Diverged,
        Self::UnknownHistory,
        Self::Draining,
    ];

    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPrimary => "no_primary",
            Self::Conflict => "conflict",
            Self::NoNode => "no_node",
            Self::Behind => "behind",
            Self::SpillSpent => "spill_spent",
            Self::Foreign => "foreign",
            Self::Future => "future",
            Self::Diverged => "diverged",
            Self::UnknownHistory => "unknown_history",
            Self::Draining => "draining",
        }
    }

    /// It may be otherwise later.
    pub(super) const fn passes(self) -> bool {
        matches!(
            self,
            Self::NoPrimary
                | Self::Conflict
                | Self::NoNode
                | Self::Behind
                | Self::SpillSpent
                | Self::UnknownHistory
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a call failed, as its adapter tells.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing of it was sent.
    NotSent,
    /// The node said that it does not do this: a write on a replica (25006 of PostgreSQL, 1290 of
    /// MariaDB, `READONLY` of Redis), or a run of the node other than the one that was looked at.
    Misrouted,
    /// The node refused it before it ran: starting, stopping, too many connections.
    Refused,
    /// It was sent, and no answer came: the connection broke, or time ran out.
    Lost,
    /// It ran, and the node gave an error that is about the call.
    Failed,
}

impl Failure {
    /// What to do about it.
    ///
    /// | failure | read | write | write that may run twice (`idempotent`) |
    /// |---|---|---|---|
    /// | `NotSent`, `Misrouted`, `Refused` | elsewhere | elsewhere | elsewhere |
    /// | `Lost` | elsewhere | ambiguous | elsewhere |
    /// | `Failed` | never | never | never |
    ///
    /// Elsewhere is, for a write, wherever the primary is by then.
    pub const fn disposition(self, intent: Intent, idempotent: bool) -> Disposition {
        match self {
            Self::NotSent | Self::Misrouted | Self::Refused => Disposition::RetryElsewhere,
            Self::Lost if intent.writes() && !idempotent => Disposition::Ambiguous,
            Self::Lost => Disposition::RetryElsewhere,
            Self::Failed => Disposition::Never,
        }
    }

    /// The cluster may not be what it was: look at it before the next call.
    pub const fn re_observe(self) -> bool {
        !matches!(self, Self::Failed)
    }
}
