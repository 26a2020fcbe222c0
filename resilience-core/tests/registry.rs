//! Breakers by key: bounded, and an open one is never forgotten.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

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

/// Two handles are on the same breaker if their names lie at the same place.
fn identity(breaker: &CircuitBreaker) -> usize {
    breaker.name().as_ptr() as usize
}

fn same(one: &CircuitBreaker, other: &CircuitBreaker) -> bool {
    identity(one) == identity(other)
}

/// Fails instead of hanging.
fn in_time<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    thread::spawn(move || done.send(test()));
    end.recv_timeout(Duration::from_secs(60))
        .expect("deadlock, or a panic above")
}

#[test]
fn a_key_keeps_its_breaker_and_has_its_own() {
    let (registry, _) = registry(10);
    let one = registry.get(&1).unwrap();
    assert!(same(&one, &registry.get(&1).unwrap()));
    assert!(!same(&one, &registry.get(&2).unwrap()));
    one.try_acquire().unwrap().failure();
    assert_eq!(registry.get(&1).unwrap().state(), State::Open);
    assert_eq!(registry.get(&2).unwrap().state(), State::Closed);
    assert_eq!((registry.len(), registry.max()), (2, 10));
}

#[test]
fn a_breaker_is_named_by_its_key_or_by_a_function_of_it() {
    let (plain, _) = registry(1);
    assert_eq!(plain.get(&7).unwrap().name(), "7");
    let named = Registry::builder_with_names(config(), |key: &u32| format!("shard-{key}")).build();
    assert_eq!(named.get(&7).unwrap().name(), "shard-7");
}

#[test]
fn a_key_can_be_looked_up_in_its_borrowed_form() {
    let registry: Registry<String> = Registry::builder(config()).build();
    let made = registry.get("db-7").unwrap();
    assert!(same(&made, &registry.get(&"db-7".to_owned()).unwrap()));
    assert!(same(&made, &registry.peek("db-7").unwrap()));
}

#[test]
fn peek_makes_nothing_and_is_no_use() {
    let (registry, clock) = registry(1);
    assert!(registry.peek(&1).is_none());
    assert!(registry.is_empty());
    registry.get(&1).unwrap();
    clock.advance(SURELY_IDLE);
    assert!(registry.peek(&1).is_some());
    assert!(registry.get(&2).is_ok());
    assert!(registry.peek(&1).is_none());
}

#[test]
fn a_new_key_takes_the_room_of_one_that_is_closed_and_idle() {
    let (registry, clock) = registry(2);
    registry.get(&1).unwrap();
    registry.get(&2).unwrap();
    clock.advance(IDLE / 2);
    registry.get(&2).unwrap();
    clock.advance(IDLE / 2 + IDLE / 8);
    registry.get(&3).unwrap();
    assert!(registry.peek(&1).is_none());
    assert!(registry.peek(&2).is_some());
    assert_eq!((registry.len(), registry.evicted()), (2, 1));
}

#[test]
fn with_no_one_that_can_go_a_new_key_is_refused_and_a_known_one_served() {
    let (registry, clock) = registry(3);
    for key in 0..3 {
        registry.get(&key).unwrap();
    }
    clock.advance(IDLE - Duration::from_nanos(1));
    let full = registry.get(&9).unwrap_err();
    assert_eq!(full.max, 3);
    assert!(full.to_string().contains('3'), "{full}");
    assert_eq!(
        (registry.len(), registry.full(), registry.evicted()),
        (3, 1, 0)
    );
    assert!(registry.get(&2).is_ok());
}

// A flood of keys must not close an open breaker by way of forgetting it.
#[test]
fn an_open_or_half_open_breaker_outlives_any_flood_of_keys() {
    let (registry, clock) = registry(4);
    let fail = |key| {
        let permit = registry.with(&key, CircuitBreaker::try_acquire_owned);
        permit.unwrap().unwrap().failure();
    };
    fail(1);
    fail(2);
    clock.advance(RESET);
    // Its probe is given back, so that it stays half-open and nothing of it is held outside.
    drop(
        registry
            .with(&2, CircuitBreaker::try_acquire_owned)
            .unwrap(),
    );
    for flood in 100..10_000 {
        clock.advance(SURELY_IDLE);
        registry.get(&flood).unwrap();
        assert!(registry.len() <= 4);
    }
    assert_eq!(registry.peek(&1).unwrap().state(), State::Open);
    assert_eq!(registry.peek(&2).unwrap().state(), State::HalfOpen);
    assert!(registry.evicted() >= 9_000);
}

