//! Every interleaving of a few calls on one limit.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{AdaptiveLimit, Algorithm, Config};
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
