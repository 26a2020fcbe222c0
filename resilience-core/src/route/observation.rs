//! What a look at a node tells.

use std::{sync::Arc, time::Duration};

/// What a node does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
}

impl Role {
    /// `primary` or `replica`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// The end of an epoch in the history of the next one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fork<P> {
    /// The epoch that ended.
    pub epoch: u64,
    /// Where: what is past it, and was written in that epoch or an earlier one, is lost.
    pub position: P,
}

/// The answer of a node that was asked what it is.
#[derive(Clone, Debug)]
#[must_use]
pub struct Observation<P> {
    pub(super) role: Role,
    pub(super) cluster: u64,
    pub(super) epoch: u64,
    pub(super) position: P,
    pub(super) at: Duration,
    pub(super) incarnation: u64,
    pub(super) newest: u64,
    pub(super) history: Option<Arc<[Fork<P>]>>,
}

impl<P> Observation<P> {
    /// An answer to a question that was *sent* at `at` of the router's clock: the time before the
    /// question, as the position may be as old as that. Without incarnation and history.
    ///
    /// | | PostgreSQL | MariaDB | Redis |
    /// |---|---|---|---|
    /// | `cluster` | system identifier | [`hash_key`](crate::balance::hash_key) of a name | the same |
    /// | `epoch` | timeline | what the failover manager counts | config epoch of the sentinels |
    /// | `position` | [`Lsn`](super::Lsn) | [`GtidSet`](super::GtidSet) | [`Offset`](super::Offset) |
    pub const fn new(role: Role, cluster: u64, epoch: u64, position: P, at: Duration) -> Self {
        Self {
            role,
            cluster,
            epoch,
            position,
            at,
            incarnation: 0,
            newest: epoch,
            history: None,
        }
    }

    /// What the node was, and which run of it answered.
    pub const fn identity(&self) -> (Role, u64) {
        (self.role, self.incarnation)
    }

    /// Which run of the node's process answered: its start time, say. A read must go to this one,
    /// as the next may have been built anew at a lower position; see
    /// [`Route::incarnation`](super::Route::incarnation).
    pub const fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// An epoch that is known to have begun, though this node is not of it: told by those who elect
    /// the primary, before that one is seen. It counts as if a node of it had answered; an older one
    /// than the node's own says nothing.
    pub const fn newest(mut self, epoch: u64) -> Self {
        if epoch > self.epoch {
            self.newest = epoch;
        }
        self
    }

    /// All epochs before this one and where they ended, oldest first. Epochs that are left out are
    /// not of this history: tokens of them are lost.
    pub fn history(mut self, forks: impl Into<Arc<[Fork<P>]>>) -> Self {
        self.history = Some(forks.into());
        self
    }
}
