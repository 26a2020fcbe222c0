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
//! | what is the latency of an endpoint? | the longest call lately: a longer one counts at once, shorter ones by 1 − e^(−time since the last / decay); unasked it fades to nothing, so that a slow endpoint is tried again, but not while it owes an answer |
//! | failures that are fast? | count as `failure_penalty` at least |
//! | a call that is given up? | raises the latency if it was longer already, and nothing else; if it was the first, it counts as `failure_penalty` at least |
//! | one that has no latency yet? | is given one call, and the next when that has ended or the others are in the same state |
//! | who is ejected? | one with `consecutive_failures` in a row; or with a success rate `success_rate_deviations` standard deviations below the mean of the interval |
//! | for how long? | `ejection_time` × (ejections lately), at most `max_ejection_time`; each interval in between takes one off |
//! | how many? | at most `max_ejected` of those with a weight that are healthy, but one may always be; never the last |
//! | and if the set shrinks? | those whose time ends first come back, until no more are out than may be |
//! | a late outcome of a call from before the end of an ejection? | tells the latency, and ejects nobody |
//! | a new endpoint, or one that is back? | with `slow_start` its share grows from a tenth to the whole, evenly; the first endpoints have theirs at once |
//! | a retry? | [`Criteria::excluding`]: never an endpoint that was tried while another is there |
//! | health that is checked elsewhere? | [`Balancer::set_health`]: an unhealthy endpoint is given no calls; one that is healthy again comes back, from an ejection as well |
//! | groups by priority? | the first keeps all calls while `failover_below` of its weight is left; with less, the next takes over in proportion |
//! | zones? | [`Balancer::set_zone`]: the own keeps all calls while its part of the weight is what callers spread evenly over the zones need; what it cannot bear goes to zones that have more than they need |
//! | nobody is left? | rather one of another zone or priority than one that was tried, rather one that was tried than one that is ejected, rather an ejected one than an unhealthy one, and rather that than none; refused only if no endpoint has a weight, or with `refuse_unhealthy` |
//! | a clock that steps back by d? | ejections and slow starts last longer, and latencies fade later, by d at most |
//!
//! # Concurrency
//!
//! A pick takes no lock and no memory: it looks at an immutable plan, which is swapped when endpoints
//! or settings change, and counts the call in. The end of a call counts it out; a lock is taken by
//! those outcomes alone that may eject, by the first after each interval, and by the first pick
//! after the end of an ejection. Round robin takes a turn of a shared counter, the others a number
//! of a shared generator. Picks that race may each go by counts that do not hold the other yet.
//! Subscribers are called by whoever causes a change, after it and outside of any lock.
//!
//! What a pick costs does not depend on the number of endpoints, but for
//! [`Strategy::LeastConnections`], which looks at all, and [`Strategy::ConsistentHash`] with
//! `max_load`, which does when the first on the ring has calls.

mod config;
mod endpoint;
mod error;
mod events;
mod ewma;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod outlier;
mod pick;
mod plan;
mod ring;
mod sequence;
mod split;
mod state;
mod strategies;

