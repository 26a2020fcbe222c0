//! Who is ejected: decided at the end of calls, under a lock that only ejections take.

use std::{sync::Arc, time::Duration};

use super::{
    config::Config,
    ewma, nanos,
    plan::Member,
    state::{EndpointId, State},
};
use crate::{
    breaker::Outcome,
    clock::SharedClock,
    primitive::{AtomicU64, Lock, Ordering, Swap},
};

/// What the end of a call needs; one for all endpoints of a balancer.
#[derive(Debug)]
pub(super) struct Referee {
    pub(super) clock: SharedClock,
    rules: Swap<Rules>,
    /// When the success rates are judged next.
    due: AtomicU64,
    judge: Lock<Judge>,
}

/// The settings that every call's end needs.
#[derive(Debug)]
struct Rules {
    decay: f32,
    penalty: u64,
    streak: Option<u64>,
    rates: bool,
}

/// What ejections need.
#[derive(Debug)]
struct Judge {
    config: Config,
    members: Arc<[Member]>,
    /// Success rates of one judgement, so that it needs no memory of its own.
    rates: Vec<Option<f64>>,
    ejections: u64,
}

impl Referee {
    pub(super) fn new(config: Config, clock: SharedClock) -> Self {
        let due = clock.nanos().saturating_add(nanos(config.interval()));
        Self {
            clock,
            rules: Swap::from_pointee(Rules::new(&config)),
            due: AtomicU64::new(due),
            judge: Lock::new(Judge {
                config,
                members: Arc::new([]),
                rates: Vec::new(),
                ejections: 0,
            }),
        }
    }

    /// A call that began at `began` ended now.
    #[inline]
    pub(super) fn report(&self, state: &State, began: u64, outcome: Outcome) {
        let now = self.clock.nanos();
        let rules = self.rules.load();
        let took = now.saturating_sub(began);
        // What began before the end of an ejection tells of the time before.
        let counts = began >= state.until();
        match outcome {
            Outcome::Success => {
                state.latency.observe(took as f32, false, now, rules.decay);
                if counts {
                    state.succeed(rules.rates);
                }
            }
            Outcome::Ignored => {
                // The time until it was given up says little, and would be all that is known: next
                // to nothing would draw all calls.
                let took = match state.latency.is_unmeasured() {
                    true => took.max(rules.penalty),
                    false => took,
                };
                state.latency.observe(took as f32, true, now, rules.decay);
            }
            Outcome::Failure | Outcome::Overloaded { .. } => {
                let took = took.max(rules.penalty);
                state.latency.observe(took as f32, false, now, rules.decay);
                if counts {
                    let streak = state.fail(rules.rates);
                    // Where an ejection was not allowed, only every so many failures ask again.
                    if rules.streak.is_some_and(|most| streak.is_multiple_of(most)) {
                        self.eject(state.id, now);
                    }
                }
            }
        }
        // ORDERING: Relaxed. It is looked at again under the lock.
        if rules.rates && now >= self.due.load(Ordering::Relaxed) {
            self.judge_rates(now);
        }
    }

    #[cold]
    fn eject(&self, id: EndpointId, now: u64) {
        let mut judge = self.judge.lock();
        let members = Arc::clone(&judge.members);
        // One that is not there any more need not be ejected.
        if let Some(member) = members.iter().find(|member| member.state.id == id) {
            judge.eject(member, now);
        }
    }

    #[cold]
    fn judge_rates(&self, now: u64) {
        let mut judge = self.judge.lock();
        if now >= self.due.load(Ordering::Relaxed) {
            let next = now.saturating_add(nanos(judge.config.interval()));
            self.due.store(next, Ordering::Relaxed);
            judge.judge_rates(now);
        }
    }

    /// Other endpoints or settings hold from now on. One caller at a time.
    pub(super) fn change(&self, config: Config, members: Arc<[Member]>) {
        let rates = Vec::with_capacity(members.len());
        let mut judge = self.judge.lock();
        let now = self.clock.nanos();
        judge.config = config;
        judge.members = members;
        let rates = std::mem::replace(&mut judge.rates, rates);
        judge.release_surplus(now);
        let soon = now.saturating_add(nanos(config.interval()));
        let due = self.due.load(Ordering::Relaxed).min(soon);
        self.due.store(due, Ordering::Relaxed);
        self.rules.store(Arc::new(Rules::new(&config)));
        drop(judge);
        drop(rates);
    }

