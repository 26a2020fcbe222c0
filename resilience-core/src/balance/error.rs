//! Why a pick is refused.

use std::fmt;

use super::endpoint::Set;

/// No endpoint takes calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no endpoint takes calls: {reason} ({endpoints} are known)")]
#[non_exhaustive]
pub struct NoEndpoint {
    /// Endpoints in the set.
    pub endpoints: usize,
    /// Why none of them is picked.
    pub reason: Reason,
}

/// Why no endpoint takes calls.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// There are none.
    Empty,
    /// All have weight 0.
    Draining,
    /// All with a weight are unhealthy, and such are refused.
    Unhealthy,
}

impl Reason {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<T> Set<T> {
    /// Why nobody was picked.
    pub(super) fn nobody(&self) -> NoEndpoint {
        let mut members = self.plan.members.iter();
        NoEndpoint {
            endpoints: self.nodes.len(),
            reason: match members.any(|member| member.weight > 0) {
                true => Reason::Unhealthy,
                false if self.nodes.is_empty() => Reason::Empty,
                false => Reason::Draining,
            },
        }
    }
}
