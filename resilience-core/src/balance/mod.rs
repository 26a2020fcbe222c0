//! Balancing: which endpoint of a set each call goes to.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | who is next? | the [`Strategy`] says: in turn, in turn by weight, the fewest calls, the better of two by latency and calls, or the same for the same key |
//! | in what proportion? | [`Strategy::SmoothWeighted`]: exactly that of the weights in every round, whatever races; also among those left when others are ejected |
//! | weight 0? | no new calls; those that run end. One whose weight comes back is as it was |
//! | endpoints that change? | [`Balancer::set_endpoints`]: one that stays (by name) keeps its calls, latency, failures and ejection; picks made before end where they began |
//! | how many keys move? | only those of endpoints that went, and those that new ones take |
//! | a key whose endpoint is ejected? | goes to the next on the ring, and comes back afterwards |
//! | what is the latency of an endpoint? | the longest call lately: a longer one counts at once, shorter ones by 1 − e^(−time since the last / decay); unasked it fades to nothing, so that a slow endpoint is tried again |
//! | failures that are fast? | count as `failure_penalty` at least |
//! | a call that is given up? | raises the latency if it was longer already, and nothing else; if it was the first, it counts as `failure_penalty` at least |
//! | one that has no latency yet? | is given one call, and the next when that has ended or the others are in the same state |
//! | who is ejected? | one with `consecutive_failures` in a row; or with a success rate `success_rate_deviations` standard deviations below the mean of the interval |
//! | for how long? | `ejection_time` × (ejections lately), at most `max_ejection_time`; each interval in between takes one off |
//! | how many? | at most `max_ejected` of those with a weight, but one may always be; never the last |
//! | and if the set shrinks? | those whose time ends first come back, until no more are out than may be |
//! | a late outcome of a call from before the end of an ejection? | tells the latency, and ejects nobody |
//! | a new endpoint, or one that is back? | with `slow_start` its share grows from a tenth to the whole, evenly; the first endpoints have theirs at once |
//! | a retry? | [`Criteria::excluding`]: never an endpoint that was tried while another is there |
//! | nobody is left? | rather one that was tried than one that is ejected, rather an ejected one than none; refused only if no endpoint has a weight |
//! | a clock that steps back by d? | ejections and slow starts last longer, and latencies fade later, by d at most |
//!
//! # Concurrency
//!
//! A pick takes no lock and no memory: it looks at an immutable plan, which is swapped when endpoints
//! or settings change, and counts the call in. The end of a call counts it out; a lock is taken by
//! those outcomes alone that may eject, and by the first after each interval. Round robin takes
//! a turn of a shared counter, the others a number of a shared generator. Picks that race may each
//! go by counts that do not hold the other yet.
//!
//! What a pick costs does not depend on the number of endpoints, but for
//! [`Strategy::LeastConnections`], which looks at all, and [`Strategy::ConsistentHash`] with
//! `max_load`, which does when the first on the ring has calls.

mod config;
mod endpoint;
mod ewma;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod outlier;
mod pick;
mod plan;
mod ring;
mod sequence;
mod state;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{
    config::{Config, ConfigBuilder, Strategy},
    endpoint::{Endpoint, EndpointSnapshot},
    pick::Pick,
    plan::Criteria,
    ring::hash_key,
    state::EndpointId,
};
use self::{
    endpoint::{Node, Set, check_all, check_many},
    outlier::Referee,
    plan::Lots,
};
pub use crate::settings::ConfigError;
use crate::{
    clock::SharedClock,
    primitive::{Lock, Swap},
    random::Random,
};

