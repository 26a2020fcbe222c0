//! Whole stacks under faults of every kind, drawn by seed: what holds whatever happens.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use resilience_core::breaker::{self, State};
use resilience_core::bulkhead::{self, Reason};
use resilience_core::chaos::{Abort, Chaos, Config, ConfigBuilder};
use resilience_tower::admission::{Admission, Decision, Policy};
use resilience_tower::chaos::{ChaosLayer, Error as Hit, Injected};
use resilience_tower::stack::{self, Budget, Description, Error, Handle, Quota};
use tokio::runtime;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt};

use super::{Does, MS, SECOND, Upstream, clock, outbound};

const SEEDS: std::ops::Range<u64> = 0..6;

/// Calls come so far apart,
const EVERY: Duration = Duration::from_millis(20);
/// and so many while there is one kind of faults.
const CALLS: u32 = 500;

/// One after the other. All is well at first and in the end.
fn phases() -> [ConfigBuilder; 7] {
    let well = Config::builder();
    let silent = well.abort(Abort::Silence);
    [
        well,
        well.latency_rate(0.3)
            .latency(100 * MS)
            .latency_max(700 * MS),
        well.error_rate(0.7),
        well.abort_rate(0.7),
        silent.abort_rate(0.7),
        silent
            .latency_rate(0.3)
            .latency_max(SECOND)
            .error_rate(0.2)
            .abort_rate(0.3),
        well,
    ]
}

const LATENCY: usize = 1;
/// Those that the breaker opens for.
const OPENING: std::ops::Range<usize> = 2..5;
const LAST: usize = 6;

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
struct Ended {
    phase: usize,
    took: Duration,
    /// Nothing when its caller left.
    how: Option<Result<u32, Why>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Why {
    Fault(Injected),
    Decided(Admission),
}

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    time: Duration,
    calls: u32,
    retries: u64,
    /// Those that came through all policies.
    attempts: u64,
}

/// A run, from its first call until all have ended.
#[derive(Debug)]
struct Run {
    calls: Vec<Ended>,
    /// At the beginning of each phase, and in between.
    samples: Vec<Sample>,
    /// The breaker's, with the phase.
    changes: Vec<(usize, Duration, State)>,
    attempts: u64,
    handle: Handle,
}

impl Run {
    /// Calls that a policy decided on.
    fn decided(&self) -> impl Iterator<Item = (&Ended, &Admission)> {
        self.calls.iter().filter_map(|call| match &call.how {
            Some(Err(Why::Decided(admission))) => Some((call, admission)),
            _ => None,
        })
    }

    fn by_policy(&self) -> BTreeMap<Policy, u64> {
        let mut by = BTreeMap::new();
        for (_, admission) in self.decided() {
            *by.entry(admission.policy().unwrap()).or_default() += 1;
        }
        by
    }

    /// All that can be told of it.
    fn told(&self) -> String {
        let (handle, calls) = (&self.handle, &self.calls);
        let retry = handle.retry().map(|policy| policy.snapshot());
        let breaker = handle.breaker().map(|breaker| breaker.snapshot());
        let bulkhead = handle.bulkhead().map(|bulkhead| bulkhead.snapshot());
        let samples = (&self.samples, &self.changes, self.attempts);
        format!("{calls:?} {samples:?} {retry:?} {breaker:?} {bulkhead:?}")
    }
}

/// Every fifth caller leaves early, if any does.
fn patience(number: u32, leaves: bool) -> Duration {
    let early = leaves && number % 5 == 4;
    if early {
        (30 + number * 37 % 400) * MS
    } else {
        Duration::MAX
    }
}

/// Runs all phases in a runtime of its own; `stack` makes the service around the faults.
fn run<S>(seed: u64, leaves: bool, stack: impl FnOnce(Faulty) -> (Handle, S)) -> Run
where
    S: Service<u32, Response = u32, Error = Error<Hit<&'static str>>> + Clone + Send + 'static,
    S::Future: Send,
{
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let chaos = Chaos::with_seed(Config::default(), seed);
        chaos.switch_on();
        let upstream = Upstream::new(Does::AnswersAfter(5 * MS));
        let faulty = ChaosLayer::new(chaos.clone()).layer(upstream.clone());
        let (handle, service) = stack(faulty);
        let run = drive(service, handle, &chaos, leaves).await;
        at_rest(&run.handle, &upstream);
        run
    })
}

type Faulty = resilience_tower::chaos::Chaos<Upstream, resilience_tower::chaos::AnyRequest>;

