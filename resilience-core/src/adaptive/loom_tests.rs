//! Every interleaving of a few calls on one limit.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{AdaptiveLimit, Algorithm, Change, Config};
use crate::clock::{SharedClock, Still};

fn limit(initial: u32) -> AdaptiveLimit {
    let config = Config::builder().algorithm(Algorithm::Aimd);
    let config = config.initial_limit(initial).min_limit(1).min_samples(1);
    AdaptiveLimit::with_clock(config.build().unwrap(), SharedClock::new(Still))
}

#[test]
fn loom_no_more_calls_run_than_may() {
    loom::model(|| {
        let limit = limit(1);
        let running = Arc::new(AtomicUsize::new(0));
        let call = |limit: AdaptiveLimit, running: Arc<AtomicUsize>| {
            if let Ok(permit) = limit.try_acquire() {
                // Relaxed: the permit itself must order them.
                assert_eq!(running.load(Ordering::Relaxed), 0);
                running.store(1, Ordering::Relaxed);
                running.store(0, Ordering::Relaxed);
                permit.success();
            }
        };
        let other = {
            let (limit, running) = (limit.clone(), Arc::clone(&running));
            thread::spawn(move || call(limit, running))
        };
        call(limit.clone(), running);
        other.join().unwrap();
        assert_eq!(limit.snapshot().in_flight, 0);
    });
}

#[test]
fn loom_a_limit_that_moves_loses_no_place() {
    loom::model(|| {
        let limit = limit(2);
        let permit = limit.try_acquire_owned().unwrap();
        let other = {
            let limit = limit.clone();
            thread::spawn(move || drop(limit.try_acquire().unwrap()))
        };
        let most = Config::builder().initial_limit(1).min_limit(1).max_limit(2);
        limit.set_config(most.build().unwrap());
        permit.overloaded();
        other.join().unwrap();
        let snapshot = limit.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.limit), (0, 2));
    });
}

#[test]
fn loom_a_limit_that_two_calls_move_is_told_once_for_each_move() {
    loom::model(|| {
        let limit = limit(1);
        let (_subscription, told) = limit.subscribe_channel(8);
        let most = Config::builder().initial_limit(1).min_limit(1).max_limit(2);
        let most = most.build().unwrap();
        let other = {
            let limit = limit.clone();
            let least = Config::builder().initial_limit(4).min_limit(4);
            thread::spawn(move || limit.set_config(least.build().unwrap()))
        };
        limit.set_config(most);
        other.join().unwrap();
        let limits = |change| match change {
            Change::Limit { from, to } => Some((from, to)),
            Change::Settings(_) => None,
        };
        let told: Vec<_> = told.try_iter().filter_map(limits).collect();
        // To four, and to two again if that came last; of two threads each may tell its own first.
        match limit.limit() {
            4 => assert_eq!(told, [(1, 4)]),
            2 => assert!(told == [(1, 4), (4, 2)] || told == [(4, 2), (1, 4)]),
            other => panic!("{other}"),
        }
    });
}
