//! The simulator: its models, its figures, and that a seed says all.
#![cfg(all(
    feature = "breaker",
    feature = "retry",
    feature = "test-util",
    feature = "timeout"
))]

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use resilience_core::{
    breaker::{self, CircuitBreaker, OnCancel},
    clock::Clock,
    retry::{self, Backoff, BudgetConfig, Jitter, RetryBudget, RetryPolicy},
};
use resilience_tower::{
    breaker::{BreakerLayer, Error},
    retry::RetryLayer,
    sim::{self, Clients, Failure, Fault, Report, Request, Simulation, Times, Upstream},
    timeout::TimeoutLayer,
};
use tower::{ServiceBuilder, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// One server, 100 ms for a call: bears ten a second.
fn one_server() -> Upstream {
    Upstream::new()
        .servers(1)
        .service_time(Times::exactly(ms(100)))
}

fn of(upstream: Upstream, clients: Clients) -> Simulation {
    Simulation::new(7).upstream("u", upstream).clients(clients)
}

/// The upstream as it is, with the names of its failures.
fn bare(simulation: &Simulation, duration: Duration) -> Report {
    let judge = |result: Result<&_, &Failure>| match result {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.as_str()),
    };
    simulation.run_judged(duration, judge, |world| world.upstream("u"))
}

/// With all that draws lots in the stack.
fn eventful(seed: u64) -> Report {
    let upstream = Upstream::new()
        .service_time(Times::exponential(ms(20)).tail(0.01, SECOND))
        .servers(5)
        .line(15)
        .dies_of_a_full_line(ms(100))
        .fault(secs(2)..secs(3), Fault::Silent)
        .flapping(secs(5)..secs(8), ms(300), ms(200), Fault::Down)
        .fault(secs(8)..secs(9), Fault::Failing(0.5));
    Simulation::new(seed)
        .upstream("u", upstream)
        .clients(
            Clients::open(200.0)
                .attempts(2, ms(10))
                .timeout(SECOND)
                .zipf_keys(50),
        )
        .instances(3)
        .run(secs(10), |world| {
            let budget = RetryBudget::with_clock(BudgetConfig::default(), world.clock());
            let backoff = Backoff::new(ms(50), SECOND).unwrap().jitter(Jitter::Full);
            let config = retry::Config::builder().backoff(backoff).build().unwrap();
            let retry = RetryPolicy::with_seed(config, budget, world.clock(), world.seed());
            let config = breaker::Config::builder()
                .reset_timeout(ms(700))
                .jitter(0.5)
                .on_cancel(OnCancel::Failure)
                .build()
                .unwrap();
            let breaker = CircuitBreaker::with_seed("u", config, world.clock(), world.seed());
            ServiceBuilder::new()
                .layer(RetryLayer::new(retry))
                .layer(BreakerLayer::from_handle(breaker))
                .layer(TimeoutLayer::new(ms(300)))
                .service(world.upstream("u"))
        })
}

#[test]
fn the_same_seed_is_the_same_report_to_the_last_byte() {
    let [one, two] = [1, 1].map(eventful);
    assert!(one.upstreams()[0].deaths > 0, "{one}");
    assert_eq!(one.to_string(), two.to_string());
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
    assert_ne!(one.to_string(), eventful(2).to_string());
}

#[test]
fn runs_beside_each_other_in_any_number_of_threads_give_the_same_report() {
    let alone = eventful(1).to_string();
    for threads in [1, 2, 8] {
        let runs = (0..threads).map(|_| thread::spawn(|| eventful(1).to_string()));
        let runs: Vec<_> = runs.collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), alone, "{threads} threads");
        }
    }
}

/// A call that had not begun when all others had ended was forgotten.
#[test]
fn the_stack_has_no_part_in_how_many_calls_there_are() {
    let offered = |upstream: Upstream, seed| {
        let simulation = Simulation::new(seed).upstream("u", upstream);
        let total = bare(&simulation.clients(Clients::open(300.0)), SECOND).total();
        assert_eq!(total.attempts, total.offered);
        total.offered
    };
    for seed in 0..50 {
        let down = Upstream::new().fault(secs(0)..secs(2), Fault::Down);
        assert_eq!(
            offered(down, seed),
            offered(Upstream::new(), seed),
            "{seed}"
        );
    }
}

