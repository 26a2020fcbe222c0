//! Every interleaving of a few calls on one bulkhead.

use std::task::Waker;

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Bulkhead, Change, Config, Priority, Turn};
use crate::clock::{SharedClock, Still};

fn bulkhead(limit: u32, max_queue: usize) -> Bulkhead {
    let config = Config::builder().limit(limit).max_queue(max_queue);
    let config = config.max_wait(None).build().unwrap();
    Bulkhead::with_clock(config, SharedClock::new(Still))
}

#[test]
fn loom_no_more_calls_run_than_may() {
    loom::model(|| {
        let bulkhead = bulkhead(1, 0);
        let running = Arc::new(AtomicUsize::new(0));
        let call = |bulkhead: Bulkhead, running: Arc<AtomicUsize>| {
            if let Ok(_permit) = bulkhead.try_acquire() {
                // Relaxed: the permit itself must order them.
                assert_eq!(running.load(Ordering::Relaxed), 0);
                running.store(1, Ordering::Relaxed);
                running.store(0, Ordering::Relaxed);
            }
        };
        let other = {
            let (bulkhead, running) = (bulkhead.clone(), Arc::clone(&running));
            thread::spawn(move || call(bulkhead, running))
        };
        call(bulkhead.clone(), running);
        other.join().unwrap();
        assert_eq!(bulkhead.snapshot().in_flight, 0);
    });
}

#[test]
fn loom_a_permit_that_comes_back_while_somebody_begins_to_wait_is_theirs() {
    loom::model(|| {
        let bulkhead = bulkhead(1, 1);
        let permit = bulkhead.try_acquire_owned().unwrap();
        let other = thread::spawn(move || drop(permit));
        let mut waiter = bulkhead.enqueue(Priority::Normal, None).unwrap();
        other.join().unwrap();
        assert!(matches!(waiter.poll(Waker::noop()), Turn::Admitted(_)));
    });
}

#[test]
fn loom_nobody_overtakes_the_line() {
    loom::model(|| {
        let bulkhead = bulkhead(1, 1);
        let permit = bulkhead.try_acquire_owned().unwrap();
        let mut waiter = bulkhead.enqueue(Priority::Normal, None).unwrap();
        let other = thread::spawn(move || drop(permit));
        assert!(bulkhead.try_acquire().is_err());
        other.join().unwrap();
        assert!(matches!(waiter.poll(Waker::noop()), Turn::Admitted(_)));
    });
}

#[test]
fn loom_a_turn_that_nobody_takes_goes_to_the_next() {
    loom::model(|| {
        let bulkhead = bulkhead(1, 2);
        let permit = bulkhead.try_acquire_owned().unwrap();
        let first = bulkhead.enqueue(Priority::Normal, None).unwrap();
        let mut second = bulkhead.enqueue(Priority::Normal, None).unwrap();
        let other = thread::spawn(move || drop(permit));
        drop(first);
        other.join().unwrap();
        assert!(matches!(second.poll(Waker::noop()), Turn::Admitted(_)));
        assert_eq!(bulkhead.snapshot().in_flight, 0);
        assert!(bulkhead.try_acquire().is_ok());
    });
}

#[test]
fn loom_a_larger_limit_lets_in_who_begins_to_wait() {
    loom::model(|| {
        let bulkhead = bulkhead(1, 1);
        let _permit = bulkhead.try_acquire().unwrap();
        let other = {
            let bulkhead = bulkhead.clone();
            let more = Config::builder().limit(2).max_queue(1).build().unwrap();
            thread::spawn(move || bulkhead.set_config(more))
        };
        let mut waiter = bulkhead.enqueue(Priority::Normal, None).unwrap();
        other.join().unwrap();
        assert!(matches!(waiter.poll(Waker::noop()), Turn::Admitted(_)));
    });
}

#[test]
fn loom_whoever_was_told_of_a_full_bulkhead_is_told_of_room_once_nobody_runs() {
    loom::model(|| {
        let bulkhead = bulkhead(1, 0);
        let (_subscription, told) = bulkhead.subscribe_channel(8);
        let other = {
            let bulkhead = bulkhead.clone();
            thread::spawn(move || bulkhead.try_acquire().is_ok())
        };
        let own = bulkhead.try_acquire().is_ok();
        let refused = !(own & other.join().unwrap());
        let told: Vec<_> = told.try_iter().collect();
        let count = |one| told.iter().filter(|change| **change == one).count();
        // Who is refused while the other's permit comes back may find room again.
        assert!(count(Change::Full) <= refused.into());
        assert_eq!(count(Change::Room), count(Change::Full));
        assert!(!bulkhead.snapshot().full);
    });
}

#[test]
fn loom_room_is_told_once_by_who_ends_or_gives_up_last() {
    loom::model(|| {
        let bulkhead = bulkhead(1, 1);
        let (_subscription, told) = bulkhead.subscribe_channel(8);
        let permit = bulkhead.try_acquire_owned().unwrap();
        let waiter = bulkhead.enqueue(Priority::Normal, None).unwrap();
        bulkhead.try_acquire().unwrap_err();
        let other = thread::spawn(move || drop(permit));
        drop(waiter);
        other.join().unwrap();
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [Change::Full, Change::Room]);
        assert!(!bulkhead.snapshot().full);
    });
}
