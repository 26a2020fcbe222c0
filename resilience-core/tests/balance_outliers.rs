//! Who is ejected, for how long, and who never is.

use std::time::Duration;

use proptest::{prelude::*, strategy::Strategy as _};
use resilience_core::{
    balance::{Strategy, *},
    clock::ManualClock,
};

const SECOND: Duration = Duration::from_secs(1);

fn with(config: ConfigBuilder, many: usize) -> (Balancer<usize>, ManualClock) {
    let clock = ManualClock::new();
    clock.set(SECOND);
    let config = config.strategy(Strategy::RoundRobin).build().unwrap();
    let balancer = Balancer::with_seed(config, clock.clone(), 3);
    let endpoints = (0..many).map(|index| Endpoint::new(index.to_string(), index));
    balancer.set_endpoints(endpoints).unwrap();
    (balancer, clock)
}

/// Ejection by failures in a row alone.
fn in_a_row(failures: u32) -> ConfigBuilder {
    Config::builder()
        .consecutive_failures(failures)
        .success_rate_deviations(None)
}

fn pick(balancer: &Balancer<usize>, index: usize) -> Pick<usize> {
    let mut picks = (0..1_000).map(|_| balancer.pick().unwrap());
    picks.find(|pick| *pick.value() == index).expect("its turn")
}

fn ejected(balancer: &Balancer<usize>) -> Vec<usize> {
    let endpoints = balancer.snapshot().endpoints;
    let ejected = endpoints.iter().filter(|one| one.ejected_for.is_some());
    ejected.map(|one| one.name.parse().unwrap()).collect()
}

#[test]
fn failures_in_a_row_eject_and_a_success_in_between_does_not() {
    let (balancer, clock) = with(in_a_row(3), 3);
    for _ in 0..5 {
        pick(&balancer, 1).failure();
        pick(&balancer, 1).failure();
        pick(&balancer, 1).success();
    }
    assert!(ejected(&balancer).is_empty());
    (0..3).for_each(|_| pick(&balancer, 1).failure());
    assert_eq!(ejected(&balancer), [1]);
    let picked = (0..100).map(|_| *balancer.pick().unwrap().value());
    assert!(picked.into_iter().all(|picked| picked != 1));
    clock.advance(SECOND * 30 - Duration::from_nanos(1));
    assert_eq!(ejected(&balancer), [1]);
    clock.advance(Duration::from_nanos(1));
    assert!(ejected(&balancer).is_empty());
    pick(&balancer, 1).success();
}

#[test]
fn calls_that_were_given_up_eject_nobody() {
    let (balancer, _) = with(in_a_row(1), 3);
    (0..100).for_each(|_| drop(balancer.pick().unwrap()));
    assert!(ejected(&balancer).is_empty());
}

#[test]
fn the_last_one_is_never_ejected() {
    for many in 1..5 {
        let (balancer, _) = with(in_a_row(1).max_ejected(1.0), many);
        (0..100).for_each(|_| balancer.pick().unwrap().failure());
        assert_eq!(ejected(&balancer).len(), many - 1);
    }
}

#[test]
fn one_without_a_weight_is_not_the_healthy_one_that_is_left() {
    let (balancer, _) = with(in_a_row(1).max_ejected(1.0), 2);
    balancer.insert(Endpoint::new("1", 1).weight(0)).unwrap();
    (0..100).for_each(|_| balancer.pick().unwrap().failure());
    assert!(ejected(&balancer).is_empty());
}

#[test]
fn no_more_than_the_share_is_ejected_but_one_always_may() {
    for (share, many, most) in [
        (0.5, 4, 2),
        (0.5, 5, 2),
        (0.1, 3, 1),
        (0.1, 29, 2),
        (0.34, 3, 1),
    ] {
        let (balancer, _) = with(in_a_row(1).max_ejected(share), many);
        (0..200).for_each(|_| balancer.pick().unwrap().failure());
        assert_eq!(ejected(&balancer).len(), most, "{share} of {many}");
    }
}

#[test]
fn each_ejection_is_longer_than_the_last_up_to_the_longest() {
    let config = in_a_row(1).interval(SECOND * 1_000);
    let (balancer, clock) = with(config.max_ejection_time(SECOND * 100), 2);
    for expected in [30, 60, 90, 100, 100] {
        pick(&balancer, 0).failure();
        let rest = balancer.snapshot().endpoints[0].ejected_for;
        assert_eq!(rest, Some(SECOND * expected));
        clock.advance(SECOND * expected);
    }
    // 4 intervals in: four of five are forgiven.
    clock.advance(SECOND * 4_000);
    pick(&balancer, 0).failure();
    let rest = balancer.snapshot().endpoints[0].ejected_for;
    assert_eq!(rest, Some(SECOND * 60));
}

