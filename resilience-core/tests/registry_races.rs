//! A registry under threads and random histories: what goes, what stays, and who shares a breaker.

use std::{
    collections::HashMap,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{breaker::*, clock::ManualClock};

const IDLE: Duration = Duration::from_secs(80);
/// When an unused breaker is sure to be allowed to go.
const SURELY_IDLE: Duration = Duration::from_secs(90);
const RESET: Duration = Duration::from_secs(30);

fn config() -> Config {
    Config::builder()
        .failure_rate(None)
        .consecutive_failures(1)
        .reset_timeout(RESET)
        .build()
        .unwrap()
}

fn registry(max: usize) -> (Registry<u32>, ManualClock) {
    let clock = ManualClock::new();
    let builder = Registry::builder(config()).max(max).idle_after(IDLE);
    (builder.clock(clock.clone()).build(), clock)
}

const TURNS: u32 = if cfg!(miri) { 30 } else { 20_000 };

/// Two handles are on the same breaker if their names lie at the same place.
fn identity(breaker: &CircuitBreaker) -> usize {
    breaker.name().as_ptr() as usize
}

fn same(one: &CircuitBreaker, other: &CircuitBreaker) -> bool {
    identity(one) == identity(other)
}

#[test]
fn threads_that_ask_for_the_same_new_key_get_the_same_breaker() {
    for round in 0..TURNS / 100 {
        let (registry, _) = registry(1);
        let start = Barrier::new(4);
        let handles: Vec<_> = thread::scope(|scope| {
            let ask = || {
                start.wait();
                registry.get(&round)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
            threads.into_iter().map(join).collect()
        });
        // The cap is 1: a second breaker, even for a moment, would have been refused.
        let first = handles[0].as_ref().unwrap();
        for handle in &handles {
            assert!(same(first, handle.as_ref().unwrap()));
        }
        assert_eq!((registry.len(), registry.full()), (1, 0));
    }
}

// An eviction races the lookup of the key that goes: whoever holds a handle must share it with
// all that come, however often the others make it go.
#[test]
fn a_key_never_has_two_breakers_that_someone_holds() {
    const KEYS: u32 = 6;
    /// Who is held for a key, and by how many.
    type Held = Mutex<(usize, usize)>;
    let registry: Registry<u32> = Registry::builder(config())
        .max(2)
        .idle_after(Duration::ZERO)
        .build();
    let held: Vec<Held> = (0..KEYS).map(|_| Held::default()).collect();
    let most = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..4_u32 {
            let (registry, held, most) = (&registry, &held, &most);
            scope.spawn(move || {
                for turn in 0..TURNS {
                    let key = (turn.wrapping_mul(2_654_435_761) >> 7).wrapping_add(number) % KEYS;
                    most.fetch_max(registry.len(), Ordering::Relaxed);
                    let Ok(breaker) = registry.get(&key) else {
                        continue;
                    };
                    let held = &held[key as usize];
                    {
                        let mut held = held.lock().unwrap();
                        let id = identity(&breaker);
                        assert!(held.1 == 0 || held.0 == id, "two breakers of key {key}");
                        *held = (id, held.1 + 1);
                    }
                    if turn % 3 == 0 {
                        thread::yield_now();
                    }
                    let mut held = held.lock().unwrap();
                    held.1 -= 1;
                    drop(breaker);
                }
            });
        }
    });
    assert!(most.load(Ordering::Relaxed) <= 2);
    assert!(
        cfg!(miri) || registry.evicted() > 100,
        "the race was not run"
    );
}

