use plotters::chart::SeriesLabelPosition;
use resilience_core::{
    adaptive::{self, AdaptiveLimit},
    bulkhead::{self, Bulkhead},
    load_shed::{self, Class, LoadShed},
};
use resilience_tower::{
    adaptive::AdaptiveLayer,
    bulkhead::BulkheadLayer,
    load_shed::{Arrived, HasArrival, LoadShedLayer, StampLayer},
    sim::{Bucket, Clients, Report, Request, Simulation, Times, Upstream},
};
use tower::ServiceBuilder;

use super::{Plot, Scenario, Variant, ms, percent, seconds, secs};

pub(crate) fn scenario() -> Scenario {
    let workers = Upstream::new()
        .servers(20)
        .service_time(Times::around(ms(100)));
    let clients = Clients::open(150.0)
        .rate_from(secs(10), 300.0)
        .rate_from(secs(40), 150.0)
        .timeout(secs(1))
        .classes(&[
            ("critical", 0.02),
            ("high", 0.28),
            ("normal", 0.3),
            ("low", 0.4),
        ]);
    let simulation = Simulation::new(8)
        .upstream("workers", workers)
        .clients(clients);
    let variants = vec![
        Variant {
            label: "no limit",
            stack: "timeout 1 s",
            report: simulation.run(secs(60), |world| world.upstream("workers")),
        },
        Variant {
            label: "all alike",
            stack: "`adaptive` (Gradient2, defaults); timeout 1 s",
            report: simulation.run(secs(60), |world| {
                let config = adaptive::Config::builder().build().unwrap();
                let limit = AdaptiveLimit::with_clock(config, world.clock());
                ServiceBuilder::new()
                    .layer(AdaptiveLayer::new(limit))
                    .service(world.upstream("workers"))
            }),
        },
        Variant {
            label: "by class",
            stack: "`load_shed` (by queue delay, target 50 ms) → `bulkhead` (20 at once, 100 in line); timeout \
                    1 s",
            report: simulation.run(secs(60), |world| {
                let config = load_shed::Config::builder().target(ms(50)).build();
                let shed = LoadShed::with_clock(config.unwrap(), world.clock());
                let line = bulkhead::Config::builder().limit(20).max_queue(100);
                let bulkhead = Bulkhead::with_clock(line.build().unwrap(), world.clock());
                let layer = LoadShedLayer::new(shed).class(Call::class);
                let measure = layer.measure();
                ServiceBuilder::new()
                    .map_request(Call::new)
                    .layer(StampLayer)
                    .layer(layer)
                    .layer(BulkheadLayer::new(bulkhead).wait())
                    .layer(measure)
                    .service(world.upstream("workers"))
            }),
        },
    ];
    Scenario {
        name: "classes",
        title: "Overload, and who is served",
        story: "A server bears 200 calls a second and gets 150, from second 10 to 40 300: of 50 calls 1 is\n\
                critical, 14 are high, 15 normal and 20 low. Callers give up after a second. By class a little\n\
                less is served in all, as the level is always on trial, and what matters is served.",
        variants,
        plot: Plot {
            y: "good calls per second, critical and high",
            value: |report, bucket| {
                let bucket = &report.buckets()[bucket];
                let good = bucket.class("critical").good + bucket.class("high").good;
                good as f64 / report.width().as_secs_f64()
            },
        },
        columns: vec![
            ("critical in the overload", |r| served(r, "critical")),
            ("high", |r| served(r, "high")),
            ("normal", |r| served(r, "normal")),
            ("low", |r| served(r, "low")),
            ("good calls", |r| {
                format!("{:.0}/s", overload(r).good as f64 / 30.0)
            }),
            ("p99 of them", |r| {
                let p99 = overload(r).latency(0.99).unwrap();
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

fn overload(report: &Report) -> Bucket {
    report.between(secs(10)..secs(40))
}

fn served(report: &Report, class: &str) -> String {
    percent(overload(report).class(class).share())
}

/// A call, and when it came.
#[derive(Clone, Copy)]
struct Call {
    request: Request,
    arrived: Option<Arrived>,
}

impl Call {
    const fn new(request: Request) -> Self {
        Self {
            request,
            arrived: None,
        }
    }

    fn class(&self) -> Class {
        let class = Class::ALL
            .into_iter()
            .find(|class| class.as_str() == self.request.class);
        class.unwrap_or_default()
    }
}

impl HasArrival for Call {
    fn arrived(&self) -> Option<Arrived> {
        self.arrived
    }

    fn set_arrived(&mut self, arrived: Arrived) {
        self.arrived = Some(arrived);
    }
}