/// What the report was when this was written: a change of tokio or of the models that changes runs
/// is noticed.
#[test]
fn a_run_is_the_same_in_every_process() {
    let upstream = Upstream::new()
        .servers(2)
        .line(20)
        .service_time(Times::exponential(ms(20)))
        .fault(secs(2)..secs(4), Fault::Silent)
        .fault(secs(6)..secs(8), Fault::Failing(0.5));
    let clients = Clients::open(70.0).attempts(2, ms(30)).timeout(ms(250));
    let total = bare(&of(upstream, clients), secs(10)).total();
    let seen = (total.offered, total.good, total.upstream_calls);
    assert_eq!(
        seen,
        (703, 489, 982),
        "{:?} {:?}",
        total.errors,
        total.latency(0.99)
    );
}

#[test]
fn a_load_below_the_capacity_is_served_and_latency_is_the_work() {
    let upstream = Upstream::new()
        .servers(4)
        .service_time(Times::exactly(ms(10)));
    let total = bare(&of(upstream, Clients::open(40.0)), secs(60)).total();
    assert_eq!(total.good, total.offered);
    assert!((2_250..2_550).contains(&total.offered), "{}", total.offered);
    assert_eq!(total.latency(0.5), Some(ms(10)));
    assert_eq!((total.amplification(), total.share()), (1.0, 1.0));
}

#[test]
fn the_line_grows_by_what_comes_above_the_capacity() {
    // 20 a second to one that bears 10: after t seconds 10 t are in line, 1 s for 10 of them.
    let simulation = of(one_server(), Clients::open(20.0));
    let report = bare(&simulation, secs(20));
    let late = report.between(secs(19)..secs(20)).latency(0.5).unwrap();
    assert!((secs(17)..secs(22)).contains(&late), "{late:?}");
    // And all are served in the end, one every 100 ms.
    assert_eq!(report.total().good, report.total().offered);
}

/// The mean wait in an M/M/1 queue is work × load / (1 − load).
#[test]
fn waits_are_those_of_queueing_theory() {
    let upstream = Upstream::new()
        .servers(1)
        .service_time(Times::exponential(ms(20)));
    let total = bare(&of(upstream, Clients::open(35.0)), secs(2_000)).total();
    // Half of the calls are out within ln 2 × 20 ms / (1 − 0.7).
    let median = total.latency(0.5).unwrap().as_secs_f64();
    assert!((0.044..0.050).contains(&median), "{median}");
    let p99 = total.latency(0.99).unwrap().as_secs_f64();
    assert!((0.27..0.34).contains(&p99), "{p99}");
}

#[test]
fn more_than_fit_in_line_are_refused_at_once() {
    let simulation = of(one_server().line(5), Clients::open(30.0));
    let total = bare(&simulation, secs(100)).total();
    let full = total.errors["full"];
    assert_eq!(total.good + full, total.offered);
    // It works all the time, ten a second.
    assert!((980..=1_006).contains(&total.good), "{}", total.good);
    // Five in line and one at work are before it at most.
    assert!(total.latency(1.0).unwrap() <= ms(601));
    assert_eq!(total.in_vain, Duration::ZERO);
}

#[test]
fn an_upstream_works_for_those_who_are_gone() {
    let clients = Clients::open(20.0).timeout(ms(500));
    let report = bare(&of(one_server(), clients), secs(30));
    // The line is longer than anyone's patience, and no call gets through.
    assert_eq!(report.between(secs(10)..secs(30)).good, 0);
    let late = report.between(secs(10)..secs(30));
    assert_eq!(late.errors["client_timeout"], late.offered);
    assert_eq!(late.in_vain, ms(500) * u32::try_from(late.offered).unwrap());
    assert_eq!(
        report.upstreams()[0].abandoned,
        report.total().errors["client_timeout"]
    );
}

