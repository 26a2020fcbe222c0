use plotters::chart::SeriesLabelPosition;
use resilience_core::breaker;
use resilience_tower::{
    sim::{Clients, Fault, Simulation, Times, Upstream},
    timeout::TimeoutLayer,
};
use tower::ServiceBuilder;

use super::{Plot, Scenario, Variant, a_breaker, goodput, in_vain, ms, secs};

pub(crate) fn scenario() -> Scenario {
    let upstream = Upstream::new()
        .servers(20)
        .service_time(Times::around(ms(40)))
        .flapping(secs(10)..secs(50), secs(3), secs(3), Fault::Silent);
    let simulation = Simulation::new(3)
        .upstream("upstream", upstream)
        .clients(Clients::closed(100, Times::exponential(ms(500))));
    let run = |config: Option<breaker::ConfigBuilder>| match config {
        None => simulation.run(secs(60), |world| {
            ServiceBuilder::new()
                .layer(TimeoutLayer::new(secs(1)))
                .service(world.upstream("upstream"))
        }),
        Some(config) => simulation.run(secs(60), |world| {
            ServiceBuilder::new()
                .layer(a_breaker(world, config.clone()))
                .layer(TimeoutLayer::new(secs(1)))
                .service(world.upstream("upstream"))
        }),
    };
    let long = breaker::Config::builder()
        .consecutive_failures(5)
        .reset_timeout(secs(10))
        .max_reset_timeout(secs(10));
    let ours = breaker::Config::builder()
        .consecutive_failures(5)
        .half_open_permits(1)
        .reset_timeout(ms(250))
        .max_reset_timeout(ms(500));
    let variants = vec![
        Variant {
            label: "no breaker",
            stack: "`timeout` 1 s",
            report: run(None),
        },
        Variant {
            label: "open for 10 s",
            stack: "a breaker that opens for 10 s → `timeout` 1 s",
            report: run(Some(long)),
        },
        Variant {
            label: "open for 250 to 500 ms",
            stack: "`breaker` (reset timeout 250 ms, doubling once; 1 half-open permit) → `timeout` 1 s",
            report: run(Some(ours)),
        },
    ];
    Scenario {
        name: "flapping",
        title: "Flapping upstream",
        story: "From second 10 to 50 an upstream is silent for 3 s, well for 3 s, and so on. 100 users wait for\n\
                each answer and think for half a second.",
        variants,
        plot: Plot {
            y: "good calls per second",
            value: goodput,
        },
        columns: vec![
            ("good calls while it flaps", |r| {
                r.between(secs(10)..secs(50)).good.to_string()
            }),
            ("waited in vain, in all", in_vain),
            ("calls that were lost", |r| {
                r.upstreams()[0].abandoned.to_string()
            }),
        ],
        trouble: (0..7)
            .map(|n| (13 + 6 * n, 16 + 6 * n))
            .map(|(from, to): (u64, u64)| (from, to.min(50)))
            .collect(),
        legend: SeriesLabelPosition::UpperMiddle,
        headroom: 1.5,
    }
}
