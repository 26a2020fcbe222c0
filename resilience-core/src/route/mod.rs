//! Read/write split: which node of a replicated store each call goes to.
//!
//! Whoever asks the nodes tells [`Router::observe`] what they are; the router says where a call
//! goes, by rules that need no engine. There is no I/O here, and no timer.
//!
//! # Which node is the primary
//!
//! | what was seen | who takes writes |
//! |---|---|
//! | one primary of the newest epoch | that one |
//! | a primary of an older epoch | nobody goes there, neither reads nor writes, also when the newer one is gone: it is fenced, counted and shown |
//! | a newer epoch, told by a replica or by those who elect | nobody, until its primary is seen |
//! | two primaries of the newest epoch | nobody, until one of them says otherwise or is down |
//! | a primary that was down, hung longer than `observation_ttl` or has restarted, and is back at the newest epoch that is known | nobody, until every other node was asked since: if it was replaced meanwhile, they tell |
//! | a primary at the very beginning | likewise |
//! | a primary of an epoch that is newer than all before | that one, at once |
//! | a node of another cluster | nobody goes there |
//! | an answer that is older than one that was told | nothing is changed by it, except that its epoch counts if it is newer |
//!
//! # Which nodes a read may go to
//!
//! A node counts if its last look was answered, no longer ago than `observation_ttl`, as a replica of
//! the newest epoch; and if it is not draining and was not tried before.
//!
//! | freshness | a replica will do, if |
//! |---|---|
//! | [`Any`](Freshness::Any) | it counts |
//! | [`MaxLag`](Freshness::MaxLag) | it has a position that the primary had so long ago or later, both by our clock |
//! | [`AtLeast`](Freshness::AtLeast) | its position covers the token |
//! | [`Primary`](Freshness::Primary) | never |
//!
//! | in this order | the read goes |
//! |---|---|
//! | 1 | to a replica that will do and is not out by lag; which of them, the strategy of [`balance`](crate::balance) says |
//! | 2 | [`Step::Probe`]: to nobody yet, as a replica is about to have the token by the time it usually takes |
//! | 3 | [`Step::Wait`]: to nobody yet, as one will within `max_wait` |
//! | 4 | [`Step::Observe`]: to nobody yet, as the token is past all that is known of the primary |
//! | 5 | to the primary: without limit if it is the only node or asked for, else within the spill budget |
//! | 6 | to a replica that will do, and is out by lag or ejected by the strategy |
//! | 7 | nowhere: [`NoRoute`] |
//!
//! A replica is out by lag above `max_lag`, and in again after `readmit_after` at `readmit_lag` or below;
//! while no primary is seen, nobody falls behind.
//!
//! # What a token says
//!
//! | a token | is |
//! |---|---|
//! | of another cluster | refused: [`Foreign`](Reason::Foreign) |
//! | of an older epoch, where that and all since ended at its position or past it | as good as one of the newest epoch |
//! | of an older epoch, where that or one since ended before its position, or that is not in the history | refused: [`Diverged`](Reason::Diverged). The write was acknowledged, and is lost |
//! | of an older epoch, while nobody told the history | refused: [`UnknownHistory`](Reason::UnknownHistory); by [`Position::TELLS_HISTORY`], judged by the position of the primary |
//! | of a newer epoch, or past the primary | read where a replica has it; else [`Step::Observe`]; then, if the primary was asked since and still knows nothing of it, refused: [`Future`](Reason::Future) |
//!
//! # What it cannot know
//!
//! A primary that was replaced while it could be reached, by one that nobody could look at yet, is
//! given writes until somebody looks. If they are lost, their tokens are [`Diverged`](Reason::Diverged).
//! A replica may be built anew at a lower position between two looks: the adapter compares
//! [`Route::incarnation`] with that of its connection.
//!
//! # Concurrency
//!
//! A call reads one immutable view: it takes no lock and no memory. Looks are put down one after the
//! other under a lock, each of which makes a new view. A call that races with a look is routed as
//! before it or as after it. Subscribers are called by whoever tells of a look, after it and outside
//! of any lock; of a write that is lost, by the call that asked for it.

mod config;
mod error;
mod events;
mod lag;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod observation;
mod position;
mod request;
mod select;
mod stats;
mod step;
mod token;
mod view;

