//! The cluster as it was seen: a value, and what each look makes of it.

use std::{sync::Arc, time::Duration};

use super::{
    config::Config,
    lag::{Lag, Samples},
    observation::{Fork, Observation, Role},
    position::Position,
};
use crate::balance::{EndpointId, EndpointSnapshot};

/// What the last answer of a node said.
#[derive(Clone, Debug)]
pub(super) struct Seen<P> {
    pub(super) role: Role,
    pub(super) epoch: u64,
    pub(super) position: P,
    pub(super) at: Duration,
    pub(super) incarnation: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Member<P> {
    pub(super) name: Arc<str>,
    pub(super) id: EndpointId,
    pub(super) zone: Option<Arc<str>>,
    pub(super) seen: Option<Seen<P>>,
    /// When it was asked last, whether it answered or not.
    pub(super) asked: Option<Duration>,
    /// It answered then.
    pub(super) reachable: bool,
    /// It answered as a node of another cluster.
    pub(super) foreign: bool,
    /// It answered as a primary of an older epoch.
    pub(super) fenced: bool,
    pub(super) draining: bool,
    /// As a primary: it came up at an epoch that was known, and counts once all others were asked
    /// since.
    pub(super) returned: Option<Duration>,
    pub(super) lag: Lag,
}

impl<P> Member<P> {
    pub(super) fn new(name: Arc<str>, id: EndpointId) -> Self {
        Self {
            name,
            id,
            zone: None,
            seen: None,
            asked: None,
            reachable: false,
            foreign: false,
            fenced: false,
            draining: false,
            returned: None,
            lag: Lag::default(),
        }
    }

    /// The last answer, if it counts at `now`.
    #[inline]
    pub(super) fn up(&self, now: Duration, config: &Config) -> Option<&Seen<P>> {
        let seen = self
            .seen
            .as_ref()
            .filter(|_| self.reachable && !self.foreign)?;
        (now.saturating_sub(seen.at) <= config.observation_ttl()).then_some(seen)
    }
}

/// Who takes writes, as far as roles and epochs tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Standing {
    #[default]
    Nobody,
    /// One that is back, while a newer one may be where nobody has looked since.
    Unconfirmed,
    /// Two of the same epoch.
    Conflict,
    One(usize),
}

/// What an observation changed, for those who count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Noted {
    pub(super) late: bool,
    pub(super) foreign: bool,
    /// A newer epoch.
    pub(super) promoted: bool,
    /// A primary of an older one.
    pub(super) fenced: bool,
    /// A lower position than before.
    pub(super) set_back: bool,
}

#[derive(Clone, Debug)]
pub(super) struct View<P> {
    pub(super) config: Config,
    pub(super) members: Vec<Member<P>>,
    pub(super) cluster: Option<u64>,
    /// The newest epoch that was ever seen.
    pub(super) epoch: Option<u64>,
    /// The epochs before it; `None` while nobody told.
    pub(super) history: Option<Arc<[Fork<P>]>>,
    pub(super) samples: Arc<Samples<P>>,
    pub(super) standing: Standing,
}

impl<P: Position> View<P> {
    pub(super) fn new(cluster: Option<u64>, config: Config) -> Self {
        Self {
            config,
            members: Vec::new(),
            cluster,
            epoch: None,
            history: None,
            samples: Arc::new(Samples::none()),
            standing: Standing::Nobody,
        }
    }

    /// Replaces the nodes; those that are known by name and id stay as they are.
    pub(super) fn set_members(&mut self, nodes: impl Iterator<Item = EndpointSnapshot>) {
        let members = nodes.map(|node| {
            let known = self.members.iter().find(|member| member.id == node.id);
            let known = known.cloned();
            Member {
                zone: node.zone,
                ..known.unwrap_or_else(|| Member::new(node.name, node.id))
            }
        });
        self.members = members.collect();
        self.stand();
    }

    /// A node did not answer a question sent at `at`.
    pub(super) fn unreachable(&mut self, index: usize, at: Duration) {
        let member = &mut self.members[index];
        if member.asked.is_none_or(|asked| asked <= at) {
            member.asked = Some(at);
            (member.reachable, member.fenced) = (false, false);
            self.stand();
        }
    }