#[test]
fn a_breaker_that_someone_holds_stays() {
    let (registry, clock) = registry(1);
    let handle = registry.get(&1).unwrap();
    clock.advance(SURELY_IDLE);
    assert!(registry.get(&2).is_err());
    let clone = handle.clone();
    drop(handle);
    assert!(registry.get(&2).is_err());
    drop(clone);
    assert!(registry.get(&2).is_ok());
}

#[test]
fn a_breaker_whose_permit_is_out_stays() {
    let (registry, clock) = registry(1);
    let permit = registry.with(&1, CircuitBreaker::try_acquire_owned);
    let permit = permit.unwrap().unwrap();
    clock.advance(SURELY_IDLE);
    assert!(registry.get(&2).is_err());
    // The outcome reaches the breaker that the next caller sees.
    permit.failure();
    assert_eq!(registry.get(&1).unwrap().state(), State::Open);
}

#[test]
fn a_breaker_whose_permit_was_taken_by_another_thread_stays() {
    let (registry, clock) = registry(1);
    let permits: Vec<_> = thread::scope(|scope| {
        let take = || registry.with(&1, CircuitBreaker::try_acquire_owned);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        threads.into_iter().map(join).collect()
    });
    clock.advance(SURELY_IDLE);
    for permit in permits {
        assert!(registry.get(&2).is_err());
        permit.unwrap().unwrap().success();
    }
    assert!(registry.get(&2).is_ok());
}

#[test]
fn a_breaker_stays_while_a_function_is_run_on_it() {
    let registry: Registry<u32> = Registry::builder(config())
        .max(1)
        .idle_after(Duration::ZERO)
        .build();
    registry.get(&1).unwrap();
    registry
        .with(&1, |breaker| {
            assert!(registry.get(&2).is_err());
            breaker.try_acquire().unwrap().failure();
        })
        .unwrap();
    assert_eq!(registry.peek(&1).unwrap().state(), State::Open);
}

#[test]
fn without_an_idle_time_a_breaker_goes_as_soon_as_nobody_holds_it() {
    let registry: Registry<u32> = Registry::builder(config())
        .max(1)
        .idle_after(Duration::ZERO)
        .build();
    let held = registry.get(&1).unwrap();
    assert!(registry.get(&2).is_err());
    drop(held);
    assert!(registry.get(&2).is_ok());
}

#[test]
fn a_clock_that_steps_back_keeps_a_breaker_for_one_idle_time_more_at_most() {
    let (registry, clock) = registry(1);
    clock.set(Duration::from_secs(1_000_000));
    registry.get(&1).unwrap();
    clock.set(Duration::ZERO);
    assert!(registry.get(&2).is_err());
    clock.advance(SURELY_IDLE);
    assert!(registry.get(&2).is_ok());
    // Nor does a step back make a time of use look old.
    clock.set(Duration::ZERO);
    registry.get(&2).unwrap();
    clock.advance(IDLE - Duration::from_nanos(1));
    assert!(registry.get(&3).is_err());
}

#[test]
fn settings_reach_breakers_of_now_and_later_and_a_key_may_have_its_own() {
    let lenient = || Config::builder().consecutive_failures(9).build().unwrap();
    let registry = Registry::builder(config())
        .config_for(move |key: &u32| (*key == 5).then(lenient))
        .build();
    let failures = |key: u32| registry.get(&key).unwrap().config().consecutive_failures();
    assert_eq!((failures(1), failures(5)), (Some(1), Some(9)));
    let three = Config::builder().consecutive_failures(3).build().unwrap();
    registry.set_config(three.clone());
    assert_eq!(
        (failures(1), failures(2), failures(5)),
        (Some(3), Some(3), Some(9))
    );
    assert_eq!(registry.config(), three);
}

#[test]
fn a_mode_reaches_breakers_of_now_and_later() {
    let (registry, _) = registry(10);
    let before = registry.get(&1).unwrap();
    registry.set_mode(Mode::ForcedOpen);
    let after = registry.get(&2).unwrap();
    for breaker in [&before, &after] {
        let rejected = breaker.try_acquire().unwrap_err();
        assert_eq!(rejected.reason(), Reason::ForcedOpen);
    }
    assert_eq!(registry.mode(), Mode::ForcedOpen);
    registry.reset();
    assert_eq!(registry.mode(), Mode::Automatic);
    for key in 1..=3 {
        let breaker = registry.get(&key).unwrap();
        assert_eq!(
            (breaker.mode(), breaker.state()),
            (Mode::Automatic, State::Closed)
        );
    }
}

