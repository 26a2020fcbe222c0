//! Spans of calls and events of policies.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_core::balance::{self, Balancer, Endpoint};
use resilience_core::breaker::{CircuitBreaker, Config, Mode, Registry};
use resilience_core::bulkhead::{self, Bulkhead};
use resilience_core::clock::ManualClock;
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_tower::telemetry::{Ended, Refusal, TelemetryLayer, events};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, service_fn};

use super::subscriber::{Kept, Told};
use super::{documented, shed_more, shedder};

const SECOND: Duration = Duration::from_secs(1);

fn fields<const N: usize>(of: [(&'static str, &str); N]) -> BTreeMap<&'static str, String> {
    of.map(|(name, value)| (name, value.to_owned())).into()
}

fn refusing(wait: Option<Duration>) -> impl Fn(Result<&(), &()>) -> Ended + Clone {
    move |result| match result {
        Ok(()) => Ended::Success,
        Err(()) => Ended::Refused(Refusal::new("breaker", "open").retry_after(wait)),
    }
}

#[test]
fn a_call_is_a_span_with_its_attempts_within() {
    let kept = Kept::default();
    let mut answers = [Err(()), Ok(())].into_iter();
    let upstream = service_fn(move |()| {
        let answer = answers.next().unwrap_or(Ok(()));
        async move {
            tracing::info!(target: "resilience_tower", "in the upstream");
            answer
        }
    });
    let attempt = TelemetryLayer::attempt("payments").layer(upstream);
    let attempt = std::sync::Arc::new(tokio::sync::Mutex::new(attempt));
    let twice = service_fn(move |()| {
        let attempt = attempt.clone();
        async move {
            let mut attempt = attempt.lock().await;
            assert_eq!(attempt.call(()).await, Err(()));
            attempt.call(()).await
        }
    });
    let mut service = TelemetryLayer::call("payments").layer(twice);
    kept.local(|| assert_ready_ok!(task::spawn(service.call(())).poll()));

    let [call, first, second] = &kept.spans()[..] else {
        panic!("three spans: {:?}", kept.spans());
    };
    assert_eq!((call.name, &*call.level), ("resilience.call", "INFO"));
    assert_eq!(
        call.fields,
        fields([
            ("resilience.name", "payments"),
            ("resilience.outcome", "success"),
            ("resilience.attempts", "2"),
        ])
    );
    assert_eq!((first.name, &*first.level), ("resilience.attempt", "DEBUG"));
    assert_eq!(
        first.fields,
        fields([
            ("resilience.name", "payments"),
            ("resilience.attempt", "1"),
            ("resilience.outcome", "failure"),
            ("error.type", "failure"),
            ("otel.status_code", "ERROR"),
        ])
    );
    assert_eq!(
        second.fields,
        fields([
            ("resilience.name", "payments"),
            ("resilience.attempt", "2"),
            ("resilience.outcome", "success"),
        ])
    );
    let around = |told: &Told| told.parent;
    assert_eq!([call, first, second].map(around), [None, Some(0), Some(0)]);
    let events = kept.events();
    let within: Vec<_> = events.iter().map(around).collect();
    assert_eq!(
        within,
        [Some(1), Some(2)],
        "what happens within is within the attempt's span"
    );
    assert!(
        kept.spans()
            .iter()
            .all(|span| span.closed && span.target == "resilience_tower")
    );
}

#[test]
fn a_refusal_is_told_by_policy_reason_and_wait() {
    let kept = Kept::default();
    let refuse = service_fn(async |()| Err::<(), _>(()));
    let judge = refusing(Some(SECOND / 4));
    let mut service = TelemetryLayer::call("payments").judge(judge).layer(refuse);
    kept.local(|| assert_ready_err!(task::spawn(service.call(())).poll()));
    assert_eq!(
        kept.spans()[0].fields,
        fields([
            ("resilience.name", "payments"),
            ("resilience.outcome", "refused"),
            ("resilience.policy", "breaker"),
            ("resilience.reason", "open"),
            ("resilience.retry_after_s", "0.25"),
            ("error.type", "open"),
            ("otel.status_code", "ERROR"),
        ])
    );
}

#[test]
fn a_call_that_is_dropped_closes_its_span_as_cancelled() {
    let kept = Kept::default();
    let never = service_fn(async |()| std::future::pending::<Result<(), Infallible>>().await);
    let mut service = TelemetryLayer::attempt("payments").layer(never);
    kept.local(|| {
        let mut call = task::spawn(service.call(()));
        assert_pending!(call.poll());
        assert!(!kept.spans()[0].closed);
        drop(call);
    });
    let span = &kept.spans()[0];
    assert!(span.closed);
    assert_eq!(
        span.fields,
        fields([
            ("resilience.name", "payments"),
            ("resilience.outcome", "cancelled"),
            ("error.type", "cancelled"),
            ("otel.status_code", "ERROR"),
        ]),
        "outside of a call nobody knows which attempt it is"
    );
}

#[test]
fn what_a_dropped_call_drops_is_dropped_within_its_span() {
    struct Tells;
    impl Drop for Tells {
        fn drop(&mut self) {
            tracing::info!(target: "resilience_tower", "dropped");
        }
    }
    let kept = Kept::default();
    let mut service = TelemetryLayer::call("payments").layer(service_fn(async |()| {
        let _tells = Tells;
        std::future::pending::<Result<(), Infallible>>().await
    }));
    kept.local(|| {
        let mut call = task::spawn(service.call(()));
        assert_pending!(call.poll());
        drop(call);
    });
    assert_eq!(kept.events()[0].parent, Some(0));
}

fn breaker() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .consecutive_failures(1)
        .half_open_permits(1);
    let config = config.reset_timeout(SECOND).success_threshold(1).build();
    let breaker = CircuitBreaker::with_clock("payments", config.unwrap(), clock.clone());
    (breaker, clock)
}

#[test]
fn changes_of_a_breaker_are_events() {
    let (breaker, clock) = breaker();
    let subscription = events::breaker(&breaker);
    let kept = Kept::default();
    kept.local(|| {
        breaker.try_acquire().unwrap().failure();
        clock.advance(SECOND);
        breaker.try_acquire().unwrap().success();
        drop(subscription);
        breaker.try_acquire().unwrap().failure();
    });
    let [opened, probing, closed] = &kept.events()[..] else {
        panic!("three events: {:?}", kept.events());
    };
    let levels = [opened, probing, closed].map(|event| &*event.level);
    assert_eq!(levels, ["WARN", "INFO", "INFO"]);
    assert_eq!(opened.name, "resilience.breaker.transition");
    assert_eq!(opened.target, "resilience_tower");
    assert_eq!(
        opened.fields,
        fields([
            ("message", "circuit breaker changed its state"),
            ("resilience.policy", "breaker"),
            ("resilience.name", "payments"),
            ("resilience.breaker.from", "closed"),
            ("resilience.breaker.to", "open"),
            ("resilience.breaker.mode", "automatic"),
            ("resilience.breaker.cause", "consecutive_failures"),
            ("resilience.breaker.generation", "1"),
            ("resilience.breaker.calls", "1"),
            ("resilience.breaker.failures", "1"),
            ("resilience.breaker.slow_calls", "0"),
            ("resilience.breaker.open_for_s", "1.0"),
            ("resilience.breaker.observed", "false"),
            ("resilience.breaker.shadow", "false"),
        ])
    );
    assert_eq!(probing.fields["resilience.breaker.to"], "half_open");
    assert_eq!(
        closed.fields["resilience.breaker.cause"],
        "probes_succeeded"
    );
    assert!(!closed.fields.contains_key("resilience.breaker.open_for_s"));
}

#[test]
fn an_opening_that_refuses_nobody_is_no_warning() {
    let (breaker, _) = breaker();
    breaker.set_mode(Mode::ObserveOnly);
    events::breaker(&breaker).forget();
    let kept = Kept::default();
    kept.local(|| breaker.try_acquire().unwrap().failure());
    let opened = &kept.events()[0];
    assert_eq!(opened.fields["resilience.breaker.to"], "open");
    assert_eq!(
        (
            &*opened.level,
            &*opened.fields["resilience.breaker.observed"]
        ),
        ("INFO", "true")
    );
}

#[test]
fn changes_in_a_registry_are_events_also_of_breakers_to_come() {
    let config = Config::builder().consecutive_failures(1).build().unwrap();
    let shards: Registry<u32> = Registry::builder(config).build();
    let _subscription = events::breakers(&shards);
    let kept = Kept::default();
    kept.local(|| shards.get(&7).unwrap().try_acquire().unwrap().failure());
    assert_eq!(kept.events()[0].fields["resilience.name"], "7");
}

#[test]
fn what_becomes_of_endpoints_are_events() {
    let config = balance::Config::builder().consecutive_failures(1).build();
    let balancer = Balancer::with_clock(config.unwrap(), ManualClock::new());
    let endpoint = |name: &'static str| Endpoint::new(name, ());
    let kept = Kept::default();
    kept.local(|| {
        let subscription = events::balancer("replicas", &balancer);
        balancer
            .set_endpoints(["a", "b", "c"].map(endpoint))
            .unwrap();
        balancer
            .set_endpoints([endpoint("a"), endpoint("b").weight(7)])
            .unwrap();
        balancer
            .set_endpoints(["a", "b", "c"].map(endpoint))
            .unwrap();
        balancer.pick().unwrap().failure();
        drop(subscription);
        balancer.set_endpoints([]).unwrap();
    });
    let events = kept.events();
    let of = |change: &str| {
        let mut events = events.iter();
        let found = events.find(|event| event.fields["resilience.balance.change"] == change);
        found.unwrap_or_else(|| panic!("{change}: {events:?}"))
    };
    let added = of("added");
    assert_eq!(
        (added.name, &*added.level),
        ("resilience.balance.endpoint", "INFO")
    );
    assert_eq!(
        added.fields,
        fields([
            ("message", "an endpoint changed"),
            ("resilience.policy", "balance"),
            ("resilience.name", "replicas"),
            ("resilience.balance.endpoint", "a"),
            ("resilience.balance.change", "added"),
        ])
    );
    assert_eq!(of("weighted").fields["resilience.balance.weight"], "7");
    assert_eq!(of("removed").fields["resilience.balance.endpoint"], "c");
    let ejected = of("ejected");
    assert_eq!(ejected.level, "WARN");
    assert_eq!(
        ejected.fields["resilience.balance.cause"],
        "consecutive_failures"
    );
    let time: f64 = ejected.fields["resilience.balance.ejected_for_s"]
        .parse()
        .unwrap();
    assert!(time >= 1.0, "{time}");
    assert_eq!(
        events.last().unwrap().fields["resilience.balance.change"],
        "ejected"
    );

    let table = documented("| field of an endpoint |");
    let names: Vec<_> = table.iter().map(|row| &*row[0]).collect();
    let declared = ejected.declared.iter().copied();
    let declared: Vec<_> = declared.filter(|name| *name != "message").collect();
    assert_eq!(declared, names);
}

#[test]
fn changes_of_the_level_of_shedding_are_events() {
    let (shedder, clock) = shedder();
    let subscription = events::load_shed("edge", &shedder);
    let kept = Kept::default();
    let level = kept.local(|| {
        shedder.follow_cpu(|| 0.5);
        shed_more(&shedder, &clock);
        let level = shedder.snapshot().level;
        shedder.reset();
        drop(subscription);
        shed_more(&shedder, &clock);
        level
    });
    let [rise, calm] = &kept.events()[..] else {
        panic!("two events: {:?}", kept.events());
    };
    assert_eq!(
        (rise.name, &*rise.level),
        ("resilience.load_shed.level", "WARN")
    );
    let in_flight = &*rise.fields["resilience.load_shed.in_flight"];
    assert_eq!(
        rise.fields,
        fields([
            ("message", "the level of load shedding changed"),
            ("resilience.policy", "load_shed"),
            ("resilience.name", "edge"),
            ("resilience.load_shed.from", "0"),
            ("resilience.load_shed.to", &level.to_string()),
            ("resilience.load_shed.cause", "queue_delay"),
            ("resilience.load_shed.delay_s", "0.05"),
            ("resilience.load_shed.in_flight", in_flight),
            ("resilience.load_shed.limit", "30"),
            ("resilience.load_shed.cpu", "0.5"),
        ])
    );
    assert_eq!(calm.level, "INFO");
    assert_eq!(calm.fields["resilience.load_shed.cause"], "by_hand");
    assert_eq!(calm.fields["resilience.load_shed.to"], "0");

    let table = documented("| field of a load shedder |");
    let names: Vec<_> = table.iter().map(|row| &*row[0]).collect();
    let declared = rise.declared.iter().copied();
    let declared: Vec<_> = declared.filter(|name| *name != "message").collect();
    assert_eq!(declared, names);
}

/// That `told` has the fields of the table with this head, in their order.
#[track_caller]
fn assert_documented(told: &Told, head: &str) {
    let table = documented(head);
    let names: Vec<_> = table.iter().map(|row| &*row[0]).collect();
    let declared = told.declared.iter().copied();
    let declared: Vec<_> = declared.filter(|name| *name != "message").collect();
    assert_eq!(declared, names);
}

#[test]
fn a_spent_budget_is_an_event_and_so_is_its_recovery() {
    let config = BudgetConfig::new(1.0, 0).and_then(|config| config.burst(2));
    let budget = RetryBudget::with_clock(config.unwrap(), ManualClock::new());
    let subscription = events::retry_budget("payments", &budget);
    let kept = Kept::default();
    kept.local(|| {
        assert!((0..5).filter(|_| budget.try_withdraw().is_ok()).count() == 2);
        budget.deposit();
        budget.try_withdraw().unwrap();
        drop(subscription);
        budget.set_config(BudgetConfig::default());
    });
    let [spent, recovered] = &kept.events()[..] else {
        panic!("two events: {:?}", kept.events());
    };
    assert_eq!(
        (spent.name, &*spent.level, &*recovered.level),
        ("resilience.retry_budget.change", "WARN", "INFO")
    );
    assert_eq!(
        spent.fields,
        fields([
            ("message", "the retry budget changed"),
            ("resilience.policy", "retry_budget"),
            ("resilience.name", "payments"),
            ("resilience.retry_budget.change", "spent"),
            ("resilience.retry_budget.refused", "1"),
        ])
    );
    let change = &*recovered.fields["resilience.retry_budget.change"];
    assert_eq!(change, "recovered");
    assert_documented(spent, "| field of a retry budget |");
}

#[test]
fn a_delay_that_was_learned_is_an_event() {
    let clock = ManualClock::new();
    let config = hedge::Config::builder().min_samples(10).build().unwrap();
    let budget = RetryBudget::with_clock(BudgetConfig::default(), clock.clone());
    let policy = HedgePolicy::with_clock(config, budget, clock.clone());
    events::hedge("payments", &policy).forget();
    let kept = Kept::default();
    kept.local(|| {
        policy
            .budget()
            .set_config(BudgetConfig::new(0.1, 1).unwrap());
        for _ in 0..20 {
            let (_call, attempt) = policy.begin();
            clock.advance(SECOND);
            attempt.answered();
        }
    });
    let [learned] = &kept.events()[..] else {
        panic!("one event: {:?}", kept.events());
    };
    assert_eq!(
        (learned.name, &*learned.level),
        ("resilience.hedge.delay", "INFO")
    );
    assert_eq!(learned.fields["resilience.name"], "payments");
    assert!(!learned.fields.contains_key("resilience.hedge.from_s"));
    let to: f64 = learned.fields["resilience.hedge.to_s"].parse().unwrap();
    assert!((1.0..1.0625).contains(&to), "{to}");
    assert_documented(learned, "| field of hedges |");
}

#[test]
fn a_full_bulkhead_is_an_event_and_so_is_its_room() {
    let config = bulkhead::Config::builder().limit(1).build().unwrap();
    let bulkhead = Bulkhead::with_clock(config, ManualClock::new());
    let subscription = events::bulkhead("payments", &bulkhead);
    let kept = Kept::default();
    kept.local(|| {
        let permit = bulkhead.try_acquire().unwrap();
        (0..3).for_each(|_| assert!(bulkhead.try_acquire().is_err()));
        drop(permit);
        drop(subscription);
        let more = bulkhead::Config::builder().limit(2).build().unwrap();
        bulkhead.set_config(more);
    });
    let [full, room] = &kept.events()[..] else {
        panic!("two events: {:?}", kept.events());
    };
    assert_eq!(
        (full.name, &*full.level, &*room.level),
        ("resilience.bulkhead.change", "WARN", "INFO")
    );
    assert_eq!(
        full.fields,
        fields([
            ("message", "the bulkhead changed"),
            ("resilience.policy", "bulkhead"),
            ("resilience.name", "payments"),
            ("resilience.bulkhead.change", "full"),
            ("resilience.bulkhead.limit", "1"),
            ("resilience.bulkhead.refused", "1"),
        ])
    );
    assert_eq!(&*room.fields["resilience.bulkhead.change"], "room");
    assert_eq!(&*room.fields["resilience.bulkhead.refused"], "3");
    assert_documented(full, "| field of a bulkhead |");
}

#[test]
fn an_adaptive_limit_that_moves_far_is_an_event() {
    let of = |limit| adaptive::Config::builder().initial_limit(limit);
    let limit = AdaptiveLimit::with_clock(of(20).build().unwrap(), ManualClock::new());
    events::adaptive("payments", &limit).forget();
    let kept = Kept::default();
    kept.local(|| {
        limit.set_config(of(16).max_limit(16).build().unwrap());
        limit.set_config(of(15).max_limit(30).build().unwrap());
        limit.reset();
    });
    let [moved] = &kept.events()[..] else {
        panic!("one event: {:?}", kept.events());
    };
    assert_eq!(
        (moved.name, &*moved.level),
        ("resilience.adaptive.limit", "INFO")
    );
    assert_eq!(
        moved.fields,
        fields([
            ("message", "the adaptive limit changed"),
            ("resilience.policy", "adaptive"),
            ("resilience.name", "payments"),
            ("resilience.adaptive.from", "20"),
            ("resilience.adaptive.to", "16"),
        ])
    );
    assert_documented(moved, "| field of an adaptive limit |");
}

#[test]
fn the_tables_have_each_field() {
    let kept = Kept::default();
    let (breaker, _) = breaker();
    events::breaker(&breaker).forget();
    kept.local(|| {
        breaker.try_acquire().unwrap().failure();
        let attempt = TelemetryLayer::attempt("a").layer(service_fn(async |()| Ok::<_, ()>(())));
        let mut call = TelemetryLayer::call("a").layer(attempt);
        assert_ready_ok!(task::spawn(call.call(())).poll());
    });
    let spans = kept.spans();
    let table = documented("| field | in | type |");
    for (span, scope) in [(&spans[0], "call"), (&spans[1], "attempt")] {
        let rows = table
            .iter()
            .filter(|row| row[1] == "both" || row[1] == scope);
        let mut names: Vec<_> = rows.map(|row| &*row[0]).collect();
        names.sort_unstable();
        let mut declared = span.declared.clone();
        declared.sort_unstable();
        assert_eq!(declared, names, "{scope}");
    }
    let table = documented("| field | type | meaning |");
    let names: Vec<_> = table.iter().map(|row| &*row[0]).collect();
    let declared: Vec<_> = kept.events()[0]
        .declared
        .iter()
        .copied()
        .filter(|name| *name != "message")
        .collect();
    assert_eq!(declared, names);
}

#[test]
fn without_a_subscriber_a_call_allocates_nothing() {
    #[derive(Clone)]
    struct Noop;
    impl Service<()> for Noop {
        type Response = ();
        type Error = Infallible;
        type Future = std::future::Ready<Result<(), Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }
    let attempt = TelemetryLayer::attempt("payments").layer(Noop);
    let mut service = TelemetryLayer::call("payments").layer(attempt);
    let mut context = Context::from_waker(Waker::noop());
    let mut thousand = || {
        for _ in 0..1_000 {
            let call = pin!(service.call(()));
            assert!(call.poll(&mut context).is_ready());
        }
    };
    thousand();
    assert_eq!(allocation_counter::measure(thousand).count_total, 0);
}