// A search for room takes entries out that it may put back; nobody may miss them meanwhile.
#[test]
fn a_breaker_that_stays_is_always_found_and_visited() {
    let registry: Registry<u32> = Registry::builder(config())
        .max(1)
        .idle_after(Duration::ZERO)
        .build();
    registry.get(&1).unwrap();
    let done = AtomicBool::new(false);
    // Inside of this it is in use, which the search finds out only after it has taken it out.
    let searched = registry.with(&1, |_| {
        thread::scope(|scope| {
            scope.spawn(|| {
                for key in 0..TURNS {
                    assert!(registry.get(&(key + 2)).is_err());
                }
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                assert!(registry.peek(&1).is_some());
                let mut visited = 0;
                registry.for_each(|_, _| visited += 1);
                assert_eq!(visited, 1);
            }
        });
    });
    searched.unwrap();
    assert_eq!(registry.full(), u64::from(TURNS));
}

// The outcome of a call that began on a breaker must not be lost because another thread evicted
// it between lookup and permit.
#[test]
fn a_failure_is_never_lost_to_an_eviction() {
    let registry: Registry<u32> = Registry::builder(config())
        .max(2)
        .idle_after(Duration::ZERO)
        .build();
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for key in 0..TURNS {
                let _ = registry.get(&(key + 1_000));
            }
        });
        for _ in 0..TURNS / 10 {
            let Ok(Ok(permit)) = registry.with(&1, CircuitBreaker::try_acquire_owned) else {
                continue;
            };
            permit.failure();
            // Open breakers stay, so it is there, and open.
            let state = registry.peek(&1).map(|breaker| breaker.state());
            assert_eq!(state, Some(State::Open));
            registry.get(&1).unwrap().reset();
        }
        flood.join().unwrap();
    });
}

// Of two modes set at once, all breakers end in the same one, those made meanwhile included.
#[test]
fn modes_set_at_once_leave_all_breakers_in_the_same_one() {
    for round in 0..TURNS / 200 {
        let (registry, _) = registry(100);
        for key in 0..20 {
            registry.get(&key).unwrap();
        }
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for mode in [Mode::ForcedOpen, Mode::Disabled] {
                let (registry, start) = (&registry, &start);
                scope.spawn(move || {
                    start.wait();
                    registry.set_mode(mode);
                });
            }
            start.wait();
            for key in 20..40 {
                registry.get(&key).unwrap();
            }
        });
        let mode = registry.mode();
        registry.for_each(|key, breaker| assert_eq!(breaker.mode(), mode, "{round}: {key}"));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get(u32),
    Hold(u32),
    Release(usize),
    Fail(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12_u32;
    prop_oneof![
        6 => key.clone().prop_map(Step::Get),
        2 => key.clone().prop_map(Step::Hold),
        2 => (0..8_usize).prop_map(Step::Release),
        1 => key.prop_map(Step::Fail),
        3 => (0..120_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(if cfg!(miri) { ProptestConfig::with_cases(2) } else { ProptestConfig::default() })]

    #[test]
    fn only_what_can_go_goes_and_it_is_full_only_when_nothing_can(
        max in 1..6_usize,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let (registry, clock) = registry(max);
        let mut now = 0_u64;
        // Key, when last used, whether open.
        let mut present: HashMap<u32, (u64, bool)> = HashMap::new();
        let mut held: Vec<(u32, CircuitBreaker)> = Vec::new();
        for step in steps {
            let (key, keep, fail) = match step {
                Step::Get(key) => (key, false, false),
                Step::Hold(key) => (key, true, false),
                Step::Fail(key) => (key, false, true),
                Step::Release(index) => {
                    if index < held.len() {
                        held.swap_remove(index);
                    }
                    continue;
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    clock.set(Duration::from_secs(now));
                    continue;
                }
            };
            let before = present.clone();
            let idle_for = |key: &u32, idle: Duration| {
                let (used, open) = before[key];
                let is_held = held.iter().any(|(one, _)| one == key);
                !open && !is_held && now - used >= idle.as_secs()
            };
            match registry.get(&key) {
                Ok(breaker) => {
                    for one in before.keys().copied() {
                        if registry.peek(&one).is_none() {
                            prop_assert!(idle_for(&one, IDLE), "{one} was evicted");
                            prop_assert!(one != key && present.len() == max);
                            present.remove(&one);
                        }
                    }
                    let open = present.get(&key).is_some_and(|(_, open)| *open);
                    // An open one stays open: nobody asks it for a permit after its timeout.
                    prop_assert_eq!(breaker.state() == State::Open, open);
                    if fail && !open {
                        breaker.try_acquire().unwrap().failure();
                    }
                    present.insert(key, (now, open || fail));
                    if keep {
                        held.push((key, breaker));
                    }
                }
                Err(full) => {
                    prop_assert_eq!(full.max, max);
                    prop_assert!(!present.contains_key(&key) && present.len() == max);
                    prop_assert!(!before.keys().any(|one| idle_for(one, SURELY_IDLE)));
                }
            }
            prop_assert_eq!(registry.len(), present.len());
            prop_assert!(registry.len() <= max);
        }
    }
}
