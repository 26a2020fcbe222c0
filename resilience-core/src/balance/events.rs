//! What becomes of endpoints, told to subscribers.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use super::{plan::Member, state::EndpointId};
use crate::events::Events;

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Enough failures in a row.
    ConsecutiveFailures,
    /// A success rate far below that of the others.
    SuccessRate,
}

impl Cause {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of an endpoint, or of all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another weight.
    Weighted {
        /// The weight from now on.
        weight: u32,
    },
    /// It is given no calls for a time.
    Ejected {
        /// Why.
        cause: Cause,
        /// For how long.
        time: Duration,
    },
    /// Its ejection is over; told at the first pick after its time, or when it ended sooner.
    Returned,
    /// It is unhealthy, as [`Balancer::set_health`](super::Balancer::set_health) was told.
    Unhealthy,
    /// It is healthy again.
    Healthy,
    /// It was the last of those with a weight that were neither ejected nor unhealthy: calls now
    /// go to those that are, or are refused.
    NoneLeft,
    /// It is the first one that may be picked again.
    SomeLeft,
}

impl Change {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Weighted { .. } => "weighted",
            Self::Ejected { .. } => "ejected",
            Self::Returned => "returned",
            Self::Unhealthy => "unhealthy",
            Self::Healthy => "healthy",
            Self::NoneLeft => "none_left",
            Self::SomeLeft => "some_left",
        }
    }
}

/// A change, and of whom.
///
/// Those of one thread come in order; of two threads each may tell its own first. The
/// [snapshot](super::Balancer::snapshot) says how things are.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// Tells it apart.
    pub id: EndpointId,
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

    /// Nothing is kept for nobody: an ejection then allocates nothing.
    pub(super) fn push(&mut self, endpoint: &Arc<str>, id: EndpointId, change: Change) {
        if self.wanted {
            self.list.push(Event {
                endpoint: Arc::clone(endpoint),
                id,
                change,
            });
        }
    }
}

impl News {
    /// Who is gone, who is new, and whose weight is another.
    pub(super) fn compare(&mut self, old: &[Member], new: &[Member]) {
        if !self.wanted {
            return;
        }
        let weights = |members: &[Member]| -> HashMap<EndpointId, u32> {
            let weights = members
                .iter()
                .map(|member| (member.state.id, member.weight));
            weights.collect()
        };
        let (before, after) = (weights(old), weights(new));
        for member in old.iter().filter(|one| !after.contains_key(&one.state.id)) {
            self.push(&member.name, member.state.id, Change::Removed);
        }
        for member in new {
            let weight = member.weight;
            let change = match before.get(&member.state.id) {
                None => Change::Added,
                Some(before) if *before != weight => Change::Weighted { weight },
                Some(_) => continue,
            };
            self.push(&member.name, member.state.id, change);
        }
    }
}
