use std::sync::Arc;

#[cfg(feature = "metrics")]
use resilience_core::clock::SharedClock;

#[cfg(feature = "metrics")]
use super::meters::Meters;

/// What a layer looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// A call with all that the policies within make of it.
    Call,
    /// One attempt of it.
    Attempt,
}

/// What the services of one layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scope: Scope,
    pub(super) name: Arc<str>,
    #[cfg(feature = "metrics")]
    pub(super) clock: SharedClock,
    #[cfg(feature = "metrics")]
    pub(super) meters: Meters,
}
