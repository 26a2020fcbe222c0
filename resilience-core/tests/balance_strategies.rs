//! Who is picked: each strategy against the plainest code that could be right.

use std::{collections::HashMap, ops::Range, time::Duration};

use proptest::{prelude::*, strategy::Strategy as _};
use resilience_core::{
    balance::{Strategy, *},
    clock::ManualClock,
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
            assert!(endpoint.in_flight as f64 <= most, "{endpoint:?} of {calls}");
        }
    }
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
