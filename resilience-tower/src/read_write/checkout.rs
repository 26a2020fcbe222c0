//! What a call asks for, in a form that it can keep.

use std::{sync::Arc, time::Duration};

use resilience_core::balance::EndpointId;

use super::{Freshness, Intent, Token};

/// How fresh the answer to a read must be. It is never relaxed.
///
/// The owned form of [`Freshness`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReadFreshness<P> {
    /// As it comes.
    Any,
    /// All that was acknowledged so long ago.
    MaxLag(Duration),
    /// A write, and all before it.
    AtLeast(Token<P>),
    /// The same, of a token that others have too.
    Shared(Arc<Token<P>>),
    /// What the primary has.
    Primary,
}

impl<P> From<Token<P>> for ReadFreshness<P> {
    fn from(token: Token<P>) -> Self {
        Self::AtLeast(token)
    }
}

impl<P> From<Arc<Token<P>>> for ReadFreshness<P> {
    fn from(token: Arc<Token<P>>) -> Self {
        Self::Shared(token)
    }
}

/// A call that looks for a node.
#[derive(Clone, Debug)]
#[must_use]
pub struct Checkout<P> {
    pub(super) intent: Intent,
    freshness: ReadFreshness<P>,
    pub(super) deadline: Option<Duration>,
    pub(super) idempotent: bool,
    zone: Option<Arc<str>>,
    pub(super) preferred: Option<Arc<str>>,
}

impl<P> Checkout<P> {
    /// A read; a [`Token`] is a freshness.
    pub fn read(freshness: impl Into<ReadFreshness<P>>) -> Self {
        Self::new(Intent::Read, freshness.into())
    }

    /// A write.
    pub fn write() -> Self {
        Self::new(Intent::Write, ReadFreshness::Primary)
    }

    /// Several statements on one connection, which may write unless `read_only`. One that only reads
    /// is routed as a read: as it comes, unless [`freshness`](Self::freshness) says otherwise.
    pub fn transaction(read_only: bool) -> Self {
        Self::new(Intent::Transaction { read_only }, ReadFreshness::Any)
    }

    const fn new(intent: Intent, freshness: ReadFreshness<P>) -> Self {
        Self {
            intent,
            freshness,
            deadline: None,
            idempotent: false,
            zone: None,
            preferred: None,
        }
    }

    /// How fresh the answer must be. It does not matter to a call that writes.
    pub fn freshness(mut self, freshness: impl Into<ReadFreshness<P>>) -> Self {
        self.freshness = freshness.into();
        self
    }

    /// The time that is left for the call, from when it is handed over: for the search of a node, and
    /// in [`run`](super::Cluster::run) for the call itself. Without one a search ends by its own
    /// bounds, and a call is not bounded.
    pub const fn deadline(mut self, left: Duration) -> Self {
        self.deadline = Some(left);
        self
    }

    /// The call may run twice: a write that may have run is tried again.
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The zone of the caller: a read goes to a replica there while one will do.
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The replica that a read goes to while it will do, and is neither out by lag nor ejected.
    pub fn prefer(mut self, node: impl Into<Arc<str>>) -> Self {
        self.preferred = Some(node.into());
        self
    }

    /// Nobody but the primary will do.
    pub(super) const fn needs_primary(&self) -> bool {
        self.intent.writes() || matches!(self.freshness, ReadFreshness::Primary)
    }

    /// A replica that was fresh enough need not be so a little later.
    pub(super) const fn ages(&self) -> bool {
        matches!(self.freshness, ReadFreshness::MaxLag(_))
    }

    /// The call as the router takes it.
    pub(super) fn request<'a>(
        &'a self,
        arrived: Duration,
        tried: &'a [EndpointId],
        preferred: Option<EndpointId>,
    ) -> super::Request<'a, P> {
        let freshness = match &self.freshness {
            ReadFreshness::Any => Freshness::Any,
            ReadFreshness::MaxLag(lag) => Freshness::MaxLag(*lag),
            ReadFreshness::AtLeast(token) => Freshness::AtLeast(token),
            ReadFreshness::Shared(token) => Freshness::AtLeast(token),
            ReadFreshness::Primary => Freshness::Primary,
        };
        let request = super::Request::new(self.intent, freshness, arrived).excluding(tried);
        let request = match &self.zone {
            Some(zone) => request.in_zone(zone),
            None => request,
        };
        match preferred {
            Some(node) => request.preferring(node),
            None => request,
        }
    }
}