async fn drive<S>(service: S, handle: Handle, chaos: &Chaos, leaves: bool) -> Run
where
    S: Service<u32, Response = u32, Error = Error<Hit<&'static str>>> + Clone + Send + 'static,
    S::Future: Send,
{
    let began = Instant::now();
    let changes = Arc::new(Mutex::new(Vec::new()));
    if let Some(breaker) = handle.breaker() {
        let changes = Arc::clone(&changes);
        let seen = breaker.subscribe(move |change| {
            let time = began.elapsed();
            changes.lock().unwrap().push((0, time, change.to));
        });
        seen.forget();
    }
    let (mut calls, mut samples, mut begins) = (Vec::new(), Vec::new(), Vec::new());
    for (phase, faults) in phases().into_iter().enumerate() {
        chaos.set_config(faults.build().unwrap());
        begins.push(began.elapsed());
        for number in 0..CALLS {
            let number = phase as u32 * CALLS + number;
            if number.is_multiple_of(50) {
                samples.push(Sample {
                    time: began.elapsed(),
                    calls: number,
                    retries: handle.retry().map_or(0, |retry| retry.snapshot().retries),
                    attempts: chaos.snapshot().calls,
                });
            }
            let call = service.clone().oneshot(number);
            calls.push(tokio::spawn(async move {
                let began = Instant::now();
                let how = timeout(patience(number, leaves), call).await.ok();
                Ended {
                    phase,
                    took: began.elapsed(),
                    how: how.map(|how| how.map_err(why)),
                }
            }));
            sleep(EVERY).await;
        }
    }
    let mut ended = Vec::new();
    for call in calls {
        ended.push(call.await.unwrap());
    }
    let mut changes = std::mem::take(&mut *changes.lock().unwrap());
    for (phase, time, _) in &mut changes {
        *phase = begins.partition_point(|begin| begin <= time) - 1;
    }
    Run {
        calls: ended,
        samples,
        changes,
        attempts: chaos.snapshot().calls,
        handle,
    }
}

fn why(error: Error<Hit<&'static str>>) -> Why {
    match error {
        Error::Inner(Hit::Injected(injected)) => Why::Fault(injected),
        Error::Refused(admission) => Why::Decided(admission),
        other => panic!("the upstream fails nothing by itself: {other:?}"),
    }
}

/// No call, permit or place is left, and so no timer: those are in the futures of calls.
fn at_rest(handle: &Handle, upstream: &Upstream) {
    assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(upstream.running(), 0);
    if let Some(breaker) = handle.breaker() {
        assert_eq!(breaker.snapshot().permits_out, 0);
    }
    let bulkhead = handle.bulkhead().unwrap();
    let rest = bulkhead.snapshot();
    assert_eq!((rest.in_flight, rest.queued), (0, 0));
    let places: Vec<_> = (0..rest.limit).map(|_| bulkhead.try_acquire()).collect();
    assert!(places.iter().all(Result::is_ok), "all places can be had");
}

/// Small enough for each policy to have its say.
fn settings(stack: &mut Description) {
    stack.attempt_timeout.as_mut().unwrap().after = 500 * MS;
    stack.bulkhead = Some(bulkhead::Config::builder().limit(10));
    stack.retry.as_mut().unwrap().budget = Budget {
        share: 0.1,
        floor_per_second: 1,
        burst: Some(5),
    };
    let breaker = breaker::Config::builder()
        .count_window(20)
        .half_open_permits(3)
        .success_threshold(3)
        .reset_timeout(SECOND)
        .max_reset_timeout(2 * SECOND);
    stack.breaker = Some(breaker);
}

fn with_a_line(stack: &mut Description) {
    settings(stack);
    let line = bulkhead::Config::builder().limit(5).max_queue(10);
    stack.bulkhead = Some(line.max_wait(300 * MS));
}

fn outbound_run(seed: u64, leaves: bool, settings: fn(&mut Description)) -> Run {
    run(seed, leaves, |faulty| {
        let stack = outbound(settings);
        (stack.handle(), stack.layer(faulty))
    })
}

/// The answer of a call that nothing went wrong with.
fn well(call: &Ended) -> bool {
    matches!(call.how, Some(Ok(_)))
}

#[test]
fn every_call_ends_within_its_deadline_and_leaves_nothing_behind() {
    for seed in SEEDS {
        for settings in [settings, with_a_line] {
            let run = outbound_run(seed, true, settings);
            for (number, call) in (0..).zip(&run.calls) {
                // Timers have a resolution of a millisecond.
                let most = patience(number, true).min(3 * SECOND) + MS;
                assert!(call.took <= most, "{call:?}");
                assert!(call.how.is_some() || number % 5 == 4, "{call:?}");
            }
            let left = run.calls.iter().filter(|call| call.how.is_none());
            assert!(left.count() > 20, "some leave in the middle of a call");

            // What was kept for a call kept its policy.
            let handle = run.handle;
            let breaker = handle.breaker().unwrap().downgrade();
            let bulkhead = handle.bulkhead().unwrap().downgrade();
            assert!(breaker().is_some() && bulkhead().is_some());
            drop(handle);
            assert!(breaker().is_none() && bulkhead().is_none());
        }
    }
}