use std::{
    fmt,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

pub use self::{
    config::{Config, ConfigBuilder},
    error::{Disposition, Failure, NoRoute, Reason},
    events::{Change, Event},
    observation::{Fork, Observation, Role},
    position::{
        Counter, Coverage, Gtid, GtidSet, Lsn, Offset, ParseError, Position, parse_history,
        parse_timeline,
    },
    request::{Freshness, Intent, Request},
    stats::{NodeSnapshot, Snapshot, Why},
    step::{Route, Step},
    token::{MAX_TOKEN, Token, TokenError},
};
use self::{
    events::News,
    select::{Mask, Survey},
    stats::{Counts, add},
    view::{Member, Noted, Standing, View},
};
use crate::{
    balance::{Balancer, Criteria, Endpoint, EndpointId, Pick},
    clock::{Clock, SharedClock},
    events::Events,
    primitive::{AtomicU64, Lock, Ordering, Swap},
    retry::RetryBudget,
    settings::check,
};
pub use crate::{breaker::Subscription, settings::ConfigError};

/// Routes calls to the nodes of one cluster; clones are handles on the same one.
///
/// `P` is the [`Position`] of the engine, `T` what a call needs to reach a node.
///
/// # Examples
///
/// ```
/// use resilience_core::{
///     balance::{self, Endpoint},
///     route::{Config, Freshness, Lsn, Observation, Request, Role, Router, Step, Token},
/// };
///
/// let router = Router::new(Config::default(), balance::Config::default(), None);
/// router.set_nodes([Endpoint::new("a", "10.0.0.1"), Endpoint::new("b", "10.0.0.2")])?;
///
/// // Somebody asks the nodes, every 50 ms.
/// let now = router.now();
/// router.observe("a", Observation::new(Role::Primary, 7, 1, "0/3000".parse::<Lsn>()?, now));
/// router.observe("b", Observation::new(Role::Replica, 7, 1, "0/2000".parse()?, now));
///
/// let token = Token { cluster: 7, epoch: 1, position: "0/1000".parse()? };
/// let read = Request::read(Freshness::AtLeast(&token), router.now());
/// let Step::Go(route) = router.route(&read)? else { panic!() };
/// assert_eq!(*route.value(), "10.0.0.2");
/// route.success();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Router<P, T>(Arc<Inner<P, T>>);

struct Inner<P, T> {
    view: Swap<View<P>>,
    /// Held by those who change the view.
    changes: Lock<()>,
    nodes: Balancer<T>,
    spill: RetryBudget,
    counts: Counts,
    events: Arc<Events<Event>>,
    /// 1: takes no more calls.
    draining: AtomicU64,
    /// The newest epoch in which a lost write was told, and 1.
    diverged: AtomicU64,
}

/// The most nodes.
const MOST: usize = Mask::BITS as usize;

impl<P: Position, T> Router<P, T> {
    /// A router without nodes on the default clock. `cluster` is the id of the only cluster whose
    /// nodes count; `None`: that of the first that answers.
    pub fn new(config: Config, balance: crate::balance::Config, cluster: Option<u64>) -> Self {
        Self::with_clock(config, balance, cluster, SharedClock::default())
    }

    /// A router without nodes on a clock of one's own.
    pub fn with_clock(
        config: Config,
        balance: crate::balance::Config,
        cluster: Option<u64>,
        clock: impl Into<SharedClock>,
    ) -> Self {
        let clock = clock.into();
        let nodes = Balancer::with_clock(balance, clock.clone());
        Self::made(config, cluster, nodes, clock)
    }

    /// As [`with_clock`](Self::with_clock), with the same choices for the same seed and calls.
    pub fn with_seed(
        config: Config,
        balance: crate::balance::Config,
        cluster: Option<u64>,
        clock: impl Into<SharedClock>,
        seed: u64,
    ) -> Self {
        let clock = clock.into();
        let nodes = Balancer::with_seed(balance, clock.clone(), seed);
        Self::made(config, cluster, nodes, clock)
    }

    fn made(config: Config, cluster: Option<u64>, nodes: Balancer<T>, clock: SharedClock) -> Self {
        Self(Arc::new(Inner {
            view: Swap::from_pointee(View::new(cluster, config)),
            changes: Lock::new(()),
            spill: RetryBudget::with_clock(config.spill(), clock),
            nodes,
            counts: Counts::new(),
            events: Arc::default(),
            draining: AtomicU64::new(0),
            diverged: AtomicU64::new(0),
        }))
    }

    /// The time of the router's clock.
    pub fn now(&self) -> Duration {
        self.0.nodes.clock().now()
    }

    /// Replaces the nodes. Those that are known by name keep what is known of them.
    ///
    /// # Errors
    ///
    /// As [`Balancer::set_endpoints`], and more than 32 nodes.
    pub fn set_nodes(
        &self,
        nodes: impl IntoIterator<Item = Endpoint<T>>,
    ) -> Result<(), ConfigError> {
        self.set_nodes_with(nodes, || {})
    }

    /// As [`set_nodes`](Self::set_nodes); `with` does what goes with these nodes, before others may
    /// replace them and before subscribers are told.
    ///
    /// It is called if the nodes are taken, under the lock of those who change the router: it must not
    /// change the router, nor wait for who does.
    ///
    /// # Errors
    ///
    /// As [`set_nodes`](Self::set_nodes).
    pub fn set_nodes_with(
        &self,
        nodes: impl IntoIterator<Item = Endpoint<T>>,
        with: impl FnOnce(),
    ) -> Result<(), ConfigError> {
        let nodes: Vec<_> = nodes.into_iter().collect();
        check("nodes", nodes.len(), nodes.len() <= MOST, || {
            format!("0 to {MOST}")
        })?;
        let replaced = self.change(|view, news| {
            let replaced = self.0.nodes.replace_endpoints(nodes)?;
            let before = self.0.view.load();
            view.set_members(self.0.nodes.snapshot().endpoints.into_iter());
            news.standing(&before, view, None);
            with();
            Ok(replaced)
        })?;
        self.0.nodes.tell(replaced);
        Ok(())
    }

    /// Puts down what a node answered; whether there is a node of that name.
    pub fn observe(&self, name: &str, observation: Observation<P>) -> bool {
        self.look(name, |view, index| {
            let noted = view.observe(index, observation);
            self.0.counts.noted(noted);
            noted
        })
    }

    /// Puts down that a node did not answer a question that was sent at `at`; whether there is a
    /// node of that name.
    pub fn unreachable(&self, name: &str, at: Duration) -> bool {
        self.look(name, |view, index| {
            view.unreachable(index, at);
            Noted::default()
        })
    }

    /// Gives a node no new calls, or calls again; whether it is there. A primary that drains takes
    /// no writes, and nobody does.
    pub fn set_draining(&self, name: &str, draining: bool) -> bool {
        self.change(|view, _| {
            let mut members = view.members.iter_mut();
            let member = members.find(|member| &*member.name == name);
            member.map(|member| member.draining = draining).is_some()
        })
    }

    /// Takes no more calls, for good. Those that run end; see [`in_flight`](Self::in_flight).
    pub fn drain(&self) {
        // ORDERING: Relaxed. A call that races with it comes before it.
        self.0.draining.store(1, Ordering::Relaxed);
    }

    /// Calls that run.
    pub fn in_flight(&self) -> u64 {
        let nodes = self.0.nodes.snapshot().endpoints;
        nodes.iter().map(|node| u64::from(node.in_flight)).sum()
    }

    /// Changes the settings, for all handles at once. Lags, and who is out by them, are judged anew
    /// when a replica is seen next; what is left of the spill budget stays.
    pub fn set_config(&self, config: Config) {
        self.change(|view, _| {
            self.0.spill.set_config(config.spill());
            view.config = config;
        });
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        self.0.view.load().config
    }

    /// The nodes as the strategy sees them: latencies, ejections, zones. Its set of endpoints is
    /// that of [`set_nodes`](Self::set_nodes); do not change it here.
    pub fn balancer(&self) -> &Balancer<T> {
        &self.0.nodes
    }

    /// Calls `callback` for every event until the subscription is dropped; see [`Event`].
    ///
    /// It runs on the thread that tells of the look, after it and outside of any lock: it delays
    /// that look alone, and may use the router. A write that is lost is told on the thread of the call
    /// that is refused. Its panics are caught.
    pub fn subscribe(&self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Subscription {
        self.0.events.subscribe(callback)
    }

    /// Events through a channel of so many places (1 at least). What does not fit is dropped, and
    /// counted in [`Snapshot::lost_events`].
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<Event>) {
        self.0.events.channel(capacity)
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot<P> {
        let inner = &*self.0;
        let view = inner.view.load();
        let mut snapshot = inner.counts.snapshot(&view, self.now());
        snapshot.draining = self.is_draining();
        snapshot.lost_events = inner.events.lost();
        snapshot
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed) == 1
    }

    /// Where a call goes.
    ///
    /// # Errors
    ///
    /// [`NoRoute`].
    pub fn route(&self, request: &Request<'_, P>) -> Result<Step<T>, NoRoute> {
        let now = self.now();
        let view = self.0.view.load();
        let step = match request.intent.writes() {
            _ if self.is_draining() => Err(refuse(&view, Reason::Draining, None)),
            true => self.route_to_primary(&view, now, Why::Write),
            false => self.route_read(&view, request, now),
        };
        let counts = &self.0.counts;
        match &step {
            Ok(Step::Go(route)) => counts.routed(route.why),
            Ok(Step::Probe(_)) => add(&counts.probes),
            Ok(Step::Wait(_)) => add(&counts.waits),
            Ok(Step::Observe) => add(&counts.observes),
            Err(error) => self.refused(&view, error.reason),
        }
        step
    }

    #[cold]
    fn refused(&self, view: &View<P>, reason: Reason) {
        let inner = &*self.0;
        inner.counts.refused(reason);
        if reason == Reason::Diverged && inner.events.wanted() {
            let epoch = view.epoch.unwrap_or_default().saturating_add(1);
            // ORDERING: Relaxed. One of those who raise it to this tells.
            if inner.diverged.fetch_max(epoch, Ordering::Relaxed) < epoch {
                inner.events.emit(&events::diverged(view));
            }
        }
    }

    /// As [`route`](Self::route), for a read that was told to look, of which not all looks have ended,
    /// and that asks after each: `None` while another look may do better.
    ///
    /// Only one that was told to [`Observe`](Step::Observe) ends before all looks have ended without
    /// a replica that is fresh enough: as soon as the primary has told.
    pub fn route_early(&self, request: &Request<'_, P>) -> Option<Result<Step<T>, NoRoute>> {
        let view = self.0.view.load();
        let now = self.now();
        match view.survey(request, now) {
            _ if self.is_draining() => {}
            Ok(survey) if request.observed && !survey.beyond => {}
            Ok(survey) => {
                let step = self.go_fresh(&view, request, &survey, now)?;
                self.0.counts.routed(Why::Fresh);
                return Some(Ok(step));
            }
            Err(reason) if reason.passes() => return None,
            Err(_) => {}
        }
        Some(self.route(request))
    }

    /// Whether a write would be given a node now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn writable(&self) -> Result<(), Reason> {
        match self.is_draining() {
            true => Err(Reason::Draining),
            false => self.0.view.load().primary(self.now()).map(|_| ()),
        }
    }

    /// Whether it is worth asking where a read goes: a node may do, or the answer is final. Nothing is
    /// counted.
    pub fn readable(&self, request: &Request<'_, P>) -> bool {
        let (view, now) = (self.0.view.load(), self.now());
        let primary = view.primary(now);
        let left = |index: usize| !request.tried.contains(&view.members[index].id);
        let survey = view.survey(request, now);
        self.is_draining()
            || primary.is_ok_and(left)
            || survey.map_or(true, |survey| survey.fresh | survey.lagging != 0)
    }

    /// Whether a node answers as the one primary, and takes no writes as not all others were asked
    /// since: they are best asked at once.
    pub fn is_unconfirmed(&self, name: &str) -> bool {
        let view = self.0.view.load();
        let member = view.members.iter().find(|member| &*member.name == name);
        let primary = member.is_some_and(|member| {
            let seen = member.seen.as_ref().filter(|_| member.reachable);
            seen.is_some_and(|seen| seen.role == Role::Primary && Some(seen.epoch) == view.epoch)
        });
        primary && view.standing == Standing::Unconfirmed
    }

    /// Whether a node is still what it was when a call was sent there, for that reason: the same run of
    /// it, up, of the newest epoch and not draining; the primary, if the call asked for that; not
    /// ejected, if it was not the last resort.
    pub fn is_current(&self, node: EndpointId, incarnation: u64, why: Why) -> bool {
        let (view, now) = (self.0.view.load(), self.now());
        let index = view.members.iter().position(|member| member.id == node);
        let Some(index) = index else {
            return false;
        };
        let member = &view.members[index];
        let same = member.up(now, &view.config).filter(|seen| {
            seen.incarnation == incarnation && Some(seen.epoch) == view.epoch && !member.draining
        });
        same.is_some_and(|seen| match why {
            _ if seen.role == Role::Primary => view.primary(now) == Ok(index),
            Why::Write | Why::Asked => false,
            Why::Fresh => !self.0.nodes.is_ejected(node),
            Why::LastResort | Why::Spilled => true,
        })
    }

    /// Whether a replica is as fresh as a read asks, at this moment.
    pub fn is_fresh(&self, node: EndpointId, request: &Request<'_, P>) -> bool {
        let view = self.0.view.load();
        let index = view.members.iter().position(|member| member.id == node);
        let survey = view.survey(request, self.now());
        let (Some(index), Ok(survey)) = (index, survey) else {
            return false;
        };
        (survey.fresh | survey.lagging) & 1 << index != 0
    }

    /// The id of the cluster; `None` while no node has answered.
    pub fn cluster(&self) -> Option<u64> {
        self.0.view.load().cluster
    }

    fn route_to_primary(
        &self,
        view: &View<P>,
        now: Duration,
        why: Why,
    ) -> Result<Step<T>, NoRoute> {
        let primary = view.primary(now);
        let primary = primary.map_err(|reason| refuse(view, reason, None))?;
        let step = self.go_exactly(view, primary, why);
        step.ok_or_else(|| refuse(view, Reason::NoPrimary, None))
    }

    fn route_read(
        &self,
        view: &View<P>,
        request: &Request<'_, P>,
        now: Duration,
    ) -> Result<Step<T>, NoRoute> {
        if !request.probed && !request.waited && !request.observed && request.tried.is_empty() {
            self.0.spill.deposit_at(now);
        }
        let survey = view.survey(request, now);
        let survey = survey.map_err(|reason| refuse(view, reason, None))?;
        if let Some(step) = self.go_fresh(view, request, &survey, now) {
            return Ok(step);
        }
        if let Some(step) = next_step(view, request, &survey) {
            return Ok(step);
        }
        let primary = self.spill(view, request, &survey, now);
        primary.or_else(|error| {
            // Whoever the strategy would spare is better than nobody.
            let mut left = members(survey.fresh).chain(members(survey.lagging));
            let step = left.find_map(|index| self.go_exactly(view, index, Why::LastResort));
            step.ok_or(error)
        })
    }

    /// One that is fresh enough: the one that is preferred, one of the zone, or any.
    fn go_fresh(
        &self,
        view: &View<P>,
        request: &Request<'_, P>,
        survey: &Survey,
        now: Duration,
    ) -> Option<Step<T>> {
        let among = |does: &dyn Fn(&Member<P>) -> bool| {
            let mask = members(survey.fresh).filter(|index| does(&view.members[*index]));
            self.go_among(
                view,
                mask.fold(0, |mask, index| mask | 1 << index),
                Why::Fresh,
                now,
            )
        };
        let preferred = request.preferred;
        let preferred = preferred.and_then(|id| among(&|member| member.id == id));
        preferred
            .or_else(|| {
                let zone = request.zone?;
                among(&|member| member.zone.as_deref() == Some(zone))
            })
            .or_else(|| self.go_among(view, survey.fresh, Why::Fresh, now))
    }

    /// A read on the primary.
    fn spill(
        &self,
        view: &View<P>,
        request: &Request<'_, P>,
        survey: &Survey,
        now: Duration,
    ) -> Result<Step<T>, NoRoute> {
        let asked = matches!(request.freshness, Freshness::Primary);
        let none = |reason| match reason {
            Reason::NoPrimary if asked => reason,
            Reason::NoPrimary if survey.replicas > 0 => Reason::Behind,
            Reason::NoPrimary => Reason::NoNode,
            reason => reason,
        };
        let primary = view.primary(now);
        let primary = primary.map_err(|reason| refuse(view, none(reason), survey.eta))?;
        let tried = request.tried.contains(&view.members[primary].id);
        if tried || survey.beyond {
            // Beyond what is known of it, though somebody was told to look.
            let reason = none(Reason::NoPrimary);
            return Err(refuse(view, reason, survey.eta));
        }
        let why = if asked { Why::Asked } else { Why::Spilled };
        if !asked && view.members.len() > 1 {
            let spent = self.0.spill.try_withdraw().err();
            if let Some(spent) = spent {
                let after = survey.eta.or(spent.earned_after);
                return Err(refuse(view, Reason::SpillSpent, after));
            }
        }
        self.route_to_primary(view, now, why)
    }

    /// One of `mask`, by the strategy; `None` if it would give none of them a call.
    fn go_among(&self, view: &View<P>, mask: Mask, why: Why, now: Duration) -> Option<Step<T>> {
        if mask == 0 {
            return None;
        }
        let mut excluded = [view.members.first()?.id; MOST];
        let mut many = 0;
        for (index, member) in view.members.iter().enumerate() {
            if mask & 1 << index == 0 {
                excluded[many] = member.id;
                many += 1;
            }
        }
        let criteria = Criteria::default().excluding(&excluded[..many]);
        let pick = self.0.nodes.pick_by_at(criteria, now).ok()?;
        // Rather one that is excluded than one that is ejected: not here.
        let index = members(mask).find(|index| view.members[*index].id == pick.id());
        match index {
            Some(index) => made(view, index, pick, why),
            None => {
                drop(pick.pass_over());
                None
            }
        }
    }

    fn go_exactly(&self, view: &View<P>, index: usize, why: Why) -> Option<Step<T>> {
        let pick = self.0.nodes.pick_endpoint(view.members[index].id)?;
        made(view, index, pick, why)
    }

    /// Puts down a look at a node; whether there is one of that name.
    fn look(&self, name: &str, look: impl FnOnce(&mut View<P>, usize) -> Noted) -> bool {
        self.change(|view, news| {
            let index = view.members.iter().position(|member| &*member.name == name);
            let Some(index) = index else {
                return false;
            };
            let before = self.0.view.load();
            let noted = look(view, index);
            news.look(&before, view, index, noted);
            true
        })
    }

    fn change<R>(&self, change: impl FnOnce(&mut View<P>, &mut News) -> R) -> R {
        let inner = &*self.0;
        let mut news = News::for_subscribers_of(&inner.events);
        let held = inner.changes.lock();
        let mut view = View::clone(&inner.view.load());
        let result = change(&mut view, &mut news);
        inner.view.store(Arc::new(view));
        drop(held);
        news.tell(&inner.events);
        result
    }
}

