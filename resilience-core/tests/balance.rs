//! Endpoints that change, picks and what they count, settings.

use std::{
    collections::HashSet,
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use allocation_counter::measure;
use resilience_core::{balance::*, breaker::Outcome, clock::ManualClock};

const SECOND: Duration = Duration::from_secs(1);

const STRATEGIES: [Strategy; 5] = [
    Strategy::RoundRobin,
    Strategy::SmoothWeighted,
    Strategy::LeastConnections,
    Strategy::PeakEwma,
    Strategy::ConsistentHash,
];

fn with(config: ConfigBuilder, weights: &[u32]) -> (Balancer<usize>, ManualClock) {
    let clock = ManualClock::new();
    clock.set(SECOND);
    let balancer = Balancer::with_seed(config.build().unwrap(), clock.clone(), 42);
    let endpoints = weights.iter().enumerate();
    let endpoints =
        endpoints.map(|(index, weight)| Endpoint::new(index.to_string(), index).weight(*weight));
    balancer.set_endpoints(endpoints).unwrap();
    (balancer, clock)
}

fn of(strategy: Strategy, weights: &[u32]) -> (Balancer<usize>, ManualClock) {
    with(Config::builder().strategy(strategy), weights)
}

fn config_of(strategy: Strategy) -> Config {
    Config::builder().strategy(strategy).build().unwrap()
}

fn in_flight(balancer: &Balancer<usize>) -> Vec<u32> {
    let endpoints = balancer.snapshot().endpoints;
    endpoints.iter().map(|one| one.in_flight).collect()
}

fn latency(balancer: &Balancer<usize>) -> Option<Duration> {
    balancer.snapshot().endpoints[0].latency
}

#[test]
fn without_endpoints_or_weights_a_pick_is_refused() {
    for strategy in STRATEGIES {
        let (balancer, _) = of(strategy, &[]);
        assert_eq!(balancer.pick().unwrap_err().endpoints, 0);
        assert!(balancer.is_empty());
        let (balancer, _) = of(strategy, &[0, 0]);
        assert_eq!((balancer.len(), balancer.is_empty()), (2, false));
        let refused = balancer.pick().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "no endpoint takes calls: draining (2 are known)",
            "{strategy:?}"
        );
    }
}

#[test]
fn an_endpoint_of_weight_0_is_given_no_calls() {
    for strategy in STRATEGIES {
        let (balancer, _) = of(strategy, &[0, 1, 0, 1]);
        for _ in 0..100 {
            assert!(balancer.pick().unwrap().value() % 2 == 1, "{strategy:?}");
        }
    }
}

#[test]
fn a_call_is_in_flight_until_its_pick_is_dropped() {
    for strategy in STRATEGIES {
        let (balancer, _) = of(strategy, &[1]);
        let mut pick = balancer.pick().unwrap();
        let other = balancer.pick().unwrap();
        assert_eq!(in_flight(&balancer), [2]);
        pick.record(Outcome::Success);
        assert_eq!(in_flight(&balancer), [2]);
        drop(pick);
        assert_eq!(in_flight(&balancer), [1]);
        other.failure();
        assert_eq!(in_flight(&balancer), [0]);
    }
}

#[test]
fn an_endpoint_that_stays_keeps_its_state_and_takes_the_new_value_and_weight() {
    let (balancer, clock) = of(Strategy::PeakEwma, &[1]);
    let pick = balancer.pick().unwrap();
    clock.advance(SECOND);
    pick.success();
    let _running = balancer.pick().unwrap();
    let before = balancer.snapshot();
    balancer
        .set_endpoints([Endpoint::new("new", 8), Endpoint::new("0", 7).weight(3)])
        .unwrap();
    let after = balancer.snapshot();
    let kept = &after.endpoints[1];
    assert_eq!(kept.id, before.endpoints[0].id);
    assert_eq!((kept.in_flight, kept.latency), (1, Some(SECOND)));
    assert_eq!(kept.weight, 3);
    balancer.set_config(config_of(Strategy::RoundRobin));
    let values: HashSet<_> = (0..50).map(|_| *balancer.pick().unwrap().value()).collect();
    assert_eq!(values, HashSet::from([7, 8]));
}

#[test]
fn an_endpoint_that_goes_and_comes_back_is_another() {
    let (balancer, _) = of(Strategy::RoundRobin, &[1]);
    let running = balancer.pick().unwrap();
    assert!(balancer.remove("0") && !balancer.remove("0"));
    assert!(balancer.pick().is_err());
    balancer.insert(Endpoint::new("0", 5)).unwrap();
    assert_ne!(balancer.pick().unwrap().id(), running.id());
    assert_eq!(in_flight(&balancer), [0]);
    // The pick still has what it was given.
    assert_eq!((running.name(), *running.value()), ("0", 0));
    running.success();
    assert_eq!(in_flight(&balancer), [0]);
}

