//! What a collector publishes of breakers and limits.

use std::time::Duration;

use resilience_core::breaker::{self, CircuitBreaker, Mode, Registry};
use resilience_core::bulkhead::{self, Bulkhead, Priority};
use resilience_core::clock::ManualClock;
use resilience_core::load_shed::Class;
use resilience_core::rate_limit::{KeyedRateLimiter, LeasedRateLimiter, Quota, RateLimiter};
use resilience_tower::telemetry::Collector;

use super::recorder::Kept;
use super::{learned, shed_more, shedder};

const SECOND: Duration = Duration::from_secs(1);

fn breaker() -> CircuitBreaker {
    let config = breaker::Config::builder().consecutive_failures(1);
    let config = config.reset_timeout(SECOND).half_open_permits(1);
    CircuitBreaker::with_clock(
        "a name of its own",
        config.build().unwrap(),
        ManualClock::new(),
    )
}

#[test]
fn a_breaker_is_told_as_its_snapshot_says() {
    let breaker = breaker();
    breaker.try_acquire().unwrap().success();
    let late = breaker.try_acquire().unwrap();
    breaker.try_acquire().unwrap().failure();
    late.success();
    for _ in 0..3 {
        assert!(breaker.try_acquire().is_err());
    }
    let kept = published!(&breaker);
    let is = breaker.snapshot();

    let counter =
        |name: &str| kept.counter(&format!("{name}{{name=\"payments\",policy=\"breaker\"}}"));
    let refused =
        "resilience_refused_total{name=\"payments\",policy=\"breaker\",reason=\"not_closed\"}";
    assert_eq!(kept.counter(refused), Some(3));
    assert_eq!(kept.counter(refused), Some(is.rejected));
    assert_eq!(counter("resilience_breaker_stale_outcomes_total"), Some(1));
    assert_eq!(
        counter("resilience_breaker_would_have_refused_total"),
        Some(0)
    );
    assert_eq!(counter("resilience_lost_events_total"), Some(0));
    for (state, there) in [("closed", 0.0), ("half_open", 0.0), ("open", 1.0)] {
        let series = format!(
            "resilience_breaker_state{{name=\"payments\",policy=\"breaker\",state=\"{state}\"}}"
        );
        assert_eq!(kept.gauge(&series), Some(there), "{series}");
    }
    for mode in [
        "automatic",
        "forced_open",
        "forced_closed",
        "disabled",
        "observe_only",
    ] {
        let series = format!(
            "resilience_breaker_mode{{mode=\"{mode}\",name=\"payments\",policy=\"breaker\"}}"
        );
        let there = f64::from(u8::from(mode == "automatic"));
        assert_eq!(kept.gauge(&series), Some(there), "{series}");
    }
    for (cause, openings) in [
        ("consecutive_failures", 1),
        ("failure_count", 0),
        ("failure_rate", 0),
        ("slow_call_rate", 0),
        ("probe_failed", 0),
        ("by_hand", 0),
    ] {
        let series = format!(
            "resilience_breaker_opened_total{{cause=\"{cause}\",name=\"payments\",policy=\"breaker\"}}"
        );
        assert_eq!(kept.counter(&series), Some(openings), "{series}");
    }
}

#[test]
fn the_window_of_a_closed_breaker_is_told() {
    let breaker = CircuitBreaker::new("payments");
    for _ in 0..3 {
        breaker.try_acquire().unwrap().success();
    }
    breaker.try_acquire().unwrap().failure();
    let kept = published!(&breaker);
    let gauge = |name: &str| kept.gauge(&format!("{name}{{name=\"payments\",policy=\"breaker\"}}"));
    assert_eq!(gauge("resilience_breaker_window_calls"), Some(4.0));
    assert_eq!(gauge("resilience_breaker_window_failures"), Some(1.0));
    assert_eq!(gauge("resilience_breaker_window_slow_calls"), Some(0.0));
}

#[test]
fn what_an_observing_breaker_would_have_refused_is_told() {
    let breaker = breaker();
    breaker.set_mode(Mode::ObserveOnly);
    breaker.try_acquire().unwrap().failure();
    breaker.try_acquire().unwrap().success();
    let kept = published!(&breaker);
    let series =
        "resilience_breaker_would_have_refused_total{name=\"payments\",policy=\"breaker\"}";
    assert_eq!(kept.counter(series), Some(1));
}

