//! Who is picked: each strategy against the plainest code that could be right.

use std::{collections::HashMap, ops::Range, time::Duration};

use proptest::{prelude::*, strategy::Strategy as _};
use resilience_core::{
    balance::{Strategy, *},
    breaker::Outcome,
    clock::{Clock, ManualClock},
};

const SECOND: Duration = Duration::from_secs(1);

fn with(config: ConfigBuilder, weights: &[u32]) -> (Balancer<usize>, ManualClock) {
    let clock = ManualClock::new();
    clock.set(SECOND);
    let balancer = Balancer::with_seed(config.build().unwrap(), clock.clone(), 1);
    balancer.set_endpoints(endpoints(weights)).unwrap();
    (balancer, clock)
}

fn endpoints(weights: &[u32]) -> impl Iterator<Item = Endpoint<usize>> {
    let endpoints = weights.iter().copied().enumerate();
    endpoints.map(|(index, weight)| Endpoint::new(index.to_string(), index).weight(weight))
}

fn of(strategy: Strategy) -> ConfigBuilder {
    Config::builder().strategy(strategy)
}

/// How often each is picked; each call ends before the next.
fn counts(balancer: &Balancer<usize>, calls: usize, of: usize) -> Vec<usize> {
    let mut counts = vec![0; of];
    for _ in 0..calls {
        let pick = balancer.pick().unwrap();
        counts[*pick.value()] += 1;
        pick.success();
    }
    counts
}

/// Fails calls until `index` is ejected.
fn eject(balancer: &Balancer<usize>, index: usize) {
    while balancer.snapshot().endpoints[index].ejected_for.is_none() {
        let pick = balancer.pick().unwrap();
        if *pick.value() == index {
            pick.failure();
        }
    }
}

#[test]
fn round_robin_is_one_after_the_other_whatever_the_weight() {
    let (balancer, _) = with(of(Strategy::RoundRobin), &[7, 1, 0, 2]);
    let order: Vec<_> = (0..6).map(|_| *balancer.pick().unwrap().value()).collect();
    assert_eq!(order, [0, 1, 3, 0, 1, 3]);
}

/// Up to eight weights of `range`, not all 0.
fn some_weight(range: Range<u32>) -> impl proptest::strategy::Strategy<Value = Vec<u32>> {
    let weights = prop::collection::vec(range, 1..9);
    weights.prop_filter("all are 0", |weights| {
        weights.iter().any(|weight| *weight > 0)
    })
}

/// nginx's smooth weighted round robin, word for word.
struct Nginx {
    weights: Vec<i64>,
    current: Vec<i64>,
}

impl Nginx {
    fn new(weights: &[u32]) -> Self {
        Self {
            weights: weights.iter().map(|weight| i64::from(*weight)).collect(),
            current: vec![0; weights.len()],
        }
    }

    fn next(&mut self) -> usize {
        let (mut best, mut total) = (None, 0);
        for (index, weight) in self.weights.iter().enumerate() {
            if *weight == 0 {
                continue;
            }
            self.current[index] += weight;
            total += weight;
            if best.is_none_or(|best: usize| self.current[index] > self.current[best]) {
                best = Some(index);
            }
        }
        let best = best.unwrap();
        self.current[best] -= total;
        best
    }
}