#[test]
fn endpoints_that_are_not_allowed_change_nothing() {
    let (balancer, _) = of(Strategy::RoundRobin, &[1]);
    let twice = [Endpoint::new("a", 1), Endpoint::new("a", 2)];
    let error = balancer.set_endpoints(twice).unwrap_err();
    assert_eq!(error.to_string(), "name is a, allowed: each name once");
    let heavy = Endpoint::new("a", 1).weight(1001);
    let error = balancer.insert(heavy).unwrap_err();
    assert_eq!(error.to_string(), "weight is 1001, allowed: 0 to 1000");
    let many = (0..65_537).map(|name| Endpoint::new(name.to_string(), 0));
    let error = balancer.set_endpoints(many).unwrap_err();
    assert_eq!(error.to_string(), "endpoints is 65537, allowed: 0 to 65536");
    assert_eq!(balancer.snapshot().endpoints.len(), 1);
}

#[test]
fn an_endpoint_that_was_tried_is_not_picked_while_another_is_there() {
    for strategy in STRATEGIES {
        let (balancer, _) = of(strategy, &[1, 50, 1, 0]);
        for key in 0..200_u64 {
            let mut tried = Vec::new();
            for attempt in 0..5 {
                let criteria = Criteria::default().key(hash_key(&key.to_le_bytes()));
                let pick = balancer.pick_by(criteria.excluding(&tried)).unwrap();
                // Three have a weight; a fourth attempt must go to one of them again.
                assert_eq!(tried.contains(&pick.id()), attempt >= 3, "{strategy:?}");
                if attempt < 3 {
                    tried.push(pick.id());
                }
                assert_ne!(*pick.value(), 3);
            }
        }
    }
}

#[test]
fn one_that_was_tried_is_rather_picked_than_one_that_is_ejected() {
    for strategy in STRATEGIES {
        let config = Config::builder().strategy(strategy);
        let (balancer, _) = with(config.consecutive_failures(1), &[1, 1, 1]);
        let ejected = balancer.pick().unwrap();
        let out = ejected.id();
        ejected.failure();
        let endpoints = balancer.snapshot().endpoints;
        let all: Vec<_> = endpoints.iter().map(|one| one.id).collect();
        let others: Vec<_> = all.iter().copied().filter(|id| *id != out).collect();
        for key in 0..100_u64 {
            let criteria = Criteria::default().key(hash_key(&key.to_le_bytes()));
            let tried = balancer.pick_by(criteria.excluding(&others)).unwrap();
            assert_ne!(tried.id(), out, "{strategy:?}");
            let tried = balancer.pick_by(criteria.excluding(&all)).unwrap();
            assert_ne!(tried.id(), out, "{strategy:?}");
        }
    }
}

#[test]
fn the_first_outcome_alone_counts() {
    let (balancer, clock) = of(Strategy::PeakEwma, &[1]);
    let mut pick = balancer.pick().unwrap();
    clock.advance(SECOND);
    pick.record(Outcome::Success);
    clock.advance(SECOND);
    pick.record(Outcome::Failure);
    drop(pick);
    let latency = latency(&balancer).unwrap();
    assert!(latency <= SECOND, "{latency:?}");
}

#[test]
fn a_longer_latency_counts_at_once_and_shorter_ones_little_by_little() {
    let (balancer, clock) = with(Config::builder().decay(SECOND * 10), &[1]);
    let call = |took: Duration| {
        let pick = balancer.pick().unwrap();
        clock.advance(took);
        pick.success();
        latency(&balancer).unwrap().as_secs_f64()
    };
    assert_eq!(call(SECOND / 10), 0.1);
    assert_eq!(call(SECOND), 1.0);
    let after = call(SECOND / 10);
    let share = (-0.01_f64).exp();
    assert!(
        (after - (share + 0.1 * (1.0 - share))).abs() < 1e-3,
        "{after}"
    );
    (0..2_000).for_each(|_| assert!(call(SECOND / 10) >= 0.1 - 1e-3));
    assert!((call(SECOND / 10) - 0.1).abs() < 1e-3);
}

#[test]
fn a_latency_fades_while_nobody_calls() {
    let (balancer, clock) = with(Config::builder().decay(SECOND * 10), &[1]);
    let pick = balancer.pick().unwrap();
    clock.advance(SECOND);
    pick.success();
    clock.advance(SECOND * 10);
    let faded = latency(&balancer).unwrap().as_secs_f64();
    assert!((faded - (-1.0_f64).exp()).abs() < 1e-3, "{faded}");
}

