//! Bulkheads by key: bounded, and one in use is never forgotten.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::Waker,
    thread,
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    bulkhead::{Bulkhead, Config, OwnedPermit, Priority, Reason, Registry, Turn},
    clock::ManualClock,
};

fn config(limit: u32) -> Config {
    let config = Config::builder().limit(limit).max_queue(4);
    config.max_wait(None).build().unwrap()
}

fn registry(max: usize, limit: u32) -> Registry<u32> {
    Registry::builder(config(limit)).max(max).build()
}

#[test]
fn one_key_is_full_for_itself_alone() {
    let registry = registry(10, 1);
    let _running = registry.try_acquire_owned(&1).unwrap();
    let refused = registry.try_acquire_owned(&1).unwrap_err();
    assert_eq!((refused.reason, refused.limit), (Reason::Full, 1));
    assert!(registry.try_acquire_owned(&2).is_ok());
    assert_eq!(registry.len(), 2);
    assert_eq!(registry.get(&1).unwrap().snapshot().in_flight, 1);
}

#[test]
fn a_bulkhead_that_nobody_uses_makes_room() {
    let registry = registry(2, 1);
    for key in 0..100 {
        drop(registry.try_acquire_owned(&key).unwrap());
        assert!(registry.len() <= 2);
    }
    assert_eq!(registry.evicted(), 98);
    assert_eq!(registry.full(), 0);
}

// A key that is forgotten while its calls run would be given its limit once more.
#[test]
fn a_bulkhead_in_use_never_goes() {
    let registry = registry(4, 1);
    let running = registry.try_acquire_owned(&1).unwrap();
    let mut waiting = registry.enqueue_within(&1, Priority::Normal, None).unwrap();
    let held = registry.get(&2).unwrap();
    for key in 10..200 {
        assert!(registry.try_acquire_owned(&key).is_ok());
    }
    assert_eq!(
        registry.try_acquire_owned(&1).unwrap_err().reason,
        Reason::Full
    );
    assert!(registry.peek(&2).is_some());
    drop(running);
    // One that only waits, or was given its turn and does not know it, keeps it as well.
    for key in 10..200 {
        assert!(registry.try_acquire_owned(&key).is_ok());
    }
    assert_eq!(
        registry.try_acquire_owned(&1).unwrap_err().reason,
        Reason::Full
    );
    assert!(matches!(waiting.poll(Waker::noop()), Turn::Admitted(_)));
    drop((waiting, held));
    for key in 10..200 {
        assert!(registry.try_acquire_owned(&key).is_ok());
    }
    assert!(registry.peek(&1).is_none());
    assert!(registry.peek(&2).is_none());
}

#[test]
fn a_new_key_is_refused_while_all_bulkheads_are_in_use() {
    let registry = registry(2, 1);
    let running: Vec<_> = (0..2)
        .map(|key| registry.try_acquire_owned(&key).unwrap())
        .collect();
    let refused = registry.try_acquire_owned(&2).unwrap_err();
    assert_eq!(refused.reason, Reason::KeysFull);
    assert_eq!((refused.limit, refused.in_flight), (0, 0));
    let waits = registry.enqueue_within(&2, Priority::High, None);
    assert_eq!(waits.unwrap_err().reason, Reason::KeysFull);
    assert_eq!(registry.get(&2).unwrap_err().max, 2);
    assert_eq!(registry.full(), 3);
    drop(running);
    assert!(registry.try_acquire_owned(&2).is_ok());
}

#[test]
fn a_key_may_have_settings_of_its_own() {
    let builder =
        Registry::builder(config(1)).config_for(|key: &u32| (*key == 7).then(|| config(3)));
    let registry = builder.build();
    assert_eq!(registry.get(&7).unwrap().config().limit(), 3);
    assert_eq!(registry.get(&8).unwrap().config().limit(), 1);
    registry.set_config(config(5));
    assert_eq!(registry.get(&7).unwrap().config().limit(), 3);
    assert_eq!(registry.get(&8).unwrap().config().limit(), 5);
    assert_eq!(registry.get(&9).unwrap().config().limit(), 5);
}

#[test]
fn a_larger_limit_lets_those_in_line_of_every_key_in() {
    let registry = registry(10, 1);
    let keys = [1, 2, 3];
    let _running = keys.map(|key| registry.try_acquire_owned(&key).unwrap());
    let waiting = keys.map(|key| {
        registry
            .enqueue_within(&key, Priority::Normal, None)
            .unwrap()
    });
    registry.set_config(config(2));
    for mut waiter in waiting {
        assert!(matches!(waiter.poll(Waker::noop()), Turn::Admitted(_)));
    }
}

/// A registry whose settings are changed to a limit of 3, once, by whoever asks for those of a key
/// from the `on`th time on.
fn changed_meanwhile(on: u32) -> Registry<u32> {
    let (own, asked) = (
        Arc::new(OnceLock::<Registry<u32>>::new()),
        AtomicU32::new(0),
    );
    let handle = Arc::clone(&own);
    let settings = move |_: &u32| {
        if asked.fetch_add(1, Ordering::Relaxed) + 1 == on {
            handle.get().unwrap().set_config(config(3));
        }
        None
    };
    let registry = Registry::builder(config(1)).config_for(settings).build();
    own.set(registry.clone()).unwrap();
    registry
}

#[test]
fn a_bulkhead_that_is_made_while_the_settings_change_has_the_new_ones() {
    let registry = changed_meanwhile(1);
    assert_eq!(registry.get(&1).unwrap().config().limit(), 3);
}