#[test]
fn keys_are_not_labels() {
    let quota = Quota::per_second(1).unwrap();
    let limiter = KeyedRateLimiter::<u32>::new(quota, 100);
    let config = breaker::Config::builder().consecutive_failures(1).build();
    let registry: Registry<u32> = Registry::builder(config.unwrap()).max(50).build();
    let (kept, collector) = (Kept::default(), Collector::new());
    collector.add("tenants", &limiter);
    collector.add("shards", &registry);
    let mut series = None;
    for round in 0..5 {
        for key in 0..1_000 {
            let _ = limiter.try_acquire(&(1_000 * round + key));
            if let Ok(breaker) = registry.get(&(key % 50)) {
                breaker.try_acquire().unwrap().success();
            }
        }
        kept.local(|| collector.publish());
        let now = kept.series().len();
        assert_eq!(*series.get_or_insert(now), now);
    }
    let is = limiter.snapshot();
    let of = |name: &str| format!("{name}{{name=\"tenants\",policy=\"rate_limit\"}}");
    assert_eq!(kept.gauge(&of("resilience_keys")), Some(is.keys as f64));
    assert_eq!(kept.gauge(&of("resilience_keys_max")), Some(100.0));
    let evicted = |reason: &str| {
        let labels = format!("name=\"tenants\",policy=\"rate_limit\",reason=\"{reason}\"");
        kept.counter(&format!("resilience_keys_evicted_total{{{labels}}}"))
    };
    assert_eq!(evicted("early"), Some(is.evicted_early));
    assert_eq!(evicted("recovered"), Some(is.evicted_recovered));
    assert!(is.evicted_early > 0);
    let shards = "resilience_breaker_state{name=\"shards\",policy=\"breaker\",state=\"closed\"}";
    assert_eq!(kept.gauge(shards), Some(50.0));
}

#[test]
fn a_registry_tells_how_many_of_its_breakers_are_open_and_whom_it_could_not_take() {
    let config = breaker::Config::builder().consecutive_failures(1).build();
    let registry: Registry<u32> = Registry::builder(config.unwrap()).max(3).build();
    for key in 0..3 {
        registry.get(&key).unwrap();
    }
    for key in 0..2 {
        registry.get(&key).unwrap().try_acquire().unwrap().failure();
    }
    let held = registry.get(&2).unwrap();
    assert!(registry.get(&3).is_err());
    let kept = published!(&registry);
    drop(held);
    let state = |state: &str| {
        let labels = format!("name=\"payments\",policy=\"breaker\",state=\"{state}\"");
        kept.gauge(&format!("resilience_breaker_state{{{labels}}}"))
    };
    assert_eq!((state("open"), state("closed")), (Some(2.0), Some(1.0)));
    let full = "resilience_keys_full_total{name=\"payments\",policy=\"breaker\"}";
    assert_eq!(kept.counter(full), Some(1));
}

#[test]
fn limits_tell_their_permits() {
    let limiter = RateLimiter::with_clock(Quota::per_second(10).unwrap(), ManualClock::new());
    limiter.try_acquire_n(3).unwrap();
    let kept = published!(&limiter);
    let gauge = |name: &str| {
        kept.gauge(&format!(
            "{name}{{name=\"payments\",policy=\"rate_limit\"}}"
        ))
    };
    assert_eq!(gauge("resilience_rate_limit_burst"), Some(10.0));
    assert_eq!(gauge("resilience_rate_limit_remaining"), Some(7.0));
    assert_eq!(gauge("resilience_queued"), Some(0.0));

    let quota = Quota::per_second(100).unwrap();
    let leased = LeasedRateLimiter::with_clock(quota, 10, 2, ManualClock::new()).unwrap();
    leased.try_acquire().unwrap();
    let is = leased.snapshot();
    let kept = published!(&leased);
    let gauge = |name: &str| {
        kept.gauge(&format!(
            "{name}{{name=\"payments\",policy=\"rate_limit\"}}"
        ))
    };
    assert_eq!(gauge("resilience_rate_limit_burst"), Some(100.0));
    let remaining = u64::from(is.remaining) + is.leased;
    assert_eq!(
        gauge("resilience_rate_limit_remaining"),
        Some(remaining as f64)
    );
}