#[test]
fn while_down_it_refuses_and_cuts_off_and_comes_back_empty() {
    let upstream = one_server().fault(secs(10)..secs(12), Fault::Down);
    let report = bare(&of(upstream, Clients::open(20.0)), secs(30));
    let outage = report.between(secs(10)..secs(12));
    assert_eq!(outage.errors["down"], outage.offered);
    let before = report.between(secs(0)..secs(10));
    // It served ten a second until then.
    assert!((95..=100).contains(&before.good), "{}", before.good);
    assert_eq!(before.errors["cut"], before.offered - before.good);
    let first = report.between(secs(12)..secs(13)).latency(0.0).unwrap();
    assert!(first <= ms(200), "{first:?}");
}

#[test]
fn while_silent_nothing_is_heard() {
    let upstream = one_server().fault(secs(10)..secs(20), Fault::Silent);
    let report = bare(&of(upstream, Clients::open(9.0)), secs(30));
    let outage = report.between(secs(10)..secs(20));
    assert_eq!(outage.errors["unfinished"], outage.offered);
    // What would have been answered then is lost as well: the one at work, and those in line.
    let before = report.between(secs(0)..secs(10));
    let lost = before.errors["unfinished"];
    assert!((1..5).contains(&lost), "{lost}");
    let after = report.between(secs(20)..secs(30));
    assert_eq!(after.good, after.offered);
}

#[test]
fn a_share_fails_after_the_work() {
    let upstream = Upstream::new()
        .service_time(Times::exactly(ms(10)))
        .fault(secs(0)..secs(100), Fault::Failing(0.25));
    let total = bare(&of(upstream, Clients::open(100.0)), secs(100)).total();
    let failed = total.errors["failed"];
    assert!((2_300..2_700).contains(&failed), "{failed}");
    assert!(total.in_vain >= ms(10) * u32::try_from(failed).unwrap());
}

#[test]
fn a_slow_upstream_bears_less() {
    let upstream = one_server().fault(secs(10)..secs(20), Fault::Slow(5.0));
    let report = bare(&of(upstream, Clients::open(8.0)), secs(60));
    // Two a second for 10 s: 60 are in line, which takes 30 s at 2 a second to spare.
    let before = report.between(secs(0)..secs(9)).latency(0.5).unwrap();
    let slow = report.between(secs(19)..secs(20)).latency(0.5).unwrap();
    assert!(before < SECOND, "{before:?}");
    assert!((secs(5)..secs(12)).contains(&slow), "{slow:?}");
    let recovery = report.between(secs(58)..secs(60)).latency(0.5).unwrap();
    assert!(recovery < SECOND, "{recovery:?}");
}

#[test]
fn a_full_line_is_the_death_of_it_and_of_its_calls() {
    let upstream = one_server().line(10).dies_of_a_full_line(secs(5));
    let report = bare(&of(upstream, Clients::open(30.0)), secs(20));
    let total = report.total();
    assert!((2..=4).contains(&report.upstreams()[0].deaths), "{report}");
    let cut = total.errors["cut"];
    // Each time those in line and the one at work.
    assert_eq!(cut, 11 * report.upstreams()[0].deaths, "{report}");
    assert_eq!(total.good + cut + total.errors["down"], total.offered);
    // Those that are cut off hear of it at once: none waits longer than what was in line.
    assert!(total.in_vain < SECOND * u32::try_from(cut).unwrap());
}

#[test]
fn a_cold_start_is_slow_and_warms_up() {
    let upstream = Upstream::new()
        .servers(10)
        .service_time(Times::exactly(ms(10)))
        .fault(secs(1)..secs(2), Fault::Down)
        .warm_up(secs(10), 11.0);
    let report = bare(&of(upstream, Clients::open(20.0)), secs(20));
    let latency = |from: u64| {
        let bucket = report.between(secs(from)..secs(from + 1));
        bucket.latency(0.5).unwrap().as_millis()
    };
    assert_eq!(latency(0), 10);
    assert!((98..=110).contains(&latency(2)), "{}", latency(2));
    assert!((50..=65).contains(&latency(7)), "{}", latency(7));
    assert_eq!(latency(13), 10);
}

