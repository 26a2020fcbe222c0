//! Threads that call while the endpoints change. Under Miri with fewer rounds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use resilience_core::{
    balance::{Strategy, *},
    clock::ManualClock,
};

const SECOND: Duration = Duration::from_secs(1);
const ROUNDS: u64 = if cfg!(miri) { 50 } else { 20_000 };
const THREADS: u64 = if cfg!(miri) { 2 } else { 4 };

const STRATEGIES: [Strategy; 5] = [
    Strategy::RoundRobin,
    Strategy::SmoothWeighted,
    Strategy::LeastConnections,
    Strategy::PeakEwma,
    Strategy::ConsistentHash,
];

fn endpoints(weights: [u32; 4]) -> impl Iterator<Item = Endpoint<usize>> {
    let endpoints = weights.into_iter().enumerate();
    endpoints.map(|(index, weight)| Endpoint::new(index.to_string(), index).weight(weight))
}

/// The same in two priorities, and half of them in a zone.
fn placed(weights: [u32; 4]) -> impl Iterator<Item = Endpoint<usize>> {
    endpoints(weights).zip(0_u8..).map(|(endpoint, index)| {
        let zone = (index < 2).then(|| Arc::from("a"));
        endpoint.zone(zone).priority(index % 2)
    })
}

#[test]
fn every_call_finds_an_endpoint_and_is_counted_out_while_the_set_changes() {
    for strategy in STRATEGIES {
        let config = Config::builder().strategy(strategy).consecutive_failures(2);
        let config = config.max_ejected(1.0).slow_start(SECOND).interval(SECOND);
        let config = config.minimum_calls(5).minimum_endpoints(2);
        let clock = ManualClock::new();
        let balancer = Balancer::with_clock(config.build().unwrap(), clock.clone());
        balancer.set_endpoints(placed([1, 2, 3, 4])).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let (balancer, clock, done) = (&balancer, &clock, &done);
            let calls = |thread: u64| {
                let mut held = Vec::new();
                for call in 0..ROUNDS {
                    let key = hash_key(&(call * THREADS + thread).to_le_bytes());
                    // Endpoint 0 stays, with a weight.
                    let pick = balancer.pick_by(Criteria::default().key(key)).unwrap();
                    match key % 5 {
                        0 | 1 => pick.failure(),
                        2 if held.len() < 8 => held.push(pick),
                        3 => held.clear(),
                        _ => pick.success(),
                    }
                }
            };
            let workers: Vec<_> = (0..THREADS)
                .map(|thread| scope.spawn(move || calls(thread)))
                .collect();
            let changes = scope.spawn(move || {
                for round in 0_u64.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    clock.advance(SECOND);
                    let weight = |bit: u64| (round >> bit) as u32 % 3;
                    balancer
                        .set_endpoints(placed([1, weight(0), weight(2), weight(4)]))
                        .unwrap();
                    // One comes and goes, and is another each time.
                    balancer.remove("3");
                    balancer.set_health("1", round % 3 == 0);
                    balancer.set_zone((round % 5 == 0).then_some("a"));
                    let out = |one: &EndpointSnapshot| {
                        one.weight > 0 && one.healthy && one.ejected_for.is_none()
                    };
                    // Ejections that happen meanwhile are of one clock and one set.
                    assert!(balancer.snapshot().endpoints.iter().any(out));
                }
            });
            let outcomes: Vec<_> = workers
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            done.store(true, Ordering::Relaxed);
            changes.join().unwrap();
            outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        });
        let endpoints = balancer.snapshot().endpoints;
        assert!(
            endpoints.iter().all(|one| one.in_flight == 0),
            "{strategy:?}"
        );
    }
}

#[test]
fn threads_share_the_turns_exactly_by_weight() {
    let weights = [1, 2, 3, 4];
    let config = Config::builder().strategy(Strategy::SmoothWeighted);
    let balancer = Balancer::with_clock(config.build().unwrap(), ManualClock::new());
    balancer.set_endpoints(endpoints(weights)).unwrap();
    let calls = ROUNDS / 10 * 10;
    let counts: Vec<[u64; 4]> = thread::scope(|scope| {
        let count = || {
            let mut counts = [0; 4];
            for _ in 0..calls {
                let pick = balancer.pick().unwrap();
                counts[*pick.value()] += 1;
                pick.success();
            }
            counts
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (index, weight) in weights.into_iter().enumerate() {
        let sum: u64 = counts.iter().map(|counts| counts[index]).sum();
        assert_eq!(sum, calls * THREADS * u64::from(weight) / 10);
    }
}