fn made<P: Position, T>(view: &View<P>, index: usize, pick: Pick<T>, why: Why) -> Option<Step<T>> {
    let incarnation = view.members[index].seen.as_ref()?.incarnation;
    Some(Step::Go(Route {
        pick,
        why,
        epoch: view.epoch?,
        incarnation,
    }))
}

/// What to do before the primary is asked.
fn next_step<P: Position, T>(
    view: &View<P>,
    request: &Request<'_, P>,
    survey: &Survey,
) -> Option<Step<T>> {
    // Who had all looked at had that one looked at.
    let probed = request.probed || request.observed;
    if let (Some(index), false) = (members(survey.near).next(), probed) {
        return Some(Step::Probe(view.members[index].id));
    }
    let longest = view.config.max_wait();
    if let (Some(eta), Some(longest), false) = (survey.eta, longest, request.waited)
        && eta <= longest
    {
        return Some(Step::Wait(eta));
    }
    (survey.beyond && !request.observed).then_some(Step::Observe)
}

/// A refusal, with the time after which it may be otherwise.
#[cold]
fn refuse<P>(view: &View<P>, reason: Reason, eta: Option<Duration>) -> NoRoute {
    let poll = view.config.poll_interval();
    NoRoute {
        reason,
        retry_after: reason
            .passes()
            .then(|| eta.filter(|eta| !eta.is_zero()).unwrap_or(poll)),
    }
}

/// The members of a set.
fn members(mask: Mask) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let index = left.trailing_zeros();
        (left != 0).then(|| {
            left &= left - 1;
            index as usize
        })
    })
}

impl<P: Position, T> Router<P, T> {
    /// The id of a node by its name.
    pub fn id(&self, name: &str) -> Option<EndpointId> {
        let view = self.0.view.load();
        let mut members = view.members.iter();
        let member = members.find(|member| &*member.name == name)?;
        Some(member.id)
    }
}

impl<P, T> Clone for Router<P, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P, T> fmt::Debug for Router<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}
