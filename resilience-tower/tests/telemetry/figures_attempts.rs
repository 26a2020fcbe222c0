//! What a collector publishes of policies about attempts and endpoints.

use std::time::Duration;

use resilience_core::balance::{self, Balancer, Endpoint};
use resilience_core::chaos::{self, Chaos};
use resilience_core::clock::ManualClock;
use resilience_core::deadline::{self, Deadlines};
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::retry::{self, BudgetConfig, RetryBudget, RetryPolicy};

const SECOND: Duration = Duration::from_secs(1);

fn retry(budget: &RetryBudget) -> RetryPolicy {
    let config = retry::Config::builder().max_attempts(2).build().unwrap();
    RetryPolicy::with_clock(config, budget.clone(), ManualClock::new())
}

fn budget() -> RetryBudget {
    let config = BudgetConfig::new(0.0, 0).unwrap().burst(5).unwrap();
    RetryBudget::with_clock(config, ManualClock::new())
}

#[test]
fn retries_and_their_budget_are_told() {
    let budget = budget();
    let policy = retry(&budget);
    for _ in 0..3 {
        let mut call = policy.begin();
        assert!(call.retry(None, None).is_ok());
        assert!(call.retry(None, None).is_err());
    }
    let kept = published!(&policy);
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"retry\"}}");
    assert_eq!(kept.counter(&of("resilience_retries_total")), Some(3));
    assert_eq!(
        kept.gauge(&of("resilience_retry_budget_balance")),
        Some(2.0)
    );
    assert_eq!(kept.gauge(&of("resilience_retry_budget_burst")), Some(5.0));
    for (reason, stops) in [
        ("attempts", 3),
        ("budget", 0),
        ("deadline", 0),
        ("retry_after", 0),
    ] {
        let labels = format!("name=\"payments\",policy=\"retry\",reason=\"{reason}\"");
        let series = format!("resilience_retry_stopped_total{{{labels}}}");
        assert_eq!(kept.counter(&series), Some(stops), "{series}");
    }

    while budget.try_withdraw().is_ok() {}
    let kept = published!(&budget);
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"retry_budget\"}}");
    let refused =
        "resilience_refused_total{name=\"payments\",policy=\"retry_budget\",reason=\"budget\"}";
    assert_eq!(kept.counter(refused), Some(1));
    assert_eq!(
        kept.gauge(&of("resilience_retry_budget_balance")),
        Some(0.0)
    );
}

#[test]
fn calls_whose_time_was_up_are_told() {
    let config = deadline::Config::builder().attempt(SECOND).build();
    let deadlines = Deadlines::new(config.unwrap());
    let attempt = deadlines.begin(None, Duration::ZERO).unwrap();
    let call = deadlines.begin(Some(SECOND / 2), Duration::ZERO).unwrap();
    deadlines.time_up(attempt);
    deadlines.time_up(call);
    deadlines.time_up(call);
    assert!(
        deadlines
            .begin(Some(Duration::ZERO), Duration::ZERO)
            .is_err()
    );
    let kept = published!(&deadlines);
    let timeouts = |reason: &str| {
        let labels = format!("name=\"payments\",policy=\"deadline\",reason=\"{reason}\"");
        kept.counter(&format!("resilience_timeouts_total{{{labels}}}"))
    };
    assert_eq!(
        (timeouts("attempt"), timeouts("deadline")),
        (Some(1), Some(2))
    );
    let refused =
        "resilience_refused_total{name=\"payments\",policy=\"deadline\",reason=\"deadline\"}";
    assert_eq!(kept.counter(refused), Some(1));
}

#[test]
fn a_balancer_tells_its_endpoints_by_state_and_none_by_name() {
    let config = balance::Config::builder().consecutive_failures(1).build();
    let balancer = Balancer::with_clock(config.unwrap(), ManualClock::new());
    let kept = published!(&balancer);
    let before = kept.series();
    assert!(balancer.pick().is_err());
    let endpoint = |place: u8| Endpoint::new(format!("10.0.0.{place}:80"), place);
    let drained = endpoint(0).weight(0);
    balancer
        .set_endpoints((1..8).map(endpoint).chain([drained]))
        .unwrap();
    assert!(balancer.set_health("10.0.0.1:80", false));
    let _running = balancer.pick().unwrap();
    balancer.pick().unwrap().failure();

    let kept = published!(&balancer);
    let of = |state: &str| {
        let labels = format!("name=\"payments\",policy=\"balance\",state=\"{state}\"");
        kept.gauge(&format!("resilience_endpoints{{{labels}}}"))
            .unwrap()
    };
    let states = ["ready", "ejected", "unhealthy", "drained"].map(of);
    assert_eq!(states, [5.0, 1.0, 1.0, 1.0]);
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"balance\"}}");
    assert_eq!(kept.gauge(&of("resilience_in_flight")), Some(1.0));
    assert_eq!(kept.counter(&of("resilience_ejections_total")), Some(1));
    assert_eq!(kept.counter(&of("resilience_lost_events_total")), Some(0));
    let labels = "name=\"payments\",policy=\"balance\",reason=\"no_endpoint\"";
    let refused = format!("resilience_refused_total{{{labels}}}");
    assert_eq!(kept.counter(&refused), Some(1));
    assert_eq!(kept.series(), before, "whatever the endpoints");
}

