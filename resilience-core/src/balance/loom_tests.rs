//! Every interleaving of a few calls on one balancer.

use loom::thread;

use super::{Balancer, Config, Criteria, Endpoint, Strategy};
use crate::clock::{SharedClock, Still};

fn balancer(strategy: Strategy) -> Balancer<()> {
    let config = Config::builder().strategy(strategy).consecutive_failures(1);
    let config = config.success_rate_deviations(None).max_ejected(1.0);
    let clock = SharedClock::new(Still);
    let balancer = Balancer::with_seed(config.build().unwrap(), clock, 7);
    let both = [Endpoint::new("a", ()), Endpoint::new("b", ())];
    balancer.set_endpoints(both).unwrap();
    balancer
}

fn ejected(balancer: &Balancer<()>) -> usize {
    let endpoints = balancer.snapshot().endpoints;
    let ejected = endpoints.iter().filter(|one| one.ejected_for.is_some());
    ejected.count()
}

#[test]
fn loom_two_that_fail_at_once_are_not_both_ejected() {
    loom::model(|| {
        let balancer = balancer(Strategy::RoundRobin);
        let first = balancer.pick().unwrap();
        let second = balancer.pick().unwrap();
        assert_ne!(first.id(), second.id());
        let other = thread::spawn(move || first.failure());
        second.failure();
        other.join().unwrap();
        assert_eq!(ejected(&balancer), 1);
    });
}

#[test]
fn loom_one_that_fails_while_the_other_goes_is_not_ejected() {
    loom::model(|| {
        let balancer = balancer(Strategy::RoundRobin);
        let first = balancer.pick().unwrap();
        let other = {
            let balancer = balancer.clone();
            thread::spawn(move || assert!(balancer.remove("b")))
        };
        first.failure();
        other.join().unwrap();
        assert_eq!(ejected(&balancer), 0);
    });
}

#[test]
fn loom_one_that_fails_while_the_other_becomes_unhealthy_is_not_out() {
    loom::model(|| {
        let balancer = balancer(Strategy::RoundRobin);
        let first = balancer.pick().unwrap();
        let other = {
            let balancer = balancer.clone();
            thread::spawn(move || assert!(balancer.set_health("b", false)))
        };
        first.failure();
        other.join().unwrap();
        assert_eq!(ejected(&balancer), 0);
        assert_eq!(balancer.pick().unwrap().name(), "a");
    });
}

#[test]
fn loom_two_picks_take_two_turns() {
    loom::model(|| {
        let balancer = balancer(Strategy::RoundRobin);
        let other = {
            let balancer = balancer.clone();
            thread::spawn(move || balancer.pick().unwrap())
        };
        let mine = balancer.pick().unwrap();
        let theirs = other.join().unwrap();
        assert_ne!(mine.id(), theirs.id());
    });
}

#[test]
fn loom_calls_in_flight_are_kept_while_the_endpoints_change() {
    loom::model(|| {
        let balancer = balancer(Strategy::ConsistentHash);
        let other = {
            let balancer = balancer.clone();
            thread::spawn(move || balancer.insert(Endpoint::new("a", ()).weight(2)).unwrap())
        };
        let pick = balancer.pick_by(Criteria::default().key(1)).unwrap();
        other.join().unwrap();
        let in_flight = || -> u32 {
            let endpoints = balancer.snapshot().endpoints;
            endpoints.iter().map(|one| one.in_flight).sum()
        };
        assert_eq!(in_flight(), 1);
        drop(pick);
        assert_eq!(in_flight(), 0);
    });
}
