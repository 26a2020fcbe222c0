//! What a call asks for.

use std::time::Duration;

use super::token::Token;
use crate::balance::EndpointId;

/// What a call does. It is stated, not guessed from a statement.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Intent {
    /// Reads only.
    Read,
    /// Writes.
    Write,
    /// Several statements on one connection.
    Transaction {
        /// Reads only: routed as a read.
        read_only: bool,
    },
}

impl Intent {
    /// It may write, and so goes to the primary.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Transaction { read_only: false })
    }
}

/// How fresh the answer to a read must be. It is never relaxed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Freshness<'a, P> {
    /// As it comes.
    Any,
    /// All that was acknowledged so long ago. Time runs from the last look at the primary: with
    /// less than the time between two looks no replica will do.
    MaxLag(Duration),
    /// A write, and all before it.
    AtLeast(&'a Token<P>),
    /// What the primary has.
    Primary,
}

// By hand: a position need not be `Copy`.
impl<P> Clone for Freshness<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Freshness<'_, P> {}

/// A call that looks for a node.
#[derive(Debug)]
#[must_use]
pub struct Request<'a, P> {
    pub(super) intent: Intent,
    pub(super) freshness: Freshness<'a, P>,
    pub(super) arrived: Duration,
    pub(super) tried: &'a [EndpointId],
    pub(super) preferred: Option<EndpointId>,
    pub(super) zone: Option<&'a str>,
    pub(super) probed: bool,
    pub(super) waited: bool,
    pub(super) observed: bool,
}

impl<P> Clone for Request<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Request<'_, P> {}

impl<'a, P> Request<'a, P> {
    /// A read that came at `arrived` of the router's clock, with its token if it has one.
    pub const fn read(freshness: Freshness<'a, P>, arrived: Duration) -> Self {
        Self::new(Intent::Read, freshness, arrived)
    }

    /// A write.
    pub const fn write(arrived: Duration) -> Self {
        Self::new(Intent::Write, Freshness::Primary, arrived)
    }

    /// A call of any kind. The freshness of one that writes does not matter.
    pub const fn new(intent: Intent, freshness: Freshness<'a, P>, arrived: Duration) -> Self {
        Self {
            intent,
            freshness,
            arrived,
            tried: &[],
            preferred: None,
            zone: None,
            probed: false,
            waited: false,
            observed: false,
        }
    }

    /// Nodes that a read was tried on and that are not asked again.
    pub const fn excluding(mut self, tried: &'a [EndpointId]) -> Self {
        self.tried = tried;
        self
    }

    /// The replica that a read goes to while it will do, and is neither out by lag nor ejected.
    pub const fn preferring(mut self, node: EndpointId) -> Self {
        self.preferred = Some(node);
        self
    }

    /// The zone whose replicas a read goes to while one of them will do, as by
    /// [`preferring`](Self::preferring).
    pub const fn in_zone(mut self, zone: &'a str) -> Self {
        self.zone = Some(zone);
        self
    }

    /// A [`Step::Probe`](super::Step::Probe) was taken, or is not wanted.
    pub const fn probed(mut self) -> Self {
        self.probed = true;
        self
    }

    /// A [`Step::Wait`](super::Step::Wait) was taken, or is not wanted.
    pub const fn waited(mut self) -> Self {
        self.waited = true;
        self
    }

    /// A [`Step::Observe`](super::Step::Observe) was taken, or is not wanted.
    pub const fn observed(mut self) -> Self {
        self.observed = true;
        self
    }
}
