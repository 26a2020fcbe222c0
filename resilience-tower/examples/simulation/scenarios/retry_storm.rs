use plotters::chart::SeriesLabelPosition;
use resilience_core::{
    breaker,
    retry::{self, Backoff, BudgetConfig, Jitter, RetryBudget, RetryPolicy},
};
use resilience_tower::{
    retry::RetryLayer,
    sim::{Clients, Fault, Simulation, Times, Upstream, World},
    timeout::TimeoutLayer,
};
use tower::ServiceBuilder;

use super::{Plot, Scenario, Variant, a_breaker, goodput, ms, peak, percent, seconds, secs, share};

pub(crate) fn scenario() -> Scenario {
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
                work to the end of the run, long after the cause is gone.",
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

fn budget(world: &mut World) -> RetryPolicy {
    let backoff = Backoff::new(ms(50), secs(1)).unwrap().jitter(Jitter::Full);
    let config = retry::Config::builder().backoff(backoff).build().unwrap();
    let budget = RetryBudget::with_clock(BudgetConfig::default(), world.clock());
    RetryPolicy::with_seed(config, budget, world.clock(), world.seed())
}
