//! Who is ejected: decided at the end of calls, under a lock that only ejections take.

use std::{sync::Arc, time::Duration};

use super::{
    config::Config,
    events::{Cause, Change, Event, News},
    ewma, nanos,
    plan::{Member, Plan},
    state::{DOWN, EndpointId, State},
};
use crate::{
    breaker::Outcome,
    clock::SharedClock,
    events::Events,
    primitive::{AtomicU64, Lock, LockGuard, Ordering, Swap},
};

/// What the end of a call needs; one for all endpoints of a balancer.
#[derive(Debug)]
pub(super) struct Referee {
    pub(super) clock: SharedClock,
    pub(super) events: Arc<Events<Event>>,
    rules: Swap<Rules>,
    /// When the success rates are judged next.
    due: AtomicU64,
    /// When the next ejection ends; `u64::MAX`: nobody is ejected.
    returns: AtomicU64,
    judge: Lock<Judge>,
}

/// The settings that every call's end needs.
#[derive(Debug)]
struct Rules {
    decay: f32,
    penalty: u64,
    streak: Option<u64>,
}

/// What ejections need.
#[derive(Debug)]
struct Judge {
    plan: Arc<Plan>,
    /// Success rates of one judgement, so that it needs no memory of its own.
    rates: Vec<Option<f64>>,
    ejections: u64,
    /// There are endpoints with a weight, and all of them are out.
    none_left: bool,
}

impl Referee {
    pub(super) fn new(plan: Arc<Plan>, clock: SharedClock) -> Self {
        let config = &plan.config;
        let due = clock.nanos().saturating_add(nanos(config.interval()));
        Self {
            clock,
            events: Arc::default(),
            rules: Swap::from_pointee(Rules::new(config)),
            due: AtomicU64::new(due),
            returns: AtomicU64::new(u64::MAX),
            judge: Lock::new(Judge {
                plan,
                rates: Vec::new(),
                ejections: 0,
                none_left: false,
            }),
        }
    }

    /// The clock's time, before [`DOWN`].
    #[inline]
    pub(super) fn now(&self) -> u64 {
        reading(self.clock.nanos())
    }

    /// A call that began at `began` ended now, and had its answer after `answered` ns if that is
    /// known.
    #[inline]
    pub(super) fn report(
        &self,
        state: &State,
        began: u64,
        answered: Option<u64>,
        outcome: Outcome,
    ) {
        let now = self.now();
        let rules = self.rules.load();
        let took = answered.unwrap_or_else(|| now.saturating_sub(began));
        // What began before the end of an ejection tells of the time before.
        let counts = began >= state.until();
        match outcome {
            Outcome::Success => {
                state.latency.observe(took as f32, false, now, rules.decay);
                if counts {
                    state.succeed();
                }
            }
            Outcome::Ignored => {
                // The time until it was given up says little, and would be all that is known: next
                // to nothing would draw all calls.
                let at_least = answered.is_none();
                let took = match at_least && state.latency.is_unmeasured() {
                    true => took.max(rules.penalty),
                    false => took,
                };
                let latency = &state.latency;
                latency.observe(took as f32, at_least, now, rules.decay);
            }
            Outcome::Failure | Outcome::Overloaded { .. } => {
                let took = took.max(rules.penalty);
                state.latency.observe(took as f32, false, now, rules.decay);
                if counts {
                    let streak = state.fail();
                    // Where an ejection was not allowed, only every so many failures ask again.
                    if rules.streak.is_some_and(|most| streak.is_multiple_of(most)) {
                        self.eject(state.id, now);
                    }
                }
            }
        }
        // ORDERING: Relaxed. It is looked at again under the lock.
        if now >= self.due.load(Ordering::Relaxed) {
            self.judge_rates(now);
        }
    }

    #[cold]
    fn eject(&self, id: EndpointId, now: u64) {
        let mut news = News::for_subscribers_of(&self.events);
        let mut judge = self.judge.lock();
        let plan = Arc::clone(&judge.plan);
        // One that is not there any more need not be ejected.
        if let Some(member) = plan.members.iter().find(|member| member.state.id == id)
            && judge.eject(member, Cause::ConsecutiveFailures, now, &mut news)
        {
            self.settle(judge, now, news).tell(&self.events);
        }
    }

    #[cold]
    fn judge_rates(&self, now: u64) {
        let mut news = News::for_subscribers_of(&self.events);
        let mut judge = self.judge.lock();
        if now >= self.due.load(Ordering::Relaxed) {
            let next = now.saturating_add(nanos(judge.plan.config.interval()));
            self.due.store(next, Ordering::Relaxed);
            if judge.judge_rates(now, &mut news) {
                self.settle(judge, now, news).tell(&self.events);
            }
        }
    }