use std::{
    fmt,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use crossbeam_utils::CachePadded;

pub use self::{
    config::{Config, ConfigBuilder, Strategy},
    endpoint::{Endpoint, EndpointSnapshot},
    error::{NoEndpoint, Reason},
    events::{Cause, Change, Event},
    pick::{PassedOver, Pick},
    plan::Criteria,
    ring::hash_key,
    state::EndpointId,
};
use self::{
    endpoint::{Node, Parts, Set, check_all, check_many, check_weight},
    events::News,
    outlier::Referee,
    plan::Member,
};
pub use crate::{breaker::Subscription, settings::ConfigError};
use crate::{
    clock::SharedClock,
    events::Events,
    primitive::{AtomicU64, Lock, Ordering, Swap},
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
    random: CachePadded<Random>,
    referee: Arc<Referee>,
    refused: AtomicU64,
    /// Held by those who change the set.
    changes: Lock<()>,
    /// Those who want to hear of every change of the set.
    changed: Arc<Events<()>>,
}

/// What was replaced, and was not told of yet.
pub(crate) struct Replaced<T> {
    set: Arc<Set<T>>,
    news: News,
}

impl<T> Inner<T> {
    #[cold]
    fn refuse(&self, set: &Set<T>) -> NoEndpoint {
        // ORDERING: Relaxed. A statistic.
        self.refused.fetch_add(1, Ordering::Relaxed);
        set.nobody()
    }
}

/// The figures of a balancer at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The endpoints, in the order in which they were told.
    pub endpoints: Vec<EndpointSnapshot>,
    /// Ejections since the balancer was made.
    pub ejections: u64,
    /// Picks that were refused since then.
    pub refused: u64,
    /// Events that did not fit a subscriber's channel.
    pub lost_events: u64,
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
        let parts = Parts {
            config,
            zone: None,
            places: Vec::new(),
        };
        let set = Set::new(parts, None);
        Self(Arc::new(Inner {
            referee: Arc::new(Referee::new(Arc::clone(&set.plan), clock)),
            set: Swap::from_pointee(set),
            random: CachePadded::new(random),
            refused: AtomicU64::new(0),
            changes: Lock::new(()),
            changed: Arc::default(),
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
        self.choose(criteria, self.0.referee.now())
    }

    /// As [`pick_by`](Self::pick_by), when the clock reads `now`.
    #[inline]
    pub(crate) fn pick_by_at(
        &self,
        criteria: Criteria<'_>,
        now: Duration,
    ) -> Result<Pick<T>, NoEndpoint> {
        self.choose(criteria, outlier::reading(nanos(now)))
    }

    #[inline]
    fn choose(&self, criteria: Criteria<'_>, now: u64) -> Result<Pick<T>, NoEndpoint> {
        let inner = &*self.0;
        inner.referee.welcome_back(now);
        let set = inner.set.load();
        match set.plan.choose(criteria, now, &inner.random) {
            Some(index) => Ok(Pick::new(&set.nodes[index], now)),
            None => Err(inner.refuse(&set)),
        }
    }

    /// The endpoint of that id, for a call that can go nowhere else: whatever its weight, its health
    /// and the strategy say. `None` if it is not in the set. Looks at all endpoints.
    pub fn pick_endpoint(&self, id: EndpointId) -> Option<Pick<T>> {
        let set = self.0.set.load();
        let node = set.nodes.iter().find(|node| node.state.id == id)?;
        Some(Pick::new(node, self.0.referee.now()))
    }

    /// The endpoint of that id is ejected, or unhealthy. Looks at all endpoints.
    pub fn is_ejected(&self, id: EndpointId) -> bool {
        let set = self.0.set.load();
        let node = set.nodes.iter().find(|node| node.state.id == id);
        node.is_some_and(|node| node.state.until() > self.0.referee.now())
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
        let replaced = self.replace_endpoints(endpoints.into_iter().collect())?;
        self.tell(replaced);
        Ok(())
    }

    /// As [`set_endpoints`](Self::set_endpoints), and nobody is told before [`tell`](Self::tell).
    pub(crate) fn replace_endpoints(
        &self,
        endpoints: Vec<Endpoint<T>>,
    ) -> Result<Replaced<T>, ConfigError> {
        check_all(&endpoints)?;
        self.replace(|set, parts, referee| {
            parts.places = set.attach(endpoints, referee);
            Ok(())
        })
    }

    /// Adds an endpoint, or replaces all but the state of the one of that name.
    ///
    /// # Errors
    ///
    /// As [`set_endpoints`](Self::set_endpoints).
    pub fn insert(&self, endpoint: Endpoint<T>) -> Result<(), ConfigError> {
        let endpoint = vec![endpoint];
        check_all(&endpoint)?;
        self.change(|set, parts, referee| {
            for new in set.attach(endpoint, referee) {
                let mut places = parts.places.iter_mut();
                match places.find(|place| place.node.name == new.node.name) {
                    Some(place) => *place = new,
                    None => parts.places.push(new),
                }
            }
            check_many(parts.places.len())
        })
    }

    /// Takes an endpoint out; whether it was there. Its calls run on. To let them end first,
    /// [`drain`](Self::drain) it, and remove it when its snapshot shows none in flight.
    pub fn remove(&self, name: &str) -> bool {
        let mut removed = false;
        let outcome = self.change(|_, parts, _| {
            let many = parts.places.len();
            parts.places.retain(|place| &*place.node.name != name);
            removed = parts.places.len() < many;
            Ok(())
        });
        outcome.is_ok() && removed
    }

    /// Changes the weight of an endpoint; whether it is there.
    ///
    /// # Errors
    ///
    /// A weight above 1000.
    pub fn set_weight(&self, name: &str, weight: u32) -> Result<bool, ConfigError> {
        check_weight(weight)?;
        let mut found = false;
        self.change(|_, parts, _| {
            let mut places = parts.places.iter_mut();
            if let Some(place) = places.find(|place| &*place.node.name == name) {
                place.member.weight = weight;
                found = true;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Gives an endpoint no new calls, by weight 0; whether it is there.
    pub fn drain(&self, name: &str) -> bool {
        self.set_weight(name, 0).is_ok_and(|found| found)
    }

    /// Tells whether an endpoint is healthy, as somebody found who checks; whether it is there.
    ///
    /// All are at first, and one that goes and comes back is again. An unhealthy endpoint is given
    /// no calls while another is there; see
    /// [`refuse_unhealthy`](ConfigBuilder::refuse_unhealthy). One that is healthy again starts like
    /// one that is back from ejection. It counts neither as ejected nor among those that may be.
    pub fn set_health(&self, name: &str, healthy: bool) -> bool {
        self.0.referee.set_health(name, healthy)
    }

    /// Tells the zone of the callers, which prefer endpoints of their own; `None`, as at first:
    /// they go to all alike.
    pub fn set_zone(&self, zone: Option<&str>) {
        let changed = self.change(|_, parts, _| {
            parts.zone = zone.map(Arc::from);
            Ok(())
        });
        debug_assert!(changed.is_ok());
    }

    /// Calls `callback` for every event until the subscription is dropped; see [`Event`].
    ///
    /// It runs on the thread that causes the change, after it and outside of any lock: it delays
    /// that call alone, and may use the balancer. Its panics are caught.
    pub fn subscribe(&self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Subscription {
        self.0.referee.events.subscribe(callback)
    }

    /// Calls `callback` after every change of the endpoints or the settings until the subscription is
    /// dropped, also after one of which there is no [`Event`]: an endpoint that stays has another
    /// value, zone or priority. What becomes of endpoints by their calls is no such change.
    ///
    /// It runs as that of [`subscribe`](Self::subscribe) does, after the events.
    pub fn subscribe_changes(&self, callback: impl Fn() + Send + Sync + 'static) -> Subscription {
        self.0.changed.subscribe(move |()| callback())
    }

    /// Events through a channel of so many places (1 at least). What does not fit is dropped, and
    /// counted in [`Snapshot::lost_events`].
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<Event>) {
        self.0.referee.events.channel(capacity)
    }

    /// Endpoints in the set, those without a weight included.
    pub fn len(&self) -> usize {
        self.0.set.load().nodes.len()
    }

    /// There are no endpoints.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    /// | `failover_below`, `refuse_unhealthy` | for the next pick |
    /// | `interval`, `minimum_calls`, `minimum_endpoints` | for the interval that runs; a shorter one ends it sooner |
    pub fn set_config(&self, config: Config) {
        let changed = self.change(|_, parts, _| {
            parts.config = config;
            Ok(())
        });
        debug_assert!(changed.is_ok());
    }

    /// The clock by which latencies and ejections are counted.
    pub fn clock(&self) -> &SharedClock {
        &self.0.referee.clock
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<T>
    where
        T: Send + Sync,
    {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        let referee = &self.0.referee;
        let set = self.0.set.load();
        let now = referee.now();
        referee.welcome_back(now);
        let decay = set.plan.decay;
        let snapshot = |(member, node): (&Member, &Arc<Node<T>>)| {
            let (in_flight, latency) = node.state.burden(now, decay);
            let (successes, failures) = node.state.totals();
            EndpointSnapshot {
                name: Arc::clone(&member.name),
                id: node.state.id,
                weight: member.weight,
                priority: member.priority,
                zone: member.zone.clone(),
                healthy: !node.state.is_down(),
                in_flight,
                latency: latency.map(|latency| Duration::from_nanos(latency as u64)),
                ejected_for: outlier::ejected_for(&node.state, now),
                successes,
                failures,
            }
        };
        referee.hold(|ejections| Snapshot {
            endpoints: set
                .plan
                .members
                .iter()
                .zip(&set.nodes)
                .map(snapshot)
                .collect(),
            ejections,
            refused: self.0.refused.load(Ordering::Relaxed),
            lost_events: referee.events.lost(),
        })
    }

    /// Replaces settings and endpoints by what `next` makes of the present ones, and tells.
    fn change(
        &self,
        next: impl FnOnce(&Set<T>, &mut Parts<T>, &Arc<Referee>) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let replaced = self.replace(next)?;
        self.tell(replaced);
        Ok(())
    }

    /// As [`change`](Self::change), without telling.
    fn replace(
        &self,
        next: impl FnOnce(&Set<T>, &mut Parts<T>, &Arc<Referee>) -> Result<(), ConfigError>,
    ) -> Result<Replaced<T>, ConfigError> {
        let inner = &*self.0;
        let referee = &inner.referee;
        let lock = inner.changes.lock();
        let old = inner.set.load_full();
        let mut parts = old.parts();
        next(&old, &mut parts, referee)?;
        let set = Set::new(parts, Some(&old.plan));
        let mut news = News::for_subscribers_of(&referee.events);
        news.compare(&old.plan.members, &set.plan.members);
        let news = referee.change(Arc::clone(&set.plan), news);
        inner.set.store(Arc::new(set));
        drop(lock);
        Ok(Replaced { set: old, news })
    }

    /// Tells of what was replaced. What a caller's value does when it is dropped, and a subscriber
    /// when it is called, is not done under a lock.
    pub(crate) fn tell(&self, replaced: Replaced<T>) {
        let Replaced { set, news } = replaced;
        drop(set);
        news.tell(&self.0.referee.events);
        self.0.changed.emit(&());
    }
}

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
