//! What becomes of the cluster, told to subscribers.

use std::{fmt, sync::Arc};

use super::{
    observation::Role,
    position::Position,
    view::{Member, Noted, Standing, View},
};
use crate::events::Events;

/// What became of a node, or of the cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// It answers: for the first time, or again.
    Up,
    /// It did not answer, at the first look or after it had answered.
    Down,
    /// It answers as a node of another cluster, and is given nothing.
    Foreign,
    /// It told of a newer epoch than all before, its own or that which it follows. The first epoch
    /// that is seen is not told.
    Promoted,
    /// It takes writes from now on.
    Primary,
    /// Nobody takes writes any more: it was the one that did, and is down or no primary, or has to
    /// be confirmed.
    NoPrimary,
    /// It is the second primary of the newest epoch: nobody takes writes.
    Conflict,
    /// It answers as a primary of an older epoch, and is given nothing.
    Fenced,
    /// It is out, by `max_lag`.
    Lagging,
    /// It is in again.
    CaughtUp,
    /// It was further before, in the same epoch.
    SetBack,
    /// It is the primary, and does not have a write that was acknowledged before a failover: the first
    /// call of its epoch was refused as [`Diverged`](super::Reason::Diverged). The others are counted.
    Diverged,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Up,
        Self::Down,
        Self::Foreign,
        Self::Promoted,
        Self::Primary,
        Self::NoPrimary,
        Self::Conflict,
        Self::Fenced,
        Self::Lagging,
        Self::CaughtUp,
        Self::SetBack,
        Self::Diverged,
    ];

    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Foreign => "foreign",
            Self::Promoted => "promoted",
            Self::Primary => "primary",
            Self::NoPrimary => "no_primary",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Lagging => "lagging",
            Self::CaughtUp => "caught_up",
            Self::SetBack => "set_back",
            Self::Diverged => "diverged",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change, and of whom.
///
/// It is told by the look that showed it, or by the call that was refused. Nobody looks for it: a node that is not asked any more
/// counts no longer after `observation_ttl`, and nothing is told of that.
///
/// Those of one thread come in order; of two threads each may tell its own first. The
/// [snapshot](super::Router::snapshot) says how things are.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The node's name.
    pub node: Arc<str>,
    /// The newest epoch that is known, this look included.
    pub epoch: Option<u64>,
    /// What became of it.
    pub change: Change,
}

/// What is told once no lock is held any more.
#[derive(Debug)]
pub(super) struct News {
    wanted: bool,
    list: Vec<Event>,
}

impl News {
    pub(super) fn for_subscribers_of(events: &Events<Event>) -> Self {
        Self {
            // Who subscribes while something happens may miss it.
            wanted: events.wanted(),
            list: Vec::new(),
        }
    }

    pub(super) fn tell(self, events: &Events<Event>) {
        self.list.iter().for_each(|event| events.emit(event));
    }

    /// What one look at `index` of `after` changed.
    pub(super) fn look<P: Position>(
        &mut self,
        before: &View<P>,
        after: &View<P>,
        index: usize,
        noted: Noted,
    ) {
        let (Some(was), Some(is)) = (before.members.get(index), after.members.get(index)) else {
            return;
        };
        let out = (was.lag.out, is.lag.out);
        let facts = [
            (state(is).filter(|_| state(was) != state(is)), true),
            (Some(Change::Promoted), noted.promoted),
            (Some(Change::Fenced), is.fenced && !was.fenced),
            (Some(Change::SetBack), noted.set_back),
            (Some(Change::Lagging), out == (false, true)),
            (Some(Change::CaughtUp), out == (true, false)),
        ];
        for (change, holds) in facts {
            if let (Some(change), true) = (change, holds) {
                self.push(after, &is.name, change);
            }
        }
        self.standing(before, after, Some(index));
    }

    /// Who takes writes, if that is another; `seen` is the node that was looked at.
    pub(super) fn standing<P: Position>(
        &mut self,
        before: &View<P>,
        after: &View<P>,
        seen: Option<usize>,
    ) {
        let primary = |view: &View<P>| match view.standing {
            Standing::One(index) => view.members.get(index).map(|one| (one.id, index)),
            _ => None,
        };
        let id = |one: Option<(_, _)>| one.map(|(id, _)| id);
        let (was, is) = (primary(before), primary(after));
        let conflicts = |view: &View<P>| view.standing == Standing::Conflict;
        if let (true, false, Some(seen)) = (conflicts(after), conflicts(before), seen) {
            self.push(after, &after.members[seen].name, Change::Conflict);
        } else if id(was) != id(is) {
            match (was, is) {
                (_, Some((_, index))) => {
                    self.push(after, &after.members[index].name, Change::Primary);
                }
                (Some((_, index)), None) => {
                    self.push(after, &before.members[index].name, Change::NoPrimary);
                }
                (None, None) => {}
            }
        }
    }

    /// Nothing is kept for nobody.
    fn push<P>(&mut self, after: &View<P>, node: &Arc<str>, change: Change) {
        if self.wanted {
            self.list.push(Event {
                node: Arc::clone(node),
                epoch: after.epoch,
                change,
            });
        }
    }
}

/// The first write that is known to be lost; whose history does not have it.
pub(super) fn diverged<P>(view: &View<P>) -> Event {
    let of_epoch = |member: &&Member<P>| {
        let seen = member.seen.as_ref();
        seen.is_some_and(|seen| Some(seen.epoch) == view.epoch)
    };
    let primary = |member: &&Member<P>| {
        let seen = member.seen.as_ref();
        seen.is_some_and(|seen| seen.role == Role::Primary)
    };
    let told = || view.members.iter().filter(of_epoch);
    // A replica told it, if the primary has not been seen.
    let node = told().find(primary).or_else(|| told().next());
    Event {
        node: node.map_or_else(|| "".into(), |node| Arc::clone(&node.name)),
        epoch: view.epoch,
        change: Change::Diverged,
    }
}

/// What the last look said; `None`: it was never asked.
fn state<P>(member: &Member<P>) -> Option<Change> {
    member.asked?;
    Some(match (member.reachable, member.foreign) {
        (false, _) => Change::Down,
        (true, true) => Change::Foreign,
        (true, false) => Change::Up,
    })
}