/// Endpoints and a way to choose among them; clones are handles on the same one.
///
/// `T` is what a call needs to reach an endpoint: an address, a pool, a client.
///
/// # Examples
///
/// ```
/// use resilience_core::balance::{Balancer, Config, Endpoint, Strategy};
///
/// let config = Config::builder().strategy(Strategy::SmoothWeighted).build()?;
/// let balancer = Balancer::new(config);
/// balancer.set_endpoints([
///     Endpoint::new("10.0.0.1:80", "large").weight(2),
///     Endpoint::new("10.0.0.2:80", "small"),
/// ])?;
///
/// let pick = balancer.pick()?;
/// // … the call to `pick.value()` …
/// assert_eq!(*pick.value(), "large");
/// pick.success();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Balancer<T>(Arc<Inner<T>>);

struct Inner<T> {
    set: Swap<Set<T>>,
    lots: Lots,
    referee: Arc<Referee>,
    /// Held by those who change the set.
    changes: Lock<()>,
}

/// There is no endpoint, or none with a weight.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no endpoint takes calls ({endpoints} are known)")]
#[non_exhaustive]
pub struct NoEndpoint {
    /// Endpoints in the set, all of weight 0.
    pub endpoints: usize,
}

/// The figures of a balancer at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The endpoints, in the order in which they were told.
    pub endpoints: Vec<EndpointSnapshot>,
    /// Ejections since the balancer was made.
    pub ejections: u64,
}

