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

/// An endpoint to add: a name, a weight (1 unless said otherwise), and what a call needs to reach
/// it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Endpoint<T> {
    pub(super) name: Box<str>,
    pub(super) weight: u32,
    pub(super) value: T,
}

/// The heaviest weight.
const HEAVIEST: u32 = 1_000;

/// The most endpoints.
const MOST: usize = 65_536;

impl<T> Endpoint<T> {
    /// An endpoint of weight 1. By its name it is known again when it is told again; one name,
    /// one endpoint.
    pub fn new(name: impl Into<Box<str>>, value: T) -> Self {
        Self {
            name: name.into(),
            weight: 1,
            value,
        }
    }

    /// Its share of the calls, in proportion to that of the others; 0 (no new calls: those that
    /// run end) to 1000.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

/// One endpoint at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// Its name.
    pub name: Box<str>,
    /// Tells it apart.
    pub id: EndpointId,
    /// Its weight.
    pub weight: u32,
    /// Calls that run.
    pub in_flight: u64,
    /// The peak EWMA of its latency; `None` before its first call ended.
    pub latency: Option<Duration>,
    /// The rest of its ejection; `None` if it is not ejected.
    pub ejected_for: Option<Duration>,
}

/// An endpoint as it is kept; a pick holds it, also when it is gone from the set.
pub(super) struct Node<T> {
    pub(super) name: Box<str>,
    pub(super) weight: u32,
    pub(super) value: T,
    pub(super) state: Arc<CachePadded<State>>,
    pub(super) referee: Arc<Referee>,
}

/// Endpoints and settings at one moment; replaced as a whole.
pub(super) struct Set<T> {
    pub(super) plan: Plan,
    /// In the order of the plan's members.
    pub(super) nodes: Box<[Arc<Node<T>>]>,
}

impl<T> Set<T> {
    pub(super) fn new(config: Config, nodes: Vec<Arc<Node<T>>>) -> Self {
        let members = nodes.iter().map(|node| Member {
            state: Arc::clone(&node.state),
            weight: node.weight,
        });
        let names = nodes.iter().map(|node| &*node.name);
        Self {
            plan: Plan::new(config, members.collect(), names),
            nodes: nodes.into(),
        }
    }

    /// Nodes for `endpoints`; those that are there already keep their state.
    pub(super) fn attach(
        &self,
        endpoints: Vec<Endpoint<T>>,
        referee: &Arc<Referee>,
    ) -> Vec<Arc<Node<T>>> {
        let known = self.nodes.iter().map(|node| (&*node.name, &node.state));
        let known: HashMap<_, _> = known.collect();
        // Where all are new nobody needs to be spared.
        let since = match known.is_empty() {
            true => 0,
            false => referee.clock.nanos().max(1),
        };
        let attach = |endpoint: Endpoint<T>| {
            let state = known.get(&*endpoint.name).copied().cloned();
            Arc::new(Node {
                state: state.unwrap_or_else(|| Arc::new(CachePadded::new(State::new(since)))),
                name: endpoint.name,
                weight: endpoint.weight,
                value: endpoint.value,
                referee: Arc::clone(referee),
            })
        };
        endpoints.into_iter().map(attach).collect()
    }
}

/// Refuses weights that are too large, names that come twice, and too many.
pub(super) fn check_all<T>(endpoints: &[Endpoint<T>]) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    for Endpoint { name, weight, .. } in endpoints {
        whole("weight", *weight, 0, HEAVIEST)?;
        check("name", name, names.insert(name), || "each name once".into())?;
    }
    check_many(endpoints.len())
}

pub(super) fn check_many(many: usize) -> Result<(), ConfigError> {
    check("endpoints", many, many <= MOST, || format!("0 to {MOST}"))
}

impl<T> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set({})", self.nodes.len())
    }
}
