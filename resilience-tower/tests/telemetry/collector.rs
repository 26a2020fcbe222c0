//! Whom a collector publishes, and what becomes of those who go.

use std::time::Duration;

use resilience_core::breaker::CircuitBreaker;
#[cfg(feature = "stack")]
use resilience_core::breaker::Mode;
use resilience_core::bulkhead::{self, Bulkhead};
use resilience_tower::telemetry::Collector;

use super::learned;
use super::recorder::Kept;

const SECOND: Duration = Duration::from_secs(1);

#[cfg(feature = "stack")]
#[test]
fn a_stack_tells_all_its_policies_by_the_names_of_its_description() {
    use resilience_tower::admission::Policy;
    use resilience_tower::stack;
    use tower::Layer;

    let stack = stack::outbound("payments")
        .configure(|payments| payments.order.insert(2, Policy::Hedge))
        .unwrap();
    let handle = stack.handle();
    let (kept, collector) = (Kept::default(), Collector::new());
    collector.add_stack(&handle);
    handle.breaker().unwrap().set_mode(Mode::ForcedOpen);
    kept.local(|| collector.publish());
    let told = |series: &str, policy: &str| {
        let labels = format!("{{name=\"payments\",policy=\"{policy}\"");
        kept.series()
            .iter()
            .any(|one| one.contains(&format!("{series}{labels}")))
    };
    assert!(told("resilience_retries_total", "retry"));
    assert!(told("resilience_hedges_total", "hedge"));
    assert!(told("resilience_in_flight", "bulkhead"));
    assert!(told("resilience_timeouts_total", "deadline"));
    assert!(told("resilience_timeouts_total", "attempt_timeout"));
    let open = "resilience_breaker_mode{mode=\"forced_open\",name=\"payments\",policy=\"breaker\"}";
    assert_eq!(kept.gauge(open), Some(1.0));

    // The services keep their policies, and nothing else does.
    let service = stack.layer(());
    drop((stack, handle));
    kept.local(|| collector.publish());
    assert_eq!(kept.gauge(open), Some(1.0));
    drop(service);
    kept.local(|| collector.publish());
    assert!(collector.is_empty());
}

const REFUSED: &str =
    "resilience_refused_total{name=\"payments\",policy=\"bulkhead\",reason=\"full\"}";
const LIMIT: &str = "resilience_concurrency_limit{name=\"payments\",policy=\"bulkhead\"}";

/// A bulkhead that has refused so many calls.
fn refused(calls: u32) -> Bulkhead {
    let config = bulkhead::Config::builder().limit(2).build().unwrap();
    let bulkhead = Bulkhead::new(config);
    let running = (
        bulkhead.try_acquire().unwrap(),
        bulkhead.try_acquire().unwrap(),
    );
    for _ in 0..calls {
        assert!(bulkhead.try_acquire().is_err());
    }
    drop(running);
    bulkhead
}

#[test]
fn publishing_again_counts_nothing_twice() {
    let (kept, collector) = (Kept::default(), Collector::new());
    let bulkhead = refused(3);
    collector.add("payments", &bulkhead);
    for _ in 0..4 {
        kept.local(|| collector.publish());
        assert_eq!(kept.counter(REFUSED), Some(3));
    }
    let _running = (
        bulkhead.try_acquire().unwrap(),
        bulkhead.try_acquire().unwrap(),
    );
    assert!(bulkhead.try_acquire().is_err());
    kept.local(|| collector.publish());
    assert_eq!(kept.counter(REFUSED), Some(4));
}

#[test]
fn policies_of_one_name_add_up() {
    let (kept, collector) = (Kept::default(), Collector::new());
    let (one, other) = (refused(3), refused(4));
    collector.add("payments", &one);
    collector.add("payments", &other);
    collector.add("reports", &other);
    kept.local(|| collector.publish());
    assert_eq!(kept.counter(REFUSED), Some(7));
    assert_eq!(kept.gauge(LIMIT), Some(4.0));
    let reports = "resilience_concurrency_limit{name=\"reports\",policy=\"bulkhead\"}";
    assert_eq!(kept.gauge(reports), Some(2.0));
}

#[test]
fn of_times_of_one_name_the_greatest_is_told() {
    let (kept, collector) = (Kept::default(), Collector::new());
    let limits = [10, 8].map(|part| learned(SECOND / part));
    limits
        .iter()
        .for_each(|limit| collector.add("payments", limit));
    kept.local(|| collector.publish());
    let rtt = "resilience_adaptive_rtt_seconds{name=\"payments\",policy=\"adaptive\"}";
    assert_eq!(kept.gauge(rtt), Some(0.125));
}

#[test]
fn a_policy_that_is_gone_leaves_and_its_gauges_are_zero() {
    let (kept, collector) = (Kept::default(), Collector::new());
    let (one, other) = (refused(3), refused(4));
    collector.add("payments", &one);
    collector.add("payments", &other);
    kept.local(|| collector.publish());
    let way_back = one.downgrade();
    drop(one);
    assert!(way_back().is_none(), "a collector keeps nothing alive");
    kept.local(|| collector.publish());
    assert_eq!((collector.len(), kept.gauge(LIMIT)), (1, Some(2.0)));
    drop(other);
    kept.local(|| collector.publish());
    assert_eq!((collector.len(), kept.gauge(LIMIT)), (0, Some(0.0)));
    assert!(collector.is_empty());
    assert_eq!(kept.counter(REFUSED), Some(7), "counters never go back");
}

#[test]
fn the_counters_of_a_policy_that_is_made_anew_go_on() {
    let (kept, collector) = (Kept::default(), Collector::new());
    for round in 1..=3 {
        let bulkhead = refused(5);
        collector.add("payments", &bulkhead);
        kept.local(|| collector.publish());
        assert_eq!(kept.counter(REFUSED), Some(5 * round));
    }
}

#[test]
fn policies_that_come_and_go_are_not_kept_where_nobody_publishes() {
    let collector = Collector::new();
    for _ in 0..10_000 {
        collector.add("payments", &CircuitBreaker::new("payments"));
    }
    assert!(collector.len() <= 32, "{collector:?}");
}

#[test]
fn policies_that_stay_are_kept_however_many_are_added() {
    let collector = Collector::new();
    let breakers: Vec<_> = (0..100).map(|_| CircuitBreaker::new("payments")).collect();
    breakers
        .iter()
        .for_each(|breaker| collector.add("payments", breaker));
    assert_eq!(collector.len(), 100);
}
