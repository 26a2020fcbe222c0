//! Breakers forced together.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use resilience_core::{
    breaker::*,
    clock::{Clock, ManualClock, SharedClock},
};

fn breakers(count: usize) -> Vec<CircuitBreaker> {
    let name = |number| CircuitBreaker::new(&format!("breaker-{number}"));
    (0..count).map(name).collect()
}

fn group_of(breakers: &[CircuitBreaker]) -> Group {
    let group = Group::new();
    breakers.iter().for_each(|breaker| group.add(breaker));
    group
}

fn modes(breakers: &[CircuitBreaker]) -> Vec<Mode> {
    breakers.iter().map(CircuitBreaker::mode).collect()
}

/// Fails instead of hanging.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, end) = mpsc::channel();
    thread::spawn(move || {
        test();
        done.send(())
    });
    end.recv_timeout(Duration::from_secs(60))
        .expect("deadlock, or a panic above");
}

#[test]
fn a_mode_reaches_all_members_and_a_reset_ends_it() {
    let breakers = breakers(5);
    let group = group_of(&breakers);
    assert_eq!(group.mode(), Mode::Automatic);
    group.set_mode(Mode::ForcedOpen);
    assert_eq!(group.mode(), Mode::ForcedOpen);
    for breaker in &breakers {
        let rejected = breaker.try_acquire().unwrap_err();
        assert_eq!(rejected.reason(), Reason::ForcedOpen);
    }
    group.reset();
    assert_eq!(group.mode(), Mode::Automatic);
    for breaker in &breakers {
        assert_eq!(
            (breaker.mode(), breaker.state()),
            (Mode::Automatic, State::Closed)
        );
        assert!(breaker.try_acquire().is_ok());
    }
}

#[test]
fn a_breaker_added_to_a_forced_group_is_forced_and_one_added_to_an_automatic_group_left_alone() {
    let breakers = breakers(2);
    let group = Group::new();
    breakers[0].set_mode(Mode::Disabled);
    group.add(&breakers[0]);
    assert_eq!(breakers[0].mode(), Mode::Disabled);
    group.set_mode(Mode::ForcedClosed);
    group.add(&breakers[1]);
    assert_eq!(modes(&breakers), [Mode::ForcedClosed; 2]);
}

#[test]
fn a_removed_breaker_keeps_its_mode_and_hears_no_more() {
    let breakers = breakers(2);
    let group = group_of(&breakers);
    group.set_mode(Mode::ForcedOpen);
    assert!(group.remove(&breakers[0]));
    assert!(!group.remove(&breakers[0]));
    group.set_mode(Mode::Automatic);
    assert_eq!(modes(&breakers), [Mode::ForcedOpen, Mode::Automatic]);
}

#[test]
fn a_breaker_added_twice_is_a_member_once() {
    let breakers = breakers(1);
    let group = group_of(&breakers);
    group.add(&breakers[0].clone());
    assert_eq!((group.len(), group.snapshots().len()), (1, 1));
    assert!(group.remove(&breakers[0]));
    assert!(group.is_empty());
}

/// A clock whose end can be seen.
#[derive(Debug)]
struct Witness(Arc<AtomicBool>);