    /// Ejections since the beginning.
    pub(super) fn ejections(&self) -> u64 {
        self.judge.lock().ejections
    }
}

impl Rules {
    fn new(config: &Config) -> Self {
        Self {
            decay: ewma::decay(nanos(config.decay())),
            penalty: config.failure_penalty().map_or(0, nanos),
            streak: config.consecutive_failures().map(u64::from),
            rates: config.success_rate_deviations().is_some(),
        }
    }
}

impl Judge {
    /// Ejects one that has a weight, unless it is out already or as many are as may be.
    fn eject(&mut self, member: &Member, now: u64) -> bool {
        let (most, out) = self.bounds(now);
        if member.weight == 0 || member.state.is_ejected(now) || out >= most {
            return false;
        }
        let state = &member.state;
        let between = now.saturating_sub(state.until()) / nanos(self.config.interval()).max(1);
        let before = state.ejections.load(Ordering::Relaxed);
        let times = before.saturating_sub(between).saturating_add(1);
        state.ejections.store(times, Ordering::Relaxed);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        let time = self.config.ejection_time().saturating_mul(times);
        let time = time.min(self.config.max_ejection_time());
        state.eject(now.saturating_add(nanos(time)));
        self.ejections += 1;
        true
    }

    /// The most that may be ejected, and how many are.
    fn bounds(&self, now: u64) -> (usize, usize) {
        let config = &self.config;
        let ejects =
            config.consecutive_failures().is_some() || config.success_rate_deviations().is_some();
        let all = self.members.iter().filter(|member| member.weight > 0);
        let (all, out) = all.fold((0, 0), |(all, out), member| {
            (all + 1, out + usize::from(member.state.is_ejected(now)))
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
            let ejected = self.members.iter();
            let ejected = ejected.filter(|one| one.weight > 0 && one.state.is_ejected(now));
            if let Some(member) = ejected.min_by_key(|member| member.state.until()) {
                member.state.release(now);
            }
        }
    }

    /// Ejects those whose success rate is far below the mean, the worst first.
    fn judge_rates(&mut self, now: u64) {
        let Some(deviations) = self.config.success_rate_deviations() else {
            return;
        };
        let members = Arc::clone(&self.members);
        let mut rates = std::mem::take(&mut self.rates);
        rates.clear();
        rates.extend(members.iter().map(|member| self.rate(member, now)));
        let (mut many, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for rate in rates.iter().flatten() {
            many += 1.0;
            sum += rate;
            squares += rate * rate;
        }
        if many >= f64::from(self.config.minimum_endpoints()) {
            let mean: f64 = sum / many;
            let deviation = (squares / many - mean * mean).max(0.0).sqrt();
            let least = mean - deviations * deviation;
            while let Some((index, rate)) = lowest(&rates) {
                if rate >= least || !self.eject(&members[index], now) {
                    break;
                }
                rates[index] = None;
            }
        }
        self.rates = rates;
    }

    /// The success rate of the interval, if there is enough to tell.
    fn rate(&self, member: &Member, now: u64) -> Option<f64> {
        let (successes, failures) = member.state.take_calls();
        let calls = f64::from(successes) + f64::from(failures);
        let enough = calls >= f64::from(self.config.minimum_calls());
        let judged = enough && member.weight > 0 && !member.state.is_ejected(now);
        judged.then(|| f64::from(successes) / calls)
    }
}

fn lowest(rates: &[Option<f64>]) -> Option<(usize, f64)> {
    let rates = rates.iter().enumerate();
    let rates = rates.filter_map(|(index, rate)| rate.map(|rate| (index, rate)));
    rates.reduce(|low, next| if next.1 < low.1 { next } else { low })
}

/// The rest of an ejection at `now`.
pub(super) fn ejected_for(state: &State, now: u64) -> Option<Duration> {
    let rest = state.until().saturating_sub(now);
    (rest > 0).then(|| Duration::from_nanos(rest))
}