#[test]
fn retries_stay_within_the_budget_over_any_span() {
    for seed in SEEDS {
        let run = outbound_run(seed, true, settings);
        for (place, from) in run.samples.iter().enumerate() {
            for to in &run.samples[place..] {
                let calls = f64::from(to.calls - from.calls);
                let time = (to.time - from.time).as_secs_f64();
                let most = 5.0 + 0.1 * calls + time;
                let retries = (to.retries - from.retries) as f64;
                assert!(retries <= most + 1e-6, "{retries} {most} {from:?} {to:?}");
            }
        }
        let figures = run.handle.retry().unwrap().snapshot();
        assert!(figures.retries > 50, "{figures:?}");
        assert!(figures.stopped.budget > 20, "it was asked for more");
    }
}

#[test]
fn the_breaker_opens_for_each_kind_of_failure_spares_the_upstream_and_recovers() {
    for seed in SEEDS {
        let run = outbound_run(seed, false, settings);
        let opened = |phase: usize| {
            let mut changes = run.changes.iter();
            changes.any(|(at, _, to)| (*at, *to) == (phase, State::Open))
        };
        assert!(!opened(0) && !opened(LATENCY), "{:?}", run.changes);
        for phase in OPENING {
            assert!(opened(phase), "{seed} {phase}: {:?}", run.changes);
        }
        // Of 500 calls with 7 of 10 attempts failing.
        let begin = |phase: usize| run.samples[phase * CALLS as usize / 50];
        for phase in OPENING {
            let attempts = begin(phase + 1).attempts - begin(phase).attempts;
            assert!(attempts < 150, "{seed} {phase}: {attempts}");
        }
        assert_eq!(begin(1).attempts, u64::from(CALLS), "no retries before");

        // At the latest when the longest reset is over, and three probes have answered.
        let (_, closed, state) = *run.changes.last().unwrap();
        assert_eq!(state, State::Closed);
        let after = closed.saturating_sub(begin(LAST).time);
        assert!(after < 2_200 * MS, "{after:?}");
        let (first, last) = (0..CALLS as usize, run.calls.len() - 380..run.calls.len());
        assert!(run.calls[first].iter().all(well) && run.calls[last].iter().all(well));
    }
}

#[test]
fn the_record_names_who_decided_and_all_attempts_are_accounted_for() {
    let mut all = BTreeMap::new();
    for seed in SEEDS {
        let run = outbound_run(seed, false, settings);
        for (call, admission) in run.decided() {
            let policy = admission.policy().unwrap();
            let told = (policy, admission.decision(), admission.reason());
            assert_eq!(admission.name(), Some("payments"));
            assert!((1..=3).contains(&admission.attempts()), "{admission:?}");
            match told {
                (Policy::Breaker, Decision::Refused, "open" | "probes_spent") => {
                    assert!(admission.retry_after().is_some());
                }
                (Policy::Bulkhead, Decision::Refused, "full") => {}
                (Policy::AttemptTimeout, Decision::TimeUp, "attempt") => {
                    assert!(call.took >= 500 * MS, "{call:?}");
                }
                (Policy::Deadline, Decision::TimeUp, "deadline") => {
                    assert!(call.took >= 3 * SECOND, "{call:?}");
                }
                told => panic!("{told:?}"),
            }
            assert!(call.phase > 0, "{call:?}");
        }
        // A policy decided on a call at most as often as on its attempts.
        let handle = &run.handle;
        let breaker = handle.breaker().unwrap().snapshot().rejected;
        let full = handle.bulkhead().unwrap().snapshot().refused;
        let late = handle.attempt_timeout().unwrap().snapshot();
        let by = run.by_policy();
        let of = |policy| by.get(&policy).copied().unwrap_or(0);
        assert!(of(Policy::Breaker) <= breaker && of(Policy::AttemptTimeout) <= late.attempt);
        assert_eq!(of(Policy::Bulkhead), full, "it ends the call");
        let total = handle.deadline().unwrap().snapshot();
        let noticed = total.deadline + total.refused + late.deadline + late.refused;
        assert_eq!(of(Policy::Deadline), noticed, "within an attempt or not");
        by.into_iter()
            .for_each(|(policy, n)| *all.entry(policy).or_insert(0) += n);

        let begun = run.calls.len() as u64 + handle.retry().unwrap().snapshot().retries;
        assert_eq!(run.attempts, begun - breaker - full - late.refused);
    }
    for policy in [Policy::Breaker, Policy::Bulkhead, Policy::AttemptTimeout] {
        assert!(all.get(&policy).is_some_and(|calls| *calls > 20), "{all:?}");
    }
}