proptest! {
    #[test]
    fn smooth_weighted_is_the_order_of_nginx(
        weights in some_weight(0_u32..40),
    ) {
        let (balancer, _) = with(of(Strategy::SmoothWeighted), &weights);
        let mut nginx = Nginx::new(&weights);
        for _ in 0..weights.iter().sum::<u32>() * 2 {
            prop_assert_eq!(*balancer.pick().unwrap().value(), nginx.next());
        }
    }

    #[test]
    fn the_others_keep_their_exact_proportion_while_one_is_ejected(
        weights in prop::collection::vec(1_u32..20, 2..8), out: prop::sample::Index,
    ) {
        // As many turns as the sum are whole rounds only where no divisor shortens them.
        let out = out.index(weights.len());
        let config = of(Strategy::SmoothWeighted).consecutive_failures(1);
        let (balancer, _) = with(config, &weights);
        eject(&balancer, out);
        let rest: u32 = weights.iter().sum::<u32>() - weights[out];
        // From any place in the round on: as many calls as the others have turns in a round.
        let picked = counts(&balancer, rest as usize, weights.len());
        for (index, weight) in weights.iter().enumerate() {
            let expected = if index == out { 0 } else { *weight as usize };
            prop_assert_eq!(picked[index], expected);
        }
    }

    #[test]
    fn the_fewest_calls_per_weight_are_next(
        weights in some_weight(0_u32..5),
        steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 1..60),
    ) {
        let (balancer, _) = with(of(Strategy::LeastConnections), &weights);
        let mut running: Vec<Pick<usize>> = Vec::new();
        let mut calls = vec![0_u32; weights.len()];
        for step in steps {
            if let (Some(end), false) = (step, running.is_empty()) {
                let pick = running.swap_remove(end.index(running.len()));
                calls[*pick.value()] -= 1;
                continue;
            }
            let pick = balancer.pick().unwrap();
            let picked = *pick.value();
            for other in (0..weights.len()).filter(|other| weights[*other] > 0) {
                // calls / weight, without fractions.
                let least = calls[picked] * weights[other] <= calls[other] * weights[picked];
                prop_assert!(weights[picked] > 0 && least, "{calls:?} {weights:?} {picked}");
            }
            calls[picked] += 1;
            running.push(pick);
        }
    }

    #[test]
    fn a_key_moves_only_from_endpoints_that_go_or_to_those_that_come(
        before in prop::collection::vec(0_u32..3, 6), after in prop::collection::vec(0_u32..3, 6),
        keys in prop::collection::vec(any::<u64>(), 40),
    ) {
        let (balancer, _) = with(of(Strategy::ConsistentHash), &before);
        let owners = |keys: &[u64]| -> Vec<Option<usize>> {
            let owner = |key: &u64| balancer.pick_by(Criteria::default().key(*key));
            keys.iter().map(|key| owner(key).ok().map(|pick| *pick.value())).collect()
        };
        let old = owners(&keys);
        balancer.set_endpoints(endpoints(&after)).unwrap();
        for (old, new) in old.into_iter().zip(owners(&keys)) {
            let lost = old.is_none_or(|old| after[old] < before[old]);
            let won = new.is_none_or(|new| after[new] > before[new]);
            prop_assert!(old == new || lost || won, "{old:?} {new:?}");
        }
    }
}

#[test]
fn calls_of_equal_load_are_spread_by_weight() {
    let (balancer, _) = with(of(Strategy::LeastConnections), &[1, 3]);
    let picked = counts(&balancer, 4_000, 2);
    assert!((900..1_100).contains(&picked[0]), "{picked:?}");
}

#[test]
fn two_choices_never_take_the_worst_of_all_and_spread_the_rest() {
    let (balancer, clock) = with(of(Strategy::PeakEwma).decay(SECOND * 86_400), &[1; 4]);
    // Each is called once, since one without a latency comes first.
    for _ in 0..400 {
        let pick = balancer.pick().unwrap();
        let slow = *pick.value() == 2;
        clock.advance(Duration::from_millis(if slow { 100 } else { 10 }));
        pick.success();
    }
    let picked = counts(&balancer, 3_000, 4);
    assert_eq!(picked[2], 0, "{picked:?}");
    assert!([0, 1, 3].iter().all(|one| picked[*one] > 500), "{picked:?}");
}

#[test]
fn a_slow_endpoint_is_tried_again_once_its_latency_has_faded() {
    let (balancer, clock) = with(of(Strategy::PeakEwma).decay(SECOND), &[1, 1]);
    let call = |times: usize, slow: u64| {
        let mut picked = [0; 2];
        for _ in 0..times {
            let pick = balancer.pick().unwrap();
            picked[*pick.value()] += 1;
            let took = if *pick.value() == 1 { slow } else { 10 };
            clock.advance(Duration::from_millis(took));
            pick.success();
        }
        picked
    };
    call(2, 1_000);
    // 1 s fades to 10 ms in ln 100 = 4.6 decays, which are 460 calls of 10 ms.
    assert_eq!(call(300, 10)[1], 0);
    assert!(call(1_000, 10)[1] > 100);
}