#[test]
fn a_late_failure_of_before_the_ejection_ejects_nobody_again() {
    let (balancer, clock) = with(in_a_row(1), 3);
    let late = [pick(&balancer, 0), pick(&balancer, 0)];
    pick(&balancer, 0).failure();
    let [first, second] = late;
    first.failure();
    clock.advance(SECOND * 30);
    second.failure();
    assert!(ejected(&balancer).is_empty());
    assert_eq!(balancer.snapshot().ejections, 1);
}

#[test]
fn all_that_are_left_are_ejected_and_still_calls_go_out() {
    let (balancer, _) = with(in_a_row(1), 2);
    pick(&balancer, 0).failure();
    // The other is sent no new calls, and so the ejected one is the last.
    balancer.insert(Endpoint::new("1", 1).weight(0)).unwrap();
    assert!(ejected(&balancer).is_empty());
    assert_eq!(*balancer.pick().unwrap().value(), 0);
}

#[test]
fn a_set_that_shrinks_lets_those_in_whose_time_ends_first() {
    let (balancer, clock) = with(in_a_row(1), 6);
    for index in [4, 1, 3] {
        pick(&balancer, index).failure();
        clock.advance(SECOND);
    }
    assert_eq!(ejected(&balancer), [1, 3, 4]);
    assert!(balancer.remove("0") && balancer.remove("2"));
    assert_eq!(ejected(&balancer), [1, 3]);
}

#[test]
fn ejection_that_is_switched_off_lets_all_in() {
    let (balancer, _) = with(in_a_row(1), 3);
    pick(&balancer, 0).failure();
    let off = Config::builder().consecutive_failures(None);
    balancer.set_config(off.success_rate_deviations(None).build().unwrap());
    assert!(ejected(&balancer).is_empty());
    (0..100).for_each(|_| balancer.pick().unwrap().failure());
    assert_eq!(balancer.snapshot().ejections, 1);
}

/// One interval in which each of `rates` fails so many of 100 calls.
fn interval(balancer: &Balancer<usize>, clock: &ManualClock, failures: &[u32]) {
    for call in 0..100 {
        for (index, failures) in failures.iter().enumerate() {
            let pick = pick(balancer, index);
            // Spread, so that no other rule sees them in a row.
            if call * failures / 100 < (call + 1) * failures / 100 {
                pick.failure();
            } else {
                pick.success();
            }
        }
    }
    clock.advance(SECOND * 10);
    balancer.pick().unwrap().success();
}

fn by_rate() -> ConfigBuilder {
    Config::builder().consecutive_failures(None)
}

#[test]
fn a_success_rate_far_below_the_mean_ejects() {
    let (balancer, clock) = with(by_rate(), 6);
    interval(&balancer, &clock, &[1, 0, 2, 1, 30, 0]);
    assert_eq!(ejected(&balancer), [4]);
}

#[test]
fn failures_that_all_have_eject_nobody() {
    let (balancer, clock) = with(by_rate(), 6);
    interval(&balancer, &clock, &[50; 6]);
    interval(&balancer, &clock, &[48, 49, 50, 51, 52, 50]);
    assert!(ejected(&balancer).is_empty());
}

// Regression: the mean of five rates of 0.11, as computed, is a little above 0.11.
#[test]
fn equal_rates_eject_nobody_whatever_they_are() {
    for failures in 0..=100 {
        let (balancer, clock) = with(by_rate(), 5);
        interval(&balancer, &clock, &[failures; 5]);
        assert!(ejected(&balancer).is_empty(), "{failures}");
    }
}

#[test]
fn an_interval_that_becomes_shorter_ends_sooner() {
    let (balancer, clock) = with(by_rate(), 6);
    for call in 0..100 {
        (0..6).for_each(|index| match (index, call) {
            (4, 0..30) => pick(&balancer, index).failure(),
            _ => pick(&balancer, index).success(),
        });
    }
    balancer.set_config(by_rate().interval(SECOND).build().unwrap());
    clock.advance(SECOND);
    assert!(ejected(&balancer).is_empty());
    pick(&balancer, 0).success();
    assert_eq!(ejected(&balancer), [4]);
}

#[test]
fn what_an_ejection_was_for_is_not_judged_again_by_the_rate() {
    let config = Config::builder().consecutive_failures(30);
    let (balancer, clock) = with(config.ejection_time(SECOND), 6);
    for call in 0..100 {
        (0..6).for_each(|index| match (index, call) {
            (4, 70..) => pick(&balancer, index).failure(),
            _ => pick(&balancer, index).success(),
        });
    }
    assert_eq!(ejected(&balancer), [4]);
    clock.advance(SECOND);
    // With the 30 failures of before its rate would be 0.85.
    interval(&balancer, &clock, &[0; 6]);
    assert_eq!(balancer.snapshot().ejections, 1);
}