#[test]
fn each_fault_by_itself_is_told_by_who_dealt_with_it() {
    let base = Config::builder();
    let late = || Err((Policy::AttemptTimeout, "attempt", 3));
    for (faults, expected, took) in [
        (base.latency_rate(1.0).latency(300 * MS), Ok(None), 305),
        (base.latency_rate(1.0).latency(600 * MS), late(), 1_800),
        (base.error_rate(1.0), Ok(Some(Injected::Error)), 300),
        (base.abort_rate(1.0), Ok(Some(Injected::Disconnected)), 300),
        (base.abort_rate(1.0).abort(Abort::Silence), late(), 1_800),
    ] {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let chaos = Chaos::with_seed(faults.build().unwrap(), 1);
            chaos.switch_on();
            let stack = outbound(|stack| {
                stack.attempt_timeout.as_mut().unwrap().after = 500 * MS;
            });
            let faulty = ChaosLayer::new(chaos).layer(Upstream::new(Does::AnswersAfter(5 * MS)));
            let began = Instant::now();
            let how = stack.layer(faulty).oneshot(7).await.map_err(why);
            let how = match how {
                Ok(_) => Ok(None),
                Err(Why::Fault(injected)) => Ok(Some(injected)),
                Err(Why::Decided(admission)) => Err((
                    admission.policy().unwrap(),
                    admission.reason(),
                    admission.attempts(),
                )),
            };
            assert_eq!(how, expected);
            let late = began.elapsed().as_millis() - took;
            assert!(late <= 6, "{late} ms more, of six timers");
        });
    }
}

fn inbound_run(seed: u64, leaves: bool) -> Run {
    run(seed, leaves, |faulty| {
        let stack = stack::inbound("orders").configure(|orders| {
            orders.order.insert(0, Policy::RateLimit);
            orders.rate_limit = Some(Quota {
                permits: 40,
                per: SECOND,
                burst: None,
            });
            orders.deadline.as_mut().unwrap().total = SECOND;
            orders.bulkhead = Some(bulkhead::Config::builder().limit(20));
        });
        let stack = stack.unwrap().clock(clock());
        (stack.handle(), stack.layer(faulty))
    })
}

#[test]
fn an_inbound_stack_refuses_and_gives_up_as_often_as_its_records_say() {
    for seed in SEEDS {
        for leaves in [false, true] {
            let run = inbound_run(seed, leaves);
            for (number, call) in (0..).zip(&run.calls) {
                assert!(
                    call.took <= patience(number, leaves).min(SECOND) + MS,
                    "{call:?}"
                );
            }
            for (call, admission) in run.decided() {
                assert_eq!(admission.name(), Some("orders"));
                let told = (admission.policy().unwrap(), admission.reason());
                let at_once = call.took.is_zero();
                match told {
                    (Policy::RateLimit, "limited") => {
                        assert!(at_once && admission.retry_after().is_some());
                    }
                    (Policy::Bulkhead, "full") => assert!(at_once),
                    (Policy::Deadline, "deadline") => assert!(call.took >= SECOND),
                    told => panic!("{told:?}"),
                }
            }
            let by = run.by_policy();
            let full = run.handle.bulkhead().unwrap().snapshot();
            let late = run.handle.deadline().unwrap().snapshot();
            assert_eq!(by[&Policy::Bulkhead], full.refused_for(Reason::Full));
            assert_eq!(by[&Policy::Deadline], late.deadline);
            assert_eq!((late.attempt, late.refused), (0, 0));
            // The others came to the upstream, or to its faults.
            let refused = by[&Policy::RateLimit] + by[&Policy::Bulkhead];
            assert_eq!(run.attempts, run.calls.len() as u64 - refused);
            assert!(by.values().all(|calls| *calls > 20), "{by:?}");
        }
    }
}

#[test]
fn a_seed_says_all() {
    let told = [0, 0, 1].map(|seed| outbound_run(seed, true, with_a_line).told());
    assert!(told[0] == told[1], "the same");
    assert!(told[0] != told[2], "another");
    let told = [0, 0, 1].map(|seed| inbound_run(seed, true).told());
    assert!(told[0] == told[1] && told[0] != told[2]);
}