    /// A node answered.
    pub(super) fn observe(&mut self, index: usize, new: Observation<P>) -> Noted {
        let mut noted = Noted::default();
        let cluster = *self.cluster.get_or_insert(new.cluster);
        let late = self.members[index]
            .asked
            .is_some_and(|asked| asked > new.at);
        if cluster != new.cluster {
            noted.foreign = true;
            if !late {
                let member = &mut self.members[index];
                (member.foreign, member.asked, member.reachable) = (true, Some(new.at), true);
                member.fenced = false;
            }
            self.stand();
            return noted;
        }
        // An epoch counts however late it is told.
        let known = self.epoch;
        if known.is_none_or(|known| new.newest > known) {
            noted.promoted = known.is_some();
            self.begin(new.newest);
        }
        let current = self.epoch == Some(new.epoch);
        if current && self.history.is_none() {
            self.history.clone_from(&new.history);
        }
        noted.fenced = !current && new.role == Role::Primary;
        noted.late = late;
        if !late {
            self.members[index].fenced = noted.fenced;
            noted.set_back = self.place(index, new, known);
        }
        self.stand();
        noted
    }

    /// Nothing of an earlier epoch tells where a new primary is.
    fn begin(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
        self.history = None;
        self.samples = Arc::new(Samples::none());
        for member in &mut self.members {
            member.lag.as_of = None;
        }
    }

    /// Puts down what `index` answered; whether it was further before. `known` is the newest epoch
    /// before this answer.
    fn place(&mut self, index: usize, new: Observation<P>, known: Option<u64>) -> bool {
        let config = self.config;
        let current = self.epoch == Some(new.epoch);
        let member = &mut self.members[index];
        let goes_on = member.up(new.at, &config).is_some_and(|before| {
            before.role == new.role
                && before.epoch == new.epoch
                && before.incarnation == new.incarnation
        });
        let newer = known.is_some_and(|known| new.epoch > known);
        if !goes_on || newer {
            // A newer epoch speaks for itself.
            member.returned = (!newer).then_some(new.at);
        }
        let before = member.seen.as_ref();
        let before = before.filter(|before| before.epoch == new.epoch);
        let set_back = before.is_some_and(|before| !new.position.covers(&before.position).is_yes());
        (member.foreign, member.asked, member.reachable) = (false, Some(new.at), true);
        if current {
            self.measure(index, &new);
        }
        self.members[index].seen = Some(Seen {
            role: new.role,
            epoch: new.epoch,
            position: new.position,
            at: new.at,
            incarnation: new.incarnation,
        });
        set_back
    }

    /// Lags, by a node of the newest epoch.
    fn measure(&mut self, index: usize, new: &Observation<P>) {
        match new.role {
            Role::Replica => {
                let lag = &mut self.members[index].lag;
                lag.seen(&self.samples, &new.position, new.at, &self.config);
            }
            Role::Primary => {
                Arc::make_mut(&mut self.samples).push(new.at, new.position.clone());
                // Those that have all of it have it now as well.
                for member in &mut self.members {
                    let replica = member.seen.as_ref().filter(|seen| {
                        seen.role == Role::Replica
                            && seen.epoch == new.epoch
                            && seen.position.covers(&new.position).is_yes()
                    });
                    if replica.is_some() {
                        member.lag.as_of = self.samples.newest();
                    }
                }
            }
        }
    }

    fn stand(&mut self) {
        let mut primaries = self.members.iter().enumerate().filter(|(_, member)| {
            let seen = member.seen.as_ref();
            seen.is_some_and(|seen| seen.role == Role::Primary && Some(seen.epoch) == self.epoch)
                && member.reachable
                && !member.foreign
        });
        self.standing = match (primaries.next(), primaries.next()) {
            (None, _) => Standing::Nobody,
            (Some(_), Some(_)) => Standing::Conflict,
            (Some((index, member)), None) => {
                let asked = |other: &Member<P>| other.asked >= member.returned;
                match self.members.iter().all(asked) {
                    true => Standing::One(index),
                    false => Standing::Unconfirmed,
                }
            }
        };
    }
}