#[test]
fn one_that_drains_is_not_ejected_by_its_last_calls() {
    let (balancer, _) = with(in_a_row(1), 3);
    let last = pick(&balancer, 1);
    assert!(balancer.drain("1"));
    last.failure();
    assert!(ejected(&balancer).is_empty());
}

#[test]
fn too_few_calls_or_endpoints_are_not_judged() {
    let (balancer, clock) = with(by_rate().minimum_calls(101), 6);
    interval(&balancer, &clock, &[0, 0, 0, 0, 100, 0]);
    // The first call of the next interval is all that is left of this one.
    interval(&balancer, &clock, &[0, 0, 0, 0, 100, 0]);
    assert!(ejected(&balancer).is_empty());
    let (balancer, clock) = with(by_rate(), 4);
    interval(&balancer, &clock, &[0, 0, 0, 100]);
    assert!(ejected(&balancer).is_empty());
}

#[test]
fn the_worst_goes_first_where_not_all_may() {
    let config = by_rate().max_ejected(0.1).success_rate_deviations(0.5);
    let (balancer, clock) = with(config, 6);
    interval(&balancer, &clock, &[0, 50, 0, 90, 0, 0]);
    assert_eq!(ejected(&balancer), [3]);
}

#[derive(Clone, Debug)]
enum Step {
    Call(bool),
    Begin,
    End(prop::sample::Index, bool),
    Wait(u64),
    Weights(Vec<u32>),
    Share(f64),
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        8 => any::<bool>().prop_map(Step::Call),
        2 => Just(Step::Begin),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, ok)| Step::End(i, ok)),
        2 => (0_u64..20_000).prop_map(Step::Wait),
        1 => prop::collection::vec(0_u32..3, 0..7).prop_map(Step::Weights),
        1 => (0.05_f64..1.0).prop_map(Step::Share),
    ]
}

fn config(strategy: Strategy, share: f64) -> Config {
    let config = Config::builder().strategy(strategy).consecutive_failures(1);
    let config = config
        .max_ejected(share)
        .minimum_calls(1)
        .slow_start(SECOND);
    config.minimum_endpoints(2).build().unwrap()
}

proptest! {
    #[test]
    fn whatever_happens_the_share_holds_one_is_left_and_a_pick_is_of_those_that_are_in(
        strategy in prop::sample::select(vec![
            Strategy::RoundRobin, Strategy::SmoothWeighted, Strategy::LeastConnections,
            Strategy::PeakEwma, Strategy::ConsistentHash,
        ]),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let clock = ManualClock::new();
        let mut share = 0.5;
        let balancer = Balancer::with_seed(config(strategy, share), clock.clone(), 5);
        let mut running: Vec<Pick<usize>> = Vec::new();
        for step in steps {
            match step {
                Step::Call(ok) => if let Ok(pick) = balancer.pick() {
                    if ok { pick.success() } else { pick.failure() }
                },
                Step::Begin => running.extend(balancer.pick().ok()),
                Step::End(index, ok) => if !running.is_empty() {
                    let pick = running.swap_remove(index.index(running.len()));
                    if ok { pick.success() } else { pick.failure() }
                },
                Step::Wait(millis) => clock.advance(Duration::from_millis(millis)),
                Step::Weights(weights) => {
                    let endpoints = weights.iter().enumerate().map(|(index, weight)| {
                        Endpoint::new(index.to_string(), index).weight(*weight)
                    });
                    balancer.set_endpoints(endpoints).unwrap();
                }
                Step::Share(next) => {
                    share = next;
                    balancer.set_config(config(strategy, share));
                }
            }
            let endpoints = balancer.snapshot().endpoints;
            let weighty: Vec<_> = endpoints.iter().filter(|one| one.weight > 0).collect();
            let out = weighty.iter().filter(|one| one.ejected_for.is_some()).count();
            let all = weighty.len();
            let most = ((share * all as f64).floor() as usize).max(1).min(all.saturating_sub(1));
            prop_assert!(out <= most, "{out} of {all} at {share}");
            let pick = balancer.pick();
            prop_assert_eq!(pick.is_ok(), all > 0);
            if let Ok(pick) = pick {
                let picked = weighty.iter().find(|one| one.id == pick.id());
                prop_assert!(picked.is_some_and(|one| one.ejected_for.is_none()));
            }
            for endpoint in &endpoints {
                let calls = running.iter().filter(|pick| pick.id() == endpoint.id).count();
                prop_assert_eq!(endpoint.in_flight, calls as u32);
            }
        }
    }
}