#[test]
fn a_bulkhead_tells_who_runs_waits_and_was_refused() {
    let config = bulkhead::Config::builder().limit(2).max_queue(1).build();
    let reports = Bulkhead::with_clock(config.unwrap(), ManualClock::new());
    let _running = (
        reports.try_acquire().unwrap(),
        reports.try_acquire().unwrap(),
    );
    let _waiting = reports.enqueue(Priority::Normal, None).unwrap();
    assert!(reports.try_acquire().is_err());
    for _ in 0..2 {
        assert!(reports.enqueue(Priority::Normal, None).is_err());
    }
    let kept = published!(&reports);
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"bulkhead\"}}");
    assert_eq!(kept.gauge(&of("resilience_in_flight")), Some(2.0));
    assert_eq!(kept.gauge(&of("resilience_concurrency_limit")), Some(2.0));
    assert_eq!(kept.gauge(&of("resilience_queued")), Some(1.0));
    for (reason, refused) in [
        ("full", 1),
        ("queue_full", 2),
        ("deadline", 0),
        ("displaced", 0),
    ] {
        let labels = format!("name=\"payments\",policy=\"bulkhead\",reason=\"{reason}\"");
        let series = format!("resilience_refused_total{{{labels}}}");
        assert_eq!(kept.counter(&series), Some(refused), "{series}");
    }
}

#[test]
fn a_registry_of_bulkheads_tells_them_together_and_whom_it_could_not_take() {
    let config = bulkhead::Config::builder().limit(2).max_queue(5).build();
    let tenants: bulkhead::Registry<u32> =
        bulkhead::Registry::builder(config.unwrap()).max(2).build();
    let acquire = |tenant: u32| tenants.try_acquire_owned(&tenant);
    let idle = acquire(0).unwrap();
    let _running = (acquire(1).unwrap(), acquire(1).unwrap());
    let _waiting = tenants.enqueue_within(&1, Priority::Normal, None).unwrap();
    let full: Vec<_> = (2..5).map(acquire).collect();
    assert!(full.iter().all(Result::is_err));

    let (kept, collector) = (Kept::default(), Collector::new());
    collector.add("payments", &tenants);
    kept.local(|| collector.publish());
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"bulkhead\"}}");
    assert_eq!(kept.gauge(&of("resilience_in_flight")), Some(3.0));
    assert_eq!(kept.gauge(&of("resilience_concurrency_limit")), Some(4.0));
    assert_eq!(kept.gauge(&of("resilience_queued")), Some(1.0));
    assert_eq!(kept.gauge(&of("resilience_keys")), Some(2.0));
    assert_eq!(kept.gauge(&of("resilience_keys_max")), Some(2.0));
    assert_eq!(kept.counter(&of("resilience_keys_full_total")), Some(3));
    let labels = "name=\"payments\",policy=\"bulkhead\",reason=\"idle\"";
    let evicted = format!("resilience_keys_evicted_total{{{labels}}}");
    assert_eq!(kept.counter(&evicted), Some(0));

    // Whoever is idle makes room, and no counter goes back with it.
    drop(idle);
    let _other = acquire(2).unwrap();
    kept.local(|| collector.publish());
    assert_eq!(kept.counter(&evicted), Some(1));
    assert_eq!(kept.gauge(&of("resilience_in_flight")), Some(3.0));
    assert_eq!(kept.counter(&of("resilience_keys_full_total")), Some(3));
    let way_back = tenants.downgrade();
    drop((_other, _running, _waiting, tenants));
    assert!(way_back().is_none(), "a collector keeps nothing alive");
}

#[test]
fn an_adaptive_limit_tells_what_it_has_learned() {
    let limit = learned(SECOND / 10);
    let _running = limit.try_acquire().unwrap();
    let is = limit.snapshot();
    assert!(
        is.windows > 0 && is.last_rtt.is_some() && is.usual_rtt.is_some(),
        "{is:?}"
    );
    let kept = published!(&limit);
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"adaptive\"}}");
    assert_eq!(kept.gauge(&of("resilience_in_flight")), Some(1.0));
    assert_eq!(
        kept.gauge(&of("resilience_concurrency_limit")),
        Some(is.limit.into())
    );
    let refused = "resilience_refused_total{name=\"payments\",policy=\"adaptive\",reason=\"full\"}";
    assert_eq!(kept.counter(refused), Some(is.refused));
    assert_eq!(
        kept.gauge(&of("resilience_adaptive_rtt_seconds")),
        is.last_rtt.map(|rtt| rtt.as_secs_f64())
    );
    assert_eq!(
        kept.gauge(&of("resilience_adaptive_usual_rtt_seconds")),
        is.usual_rtt.map(|rtt| rtt.as_secs_f64())
    );
    let windows = |overloaded: &str| {
        let labels = format!("name=\"payments\",overloaded=\"{overloaded}\",policy=\"adaptive\"");
        kept.counter(&format!("resilience_adaptive_windows_total{{{labels}}}"))
    };
    assert_eq!(windows("true"), Some(is.overloaded_windows));
    assert_eq!(windows("false"), Some(is.windows - is.overloaded_windows));
}