#[test]
fn a_fast_failure_counts_as_its_penalty() {
    let (balancer, _) = of(Strategy::PeakEwma, &[1]);
    balancer.pick().unwrap().failure();
    assert_eq!(latency(&balancer), Some(SECOND));
    let (balancer, clock) = with(Config::builder().failure_penalty(None), &[1]);
    let pick = balancer.pick().unwrap();
    clock.advance(SECOND / 10);
    pick.failure();
    assert_eq!(latency(&balancer), Some(SECOND / 10));
}

// Where a timeout around the call drops it, an endpoint that never answers would otherwise keep
// the latency of its best days.
#[test]
fn a_call_that_was_given_up_can_only_raise_the_latency() {
    let (balancer, clock) = of(Strategy::PeakEwma, &[1]);
    let call = |took: Duration| {
        let pick = balancer.pick().unwrap();
        clock.advance(took);
        pick
    };
    call(SECOND * 30).success();
    drop(call(SECOND * 10));
    // As if there had been no call: a sample of 10 s would have drawn it there.
    let after = latency(&balancer).unwrap().as_secs_f64();
    assert!((after - 30.0 * (-1.0_f64).exp()).abs() < 0.01, "{after}");
    drop(call(SECOND * 12));
    assert_eq!(latency(&balancer), Some(SECOND * 12));
}

#[test]
fn a_first_call_that_is_given_up_at_once_does_not_draw_all_others() {
    let (balancer, clock) = of(Strategy::PeakEwma, &[1]);
    let pick = balancer.pick().unwrap();
    clock.advance(SECOND / 10);
    pick.success();
    balancer.insert(Endpoint::new("new", 1)).unwrap();
    drop(balancer.pick().unwrap());
    let running: Vec<_> = (0..5).map(|_| balancer.pick().unwrap()).collect();
    assert!(running.iter().all(|pick| *pick.value() == 0));
}

#[test]
fn a_panic_is_a_failure() {
    let (balancer, _) = with(Config::builder().consecutive_failures(1), &[1, 1]);
    let pick = balancer.pick().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let _pick = pick;
        panic!("in a call");
    }));
    assert!(outcome.is_err());
    assert_eq!(balancer.snapshot().ejections, 1);
}

#[test]
fn a_strategy_is_changed_in_place() {
    let (balancer, _) = of(Strategy::RoundRobin, &[3, 1]);
    let running = balancer.pick().unwrap();
    for strategy in STRATEGIES {
        let config = config_of(strategy);
        balancer.set_config(config);
        assert_eq!(balancer.config(), config);
        assert_eq!(in_flight(&balancer).iter().sum::<u32>(), 1);
        balancer.pick().unwrap().success();
    }
    running.success();
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    for strategy in STRATEGIES {
        let choices = || {
            let (balancer, _) = of(strategy, &[1, 2, 3, 4]);
            let mut running = Vec::new();
            running.extend((0..100).map(|_| balancer.pick().unwrap()));
            running.iter().map(|pick| *pick.value()).collect::<Vec<_>>()
        };
        assert_eq!(choices(), choices());
    }
}

#[test]
fn a_clock_that_steps_back_breaks_nothing() {
    for strategy in STRATEGIES {
        let config = Config::builder().strategy(strategy).slow_start(SECOND * 10);
        let (balancer, clock) = with(config.consecutive_failures(1), &[1, 1, 1]);
        clock.set(SECOND * 100_000);
        balancer.insert(Endpoint::new("late", 9)).unwrap();
        balancer.pick().unwrap().failure();
        let running = balancer.pick().unwrap();
        clock.set(Duration::ZERO);
        running.success();
        (0..100).for_each(|_| balancer.pick().unwrap().success());
        clock.set(Duration::MAX);
        (0..100).for_each(|_| balancer.pick().unwrap().failure());
        assert_eq!(in_flight(&balancer).iter().sum::<u32>(), 0);
    }
}

#[test]
fn picks_and_their_ends_allocate_nothing() {
    for strategy in STRATEGIES {
        let config = Config::builder().strategy(strategy).slow_start(SECOND);
        let config = config.max_load(1.25).minimum_calls(1).interval(SECOND);
        let (balancer, clock) = with(config.consecutive_failures(3), &[1, 2, 3, 0, 5, 6, 7]);
        let tried = [balancer.pick().unwrap().id()];
        let mut call = 0_u64;
        let mut calls = || {
            for _ in 0..1_000 {
                call += 1;
                // Through intervals, ejections and returns.
                clock.advance(SECOND / 20);
                let criteria = Criteria::default().key(hash_key(&call.to_le_bytes()));
                let pick = match call % 3 {
                    0 => balancer.pick_by(criteria.excluding(&tried)),
                    1 => balancer.pick_by(criteria),
                    _ => balancer.pick(),
                };
                let pick = black_box(pick).unwrap();
                match pick.value() {
                    5 | 6 => pick.failure(),
                    _ if call.is_multiple_of(7) => drop(pick),
                    _ => pick.success(),
                }
            }
        };
        calls();
        assert_eq!(measure(calls).count_total, 0, "{strategy:?}");
        assert!(balancer.snapshot().ejections > 2, "{strategy:?}");
    }
}