#[test]
fn flapping_is_down_in_every_cycle() {
    let upstream = Upstream::new().flapping(secs(5)..secs(15), secs(3), secs(1), Fault::Down);
    let report = bare(&of(upstream, Clients::open(50.0)), secs(20));
    let bad = |(_, bucket): &(usize, &resilience_tower::sim::Bucket)| bucket.share() < 0.5;
    let bad: Vec<_> = report.buckets().iter().enumerate().filter(bad).collect();
    let bad: Vec<_> = bad.into_iter().map(|(second, _)| second).collect();
    assert_eq!(bad, [8, 12]);
    assert_eq!(report.time_to_recover(secs(9), 0.9), Some(secs(4)));
    assert_eq!(report.time_to_recover(secs(13), 0.9), Some(Duration::ZERO));
}

#[test]
fn what_never_recovers_has_no_time_to_recover() {
    let upstream = Upstream::new().fault(secs(5)..secs(10), Fault::Down);
    let report = bare(&of(upstream, Clients::open(50.0)), secs(10));
    assert_eq!(report.time_to_recover(secs(5), 0.9), None);
}

#[test]
fn users_wait_for_their_answer_before_they_call_again() {
    // Ten users, 100 ms of work and 900 ms of thinking: ten a second.
    let upstream = Upstream::new()
        .servers(10)
        .service_time(Times::exactly(ms(100)));
    let users = Clients::closed(10, Times::exactly(ms(900)));
    let total = bare(&of(upstream.clone(), users.clone()), secs(100)).total();
    assert!((990..=1_010).contains(&total.offered), "{}", total.offered);
    // Slower answers are fewer calls: 2 s of work and 900 ms of thinking.
    let slow = upstream.fault(secs(0)..secs(1_000), Fault::Slow(20.0));
    let total = bare(&of(slow, users), secs(100)).total();
    assert!((340..=350).contains(&total.offered), "{}", total.offered);
}

#[test]
fn clients_try_again_by_themselves() {
    let upstream = Upstream::new().fault(secs(0)..secs(100), Fault::Down);
    let clients = Clients::open(10.0).attempts(3, ms(20));
    let total = bare(&of(upstream, clients), secs(100)).total();
    assert_eq!(total.attempts, 3 * total.offered);
    assert_eq!(total.amplification(), 3.0);
    assert_eq!(
        total.in_vain,
        ms(40) * u32::try_from(total.offered).unwrap()
    );
}

#[test]
fn calls_of_classes_are_told_apart() {
    let clients = Clients::open(100.0).classes(&[("high", 1.0), ("low", 3.0)]);
    let simulation = of(Upstream::new(), clients.clone());
    let judge = |result: Result<&(), &()>| result.map_or(Err("low"), |()| Ok(()));
    let report = simulation.run_judged(secs(100), judge, |_| {
        service_fn(|request: Request| {
            ready(if request.class == "high" {
                Ok(())
            } else {
                Err(())
            })
        })
    });
    let total = report.total();
    let (high, low) = (total.class("high"), total.class("low"));
    assert_eq!(total.classes.len(), 2);
    assert_eq!(high.offered + low.offered, total.offered);
    assert_eq!((high.good, low.good), (total.good, 0));
    assert_eq!((high.share(), low.share()), (1.0, 0.0));
    assert_eq!(total.errors["low"], low.offered);
    let quarter = total.offered / 4;
    assert!(
        (quarter - 200..quarter + 200).contains(&high.offered),
        "{high:?}"
    );
    assert_eq!(
        (total.class("none").offered, total.class("none").share()),
        (0, 1.0)
    );
    let told = format!("class low: {} calls, 0 of them good\n", low.offered);
    assert!(report.to_string().contains(&told), "{report}");
    // Those of users, too.
    let users = Clients::closed(50, Times::exactly(SECOND)).classes(&[("a", 1.0), ("b", 1.0)]);
    let total = bare(&of(Upstream::new(), users), secs(20)).total();
    assert_eq!(total.class("a").good + total.class("b").good, total.good);
    assert!(total.class("a").good > 400 && total.class("b").good > 400);
    // Without classes the calls are as they were before there were any.
    let plain = bare(&of(Upstream::new(), Clients::open(100.0)), secs(10));
    assert!(plain.total().classes.is_empty() && !plain.to_string().contains("class"));
}