    /// Sees to those whose ejection is over; one caller does, the others go on.
    #[inline]
    pub(super) fn welcome_back(&self, now: u64) {
        // ORDERING: Relaxed. Who is in is said by the endpoints' own words.
        let due = self.returns.load(Ordering::Relaxed);
        if now >= due {
            self.welcome(due, now);
        }
    }

    #[cold]
    fn welcome(&self, due: u64, now: u64) {
        let mine =
            self.returns
                .compare_exchange(due, u64::MAX, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_ok() {
            let news = News::for_subscribers_of(&self.events);
            let news = self.settle(self.judge.lock(), now, news);
            news.tell(&self.events);
        }
    }

    /// Other endpoints or settings hold from now on. One caller at a time; what is to be told it
    /// tells itself.
    pub(super) fn change(&self, plan: Arc<Plan>, news: News) -> News {
        let rates = Vec::with_capacity(plan.members.len());
        let mut judge = self.judge.lock();
        let now = self.now();
        let config = plan.config;
        let rates = std::mem::replace(&mut judge.rates, rates);
        let plan = std::mem::replace(&mut judge.plan, plan);
        judge.release_surplus(now);
        let soon = now.saturating_add(nanos(config.interval()));
        let due = self.due.load(Ordering::Relaxed).min(soon);
        self.due.store(due, Ordering::Relaxed);
        self.rules.store(Arc::new(Rules::new(&config)));
        let news = self.settle(judge, now, news);
        drop((plan, rates));
        news
    }

    /// An endpoint is healthy or not, as the caller says; whether it is there.
    pub(super) fn set_health(&self, name: &str, healthy: bool) -> bool {
        let mut news = News::for_subscribers_of(&self.events);
        let judge = self.judge.lock();
        let now = self.now();
        let plan = Arc::clone(&judge.plan);
        let mut members = plan.members.iter();
        let Some(member) = members.find(|member| &*member.name == name) else {
            return false;
        };
        let state = &member.state;
        if state.is_down() == healthy {
            let change = if healthy {
                state.let_in(now);
                Change::Healthy
            } else {
                // It is not ejected any more, and comes back when the caller says so.
                state.record.ejected.store(0, Ordering::Relaxed);
                state.leave_out(DOWN);
                Change::Unhealthy
            };
            news.push(&member.name, state.id, change);
            judge.release_surplus(now);
            self.settle(judge, now, news).tell(&self.events);
        }
        true
    }

    /// After whoever went out or came in: the shares of the pools, the next return, and what there
    /// is to tell now that the lock is free.
    fn settle(&self, mut judge: LockGuard<'_, Judge>, now: u64, mut news: News) -> News {
        let mut returns = u64::MAX;
        for member in judge.plan.members.iter() {
            let state = &member.state;
            if judge.is_ejected(member, now) {
                returns = returns.min(state.until());
            } else if state.record.ejected.swap(0, Ordering::Relaxed) != 0 {
                news.push(&member.name, state.id, Change::Returned);
            }
        }
        self.returns.store(returns, Ordering::Relaxed);
        judge.plan.share_out(now);
        judge.count_left(now, &mut news);
        news
    }

    /// What `look` sees while nobody is ejected or counted, and the ejections since the beginning.
    pub(super) fn hold<R>(&self, look: impl FnOnce(u64) -> R) -> R {
        let judge = self.judge.lock();
        look(judge.ejections)
    }
}

impl Rules {
    fn new(config: &Config) -> Self {
        Self {
            decay: ewma::decay(nanos(config.decay())),
            penalty: config.failure_penalty().map_or(0, nanos),
            streak: config.consecutive_failures().map(u64::from),
        }
    }
}

impl Judge {
    /// Ejected, and given calls otherwise.
    fn is_ejected(&self, member: &Member, now: u64) -> bool {
        member.state.is_out(now) && !member.state.is_down()
    }

    /// Ejects one that has a weight, unless it is out already or as many are as may be.
    fn eject(&mut self, member: &Member, cause: Cause, now: u64, news: &mut News) -> bool {
        let (most, out) = self.bounds(now);
        if member.weight == 0 || member.state.is_out(now) || out >= most {
            return false;
        }
        let config = &self.plan.config;
        let state = &member.state;
        let between = now.saturating_sub(state.until()) / nanos(config.interval()).max(1);
        let before = state.record.ejections.load(Ordering::Relaxed);
        let times = before.saturating_sub(between).saturating_add(1);
        state.record.ejections.store(times, Ordering::Relaxed);
        state.record.ejected.store(1, Ordering::Relaxed);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        let time = config.ejection_time().saturating_mul(times);
        let time = time.min(config.max_ejection_time());
        state.leave_out(now.saturating_add(nanos(time)).min(DOWN - 1));
        news.push(&member.name, state.id, Change::Ejected { cause, time });
        self.ejections += 1;
        true
    }