#[test]
fn calls_in_flight_count_as_much_as_latency() {
    let (balancer, clock) = with(of(Strategy::PeakEwma).decay(SECOND * 86_400), &[1, 1]);
    for _ in 0..2 {
        let pick = balancer.pick().unwrap();
        clock.advance(Duration::from_millis([10, 41][*pick.value()]));
        pick.success();
    }
    let running: Vec<_> = (0..6).map(|_| balancer.pick().unwrap()).collect();
    let order: Vec<_> = running.iter().map(|pick| *pick.value()).collect();
    // 10 × 5 is more than 41 × 1; before, it is less.
    assert_eq!(order, [0, 0, 0, 0, 1, 0]);
}

#[test]
fn weight_divides_the_cost() {
    let (balancer, clock) = with(of(Strategy::PeakEwma).decay(SECOND * 86_400), &[1, 3]);
    for _ in 0..2 {
        let pick = balancer.pick().unwrap();
        clock.advance(Duration::from_millis([10, 20][*pick.value()]));
        pick.success();
    }
    // 20 / 3 is less than 10.
    assert_eq!(*balancer.pick().unwrap().value(), 1);
}

#[test]
fn an_endpoint_without_a_latency_is_given_one_call_and_no_more() {
    let (balancer, clock) = with(of(Strategy::PeakEwma), &[1]);
    let pick = balancer.pick().unwrap();
    clock.advance(SECOND);
    pick.success();
    balancer.insert(Endpoint::new("new", 1)).unwrap();
    let running: Vec<_> = (0..20).map(|_| balancer.pick().unwrap()).collect();
    assert_eq!(*running[0].value(), 1);
    assert!(running[1..].iter().all(|pick| *pick.value() == 0));
}

#[test]
fn one_key_stays_with_one_endpoint_and_calls_without_are_spread() {
    let (balancer, _) = with(of(Strategy::ConsistentHash), &[1; 5]);
    let key = Criteria::default().key(hash_key(b"user 17"));
    let owner = balancer.pick_by(key).unwrap().id();
    let running: Vec<_> = (0..50).map(|_| balancer.pick_by(key).unwrap()).collect();
    assert!(running.iter().all(|pick| pick.id() == owner));
    assert!(
        counts(&balancer, 1_000, 5)
            .iter()
            .all(|picked| *picked > 100)
    );
}

#[test]
fn an_ejection_moves_only_the_keys_of_the_ejected_and_they_come_back() {
    let config = of(Strategy::ConsistentHash).consecutive_failures(1);
    let (balancer, clock) = with(config, &[1; 5]);
    let owners = || -> HashMap<u64, usize> {
        let keys = (0..2_000_u64).map(|key| hash_key(&key.to_le_bytes()));
        let owner = |key| {
            *balancer
                .pick_by(Criteria::default().key(key))
                .unwrap()
                .value()
        };
        keys.map(|key| (key, owner(key))).collect()
    };
    let before = owners();
    eject(&balancer, 3);
    let mut heirs = [0; 5];
    for (key, owner) in owners() {
        if before[&key] == 3 {
            heirs[owner] += 1;
        } else {
            assert_eq!(owner, before[&key]);
        }
    }
    // They are spread over all others.
    assert!(
        [0, 1, 2, 4].iter().all(|heir| heirs[*heir] > 20),
        "{heirs:?}"
    );
    clock.advance(SECOND * 30);
    assert_eq!(owners(), before);
}

#[test]
fn no_endpoint_has_more_calls_than_its_bound_of_one_hot_key() {
    let weights = [1, 2, 1, 0, 4];
    let config = of(Strategy::ConsistentHash).max_load(1.25);
    let (balancer, _) = with(config, &weights);
    let mut running = Vec::new();
    for calls in 1..=200_u32 {
        let key = Criteria::default().key(hash_key(b"hot"));
        running.push(balancer.pick_by(key).unwrap());
        let endpoints = balancer.snapshot().endpoints;
        for (endpoint, weight) in endpoints.iter().zip(weights) {
            let most = (1.25 * f64::from(calls) * f64::from(weight) / 8.0).ceil();
            assert!(
                f64::from(endpoint.in_flight) <= most,
                "{endpoint:?} of {calls}"
            );
        }
    }
}

