use plotters::chart::SeriesLabelPosition;
use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_tower::{
    adaptive::AdaptiveLayer,
    sim::{Clients, Simulation, Times, Upstream},
};
use tower::ServiceBuilder;

use super::{Plot, Scenario, Variant, goodput, ms, seconds, secs};

pub(crate) fn scenario() -> Scenario {
    let upstream = Upstream::new()
        .servers(20)
        .service_time(Times::around(ms(100)));
    let simulation = Simulation::new(4).upstream("upstream", upstream).clients(
        Clients::open(150.0)
            .rate_from(secs(10), 300.0)
            .rate_from(secs(40), 150.0)
            .timeout(secs(1)),
    );
    let variants = vec![
        Variant {
            label: "no limit",
            stack: "timeout 1 s",
            report: simulation.run(secs(60), |world| world.upstream("upstream")),
        },
        Variant {
            label: "adaptive limit",
            stack: "`adaptive` (Gradient2, defaults); timeout 1 s",
            report: simulation.run(secs(60), |world| {
                let config = adaptive::Config::builder().build().unwrap();
                let limit = AdaptiveLimit::with_clock(config, world.clock());
                ServiceBuilder::new()
                    .layer(AdaptiveLayer::new(limit))
                    .service(world.upstream("upstream"))
            }),
        },
    ];
    Scenario {
        name: "overload",
        title: "Overload",
        story: "An upstream bears 200 calls a second and gets 150, from second 10 to 40 300. Callers give up\n\
                after a second.",
        variants,
        plot: Plot {
            y: "good calls per second",
            value: goodput,
        },
        columns: vec![
            ("good calls in the overload", |r| {
                format!("{:.0}/s", r.between(secs(10)..secs(40)).good as f64 / 30.0)
            }),
            ("p99 of them", |r| {
                let p99 = r.between(secs(10)..secs(40)).latency(0.99).unwrap();
                format!("{} ms", p99.as_millis())
            }),
            ("well again after", |r| {
                seconds(r.time_to_recover(secs(40), 0.95))
            }),
        ],
        trouble: vec![(10, 40)],
        legend: SeriesLabelPosition::Coordinate(150, 150),
        headroom: 1.05,
    }
}