impl Clock for Witness {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_group_keeps_no_breaker_and_no_registry_alive() {
    let (breaker_gone, registry_gone) = (Arc::default(), Arc::default());
    let group = Group::new();
    let clock = SharedClock::new(Witness(Arc::clone(&breaker_gone)));
    let breaker = CircuitBreaker::with_clock("short-lived", Config::default(), clock);
    group.add(&breaker);
    let clock = SharedClock::new(Witness(Arc::clone(&registry_gone)));
    let registry: Registry<u32> = Registry::builder(Config::default()).clock(clock).build();
    registry.get(&1).unwrap();
    group.add_registry(&registry);
    assert_eq!((group.len(), group.snapshots().len()), (2, 2));
    drop((breaker, registry));
    assert!(breaker_gone.load(Ordering::SeqCst) && registry_gone.load(Ordering::SeqCst));
    assert!(group.is_empty());
    group.set_mode(Mode::ForcedOpen);
    assert!(group.snapshots().is_empty());
}

#[test]
fn a_registry_brings_its_breakers_of_now_and_later() {
    let registry: Registry<u32> = Registry::builder(Config::default()).build();
    let before = registry.get(&1).unwrap();
    let group = Group::new();
    group.set_mode(Mode::ForcedOpen);
    group.add_registry(&registry);
    let after = registry.get(&2).unwrap();
    assert_eq!(
        (before.mode(), after.mode()),
        (Mode::ForcedOpen, Mode::ForcedOpen)
    );
    let mut names: Vec<String> = group
        .snapshots()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.sort();
    assert_eq!(names, ["1", "2"]);
    group.reset();
    assert_eq!(
        (before.mode(), after.mode()),
        (Mode::Automatic, Mode::Automatic)
    );
    assert!(group.remove_registry(&registry));
    group.set_mode(Mode::ForcedOpen);
    assert_eq!(registry.get(&3).unwrap().mode(), Mode::Automatic);
}

#[test]
fn a_registry_in_a_group_still_evicts() {
    let clock = ManualClock::new();
    let registry: Registry<u32> = Registry::builder(Config::default())
        .max(1)
        .clock(clock.clone())
        .build();
    let group = Group::new();
    group.add_registry(&registry);
    registry.get(&1).unwrap();
    group.add(&registry.get(&1).unwrap());
    clock.advance(Duration::from_secs(3_600));
    assert!(registry.get(&2).is_ok());
    assert_eq!(group.snapshots().len(), 1);
}

#[test]
fn snapshots_name_each_breaker() {
    let breakers = breakers(2);
    let group = group_of(&breakers);
    breakers[1].try_acquire().unwrap().failure();
    let all = group.snapshots();
    let failures = |index: usize| (all[index].0.as_str(), all[index].1.failures);
    assert_eq!(
        [failures(0), failures(1)],
        [("breaker-0", 0), ("breaker-1", 1)]
    );
}

#[test]
fn all_members_are_told_though_a_subscriber_panics() {
    let breakers = breakers(3);
    let group = group_of(&breakers);
    breakers[0].subscribe(|_| panic!("on purpose")).forget();
    group.set_mode(Mode::ForcedOpen);
    assert_eq!(modes(&breakers), [Mode::ForcedOpen; 3]);
}

#[test]
fn a_subscriber_may_use_the_group() {
    in_time(|| {
        let breakers = breakers(3);
        let group = group_of(&breakers);
        let (inside, late) = (group.clone(), CircuitBreaker::new("late"));
        let added = late.clone();
        let _subscription = breakers[0].subscribe(move |_| {
            inside.add(&added);
            assert_eq!(inside.mode(), Mode::ForcedOpen);
        });
        group.set_mode(Mode::ForcedOpen);
        assert_eq!(late.mode(), Mode::ForcedOpen);
    });
}

// The subscriber of the first member answers the change by another: all must end in that one.
#[test]
fn a_mode_set_while_another_is_being_told_stands_for_all() {
    in_time(|| {
        let breakers = breakers(3);
        let group = group_of(&breakers);
        let inside = group.clone();
        let times = AtomicU32::new(0);
        let _subscription = breakers[0].subscribe(move |_| {
            if times.fetch_add(1, Ordering::SeqCst) == 0 {
                inside.set_mode(Mode::Disabled);
            }
        });
        group.set_mode(Mode::ForcedOpen);
        assert_eq!(group.mode(), Mode::Disabled);
        assert_eq!(modes(&breakers), [Mode::Disabled; 3]);
    });
}

#[test]
fn members_added_while_modes_are_set_end_in_the_mode_of_the_group() {
    for _ in 0..200 {
        let breakers = breakers(8);
        let group = group_of(&breakers[..4]);
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for mode in [Mode::ForcedOpen, Mode::ForcedClosed] {
                let (group, start) = (&group, &start);
                scope.spawn(move || {
                    start.wait();
                    group.set_mode(mode);
                });
            }
            start.wait();
            group_of_rest(&group, &breakers[4..]);
        });
        let mode = group.mode();
        assert!(modes(&breakers).iter().all(|one| *one == mode), "{mode:?}");
    }
}

fn group_of_rest(group: &Group, breakers: &[CircuitBreaker]) {
    breakers.iter().for_each(|breaker| group.add(breaker));
}