#[test]
fn a_load_shedder_tells_its_level_and_each_class() {
    let (shedder, clock) = shedder();
    (0..6).for_each(|_| shed_more(&shedder, &clock));
    for class in Class::ALL {
        for _ in 0..20 {
            let _ = shedder.try_acquire(class);
        }
    }
    let is = shedder.snapshot();
    assert!(is.level > 0 && is.shed(Class::Background) > 0, "{is:?}");
    let kept = published!(&shedder);
    let of = |name: &str| format!("{name}{{name=\"payments\",policy=\"load_shed\"}}");
    let level = kept.gauge(&of("resilience_load_shed_level"));
    assert_eq!(level, Some(is.level.into()));
    assert_eq!(kept.gauge(&of("resilience_concurrency_limit")), Some(30.0));
    assert_eq!(kept.gauge(&of("resilience_in_flight")), Some(0.0));
    let delay = kept.gauge(&of("resilience_load_shed_queue_delay_seconds"));
    assert_eq!(delay, Some(0.05));
    for class in Class::ALL {
        let labels = format!("class=\"{class}\",name=\"payments\",policy=\"load_shed\"");
        let of =
            |what: &str| kept.counter(&format!("resilience_load_shed_{what}_total{{{labels}}}"));
        assert_eq!(of("admitted"), Some(is.admitted(class)), "{class}");
        assert_eq!(of("shed"), Some(is.shed(class)), "{class}");
    }
    let changes = |direction: &str| {
        let labels = format!("direction=\"{direction}\",name=\"payments\",policy=\"load_shed\"");
        kept.counter(&format!(
            "resilience_load_shed_level_changes_total{{{labels}}}"
        ))
    };
    assert_eq!(
        (changes("rise"), changes("fall")),
        (Some(is.rises), Some(0))
    );
    let labels = "name=\"payments\",policy=\"load_shed\",reason=\"shed\"";
    let shed: u64 = Class::ALL.iter().map(|class| is.shed(*class)).sum();
    let refused = kept.counter(&format!("resilience_refused_total{{{labels}}}"));
    assert_eq!(refused, Some(shed));
}

#[cfg(feature = "redis")]
#[test]
fn a_limit_in_redis_tells_questions_and_outages() {
    use resilience_tower::rate_limit::redis::{Config, RedisLimiter};

    let quota = Quota::per_second(5_000).unwrap();
    let config = Config::builder(quota).failures(2).build().unwrap();
    let limiter =
        RedisLimiter::with_clock("redis://127.0.0.1:1/", "api", config, ManualClock::new());
    let limiter = limiter.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..5 {
            assert!(limiter.acquire(1).await.is_err());
        }
        assert!(limiter.acquire_for(b"key", 1).await.is_err());
    });
    let kept = published!(&limiter);
    let labels = "name=\"payments\",policy=\"rate_limit\"";
    let questions = |result: &str| {
        kept.counter(&format!(
            "resilience_rate_limit_questions_total{{{labels},result=\"{result}\"}}"
        ))
    };
    assert_eq!(
        (questions("answered"), questions("failed")),
        (Some(0), Some(2))
    );
    let outage = |fallback: &str| {
        kept.counter(&format!(
            "resilience_rate_limit_outage_total{{fallback=\"{fallback}\",{labels}}}"
        ))
    };
    assert_eq!(
        (outage("open"), outage("closed"), outage("local")),
        (Some(0), Some(6), Some(0))
    );
    let gauge = |name: &str| kept.gauge(&format!("{name}{{{labels}}}"));
    assert_eq!(gauge("resilience_rate_limit_burst"), Some(5_000.0));
    assert_eq!(gauge("resilience_rate_limit_remaining"), Some(4_500.0));
    assert_eq!(gauge("resilience_keys"), Some(1.0));
    assert_eq!(gauge("resilience_keys_max"), Some(10_000.0));
}