#[test]
fn a_setting_out_of_its_range_is_named_with_what_is_allowed() {
    let base = Config::builder;
    let wrong = [
        (
            base().decay(Duration::ZERO),
            "decay is 0ns, allowed: 1ms to 1 day",
        ),
        (
            base().failure_penalty(Duration::ZERO),
            "failure_penalty is 0ns, allowed: 1ms to 1 day",
        ),
        (
            base().max_load(1.0),
            "max_load is 1, allowed: over 1, up to 100",
        ),
        (
            base().max_load(f64::NAN),
            "max_load is NaN, allowed: over 1, up to 100",
        ),
        (
            base().slow_start(Duration::MAX),
            "slow_start is 18446744073709551615.999999999s, allowed: 1ms to 1 day",
        ),
        (
            base().consecutive_failures(0),
            "consecutive_failures is 0, allowed: 1 to 1000000",
        ),
        (
            base().success_rate_deviations(0.0),
            "success_rate_deviations is 0, allowed: over 0, up to 10",
        ),
        (
            base().minimum_calls(0),
            "minimum_calls is 0, allowed: 1 to 1000000",
        ),
        (
            base().minimum_endpoints(1),
            "minimum_endpoints is 1, allowed: 2 to 1000000",
        ),
        (
            base().interval(Duration::ZERO),
            "interval is 0ns, allowed: 1ms to 1 day",
        ),
        (
            base().ejection_time(Duration::ZERO),
            "ejection_time is 0ns, allowed: 1ms to 1 day",
        ),
        (
            base().max_ejection_time(SECOND),
            "max_ejection_time is 1s, allowed: 30s to 1 day",
        ),
        (
            base().max_ejected(0.0),
            "max_ejected is 0, allowed: over 0, up to 1",
        ),
        (
            base().max_ejected(1.1),
            "max_ejected is 1.1, allowed: over 0, up to 1",
        ),
        (
            base().failover_below(0.0),
            "failover_below is 0, allowed: over 0, up to 1",
        ),
    ];
    for (config, message) in wrong {
        assert_eq!(config.build().unwrap_err().to_string(), message);
    }
}

#[test]
fn settings_are_read_from_a_file() {
    let file = r#"{
        "strategy": "consistent_hash", "decay": "5s", "failure_penalty": "off", "max_load": 1.25,
        "slow_start": "30s", "consecutive_failures": 3, "success_rate_deviations": "off",
        "minimum_calls": 50, "minimum_endpoints": 3, "interval": "1s", "ejection_time": "2s",
        "max_ejection_time": "1m", "max_ejected": 0.3, "failover_below": 0.9,
        "refuse_unhealthy": true
    }"#;
    let config = Config::builder()
        .strategy(Strategy::ConsistentHash)
        .decay(SECOND * 5)
        .failure_penalty(None)
        .max_load(1.25)
        .slow_start(SECOND * 30)
        .consecutive_failures(3)
        .success_rate_deviations(None)
        .minimum_calls(50)
        .minimum_endpoints(3)
        .interval(SECOND)
        .ejection_time(SECOND * 2)
        .max_ejection_time(SECOND * 60)
        .max_ejected(0.3)
        .failover_below(0.9)
        .refuse_unhealthy(true);
    assert_eq!(
        serde_json::from_str::<Config>(file).unwrap(),
        config.build().unwrap()
    );
    assert_eq!(
        serde_json::from_str::<Config>("{}").unwrap(),
        Config::default()
    );
    let unknown = serde_json::from_str::<Config>(r#"{"weight": 1}"#).unwrap_err();
    assert!(unknown.to_string().contains("unknown field `weight`"));
    for strategy in STRATEGIES {
        let word = serde_json::to_string(&strategy).unwrap();
        assert_eq!(word, format!("\"{}\"", strategy.as_str()));
    }
}

#[test]
fn an_endpoint_that_is_picked_by_its_id_is_picked_whatever_its_state() {
    let balancer = Balancer::new(Config::default());
    let both = [Endpoint::new("a", 1), Endpoint::new("b", 2).weight(0)];
    balancer.set_endpoints(both).unwrap();
    assert!(balancer.set_health("b", false));
    let b = balancer.snapshot().endpoints[1].id;
    let pick = balancer.pick_endpoint(b).unwrap();
    assert_eq!(*pick.value(), 2);
    assert_eq!(balancer.snapshot().endpoints[1].in_flight, 1);
    drop(pick);
    assert!(balancer.remove("b"));
    assert!(balancer.pick_endpoint(b).is_none());
}
