//! What hedges do to latency and load, by virtual time: 10 upstreams, 200 calls per second.
#![cfg(all(feature = "hedge", feature = "test-util", feature = "timeout"))]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use resilience_core::hedge::{Config, HedgePolicy, Snapshot};
use resilience_core::retry::{
    Backoff, BudgetConfig, Config as RetryConfig, RetryBudget, RetryPolicy,
};
use resilience_tower::hedge::HedgeLayer;
use resilience_tower::retry::{CloneRequest, RetryLayer};
use resilience_tower::sim::{
    Bucket, Clients, Failure, Fault, Request, Response, Simulation, Times, Upstream, World,
};
use resilience_tower::timeout::TimeoutLayer;
use tower::{Service, ServiceBuilder, service_fn};

const PER_SECOND: f64 = 200.0;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Ten upstreams, the first as said, 10 ms a call on average.
fn ten(first: Upstream) -> Simulation {
    let other = || Upstream::new().service_time(Times::exponential(ms(10)));
    let simulation = Simulation::new(11).upstream("0", first.servers(200));
    let names = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let simulation = names.into_iter().fold(simulation, |simulation, name| {
        simulation.upstream(name, other())
    });
    simulation.clients(Clients::open(PER_SECOND))
}

/// One after the other.
fn in_turn(
    world: &World,
) -> impl Service<Request, Response = Response, Error = Failure, Future: Send> + Clone + use<> {
    let upstreams = world.upstreams().to_vec();
    let turn = Arc::new(AtomicUsize::new(0));
    service_fn(move |request: Request| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        upstreams[turn % upstreams.len()].clone().call(request)
    })
}

fn budget(world: &World, share: f64) -> RetryBudget {
    let config = BudgetConfig::new(share, 0).and_then(|config| config.burst(10));
    RetryBudget::with_clock(config.unwrap(), world.clock())
}

fn without(simulation: &Simulation, duration: Duration) -> Bucket {
    simulation.run(duration, |world| in_turn(world)).total()
}

fn hedged(
    simulation: &Simulation,
    duration: Duration,
    config: Config,
    share: f64,
) -> (Bucket, Snapshot) {
    let mut policy = None;
    let report = simulation.run(duration, |world| {
        let hedges = HedgePolicy::with_clock(config, budget(world, share), world.clock());
        policy = Some(hedges.clone());
        ServiceBuilder::new()
            .layer(HedgeLayer::new(hedges, CloneRequest))
            .service(in_turn(world))
    });
    (report.total(), policy.unwrap().snapshot())
}

/// Measured: the 99th percentile 231 ms without, 91 ms with hedges, and 4.8 % more load.
#[test]
fn one_of_ten_replicas_ten_times_slower_a_twentieth_more_load_more_than_halves_the_99th_percentile()
{
    let slow = Upstream::new().service_time(Times::exponential(ms(100)));
    let simulation = ten(slow);
    let without = without(&simulation, secs(120));
    let (with, _) = hedged(&simulation, secs(120), Config::default(), 0.05);
    let p99 = |bucket: &Bucket| bucket.latency(0.99).unwrap().as_secs_f64();
    assert_eq!((without.good, with.good), (without.offered, with.offered));
    assert!(p99(&with) <= 0.45 * p99(&without));
    assert!(with.amplification() <= 1.05, "{}", with.amplification());
}

/// The delay that is learned with hedges is that of attempts without: those that lost are not
/// forgotten.
#[test]
fn what_is_measured_under_hedges_is_what_attempts_take() {
    let slow = Upstream::new().service_time(Times::exponential(ms(100)));
    let simulation = ten(slow);
    // The burst is ten, and there is no more.
    let (_, unhedged) = hedged(&simulation, secs(60), Config::default(), 0.0);
    let (_, hedged) = hedged(&simulation, secs(60), Config::default(), 0.05);
    let ratio = hedged.delay.unwrap().as_secs_f64() / unhedged.delay.unwrap().as_secs_f64();
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
    assert!(hedged.begun > 0 && unhedged.begun <= 10);
}

/// All of them hang for ten seconds: every call asks for hedges, and the budget says no.
#[test]
fn a_full_outage_makes_no_storm_of_hedges() {
    let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let silent = || {
        let upstream = Upstream::new().service_time(Times::exponential(ms(10)));
        upstream.fault(secs(20)..secs(30), Fault::Silent)
    };
    let simulation = names
        .into_iter()
        .fold(Simulation::new(5), |simulation, name| {
            simulation.upstream(name, silent())
        })
        .clients(Clients::open(PER_SECOND));
    // What is measured in the outage makes hedges late, so also a fixed delay.
    let measured = Config::builder().max_hedges(5);
    let fixed = measured.quantile(None).fixed_delay(ms(50));
    for (config, asked) in [(measured, 100), (fixed, 1_900)] {
        let mut policy = None;
        let report = simulation.run(secs(60), |world| {
            let config = config.build().unwrap();
            let hedges = HedgePolicy::with_clock(config, budget(world, 0.05), world.clock());
            policy = Some(hedges.clone());
            ServiceBuilder::new()
                .layer(HedgeLayer::new(hedges, CloneRequest))
                .layer(TimeoutLayer::new(secs(1)))
                .service(in_turn(world))
        });
        let policy = policy.unwrap().snapshot();
        assert!(policy.no_budget > asked, "{policy:?}");
        for bucket in [report.between(secs(20)..secs(30)), report.total()] {
            let most = 1.05 * bucket.offered as f64 + 10.0;
            assert!(bucket.upstream_calls as f64 <= most, "{policy:?}");
        }
    }
}

/// Retries outside, hedges inside, all of it failing slowly: one budget for both.
#[test]
fn retries_and_hedges_of_one_upstream_add_no_more_than_one_budget_allows() {
    let simulation = Simulation::new(3)
        .upstream(
            "0",
            Upstream::new().fault(Duration::ZERO..secs(60), Fault::Silent),
        )
        .clients(Clients::open(PER_SECOND));
    let report = simulation.run(secs(20), |world| {
        let budget = budget(world, 0.1);
        let backoff = Backoff::new(ms(10), ms(10)).unwrap();
        let retry = RetryConfig::builder().backoff(backoff).build().unwrap();
        let retries = RetryPolicy::with_clock(retry, budget.clone(), world.clock());
        let hedge = Config::builder().fixed_delay(ms(50)).build().unwrap();
        let hedges = HedgePolicy::inside_retry(hedge, budget, world.clock());
        ServiceBuilder::new()
            .layer(RetryLayer::new(retries))
            .layer(HedgeLayer::new(hedges, CloneRequest))
            .layer(TimeoutLayer::new(ms(200)))
            .service(world.upstream("0"))
    });
    let total = report.total();
    assert!(total.upstream_calls as f64 <= 1.1 * total.offered as f64 + 10.0);
    assert!(total.upstream_calls as f64 >= 1.08 * total.offered as f64);
}
