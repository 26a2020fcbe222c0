//! One of ten endpoints is ten times slower: what each strategy makes of it, in virtual time.
//!
//! Clients of an open system: calls begin at random moments (exponential gaps) and take
//! 8 to 12 ms at a good endpoint, each of which works on 16 at once and lets others wait in line.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use resilience_core::{balance::*, clock::ManualClock};

const ENDPOINTS: usize = 10;
const SLOW: usize = 3;
/// Calls that an endpoint works on at once.
const WORKERS: usize = 16;
const SECOND: u64 = 1_000_000_000;

/// Vigna's SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

struct Call {
    began: u64,
    pick: Pick<usize>,
}

#[derive(Default)]
struct Server {
    running: Vec<(u64, Call)>,
    line: VecDeque<Call>,
}

struct Outcome {
    /// In nanoseconds, sorted.
    latencies: Vec<u64>,
    /// Calls of the slow endpoint.
    slow: usize,
}

impl Outcome {
    fn percentile(&self, share: f64) -> Duration {
        let place = (self.latencies.len() as f64 * share) as usize;
        Duration::from_nanos(self.latencies[place])
    }

    fn p99(&self) -> Duration {
        self.percentile(0.99)
    }
}

/// `rate` calls a second for half a minute, of which the first ten seconds are not counted.
fn run(strategy: Strategy, rate: f64, slower: f64, seed: u64) -> Outcome {
    let clock = ManualClock::new();
    let config = Config::builder().strategy(strategy).build().unwrap();
    let balancer = Balancer::with_seed(config, clock.clone(), seed);
    let all = (0..ENDPOINTS).map(|one| Endpoint::new(one.to_string(), one));
    balancer.set_endpoints(all).unwrap();
    let mut dice = Dice(seed);
    let mut servers: Vec<Server> = (0..ENDPOINTS).map(|_| Server::default()).collect();
    let mut ends: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let mut outcome = Outcome {
        latencies: Vec::new(),
        slow: 0,
    };
    let takes = |server: usize, dice: &mut Dice| {
        let factor = if server == SLOW { slower } else { 1.0 };
        ((8.0 + 4.0 * dice.roll()) * factor * 1e6) as u64
    };
    let (mut arrival, mut number) = (0_u64, 0_u64);
    while arrival < 30 * SECOND {
        let end = ends.peek().map_or(u64::MAX, |Reverse((end, ..))| *end);
        if end <= arrival {
            let Some(Reverse((now, server, id))) = ends.pop() else {
                unreachable!("it was looked at");
            };
            clock.set(Duration::from_nanos(now));
            let place = &mut servers[server];
            let at = place
                .running
                .iter()
                .position(|(one, _)| *one == id)
                .unwrap();
            let (_, call) = place.running.swap_remove(at);
            if call.began > 10 * SECOND {
                outcome.latencies.push(now - call.began);
                outcome.slow += usize::from(server == SLOW);
            }
            call.pick.success();
            if let Some(next) = place.line.pop_front() {
                number += 1;
                ends.push(Reverse((now + takes(server, &mut dice), server, number)));
                place.running.push((number, next));
            }
            continue;
        }
        clock.set(Duration::from_nanos(arrival));
        number += 1;
        let key = Criteria::default().key(hash_key(&number.to_le_bytes()));
        let pick = balancer.pick_by(key).unwrap();
        let server = *pick.value();
        let call = Call {
            began: arrival,
            pick,
        };
        let place = &mut servers[server];
        if place.running.len() < WORKERS {
            ends.push(Reverse((
                arrival + takes(server, &mut dice),
                server,
                number,
            )));
            place.running.push((number, call));
        } else {
            place.line.push_back(call);
        }
        arrival += (-(1.0 - dice.roll()).ln() / rate * 1e9) as u64;
    }
    outcome.latencies.sort_unstable();
    outcome
}

/// 1 000 calls a second: 1 of 16 places of a good endpoint is taken, and all of a slow one's would
/// bear it.
const RATE: f64 = 1_000.0;

#[test]
fn one_slow_endpoint_of_ten_is_felt_half_as_much_at_most_by_peak_ewma() {
    for seed in 1..4 {
        let robin = run(Strategy::RoundRobin, RATE, 10.0, seed);
        let ewma = run(Strategy::PeakEwma, RATE, 10.0, seed);
        let least = run(Strategy::LeastConnections, RATE, 10.0, seed);
        for (name, run) in [("robin", &robin), ("ewma", &ewma), ("least", &least)] {
            println!(
                "{seed} {name}: p50 {:?} p99 {:?} p99.9 {:?}, slow {} of {}",
                run.percentile(0.5),
                run.p99(),
                run.percentile(0.999),
                run.slow,
                run.latencies.len()
            );
        }
        assert!(robin.p99() >= Duration::from_millis(100));
        assert!(ewma.p99() * 2 <= robin.p99());
        // Not merely half: as if there were no slow one.
        assert!(ewma.p99() <= Duration::from_millis(15));
        // It is tried again all the time.
        assert!(ewma.slow > 0 && ewma.slow * 500 < ewma.latencies.len());
        assert!(least.slow < robin.slow / 2);
    }
}

#[test]
fn those_that_do_not_look_at_latency_send_each_endpoint_its_share() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::SmoothWeighted,
        Strategy::ConsistentHash,
    ] {
        let run = run(strategy, RATE, 10.0, 1);
        let share = run.slow as f64 / run.latencies.len() as f64;
        println!("{strategy:?}: p99 {:?}, slow {share}", run.p99());
        assert!((share - 0.1).abs() < 0.025, "{strategy:?}: {share}");
        assert!(run.p99() >= Duration::from_millis(100));
    }
}

#[test]
fn equal_endpoints_are_used_alike() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::LeastConnections,
        Strategy::PeakEwma,
    ] {
        let run = run(strategy, RATE, 1.0, 1);
        let share = run.slow as f64 / run.latencies.len() as f64;
        println!("{strategy:?}: p99 {:?}, share {share}", run.p99());
        assert!((0.05..0.15).contains(&share), "{strategy:?}: {share}");
        assert!(run.p99() <= Duration::from_millis(15), "{strategy:?}");
    }
}

// At 12 000 calls a second nine good endpoints are 83 % busy and a slow one, which bears 160, would
// be swamped by its share.
#[test]
fn near_the_limit_of_the_others_the_slow_one_is_given_what_it_bears() {
    let ewma = run(Strategy::PeakEwma, 12_000.0, 10.0, 1);
    let least = run(Strategy::LeastConnections, 12_000.0, 10.0, 1);
    for (name, run) in [("ewma", &ewma), ("least", &least)] {
        println!(
            "busy {name}: p50 {:?} p99 {:?}, slow {} of {}",
            run.percentile(0.5),
            run.p99(),
            run.slow,
            run.latencies.len()
        );
    }
    assert!(ewma.p99() <= Duration::from_millis(120), "{:?}", ewma.p99());
    assert!(ewma.percentile(0.9) <= Duration::from_millis(30));
}