// The mode changes while a new breaker is being made: it must not be put in with the old one.
#[test]
fn a_breaker_made_while_mode_and_settings_change_has_the_new_ones() {
    in_time(|| {
        let own: Arc<OnceLock<Registry<u32>>> = Arc::default();
        let (inside, changed) = (Arc::clone(&own), AtomicBool::new(false));
        let three = || Config::builder().consecutive_failures(3).build().unwrap();
        let change = move |_: &u32| {
            if !changed.swap(true, Ordering::SeqCst) {
                inside.get().unwrap().set_mode(Mode::ForcedOpen);
                inside.get().unwrap().set_config(three());
            }
            None
        };
        let registry = Registry::builder(config()).config_for(change).build();
        own.set(registry.clone()).unwrap();
        let breaker = registry.get(&1).unwrap();
        assert_eq!(breaker.mode(), Mode::ForcedOpen);
        assert_eq!(breaker.config().consecutive_failures(), Some(3));
    });
}

#[test]
fn a_breaker_that_was_forced_by_hand_is_not_evicted() {
    for mode in [Mode::ForcedOpen, Mode::ForcedClosed, Mode::Disabled] {
        let (registry, clock) = registry(1);
        registry.get(&1).unwrap().set_mode(mode);
        clock.advance(SURELY_IDLE);
        assert!(registry.get(&2).is_err(), "{mode:?}");
        assert_eq!(registry.get(&1).unwrap().mode(), mode);
    }
}

#[test]
fn breakers_of_a_disabled_registry_make_room_for_each_other() {
    let (registry, clock) = registry(1);
    registry.set_mode(Mode::Disabled);
    registry.get(&1).unwrap();
    clock.advance(SURELY_IDLE);
    assert_eq!(registry.get(&2).unwrap().mode(), Mode::Disabled);
}

#[test]
fn a_subscriber_hears_of_breakers_of_now_and_later_until_it_is_dropped() {
    let (registry, _) = registry(10);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    let early = registry.get(&1).unwrap();
    let subscription = registry.subscribe(move |transition| {
        sink.lock().unwrap().push(transition.breaker.to_string());
    });
    let late = registry.get(&2).unwrap();
    early.try_acquire().unwrap().failure();
    late.try_acquire().unwrap().failure();
    assert_eq!(*heard.lock().unwrap(), ["1", "2"]);
    drop(subscription);
    registry.get(&3).unwrap().try_acquire().unwrap().failure();
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[test]
fn for_each_visits_every_breaker_once() {
    let (registry, _) = registry(1_000);
    for key in 0..500 {
        registry.get(&key).unwrap();
    }
    let mut seen = HashMap::new();
    registry.for_each(|key, breaker| {
        assert_eq!(breaker.name(), key.to_string());
        *seen.entry(*key).or_insert(0) += 1;
    });
    assert_eq!(seen.len(), 500);
    assert!(seen.values().all(|times| *times == 1));
}

#[test]
fn a_removed_breaker_works_on_for_who_holds_it_and_its_key_begins_anew() {
    let (registry, _) = registry(10);
    let old = registry.get(&1).unwrap();
    old.try_acquire().unwrap().failure();
    assert!(same(&old, &registry.remove(&1).unwrap()));
    assert!(registry.remove(&1).is_none());
    assert!(registry.is_empty());
    assert_eq!(old.state(), State::Open);
    assert_eq!(registry.get(&1).unwrap().state(), State::Closed);
}

/// Uses the registry when it is dropped.
struct Meddler(Arc<OnceLock<Registry<u32>>>);

impl Drop for Meddler {
    fn drop(&mut self) {
        if let Some(registry) = self.0.get() {
            registry.mode();
        }
    }
}

// Code of the user under the registry's lock would wait for itself.
#[test]
fn names_settings_subscribers_and_what_is_dropped_may_use_the_registry() {
    in_time(|| {
        let own: Arc<OnceLock<Registry<u32>>> = Arc::default();
        let (names, configs) = (Arc::clone(&own), Arc::clone(&own));
        let name = move |key: &u32| format!("{key} of {}", names.get().unwrap().mode().as_str());
        let registry = Registry::builder_with_names(config(), name)
            .config_for(move |_| Some(configs.get().unwrap().config()))
            .max(1)
            .idle_after(Duration::ZERO)
            .build();
        own.set(registry.clone()).unwrap();
        let inside = registry.clone();
        let _subscription = registry.subscribe(move |_| inside.set_config(config()));
        let meddler = Meddler(Arc::clone(&own));
        let first = registry.get(&1).unwrap();
        assert_eq!(first.name(), "1 of automatic");
        first
            .subscribe(move |_| assert!(meddler.0.get().is_some()))
            .forget();
        drop(first);
        // Evicts, and so drops the subscriber of the first.
        registry.get(&2).unwrap().try_acquire().unwrap().failure();
        registry.set_mode(Mode::ForcedClosed);
        assert_eq!(registry.evicted(), 1);
    });
}
