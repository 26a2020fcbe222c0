//! Ten endpoints in simulated time, one of them ten times as slow as the others.
//!
//! Nothing here depends on the machine: the clock moves only when told to, and arrivals, service
//! times and choices come from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use resilience_core::balance::{Balancer, Endpoint, Pick};
use resilience_core::clock::{ManualClock, SharedClock};

use crate::config::{BalanceConfig, BalanceStrategy, EjectionConfig, Switch, balance::settings};

/// Requests per simulation, and those at its beginning that are not counted: nothing is known of
/// any endpoint then.
const REQUESTS: usize = 40_000;
const WARM_UP: usize = 1_000;
/// Microseconds between two arrivals, on average: a thousand requests a second.
const BETWEEN: f64 = 1_000.0;
/// Microseconds that a request takes, on average.
const QUICK: f64 = 10_000.0;

/// Marsaglia, *Xorshift RNGs*, 2003.
struct Random(u64);

impl Random {
    /// Over 0, up to 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed.
    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.share().ln()
    }
}

/// What a simulation measured.
struct Measured {
    /// Microseconds, from the shortest to the longest.
    latencies: Vec<u64>,
    /// Of all requests, those that the slow endpoint got.
    slow_share: f64,
}

impl Measured {
    fn percentile(&self, share: f64) -> u64 {
        let index = (self.latencies.len() as f64 * share) as usize;
        self.latencies[index.min(self.latencies.len() - 1)]
    }
}

/// Ten endpoints that serve any number of requests at once; the first is `slowness` as slow.
fn simulate(strategy: BalanceStrategy, slowness: f64, seed: u64) -> Measured {
    let balance = BalanceConfig {
        strategy,
        ..BalanceConfig::default()
    };
    let config = settings(&Switch::On(balance), &Switch::On(EjectionConfig::default())).unwrap();
    let clock = ManualClock::new();
    let balancer = Balancer::with_seed(config, SharedClock::new(clock.clone()), seed);
    let endpoints = (0..10_usize).map(|index| Endpoint::new(format!("e{index}"), index));
    balancer.set_endpoints(endpoints).unwrap();

    let mut random = Random(seed);
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut picks: Vec<Option<Pick<usize>>> = Vec::with_capacity(REQUESTS);
    let mut latencies = Vec::with_capacity(REQUESTS);
    let (mut now, mut arrival, mut slow) = (0_u64, 0.0, 0);
    let until = |now: &mut u64, time: u64| {
        clock.advance(Duration::from_micros(time - *now));
        *now = time;
    };
    for request in 0..REQUESTS {
        arrival += random.exponential(BETWEEN);
        let arrives = arrival as u64;
        while let Some(Reverse((ends, done))) = running.peek().copied()
            && ends <= arrives
        {
            running.pop();
            until(&mut now, ends);
            picks[done].take().unwrap().success();
        }
        until(&mut now, arrives);
        let pick = balancer.pick().unwrap();
        let factor = if *pick.value() == 0 { slowness } else { 1.0 };
        // Half of it always, and the other half as chance has it.
        let takes = factor * (QUICK / 2.0 + random.exponential(QUICK / 2.0));
        if request >= WARM_UP {
            latencies.push(takes as u64);
            slow += usize::from(*pick.value() == 0);
        }
        running.push(Reverse((arrives + takes as u64, request)));
        picks.push(Some(pick));
    }
    latencies.sort_unstable();
    let slow_share = slow as f64 / latencies.len() as f64;
    Measured {
        latencies,
        slow_share,
    }
}

#[test]
fn peak_ewma_halves_the_p99_of_round_robin_when_one_of_ten_is_ten_times_slower() {
    for seed in [1, 2, 3, 0x5eed, u64::MAX / 3] {
        let in_turn = simulate(BalanceStrategy::RoundRobin, 10.0, seed);
        let by_latency = simulate(BalanceStrategy::PeakEwma, 10.0, seed);
        assert!((in_turn.slow_share - 0.1).abs() < 0.001);
        assert!(by_latency.slow_share < 0.01, "{}", by_latency.slow_share);
        let (slow, quick) = (in_turn.percentile(0.99), by_latency.percentile(0.99));
        assert!(quick * 2 <= slow, "{quick} of {slow} µs, seed {seed}");
    }
}

#[test]
fn least_connections_gives_a_slow_endpoint_clearly_fewer_requests() {
    // I2.c2
    for seed in [1, 2, 3] {
        let measured = simulate(BalanceStrategy::LeastConnections, 10.0, seed);
        assert!(measured.slow_share < 0.05, "{}", measured.slow_share);
    }
}

#[test]
fn among_equals_no_strategy_leaves_anybody_out() {
    for strategy in [
        BalanceStrategy::RoundRobin,
        BalanceStrategy::WeightedRoundRobin,
        BalanceStrategy::LeastConnections,
        BalanceStrategy::PeakEwma,
        BalanceStrategy::ConsistentHash,
    ] {
        let share = simulate(strategy, 1.0, 7).slow_share;
        assert!((0.06..0.14).contains(&share), "{strategy:?}: {share}");
    }
}
