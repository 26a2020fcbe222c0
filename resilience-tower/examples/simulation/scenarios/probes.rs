use plotters::chart::SeriesLabelPosition;
use resilience_core::breaker;
use resilience_tower::{
    sim::{Clients, Fault, Simulation, Times, Upstream},
    timeout::TimeoutLayer,
};
use tower::ServiceBuilder;

use super::{Plot, Scenario, Variant, a_breaker, goodput, ms, seconds, secs, share};

pub(crate) fn scenario() -> Scenario {
    let upstream = Upstream::new()
        .servers(20)
        .service_time(Times::around(ms(40)))
        .line(100)
        .dies_of_a_full_line(secs(5))
        .warm_up(secs(10), 10.0)
        .fault(secs(10)..secs(15), Fault::Down);
    let simulation = Simulation::new(2)
        .upstream("upstream", upstream)
        .clients(Clients::open(300.0))
        .instances(30);
    let run = |config: Option<breaker::ConfigBuilder>| match config {
        None => simulation.run(secs(60), |world| {
            ServiceBuilder::new()
                .layer(TimeoutLayer::new(ms(500)))
                .service(world.upstream("upstream"))
        }),
        Some(config) => simulation.run(secs(60), |world| {
            ServiceBuilder::new()
                .layer(a_breaker(world, config.clone()))
                .layer(TimeoutLayer::new(ms(500)))
                .service(world.upstream("upstream"))
        }),
    };
    let at_once = breaker::Config::builder()
        .consecutive_failures(5)
        .half_open_permits(1_000)
        .probe_failures(0)
        .reset_timeout(secs(2))
        .max_reset_timeout(secs(2));
    let ours = breaker::Config::builder()
        .consecutive_failures(5)
        .time_window(secs(1))
        .minimum_calls(5)
        .slow_call(ms(80))
        .half_open_permits(1)
        .reset_timeout(secs(2))
        .max_reset_timeout(secs(2))
        .jitter(0.5);
    let variants = vec![
        Variant {
            label: "no breaker",
            stack: "`timeout` 500 ms",
            report: run(None),
        },
        Variant {
            label: "all at once",
            stack: "a breaker that admits all calls once its 2 s are over → `timeout` 500 ms",
            report: run(Some(at_once)),
        },
        Variant {
            label: "one probe, jitter, slow calls",
            stack: "`breaker` (reset timeout 2 s with jitter 0.5, 1 half-open permit, slow from \
                    80 ms on) → `timeout` 500 ms",
            report: run(Some(ours)),
        },
    ];
    Scenario {
        name: "probes",
        title: "Thundering probes after an outage",
        story: "30 processes call an upstream that bears 500 calls a second, 300 times a second in all. It is\n\
                down from second 10 to 15 and starts cold: ten times as slow, warm after 10 s. With more than\n\
                100 calls in line it dies and starts again, 5 s later.",
        variants,
        plot: Plot {
            y: "good calls per second",
            value: goodput,
        },
        columns: vec![
            ("good in all", share),
            ("well again after", |r| {
                seconds(r.time_to_recover(secs(15), 0.95))
            }),
            ("died", |r| format!("{} times", r.upstreams()[0].deaths)),
            ("most calls to the upstream in the outage", |r| {
                let calls = &r.upstreams()[0].by_bucket[10..15];
                format!("{}/s", calls.iter().max().unwrap())
            }),
        ],
        trouble: vec![(10, 15)],
        legend: SeriesLabelPosition::MiddleRight,
        headroom: 1.05,
    }
}