impl<T> Balancer<T> {
    /// A balancer without endpoints on the default clock.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, SharedClock::default())
    }

    /// A balancer without endpoints on a clock of one's own.
    pub fn with_clock(config: Config, clock: impl Into<SharedClock>) -> Self {
        Self::made(config, clock.into(), Random::new())
    }

    /// As [`with_clock`](Self::with_clock), with the same choices for the same seed and calls.
    pub fn with_seed(config: Config, clock: impl Into<SharedClock>, seed: u64) -> Self {
        Self::made(config, clock.into(), Random::seeded(seed))
    }

    fn made(config: Config, clock: SharedClock, random: Random) -> Self {
        Self(Arc::new(Inner {
            set: Swap::from_pointee(Set::new(config, Vec::new())),
            lots: Lots::new(random),
            referee: Arc::new(Referee::new(config, clock)),
            changes: Lock::new(()),
        }))
    }

    /// An endpoint for a call.
    ///
    /// # Errors
    ///
    /// [`NoEndpoint`].
    #[inline]
    pub fn pick(&self) -> Result<Pick<T>, NoEndpoint> {
        self.pick_by(Criteria::default())
    }

    /// An endpoint for a call of a key, or for one that was tried elsewhere.
    ///
    /// # Errors
    ///
    /// [`NoEndpoint`].
    #[inline]
    pub fn pick_by(&self, criteria: Criteria<'_>) -> Result<Pick<T>, NoEndpoint> {
        let inner = &*self.0;
        let now = inner.referee.clock.nanos();
        let set = inner.set.load();
        match set.plan.choose(criteria, now, &inner.lots) {
            Some(index) => Ok(Pick::new(&set.nodes[index], now)),
            None => Err(NoEndpoint {
                endpoints: set.nodes.len(),
            }),
        }
    }

    /// Replaces the endpoints. Those that are known by name keep their state, and take the new
    /// weight and value.
    ///
    /// # Errors
    ///
    /// A weight above 1000, a name that comes twice, more than 65 536 endpoints; nothing is changed
    /// then.
    pub fn set_endpoints(
        &self,
        endpoints: impl IntoIterator<Item = Endpoint<T>>,
    ) -> Result<(), ConfigError> {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        check_all(&endpoints)?;
        self.change(|set, referee| Ok((set.plan.config, set.attach(endpoints, referee))))
    }

    /// Adds an endpoint, or replaces the weight and value of the one of that name.
    ///
    /// # Errors
    ///
    /// As [`set_endpoints`](Self::set_endpoints).
    pub fn insert(&self, endpoint: Endpoint<T>) -> Result<(), ConfigError> {
        let endpoint = vec![endpoint];
        check_all(&endpoint)?;
        self.change(|set, referee| {
            let mut nodes = set.nodes.to_vec();
            for new in set.attach(endpoint, referee) {
                match nodes.iter_mut().find(|node| node.name == new.name) {
                    Some(node) => *node = new,
                    None => nodes.push(new),
                }
            }
            check_many(nodes.len())?;
            Ok((set.plan.config, nodes))
        })
    }

    /// Takes an endpoint out; whether it was there. Its calls run on. To let them end first, give
    /// it weight 0 before.
    pub fn remove(&self, name: &str) -> bool {
        let mut removed = false;
        let outcome = self.change(|set, _| {
            let others = set.nodes.iter().filter(|node| &*node.name != name);
            let nodes: Vec<_> = others.cloned().collect();
            removed = nodes.len() < set.nodes.len();
            Ok((set.plan.config, nodes))
        });
        outcome.is_ok() && removed
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        self.0.set.load().plan.config
    }

    /// Changes the settings, for all handles at once.
    ///
    /// | setting | what becomes of what is known |
    /// |---|---|
    /// | `strategy`, `max_load`, `slow_start` | for the next pick; all strategies go by the same calls and latencies |
    /// | `decay`, `failure_penalty` | latencies stay, and fade at the new rate from their last sample on |
    /// | `consecutive_failures`, `success_rate_deviations` | failures in a row stay; both off: those that are ejected come back |
    /// | `ejection_time`, `max_ejection_time` | for the next ejection |
    /// | `max_ejected` | those whose time ends first come back, until no more are out than may be |
    /// | `interval`, `minimum_calls`, `minimum_endpoints` | for the interval that runs; a shorter one ends it sooner |
    pub fn set_config(&self, config: Config) {
        let changed = self.change(|set, _| Ok((config, set.nodes.to_vec())));
        debug_assert!(changed.is_ok());
    }

    /// The clock by which latencies and ejections are counted.
    pub fn clock(&self) -> &SharedClock {
        &self.0.referee.clock
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        let referee = &self.0.referee;
        let set = self.0.set.load();
        let now = referee.clock.nanos();
        let decay = ewma::decay(nanos(set.plan.config.decay()));
        let snapshot = |node: &Arc<Node<T>>| {
            let latency = node.state.latency.at(now, decay);
            EndpointSnapshot {
                name: node.name.clone(),
                id: node.state.id,
                weight: node.weight,
                in_flight: node.state.in_flight(),
                latency: (latency > 0.0).then(|| Duration::from_nanos(latency as u64)),
                ejected_for: outlier::ejected_for(&node.state, now),
            }
        };
        Snapshot {
            endpoints: set.nodes.iter().map(snapshot).collect(),
            ejections: referee.ejections(),
        }
    }

    /// Replaces settings and endpoints by what `next` makes of the present ones.
    fn change(
        &self,
        next: impl FnOnce(&Set<T>, &Arc<Referee>) -> Result<Nodes<T>, ConfigError>,
    ) -> Result<(), ConfigError> {
        let inner = &*self.0;
        let lock = inner.changes.lock();
        let old = inner.set.load_full();
        let (config, nodes) = next(&old, &inner.referee)?;
        let set = Set::new(config, nodes);
        inner.referee.change(config, Arc::clone(&set.plan.members));
        inner.set.store(Arc::new(set));
        // What a caller's value does when it is dropped is not done under the lock.
        drop(lock);
        drop(old);
        Ok(())
    }
}

/// What a change results in.
type Nodes<T> = (Config, Vec<Arc<Node<T>>>);

impl<T> Clone for Balancer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Balancer<T> {
    /// Without endpoints, with the default settings.
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl<T> fmt::Debug for Balancer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.0.set.load();
        f.debug_struct("Balancer")
            .field("strategy", &set.plan.config.strategy())
            .field("endpoints", &set.nodes.len())
            .finish_non_exhaustive()
    }
}

/// Whole nanoseconds; settings and clocks hold no more than 64 bits of them.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
