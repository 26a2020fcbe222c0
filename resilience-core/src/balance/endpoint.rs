//! Endpoints: as they are told, as they are kept, and as they are reported.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use crossbeam_utils::CachePadded;

use super::{
    config::Config,
    outlier::Referee,
    plan::{Member, Plan},
    state::{EndpointId, State},
};
use crate::settings::{ConfigError, check, whole};

/// An endpoint to add: a name, and what a call needs to reach it. Its weight is 1, its priority 0
/// and it has no zone, unless said otherwise.
#[derive(Clone, Debug)]
#[must_use]
pub struct Endpoint<T> {
    pub(super) name: Arc<str>,
    pub(super) weight: u32,
    pub(super) priority: u8,
    pub(super) zone: Option<Arc<str>>,
    pub(super) value: T,
}

/// The heaviest weight.
const HEAVIEST: u32 = 1_000;

/// The most endpoints.
const MOST: usize = 65_536;

impl<T> Endpoint<T> {
    /// An endpoint of weight 1. By its name it is known again when it is told again; one name,
    /// one endpoint.
    pub fn new(name: impl Into<Arc<str>>, value: T) -> Self {
        Self {
            name: name.into(),
            weight: 1,
            priority: 0,
            zone: None,
            value,
        }
    }

    /// Its share of the calls, in proportion to that of the others; 0 (no new calls: those that
    /// run end) to 1000.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The group it belongs to: calls go to the lowest number, and to others only as far as too
    /// few of that are left; see [`failover_below`](super::ConfigBuilder::failover_below).
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Where it is; see [`Balancer::set_zone`](super::Balancer::set_zone).
    pub fn zone(mut self, zone: impl Into<Option<Arc<str>>>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Its name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The same endpoint, with another value in the place of its own.
    pub fn map<U>(self, value: impl FnOnce(T) -> U) -> Endpoint<U> {
        Endpoint {
            name: self.name,
            weight: self.weight,
            priority: self.priority,
            zone: self.zone,
            value: value(self.value),
        }
    }
}

impl<S: Into<Arc<str>>, T> From<(S, T)> for Endpoint<T> {
    fn from((name, value): (S, T)) -> Self {
        Self::new(name, value)
    }
}

/// One endpoint at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Tells it apart.
    pub id: EndpointId,
    /// Its weight.
    pub weight: u32,
    /// Its group.
    pub priority: u8,
    /// Where it is.
    pub zone: Option<Arc<str>>,
    /// What [`Balancer::set_health`](super::Balancer::set_health) was told; at first `true`.
    pub healthy: bool,
    /// Calls that run.
    pub in_flight: u32,
    /// The peak EWMA of its latency; `None` before its first call ended.
    pub latency: Option<Duration>,
    /// The rest of its ejection; `None` if it is not ejected.
    pub ejected_for: Option<Duration>,
    /// Successes since it came; without late ones, of before the end of an ejection.
    pub successes: u64,
    /// Failures, likewise.
    pub failures: u64,
}

/// An endpoint as it is kept; a pick holds it, also when it is gone from the set.
pub(super) struct Node<T> {
    pub(super) name: Arc<str>,
    pub(super) value: T,
    pub(super) state: Arc<CachePadded<State>>,
    pub(super) referee: Arc<Referee>,
}

/// Endpoints and settings at one moment; replaced as a whole.
pub(super) struct Set<T> {
    pub(super) plan: Arc<Plan>,
    /// In the order of the plan's members.
    pub(super) nodes: Box<[Arc<Node<T>>]>,
}

/// An endpoint as the strategies see it, and as callers do.
pub(super) struct Place<T> {
    pub(super) member: Member,
    pub(super) node: Arc<Node<T>>,
}

/// What a set is made of.
pub(super) struct Parts<T> {
    pub(super) config: Config,
    /// The caller's own zone.
    pub(super) zone: Option<Arc<str>>,
    pub(super) places: Vec<Place<T>>,
}

impl<T> Set<T> {
    pub(super) fn new(parts: Parts<T>, before: Option<&Plan>) -> Self {
        let (members, nodes): (Vec<_>, Vec<_>) = parts
            .places
            .into_iter()
            .map(|place| (place.member, place.node))
            .unzip();
        Self {
            plan: Arc::new(Plan::new(parts.config, parts.zone, members.into(), before)),
            nodes: nodes.into(),
        }
    }

    /// What it is made of.
    pub(super) fn parts(&self) -> Parts<T> {
        let places = self.plan.members.iter().zip(&self.nodes);
        let place = |(member, node): (&Member, &Arc<Node<T>>)| Place {
            member: member.clone(),
            node: Arc::clone(node),
        };
        Parts {
            config: self.plan.config,
            zone: self.plan.zone.clone(),
            places: places.map(place).collect(),
        }
    }

    /// Places for `endpoints`; those that are there already keep their state.
    pub(super) fn attach(
        &self,
        endpoints: Vec<Endpoint<T>>,
        referee: &Arc<Referee>,
    ) -> Vec<Place<T>> {
        let known = self.nodes.iter().map(|node| (&*node.name, &node.state));
        let known: HashMap<_, _> = known.collect();
        // Where all are new nobody needs to be spared.
        let since = match known.is_empty() {
            true => 0,
            false => referee.now().max(1),
        };
        let attach = |endpoint: Endpoint<T>| {
            let state = known.get(&*endpoint.name).copied().cloned();
            let state = state.unwrap_or_else(|| Arc::new(CachePadded::new(State::new(since))));
            Place {
                member: Member {
                    state: Arc::clone(&state),
                    name: Arc::clone(&endpoint.name),
                    weight: endpoint.weight,
                    priority: endpoint.priority,
                    zone: endpoint.zone,
                },
                node: Arc::new(Node {
                    state,
                    name: endpoint.name,
                    value: endpoint.value,
                    referee: Arc::clone(referee),
                }),
            }
        };
        endpoints.into_iter().map(attach).collect()
    }
}

/// Refuses weights that are too large, names that come twice, and too many.
pub(super) fn check_all<T>(endpoints: &[Endpoint<T>]) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    for Endpoint { name, weight, .. } in endpoints {
        check_weight(*weight)?;
        check("name", name, names.insert(name), || "each name once".into())?;
    }
    check_many(endpoints.len())
}

pub(super) fn check_weight(weight: u32) -> Result<(), ConfigError> {
    whole("weight", weight, 0, HEAVIEST)
}

pub(super) fn check_many(many: usize) -> Result<(), ConfigError> {
    check("endpoints", many, many <= MOST, || format!("0 to {MOST}"))
}

impl<T> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set({})", self.nodes.len())
    }
}