#[test]
fn a_stack_gets_the_requests_of_its_users_and_of_nobody_else() {
    let seen: Arc<Mutex<Vec<(usize, Request)>>> = Arc::default();
    let simulation = Simulation::new(7)
        .clients(Clients::closed(4, Times::exactly(SECOND)).keys(3))
        .instances(2);
    let log = Arc::clone(&seen);
    simulation.run(secs(10), move |world| {
        let (log, instance) = (Arc::clone(&log), world.instance());
        service_fn(move |request| {
            log.lock().unwrap().push((instance, request));
            async { Ok::<_, Infallible>(()) }
        })
    });
    let seen = seen.lock().unwrap();
    assert!((36..=40).contains(&seen.len()), "{}", seen.len());
    assert!(
        seen.iter()
            .all(|(instance, r)| *instance as u64 == r.user % 2)
    );
    assert!((0..3).all(|key| seen.iter().any(|(_, r)| r.key == key)));
    let mut calls: Vec<_> = seen.iter().map(|(_, r)| r.call).collect();
    calls.sort_unstable();
    calls.dedup();
    assert_eq!(calls.len(), seen.len());
}

#[test]
fn the_world_s_clock_is_that_of_the_timers_and_stands_still_after_the_run() {
    let simulation = Simulation::new(7).clients(Clients::open(100.0));
    let (times, mut clock) = (Arc::new(Mutex::new(Vec::new())), None);
    simulation.run(secs(10), |world| {
        clock = Some(world.clock());
        let (mine, times) = (world.clock(), Arc::clone(&times));
        world.at(secs(4), move || times.lock().unwrap().push(mine.now()));
        service_fn(|_| async { Ok::<_, Infallible>(()) })
    });
    assert_eq!(*times.lock().unwrap(), [secs(4)]);
    let clock = clock.unwrap();
    let stands = clock.now();
    assert!((secs(9)..=secs(11)).contains(&stands), "{stands:?}");
    assert_eq!(clock.now(), stands);
}

/// Requests and responses are the stack's own: the upstream takes any, and its answers are mapped.
#[cfg(feature = "http")]
#[test]
fn a_stack_for_http_runs_in_it() {
    use http::{Request, Response, StatusCode};

    let upstream = Upstream::new().fault(secs(10)..secs(20), Fault::Down);
    let simulation = of(upstream, Clients::open(100.0));
    let judge = |result: Result<&Response<String>, &Error<Failure>>| match result {
        Ok(response) if response.status() == StatusCode::OK => Ok(()),
        Ok(_) => Err("unavailable"),
        Err(_) => Err("refused"),
    };
    let total = simulation.run_judged(secs(30), judge, |world| {
        let config = breaker::Config::builder().reset_timeout(SECOND);
        let config = config.max_reset_timeout(SECOND).build().unwrap();
        let breaker = CircuitBreaker::with_clock("u", config, world.clock());
        ServiceBuilder::new()
            .map_request(|call: sim::Request| {
                Request::get(format!("/{}", call.key)).body(()).unwrap()
            })
            .layer(BreakerLayer::from_handle(breaker).http())
            .map_result(|answer: Result<_, Failure>| {
                let status = match answer {
                    Ok(_) => StatusCode::OK,
                    Err(_) => StatusCode::SERVICE_UNAVAILABLE,
                };
                let mut response = Response::new(String::new());
                *response.status_mut() = status;
                Ok::<_, Failure>(response)
            })
            .service(world.upstream("u"))
    });
    let total = total.total();
    assert!(total.share() > 0.6, "{total:?}");
    let unavailable = total.errors["unavailable"];
    // Until it opens, and one probe or a few each second.
    assert!((60..200).contains(&unavailable), "{unavailable}");
    assert!(
        total.errors["refused"] > 5 * unavailable,
        "{:?}",
        total.errors
    );
}

#[test]
#[should_panic(expected = "the simulation has that upstream")]
fn an_upstream_that_is_not_there_is_a_mistake_of_the_test() {
    Simulation::new(1).run(SECOND, |world| world.upstream("other"));
}