#[test]
fn of_two_changes_of_the_settings_at_once_the_later_stands() {
    let registry = changed_meanwhile(2);
    let bulkhead = registry.get(&1).unwrap();
    assert_eq!(bulkhead.config().limit(), 1);
    registry.set_config(config(2));
    assert_eq!(registry.config().limit(), 3);
    assert_eq!(bulkhead.config().limit(), 3);
}

#[test]
fn a_bulkhead_that_was_taken_out_goes_on_for_who_has_it() {
    let registry = registry(10, 1);
    let _running = registry.try_acquire_owned(&1).unwrap();
    let removed = registry.remove(&1).unwrap();
    assert_eq!(removed.snapshot().in_flight, 1);
    assert!(registry.try_acquire_owned(&1).is_ok());
    assert!(registry.remove(&3).is_none());
}

#[test]
fn deadlines_are_counted_by_the_clock_of_the_registry() {
    let clock = ManualClock::new();
    let builder = Registry::builder(config(1)).clock(clock.clone());
    let registry: Registry<u32> = builder.build();
    let _running = registry.try_acquire_owned(&1).unwrap();
    let left = Some(Duration::from_secs(5));
    let mut waiter = registry.enqueue_within(&1, Priority::Normal, left).unwrap();
    assert!(
        matches!(waiter.poll(Waker::noop()), Turn::Wait(left) if left == Some(Duration::from_secs(5)))
    );
    clock.advance(Duration::from_secs(5));
    assert!(
        matches!(waiter.poll(Waker::noop()), Turn::Refused(refused) if refused.reason == Reason::Deadline)
    );
}

#[test]
fn a_caller_without_time_is_refused_also_when_a_permit_is_free() {
    let bulkhead = Bulkhead::new(config(1));
    let late = bulkhead.enqueue_within(Priority::High, Some(Duration::ZERO));
    assert_eq!(late.unwrap_err().reason, Reason::Deadline);
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.queued), (0, 0));
    assert_eq!(snapshot.refused_for(Reason::Deadline), 1);
    assert_eq!(snapshot.refused_for(Reason::Full), 0);
    let long = bulkhead.enqueue_within(Priority::High, Some(Duration::MAX));
    assert!(long.is_ok());
}

#[test]
fn a_way_back_keeps_nothing_alive() {
    let bulkhead = Bulkhead::new(config(1));
    let back = bulkhead.downgrade();
    assert!(back().is_some());
    drop(bulkhead);
    assert!(back().is_none());
    let registry = registry(1, 1);
    let back = registry.downgrade();
    assert!(back().is_some());
    drop(registry);
    assert!(back().is_none());
}

#[test]
fn a_lookup_of_a_known_key_allocates_nothing() {
    let registry = registry(100, 1);
    drop(registry.try_acquire_owned(&1));
    let count = allocation_counter::measure(|| {
        for _ in 0..100 {
            drop(registry.try_acquire_owned(&1).unwrap());
        }
    });
    assert_eq!(count.count_total, 0);
}

#[test]
fn threads_over_more_keys_than_fit_never_run_more_calls_of_a_key_than_may() {
    const KEYS: u32 = 6;
    let registry = registry(3, 1);
    let running: Arc<Vec<AtomicU32>> = Arc::new((0..KEYS).map(|_| AtomicU32::new(0)).collect());
    thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (registry, running) = (registry.clone(), Arc::clone(&running));
            scope.spawn(move || {
                for turn in 0..4_000_u32 {
                    let key = (turn * 7 + thread) % KEYS;
                    if let Ok(permit) = registry.try_acquire_owned(&key) {
                        let cell = &running[key as usize];
                        assert_eq!(cell.fetch_add(1, Ordering::Relaxed), 0, "key {key}");
                        thread::yield_now();
                        cell.fetch_sub(1, Ordering::Relaxed);
                        drop(permit);
                    }
                    assert!(registry.len() <= 3);
                }
            });
        }
    });
    assert!(registry.evicted() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The model counts the calls of each key, and knows nothing of evictions.
    #[test]
    fn it_admits_what_a_plain_count_per_key_does_unless_it_is_full(
        max in 1..5_usize,
        limit in 1..3_u32,
        steps in prop::collection::vec((0..3_u8, 0..6_u32), 1..200),
    ) {
        let registry = registry(max, limit);
        let mut running: Vec<(u32, OwnedPermit)> = Vec::new();
        for (kind, which) in steps {
            let of_key = running.iter().filter(|(key, _)| *key == which).count();
            let mut keys: Vec<_> = running.iter().map(|(key, _)| *key).collect();
            keys.sort_unstable();
            keys.dedup();
            match kind {
                0 | 1 => match registry.try_acquire_owned(&which) {
                    Ok(permit) => {
                        prop_assert!(of_key < limit as usize);
                        running.push((which, permit));
                    }
                    Err(refused) if refused.reason == Reason::Full => {
                        prop_assert_eq!(of_key, limit as usize);
                    }
                    Err(refused) => {
                        prop_assert_eq!(refused.reason, Reason::KeysFull);
                        prop_assert!(of_key == 0 && keys.len() == max);
                    }
                },
                _ if !running.is_empty() => {
                    let at = which as usize % running.len();
                    drop(running.swap_remove(at));
                }
                _ => {}
            }
            prop_assert!(registry.len() <= max);
        }
    }
}
