//! Every interleaving of a few calls at the end of an interval.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use loom::thread;

use super::{Class, Config, LoadShed};
use crate::clock::{Clock, SharedClock};

/// Moved between the threads' lives only.
#[derive(Clone, Debug, Default)]
struct At(Arc<AtomicU64>);

impl At {
    fn millis(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }
}

impl Clock for At {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

const LONG: Duration = Duration::from_millis(50);

fn shed() -> (LoadShed, At) {
    let at = At::default();
    let shed = LoadShed::with_clock(Config::default(), SharedClock::new(at.clone()));
    (shed, at)
}

#[test]
fn loom_an_interval_is_ended_once() {
    loom::model(|| {
        let (shed, at) = shed();
        shed.report(LONG);
        at.millis(100);
        let other = {
            let shed = shed.clone();
            thread::spawn(move || drop(shed.try_acquire(Class::Critical)))
        };
        shed.report(LONG);
        other.join().unwrap();
        let snapshot = shed.snapshot();
        // Twice would be 12, or a calm one after it.
        assert_eq!((snapshot.level, snapshot.rises, snapshot.falls), (4, 1, 0));
    });
}

#[test]
fn loom_a_report_while_the_interval_ends_counts_in_one_of_the_two() {
    loom::model(|| {
        let (shed, at) = shed();
        at.millis(100);
        let other = {
            let shed = shed.clone();
            thread::spawn(move || shed.report(LONG))
        };
        drop(shed.try_acquire(Class::Critical));
        other.join().unwrap();
        at.millis(200);
        drop(shed.try_acquire(Class::Critical));
        assert_eq!(shed.snapshot().level, 4);
    });
}

#[test]
fn loom_no_call_is_counted_for_ever() {
    loom::model(|| {
        let (shed, _) = shed();
        let permit = shed.try_acquire_owned(Class::Low).unwrap();
        let other = {
            let shed = shed.clone();
            thread::spawn(move || drop(shed.try_acquire(Class::High).unwrap()))
        };
        drop(permit);
        other.join().unwrap();
        assert_eq!(shed.snapshot().in_flight, 0);
    });
}

#[test]
fn loom_a_change_of_settings_at_the_end_of_an_interval_leaves_no_level_above_the_highest() {
    loom::model(|| {
        let (shed, at) = shed();
        for round in 1..=6 {
            shed.report(LONG);
            at.millis(round * 100);
        }
        let other = {
            let shed = shed.clone();
            thread::spawn(move || shed.report(LONG))
        };
        let low = Config::builder().highest(Class::Background).build();
        shed.set_config(low.unwrap());
        other.join().unwrap();
        assert_eq!(shed.snapshot().level, 16);
        assert!(shed.try_acquire(Class::Low).is_ok());
        assert!(shed.try_acquire(Class::Background).is_err());
    });
}