    /// The most that may be ejected, and how many are: of those that have a weight and are healthy.
    fn bounds(&self, now: u64) -> (usize, usize) {
        let config = &self.plan.config;
        let ejects =
            config.consecutive_failures().is_some() || config.success_rate_deviations().is_some();
        let members = self.plan.members.iter();
        let all = members.filter(|member| member.weight > 0 && !member.state.is_down());
        let (all, out) = all.fold((0, 0), |(all, out), member| {
            (all + 1, out + usize::from(member.state.is_out(now)))
        });
        let most = match all {
            0 | 1 => 0,
            _ if !ejects => 0,
            _ => ((config.max_ejected() * all as f64) as usize).clamp(1, all - 1),
        };
        (most, out)
    }

    /// Lets those in whose time ends first, until no more are out than may be.
    fn release_surplus(&self, now: u64) {
        let (most, out) = self.bounds(now);
        for _ in most..out {
            let ejected = self.plan.members.iter();
            let ejected = ejected.filter(|one| one.weight > 0 && self.is_ejected(one, now));
            if let Some(member) = ejected.min_by_key(|member| member.state.until()) {
                member.state.let_in(now);
            }
        }
    }

    /// Whether anybody with a weight is in, and who made the difference if that is new.
    fn count_left(&mut self, now: u64, news: &mut News) {
        let weighty = self.plan.members.iter().filter(|member| member.weight > 0);
        let mut left = weighty.clone().filter(|member| !member.state.is_out(now));
        // The one that went last, or one of those that came.
        let (none_left, member) = match left.next() {
            Some(member) => (false, Some(member)),
            None => (true, weighty.max_by_key(|member| member.state.until())),
        };
        let Some(member) = member else {
            self.none_left = false;
            return;
        };
        if none_left != self.none_left {
            let change = match none_left {
                true => Change::NoneLeft,
                false => Change::SomeLeft,
            };
            news.push(&member.name, member.state.id, change);
        }
        self.none_left = none_left;
    }

    /// Ejects those whose success rate is far below the mean, the worst first; whether any.
    fn judge_rates(&mut self, now: u64, news: &mut News) -> bool {
        let plan = Arc::clone(&self.plan);
        let mut rates = std::mem::take(&mut self.rates);
        rates.clear();
        rates.extend(plan.members.iter().map(|member| self.rate(member, now)));
        let (mut many, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for rate in rates.iter().flatten() {
            many += 1.0;
            sum += rate;
            squares += rate * rate;
        }
        let mut any = false;
        if let Some(deviations) = plan.config.success_rate_deviations()
            && many >= f64::from(plan.config.minimum_endpoints())
        {
            let mean: f64 = sum / many;
            let deviation = (squares / many - mean * mean).max(0.0).sqrt();
            let least = mean - deviations * deviation - ROUNDING;
            while let Some((index, rate)) = lowest(&rates) {
                let member = &plan.members[index];
                if rate >= least || !self.eject(member, Cause::SuccessRate, now, news) {
                    break;
                }
                any = true;
                rates[index] = None;
            }
        }
        self.rates = rates;
        any
    }

    /// The success rate of the interval, if there is enough to tell.
    fn rate(&self, member: &Member, now: u64) -> Option<f64> {
        let (successes, failures) = member.state.take_calls();
        let calls = f64::from(successes) + f64::from(failures);
        let enough = calls >= f64::from(self.plan.config.minimum_calls());
        let judged = enough && member.weight > 0 && !member.state.is_out(now);
        judged.then(|| f64::from(successes) / calls)
    }
}

/// By less than this the mean of equal rates may be above them, as computed.
const ROUNDING: f64 = 1e-9;

fn lowest(rates: &[Option<f64>]) -> Option<(usize, f64)> {
    let rates = rates.iter().enumerate();
    let rates = rates.filter_map(|(index, rate)| rate.map(|rate| (index, rate)));
    rates.reduce(|low, next| if next.1 < low.1 { next } else { low })
}

/// What a clock reads, before [`DOWN`].
#[inline]
pub(super) fn reading(nanos: u64) -> u64 {
    nanos.min(DOWN - 1)
}

/// The rest of an ejection at `now`.
pub(super) fn ejected_for(state: &State, now: u64) -> Option<Duration> {
    let rest = match state.is_down() {
        true => 0,
        false => state.until().saturating_sub(now),
    };
    (rest > 0).then(|| Duration::from_nanos(rest))
}
