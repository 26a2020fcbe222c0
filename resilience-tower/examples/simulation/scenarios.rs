//! The scenarios, each as one story with several stacks.

use std::time::Duration;

use plotters::chart::SeriesLabelPosition;
use resilience_core::{
    adaptive::{self, AdaptiveLimit},
    breaker::{self, CircuitBreaker},
    retry::{self, Backoff, BudgetConfig, Jitter, RetryBudget, RetryPolicy},
};
use resilience_tower::{
    adaptive::AdaptiveLayer,
    breaker::BreakerLayer,
    retry::RetryLayer,
    sim::{Clients, Fault, Report, Simulation, Times, Upstream, World},
    timeout::TimeoutLayer,
};
use tower::ServiceBuilder;

/// One story, and what becomes of it under several stacks.
pub(crate) struct Scenario {
    /// Of the picture's file.
    pub name: &'static str,
    pub title: &'static str,
    /// Markdown.
    pub story: &'static str,
    pub variants: Vec<Variant>,
    /// What the picture shows, over time.
    pub plot: Plot,
    /// What the table tells of each variant.
    pub columns: Vec<Column>,
    /// When something is wrong, in seconds; shaded in the picture.
    pub trouble: Vec<(u64, u64)>,
    pub legend: SeriesLabelPosition,
    /// How far the picture goes up, in highest values.
    pub headroom: f64,
}

/// Head and cell.
pub(crate) type Column = (&'static str, fn(&Report) -> String);

pub(crate) struct Variant {
    pub label: &'static str,
    /// How it is made.
    pub stack: &'static str,
    pub report: Report,
}

impl Variant {
    /// Seconds and values of the picture's line.
    pub(crate) fn series(&self, value: fn(&Report, usize) -> f64) -> Vec<(f64, f64)> {
        let width = self.report.width().as_secs_f64();
        let bucket = |index| ((index as f64 + 0.5) * width, value(&self.report, index));
        (0..self.report.buckets().len()).map(bucket).collect()
    }
}

pub(crate) struct Plot {
    pub y: &'static str,
    pub value: fn(&Report, usize) -> f64,
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn all() -> Vec<Scenario> {
    vec![retry_storm(), probes(), flapping(), overload()]
}

/// Good calls per second.
fn goodput(report: &Report, bucket: usize) -> f64 {
    report.buckets()[bucket].good as f64 / report.width().as_secs_f64()
}

fn share(report: &Report) -> String {
    percent(report.total().share())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "not in the run".to_owned(),
        |time| format!("{} s", time.as_secs()),
    )
}

/// How long all clients waited for what was no good answer.
fn in_vain(report: &Report) -> String {
    format!("{:.0} s", report.total().in_vain.as_secs_f64())
}

fn peak(report: &Report) -> f64 {
    let calls = report.buckets().iter().map(|bucket| bucket.upstream_calls);
    calls.max().unwrap_or(0) as f64 / report.width().as_secs_f64()
}

fn budget(world: &mut World) -> RetryPolicy {
    let backoff = Backoff::new(ms(50), secs(1)).unwrap().jitter(Jitter::Full);
    let config = retry::Config::builder().backoff(backoff).build().unwrap();
    let budget = RetryBudget::with_clock(BudgetConfig::default(), world.clock());
    RetryPolicy::with_seed(config, budget, world.clock(), world.seed())
}

fn a_breaker(world: &mut World, config: breaker::ConfigBuilder) -> BreakerLayer {
    let config = config.build().unwrap();
    let breaker = CircuitBreaker::with_seed("upstream", config, world.clock(), world.seed());
    BreakerLayer::from_handle(breaker)
}

pub(crate) fn retry_storm() -> Scenario {
    let upstream = Upstream::new()
        .servers(20)
        .service_time(Times::around(ms(50)))
        .fault(secs(0)..secs(60), Fault::Failing(0.01))
        .fault(secs(10)..secs(15), Fault::Slow(4.0));
    let simulation = |clients: Clients| {
        Simulation::new(1)
            .upstream("upstream", upstream.clone())
            .clients(clients)
    };
    let calls = Clients::open(240.0);
    let patient = calls.clone().timeout(secs(1));
    let length = secs(60);
    let variants = vec![
        Variant {
            label: "no retries",
            stack: "timeout 1 s",
            report: simulation(patient.clone()).run(length, |world| world.upstream("upstream")),
        },
        Variant {
            label: "3 attempts",
            stack: "3 attempts, 100 ms apart, no budget; timeout 1 s",
            report: simulation(patient.attempts(3, ms(100)))
                .run(length, |world| world.upstream("upstream")),
        },
        Variant {
            label: "retry with budget",
            stack: "`retry` (3 attempts, default budget) → `timeout` 1 s",
            report: simulation(calls.clone()).run(length, |world| {
                ServiceBuilder::new()
                    .layer(RetryLayer::new(budget(world)))
                    .layer(TimeoutLayer::new(secs(1)))
                    .service(world.upstream("upstream"))
            }),
        },
        Variant {
            label: "budget and breaker",
            stack: "`retry` (default budget) → `breaker` (reset timeout 500 ms) → `timeout` 1 s",
            report: simulation(calls).run(length, |world| {
                let config = breaker::Config::builder()
                    .reset_timeout(ms(500))
                    .max_reset_timeout(secs(2));
                ServiceBuilder::new()
                    .layer(RetryLayer::new(budget(world)))
                    .layer(a_breaker(world, config))
                    .layer(TimeoutLayer::new(secs(1)))
                    .service(world.upstream("upstream"))
            }),
        },
    ];
    Scenario {
        name: "retry_storm",
        title: "Retry storm",
        story: "An upstream that bears 400 calls a second gets 240, of which 1 % fails. From second 10 to 15 it\n\
                is four times as slow, and a line forms. Callers give up after a second; the upstream works on\n\
                what they left all the same. Those who try three times without a budget keep it busy with such\n\
                work for ever, long after the cause is gone.",
        variants,
        plot: Plot {
            y: "good calls per second",
            value: goodput,
        },
        columns: vec![
            ("good before", |r| {
                percent(r.between(secs(0)..secs(10)).share())
            }),
            ("good in all", share),
            ("well again after", |r| {
                seconds(r.time_to_recover(secs(15), 0.95))
            }),
            ("most calls to the upstream", |r| {
                format!("{:.0}/s", peak(r))
            }),
        ],
        trouble: vec![(10, 15)],
        legend: SeriesLabelPosition::MiddleRight,
        headroom: 1.05,
    }
}

pub(crate) fn probes() -> Scenario {
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

pub(crate) fn flapping() -> Scenario {
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

pub(crate) fn overload() -> Scenario {
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