#[test]
fn a_hot_key_stays_until_the_bound_with_its_call_is_reached() {
    let config = of(Strategy::ConsistentHash).max_load(1.5);
    let (balancer, _) = with(config, &[1, 1]);
    let mut running = Vec::new();
    for _ in 0..4 {
        let key = Criteria::default().key(hash_key(b"hot"));
        running.push(balancer.pick_by(key).unwrap());
    }
    let owner = running[0].id();
    let stays: Vec<bool> = running.iter().map(|pick| pick.id() == owner).collect();
    // Of four calls 3 are half as many again as a fair share.
    assert_eq!(stays, [true, true, true, false]);
}

#[test]
fn the_share_of_a_new_endpoint_grows_with_time() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::SmoothWeighted,
        Strategy::LeastConnections,
    ] {
        let config = of(strategy).slow_start(SECOND * 100);
        let (balancer, clock) = with(config, &[1, 1, 1]);
        assert!(
            counts(&balancer, 300, 4)[..3]
                .iter()
                .all(|picked| *picked > 70)
        );
        balancer.insert(Endpoint::new("3", 3)).unwrap();
        let mut shares = [0, 50, 100].map(|at| {
            clock.set(SECOND * (1 + at));
            counts(&balancer, 3_700, 4)[3]
        });
        // A tenth beside three whole ones is 1 of 31; a half 1 of 7; a whole 1 of 4.
        for (share, expected) in shares.iter_mut().zip([119_usize, 528, 925]) {
            let off = share.abs_diff(expected);
            assert!(off < expected / 4, "{strategy:?}: {share}, not {expected}");
        }
    }
}

#[test]
fn one_that_is_back_from_ejection_starts_slowly_and_the_cost_of_peak_ewma_follows() {
    let config = of(Strategy::SmoothWeighted).slow_start(SECOND * 100);
    let (balancer, clock) = with(config.consecutive_failures(1), &[1, 1]);
    eject(&balancer, 0);
    clock.advance(SECOND * 30);
    let picked = counts(&balancer, 1_100, 2)[0];
    assert!((50..150).contains(&picked), "{picked}");

    let config = of(Strategy::PeakEwma).slow_start(SECOND * 100);
    let (balancer, clock) = with(config, &[1]);
    balancer.insert(Endpoint::new("1", 1)).unwrap();
    for _ in 0..2 {
        let pick = balancer.pick().unwrap();
        clock.advance(SECOND / 100);
        pick.success();
    }
    let running: Vec<_> = (0..9).map(|_| balancer.pick().unwrap()).collect();
    assert!(running.iter().all(|pick| *pick.value() == 0));
}

// tower's and Finagle's estimate decays while nothing comes back: an endpoint that hangs looks
// better and better, and draws calls without end.
#[test]
fn an_endpoint_that_hangs_draws_no_more_calls_as_its_latency_fades() {
    let (balancer, clock) = with(of(Strategy::PeakEwma).decay(SECOND), &[1; 3]);
    let mut hanging = Vec::new();
    let mut calls = |times: usize| {
        for _ in 0..times {
            let pick = balancer.pick().unwrap();
            if *pick.value() == 0 && clock.now() > SECOND * 2 {
                hanging.push(pick);
            } else {
                clock.advance(Duration::from_millis(10));
                pick.success();
            }
        }
        hanging.len()
    };
    // It answers for a second, and then no more.
    assert_eq!(calls(100), 0);
    // A hundred times the time in which a latency fades.
    assert!(calls(10_000) <= 2);
}

