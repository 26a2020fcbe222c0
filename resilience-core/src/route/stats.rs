//! What a router counts.

use std::{sync::Arc, time::Duration};

use super::{
    error::Reason,
    observation::Role,
    view::{Noted, View},
};
use crate::primitive::{AtomicU64, Ordering};

/// Why a call goes where it goes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Why {
    /// A write, on the primary.
    Write,
    /// A read that asked for the primary.
    Asked,
    /// A read, on a replica that is fresh enough.
    Fresh,
    /// A read, on a replica that is fresh enough, and would be spared as it is far behind or was
    /// ejected: nobody else is left.
    LastResort,
    /// A read, on the primary, as no replica is fresh enough.
    Spilled,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Write,
        Self::Asked,
        Self::Fresh,
        Self::LastResort,
        Self::Spilled,
    ];

    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Asked => "asked",
            Self::Fresh => "fresh",
            Self::LastResort => "last_resort",
            Self::Spilled => "spilled",
        }
    }
}

/// The figures of a router at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot<P> {
    /// The nodes, in the order in which they were told.
    pub nodes: Vec<NodeSnapshot<P>>,
    /// The newest epoch that was ever seen.
    pub epoch: Option<u64>,
    /// The name of the one that takes writes.
    pub primary: Option<Arc<str>>,
    /// It takes no more calls.
    pub draining: bool,
    /// Newer epochs that were seen, the first not counted.
    pub promotions: u64,
    /// Answers of primaries of an older epoch.
    pub fenced: u64,
    /// Answers of nodes that were further before.
    pub set_back: u64,
    /// Answers of nodes of another cluster.
    pub foreign: u64,
    /// Answers that came after a later one.
    pub late: u64,
    /// Times that a caller was told to look at a replica.
    pub probes: u64,
    /// Times that a caller was told to wait.
    pub waits: u64,
    /// Times that a caller was told to look at the cluster.
    pub observes: u64,
    /// Events that did not fit a subscriber's channel.
    pub lost_events: u64,
    routed: [u64; Why::ALL.len()],
    refused: [u64; Reason::ALL.len()],
}

impl<P> Snapshot<P> {
    /// Calls that were given a node for this reason.
    pub const fn routed(&self, why: Why) -> u64 {
        self.routed[why as usize]
    }

    /// Calls that were given none for this reason.
    pub const fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize]
    }
}

/// One node at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeSnapshot<P> {
    /// Its name.
    pub name: Arc<str>,
    /// What it was when it answered last; `None` if it never did.
    pub role: Option<Role>,
    /// Its epoch then.
    pub epoch: Option<u64>,
    /// Where it was then.
    pub position: Option<P>,
    /// It answered lately, as a node of this cluster.
    pub up: bool,
    /// It is a primary of an older epoch.
    pub fenced: bool,
    /// It answered as a node of another cluster.
    pub foreign: bool,
    /// It is given no new calls.
    pub draining: bool,
    /// It is out by lag.
    pub lagging: bool,
    /// How old its data may be; `None` where nobody can tell.
    pub lag: Option<Duration>,
}

/// Counters that calls share.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) probes: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) observes: AtomicU64,
    routed: [AtomicU64; Why::ALL.len()],
    refused: [AtomicU64; Reason::ALL.len()],
    promotions: AtomicU64,
    fenced: AtomicU64,
    set_back: AtomicU64,
    foreign: AtomicU64,
    late: AtomicU64,
}

// ORDERING: Relaxed throughout. Statistics.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counts {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            probes: zero(),
            waits: zero(),
            observes: zero(),
            routed: std::array::from_fn(|_| zero()),
            refused: std::array::from_fn(|_| zero()),
            promotions: zero(),
            fenced: zero(),
            set_back: zero(),
            foreign: zero(),
            late: zero(),
        }
    }

    #[inline]
    pub(super) fn routed(&self, why: Why) {
        add(&self.routed[why as usize]);
    }

    pub(super) fn refused(&self, reason: Reason) {
        add(&self.refused[reason as usize]);
    }

    pub(super) fn noted(&self, noted: Noted) {
        let facts = [
            (noted.promoted, &self.promotions),
            (noted.fenced, &self.fenced),
            (noted.set_back, &self.set_back),
            (noted.foreign, &self.foreign),
            (noted.late, &self.late),
        ];
        let facts = facts.iter().filter(|(is, _)| *is);
        facts.for_each(|(_, counter)| add(counter));
    }

    /// All but what the router knows by itself.
    pub(super) fn snapshot<P: super::Position>(
        &self,
        view: &View<P>,
        now: Duration,
    ) -> Snapshot<P> {
        let node = |member: &super::view::Member<P>| {
            let seen = member.seen.as_ref();
            NodeSnapshot {
                name: Arc::clone(&member.name),
                role: seen.map(|seen| seen.role),
                epoch: seen.map(|seen| seen.epoch),
                position: seen.map(|seen| seen.position.clone()),
                up: member.up(now, &view.config).is_some(),
                fenced: seen.is_some_and(|seen| {
                    seen.role == Role::Primary && Some(seen.epoch) < view.epoch
                }),
                foreign: member.foreign,
                draining: member.draining,
                lagging: member.lag.out,
                lag: member.lag.as_of.map(|time| now.saturating_sub(time)),
            }
        };
        Snapshot {
            nodes: view.members.iter().map(node).collect(),
            epoch: view.epoch,
            primary: view
                .primary(now)
                .ok()
                .map(|index| Arc::clone(&view.members[index].name)),
            draining: false,
            lost_events: 0,
            promotions: read(&self.promotions),
            fenced: read(&self.fenced),
            set_back: read(&self.set_back),
            foreign: read(&self.foreign),
            late: read(&self.late),
            probes: read(&self.probes),
            waits: read(&self.waits),
            observes: read(&self.observes),
            routed: std::array::from_fn(|index| read(&self.routed[index])),
            refused: std::array::from_fn(|index| read(&self.refused[index])),
        }
    }
}
