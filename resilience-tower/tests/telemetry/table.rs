//! The metrics that there are, against the table of them.
#![cfg(all(
    feature = "cache",
    feature = "fallback",
    feature = "read-write",
    feature = "redis"
))]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use metrics::Unit;
use resilience_core::balance::{self, Balancer};
use resilience_core::breaker::{self, CircuitBreaker, Registry};
use resilience_core::bulkhead::{self, Bulkhead};
use resilience_core::chaos::Chaos;
use resilience_core::deadline::Deadlines;
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::rate_limit::{KeyedRateLimiter, LeasedRateLimiter, Quota, RateLimiter};
use resilience_core::retry::{RetryBudget, RetryPolicy};
use resilience_core::{cache, coalesce};
use resilience_tower::cache::Store;
use resilience_tower::coalesce::Coalescing;
use resilience_tower::fallback::Fallbacks;
use resilience_tower::rate_limit::redis::{Config, RedisLimiter};
use resilience_tower::telemetry::{Collector, Ended, Refusal, TelemetryLayer};
use tokio_test::{assert_ready_ok, task};
use tower::{Layer, Service, service_fn};

use super::recorder::Kept;
use super::{documented, learned, shed_more, shedder};

/// Everything that is told of everything.
fn all() -> Kept {
    let (kept, collector) = (Kept::default(), Collector::new());
    let quota = Quota::per_second(100).unwrap();
    let breaker = CircuitBreaker::new("");
    let registry: Registry<u8> = Registry::builder(breaker::Config::default()).build();
    registry.get(&1).unwrap();
    let direct = RateLimiter::new(quota);
    let leased = LeasedRateLimiter::new(quota, 1, 1).unwrap();
    let keyed = KeyedRateLimiter::<u8>::new(quota, 10);
    let bulkhead = Bulkhead::new(bulkhead::Config::default());
    let tenants: bulkhead::Registry<u8> =
        bulkhead::Registry::builder(bulkhead::Config::default()).build();
    let adaptive = learned(Duration::from_millis(100));
    let (retry, budget) = (RetryPolicy::default(), RetryBudget::default());
    let deadlines = Deadlines::default();
    let (shedder, clock) = shedder();
    shedder.report_cpu(0.5);
    shed_more(&shedder, &clock);
    let config = hedge::Config::builder().fixed_delay(Duration::from_millis(50));
    let hedges = HedgePolicy::new(config.build().unwrap(), budget.clone());
    let coalescing = Coalescing::new(coalesce::Config::default());
    let store = Store::<u8, u8>::new(cache::Config::default());
    let balancer = Balancer::<u8>::new(balance::Config::default());
    let (chaos, fallbacks) = (Chaos::default(), Fallbacks::default());
    collector.add("a", &breaker);
    collector.add("b", &registry);
    collector.add("c", &direct);
    collector.add("d", &leased);
    collector.add("e", &keyed);
    collector.add("f", &bulkhead);
    collector.add("g", &adaptive);
    collector.add("h", &retry);
    collector.add("i", &budget);
    collector.add("j", &deadlines);
    collector.add("k", &chaos);
    collector.add("p", &coalescing);
    collector.add("q", &store);
    collector.add("n", &shedder);
    collector.add("o", &hedges);
    collector.add("m", &balancer);
    collector.add("l", &fallbacks);
    collector.add("r", &tenants);
    let config = Config::builder(quota).build().unwrap();
    let redis = RedisLimiter::new("redis://127.0.0.1:1/", "s", config).unwrap();
    collector.add("s", &redis);
    let (runtime, cluster) = super::nodes::cluster();
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(500)).await });
    collector.add("t", &cluster);
    kept.local(|| {
        collector.publish();
        let refused = |_: Result<&(), &Infallible>| Ended::Refused(Refusal::new("x", "y"));
        let inner = service_fn(async |()| Ok::<_, Infallible>(()));
        let attempt = TelemetryLayer::attempt("k").judge(refused).layer(inner);
        let mut call = TelemetryLayer::call("k").judge(refused).layer(attempt);
        assert_ready_ok!(task::spawn(call.call(())).poll());
    });
    kept
}

#[test]
fn the_table_has_each_metric_with_its_type_unit_labels_and_meaning() {
    let kept = all();
    let mut labels: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for series in kept.series() {
        let (kind, series) = series.split_once(' ').unwrap();
        let (name, rest) = series.split_once('{').unwrap();
        let of = rest.trim_end_matches('}').split(',');
        let of: Vec<_> = of
            .map(|label| label.split_once('=').unwrap().0.to_owned())
            .collect();
        let known = labels.entry(name.to_owned());
        let known = known.or_insert_with(|| (kind.to_owned(), of.clone()));
        assert_eq!(
            *known,
            (kind.to_owned(), of),
            "all series of {name} have the same labels"
        );
    }

    let described = kept.described();
    let mut rows = documented("| metric | type | unit | labels |");
    assert_eq!(
        rows.len(),
        labels.len(),
        "no metric is missing, on neither side"
    );
    for row in &mut rows {
        let [name, kind, unit, documented, meaning] = &row[..] else {
            panic!("five columns: {row:?}");
        };
        let (registered, of) = &labels[name];
        assert_eq!(registered, kind, "{name}");
        let mut names: Vec<_> = documented.split(", ").collect();
        names.sort_unstable();
        assert_eq!(of, &names, "{name}");
        let (as_kind, as_unit, help) = &described[name];
        assert_eq!((as_kind, help), (&kind.as_str(), meaning), "{name}");
        let seconds = unit == "seconds";
        let expected = if seconds { Unit::Seconds } else { Unit::Count };
        assert_eq!(*as_unit, Some(expected), "{name}");

        // Conventions of Prometheus: base units as suffix, `_total` for counters and nothing else.
        assert_eq!(name.ends_with("_seconds"), seconds, "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(name.starts_with("resilience_"), "{name}");
    }
}

#[test]
fn values_of_labels_are_those_of_the_table() {
    let allowed: BTreeMap<_, _> = documented("| label | values |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    for series in all().series() {
        // What a refusal says is not in the table.
        if series.contains("_call_refused_") || series.contains("_attempt_refused_") {
            continue;
        }
        let (_, rest) = series.split_once('{').unwrap();
        for label in rest.trim_end_matches('}').split(',') {
            let (label, value) = label.split_once('=').unwrap();
            let value = value.trim_matches('"');
            let values = &allowed[label];
            let mut words = values.split(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(
                label == "name" || words.any(|word| word == value),
                "{series}"
            );
        }
    }
}