// A latency of exactly nothing was taken for that of an endpoint which had no call yet, and one
// that has calls in flight and no latency is given no more.
#[test]
fn a_stream_that_outlives_a_quiet_night_does_not_shut_its_endpoint_out() {
    let (balancer, clock) = with(of(Strategy::PeakEwma), &[1, 1]);
    let mut streams: Vec<_> = (0..2).map(|_| balancer.pick().unwrap()).collect();
    clock.advance(SECOND);
    streams
        .iter_mut()
        .for_each(|stream| stream.record(Outcome::Success));
    let one = *streams[0].value();
    drop(streams.pop());
    clock.advance(SECOND * 36_000);
    let picked = (0..50).filter(|_| {
        let pick = balancer.pick().unwrap();
        clock.advance(Duration::from_millis(if *pick.value() == one {
            10
        } else {
            1_000
        }));
        let hit = *pick.value() == one;
        pick.success();
        hit
    });
    assert!(picked.count() > 40);
}

// Each sample moved the time on, and the estimate by less than a single-precision number can tell.
#[test]
fn under_many_calls_a_latency_falls_however_long_the_decay_is() {
    let (balancer, clock) = with(of(Strategy::PeakEwma).decay(SECOND * 86_400), &[1]);
    let call = |took: Duration| {
        let pick = balancer.pick().unwrap();
        clock.advance(took);
        pick.success();
        balancer.snapshot().endpoints[0]
            .latency
            .unwrap()
            .as_secs_f64()
    };
    assert_eq!(call(SECOND), 1.0);
    // 100 s of calls of 2 ms.
    (0..50_000).for_each(|_| {
        call(Duration::from_millis(2));
    });
    let expected = (-100.0_f64 / 86_400.0).exp();
    let after = call(Duration::from_millis(2));
    assert!((after - expected).abs() < 2e-4, "{after}, not {expected}");
}

// Turns in order gave those of the whole row to the endpoint behind it.
#[test]
fn the_turns_of_a_long_row_of_ejected_endpoints_are_spread_over_all_others() {
    for strategy in [Strategy::RoundRobin, Strategy::SmoothWeighted] {
        let config = of(strategy)
            .consecutive_failures(1)
            .success_rate_deviations(None);
        let (balancer, _) = with(config, &[1; 600]);
        for _ in 0..300 {
            balancer.pick().unwrap().failure();
        }
        let picked = counts(&balancer, 30_000, 600);
        assert!(picked[..300].iter().all(|picked| *picked == 0));
        let most = *picked[300..].iter().max().unwrap();
        assert!(most < 200, "{strategy:?}: {most}, and 100 would be fair");
    }
}

#[test]
fn changes_of_other_endpoints_do_not_favour_the_first() {
    let (balancer, _) = with(of(Strategy::RoundRobin), &[1; 4]);
    let mut picked = [0; 4];
    for change in 0..400 {
        balancer.set_weight("3", change % 2).unwrap();
        picked[*balancer.pick().unwrap().value()] += 1;
    }
    assert!(picked[..3].iter().all(|picked| *picked > 60), "{picked:?}");
}

#[test]
fn a_weight_that_changes_shifts_the_calls_in_proportion() {
    let (balancer, _) = with(of(Strategy::SmoothWeighted), &[100, 0]);
    for share in [0_u32, 1, 5, 25, 50, 100] {
        balancer.set_weight("0", 100 - share).unwrap();
        balancer.set_weight("1", share).unwrap();
        assert_eq!(counts(&balancer, 10_000, 2)[1], share as usize * 100);
    }
    // By load: calls in flight at once, for as long as they all take.
    for strategy in [Strategy::LeastConnections, Strategy::PeakEwma] {
        let (balancer, clock) = with(of(strategy), &[1, 1]);
        for weight in [1, 3, 9] {
            balancer.set_weight("1", weight).unwrap();
            let mut picked = [0; 2];
            for _ in 0..20 {
                let running: Vec<_> = (0..200).map(|_| balancer.pick().unwrap()).collect();
                running.iter().for_each(|pick| picked[*pick.value()] += 1);
                clock.advance(SECOND / 10);
                running.into_iter().for_each(Pick::success);
            }
            let share = f64::from(picked[1]) / 4_000.0;
            let fair = f64::from(weight) / f64::from(weight + 1);
            assert!(
                (share - fair).abs() < 0.02,
                "{strategy:?} {weight}: {share}"
            );
        }
    }
}