#[test]
fn hedges_and_their_budget_are_told() {
    let budget = budget();
    let config = hedge::Config::builder().fixed_delay(SECOND / 20);
    let policy = HedgePolicy::with_clock(config.build().unwrap(), budget, ManualClock::new());
    for wins in [true, false, true] {
        let (mut call, first) = policy.begin();
        let hedge = call.hedge(None).unwrap().begin();
        if wins {
            hedge.answered();
        } else {
            first.answered();
        }
    }
    let (mut call, _first) = policy.begin();
    assert!(call.hedge(Some(Duration::ZERO)).is_err());
    while policy.budget().try_withdraw().is_ok() {}
    for _ in 0..2 {
        assert!(call.hedge(None).is_err());
    }
    let kept = published!(&policy);
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"hedge\"}}");
    assert_eq!(kept.counter(&of("resilience_hedges_total")), Some(3));
    assert_eq!(kept.counter(&of("resilience_hedges_won_total")), Some(2));
    assert_eq!(
        kept.gauge(&of("resilience_hedge_delay_seconds")),
        Some(0.05)
    );
    assert_eq!(
        kept.gauge(&of("resilience_retry_budget_balance")),
        Some(0.0)
    );
    assert_eq!(kept.gauge(&of("resilience_retry_budget_burst")), Some(5.0));
    let stopped = |reason: &str| {
        let labels = format!("name=\"payments\",policy=\"hedge\",reason=\"{reason}\"");
        kept.counter(&format!("resilience_hedges_stopped_total{{{labels}}}"))
    };
    assert_eq!((stopped("budget"), stopped("deadline")), (Some(2), Some(1)));
}

#[test]
fn faults_on_purpose_are_told_by_their_kind() {
    let config = chaos::Config::builder()
        .latency_rate(0.3)
        .error_rate(0.3)
        .abort_rate(0.3);
    let chaos = Chaos::with_seed(config.build().unwrap(), 7);
    chaos.switch_on();
    for _ in 0..100 {
        let _ = chaos.draw();
    }
    let kept = published!(&chaos);
    let is = chaos.snapshot();
    for (fault, hit) in [
        ("latency", is.latencies),
        ("error", is.errors),
        ("abort", is.aborts),
    ] {
        let labels = format!("fault=\"{fault}\",name=\"payments\",policy=\"chaos\"");
        let series = format!("resilience_chaos_faults_total{{{labels}}}");
        assert_eq!(kept.counter(&series), Some(hit), "{series}");
        assert!(hit > 0, "{series}");
    }
    let on = "resilience_chaos_on{name=\"payments\",policy=\"chaos\"}";
    assert_eq!(kept.gauge(on), Some(1.0));
    chaos.switch_off();
    assert_eq!(published!(&chaos).gauge(on), Some(0.0));
}

#[cfg(feature = "fallback")]
#[test]
fn fallbacks_are_told_by_their_reason_and_how_they_ended() {
    use resilience_tower::fallback::FallbackLayer;
    use tokio_test::task;
    use tower::{Layer, Service, service_fn};

    let layer = FallbackLayer::function(async |_| Err::<u32, _>("no guess"));
    let mut prices = layer.layer(service_fn(async |_: u32| Err::<u32, _>("down")));
    for item in 0..3 {
        assert!(task::spawn(prices.call(item)).poll().is_ready());
    }
    let kept = published!(layer.handle());
    let of = |metric: &str, reason: &str| {
        let labels = format!("name=\"payments\",policy=\"fallback\",reason=\"{reason}\"");
        kept.counter(&format!("resilience_fallbacks_{metric}{{{labels}}}"))
    };
    assert_eq!(
        (of("total", "failure"), of("total", "overloaded")),
        (Some(3), Some(0))
    );
    assert_eq!(
        (of("lost_total", "failed"), of("lost_total", "abandoned")),
        (Some(3), Some(0))
    );
}
