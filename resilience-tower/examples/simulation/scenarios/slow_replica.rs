use std::time::Duration;

use plotters::chart::SeriesLabelPosition;
use resilience_core::{
    balance::{Balancer, Config, Endpoint, Strategy},
    hedge::{self, HedgePolicy},
    retry::{BudgetConfig, RetryBudget},
};
use resilience_tower::{
    balance::Balance,
    hedge::HedgeLayer,
    retry::CloneRequest,
    sim::{Clients, Fault, Report, Simulation, Times, Upstream, UpstreamService, World},
    timeout::{Timeout, TimeoutLayer},
};
use tower_layer::Layer;

use super::{Plot, Scenario, Variant, ms, secs};

pub(crate) fn scenario() -> Scenario {
    let replica = Upstream::new()
        .servers(50)
        .service_time(Times::around(ms(40)));
    let slow = replica.clone().fault(secs(10)..secs(40), Fault::Slow(10.0));
    let simulation = Simulation::new(5).clients(Clients::open(500.0));
    let simulation = (1..10).fold(simulation.upstream(SLOW, slow), |simulation, number| {
        simulation.upstream(&format!("replica {number}"), replica.clone())
    });
    let run = |strategy| simulation.run(secs(60), |world| Balance::new(balancer(world, strategy)));
    let variants = vec![
        Variant {
            label: "round robin",
            stack: "`balance` (round robin) over `timeout` 1 s",
            report: run(Strategy::RoundRobin),
        },
        Variant {
            label: "least connections",
            stack: "`balance` (least connections) over `timeout` 1 s",
            report: run(Strategy::LeastConnections),
        },
        Variant {
            label: "hedge",
            stack: "`hedge` (two at most, after the quantile 0.85 each; default budget) → `balance` (round robin) over \
                    `timeout` 1 s",
            report: simulation.run(secs(60), |world| {
                let config = hedge::Config::builder().quantile(0.85).max_hedges(2);
                let config = config.build().unwrap();
                let budget = RetryBudget::with_clock(BudgetConfig::default(), world.clock());
                let policy = HedgePolicy::with_clock(config, budget, world.clock());
                HedgeLayer::new(policy, CloneRequest)
                    .layer(Balance::new(balancer(world, Strategy::RoundRobin)))
            }),
        },
        Variant {
            label: "peak EWMA",
            stack: "`balance` (two choices by peak EWMA, the default) over `timeout` 1 s",
            report: run(Strategy::PeakEwma),
        },
    ];
    Scenario {
        name: "slow_replica",
        title: "Slow replica",
        story: "Ten replicas get 500 calls a second. From second 10 to 40 one of them takes ten times as\n\
                long as the others, and fails nothing.",
        variants,
        plot: Plot {
            y: "p99 in milliseconds",
            value: |report, bucket| millis(report.buckets()[bucket].latency(0.99)),
        },
        columns: vec![
            ("p50 while it is slow", |r| quantile(r, 0.5)),
            ("p99", |r| quantile(r, 0.99)),
            ("p99.9", |r| quantile(r, 0.999)),
            ("calls that the slow one got", |r| {
                let calls: u64 = r.upstreams()[0].by_bucket[10..40].iter().sum();
                let all = r.between(secs(10)..secs(40)).upstream_calls;
                format!("{:.1} %", 100.0 * calls as f64 / all as f64)
            }),
        ],
        trouble: vec![(10, 40)],
        legend: SeriesLabelPosition::UpperRight,
        headroom: 1.05,
    }
}

const SLOW: &str = "slow replica";

fn balancer(world: &mut World, strategy: Strategy) -> Balancer<Timeout<UpstreamService>> {
    let config = Config::builder().strategy(strategy).build().unwrap();
    let balancer = Balancer::with_seed(config, world.clock(), world.seed());
    let endpoints = world.upstreams().iter().map(|upstream| {
        let service = TimeoutLayer::new(secs(1)).layer(upstream.clone());
        Endpoint::new(upstream.name(), service)
    });
    balancer.set_endpoints(endpoints).unwrap();
    balancer
}

fn millis(time: Option<Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn quantile(report: &Report, quantile: f64) -> String {
    let slow = report.between(secs(10)..secs(40));
    format!("{:.0} ms", millis(slow.latency(quantile)))
}
