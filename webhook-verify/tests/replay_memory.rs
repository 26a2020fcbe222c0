//! The replay store in memory against the plainest one that could be right.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use proptest::prelude::*;
use webhook_verify::replay::{
    MemoryReplayStore, ReplayKey, ReplayStore, Reserve, StoreError, Times, Token, WhenFull,
};

const CAPACITY: usize = 4;

/// A list of entries that is searched from end to end.
struct Model {
    entries: Vec<Entry>,
    forgets: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    key: u8,
    ends: Duration,
    committed: bool,
    token: Option<Token>,
}

impl Model {
    fn live(&self, now: Duration) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| now < entry.ends)
    }

    /// Nobody else but `key` may be left when there is no room.
    fn make_room(&mut self, key: u8, now: Duration) -> Result<(), StoreError> {
        self.entries.retain(|entry| now < entry.ends);
        let others = |entry: &&Entry| entry.key != key;
        if self.entries.iter().filter(others).count() < CAPACITY {
            return Ok(());
        }
        // In the order of commits, and of ends: there is one lifetime and time goes forward.
        let oldest = self.entries.iter().position(|entry| entry.committed);
        match oldest.filter(|_| self.forgets) {
            Some(oldest) => drop(self.entries.remove(oldest)),
            None => return Err(StoreError::Full),
        }
        Ok(())
    }

    fn reserve(&mut self, key: u8, times: Times) -> Result<Option<Reserve>, StoreError> {
        if let Some(entry) = self.live(times.now).find(|entry| entry.key == key) {
            return Ok(Some(if entry.committed {
                Reserve::Duplicate
            } else {
                Reserve::InFlight(entry.ends - times.now)
            }));
        }
        self.make_room(key, times.now)?;
        Ok(None)
    }

    fn commit(&mut self, key: u8, times: Times) -> Result<(), StoreError> {
        self.make_room(key, times.now)?;
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry {
            key,
            ends: times.now + times.lifetime,
            committed: true,
            token: None,
        });
        Ok(())
    }

    fn release(&mut self, key: u8, token: Token) {
        self.entries
            .retain(|entry| entry.key != key || entry.token != Some(token));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u8),
    /// The number picks one of the tokens given out so far.
    Commit(usize),
    Release(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_u8).prop_map(Step::Reserve),
        3 => any::<usize>().prop_map(Step::Commit),
        2 => any::<usize>().prop_map(Step::Release),
        3 => (0..4000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..200)
}

fn key(key: u8) -> ReplayKey {
    [key; 32]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_answer_is_that_of_a_plain_list(steps in steps(), forgets: bool) {
        let when_full = if forgets { WhenFull::ForgetOldest } else { WhenFull::Refuse };
        let store = MemoryReplayStore::new(CAPACITY).when_full(when_full);
        let mut model = Model { entries: Vec::new(), forgets };
        let mut given: Vec<(u8, Token)> = Vec::new();
        let mut now = Duration::from_secs(1_700_000_000);
        for step in steps {
            let times = Times {
                now,
                lease: Duration::from_millis(2500),
                lifetime: Duration::from_millis(9000),
            };
            match step {
                Step::Reserve(id) => {
                    let answer = store.reserve(key(id), times).now();
                    match (model.reserve(id, times), answer) {
                        (Ok(None), Ok(Reserve::Reserved(token))) => {
                            prop_assert!(given.iter().all(|(_, other)| *other != token));
                            given.push((id, token));
                            let ends = now + times.lease;
                            model.entries.push(Entry {
                                key: id, ends, committed: false, token: Some(token),
                            });
                        }
                        (expected, answer) => {
                            prop_assert_eq!(answer.map(Some), expected);
                        }
                    }
                }
                Step::Commit(pick) if !given.is_empty() => {
                    let (id, token) = given[pick % given.len()];
                    let answer = store.commit(key(id), token, times).now();
                    prop_assert_eq!(answer, model.commit(id, times));
                }
                Step::Release(pick) if !given.is_empty() => {
                    let (id, token) = given[pick % given.len()];
                    store.release(key(id), token);
                    model.release(id, token);
                }
                Step::Commit(_) | Step::Release(_) => {}
                Step::Wait(ms) => now += Duration::from_millis(ms),
            }
            prop_assert!(store.len() <= CAPACITY);
            prop_assert!(store.len() >= model.live(now).count());
        }
    }

    /// Lifetimes of all lengths in one store, and a clock that steps back: what is held is
    /// answered for, and refused is only what a full store refuses.
    #[test]
    fn mixed_lifetimes_and_a_clock_that_steps_back_forget_nothing_early(
        calls in proptest::collection::vec((0..12_u8, 0..5000_u64, 0..100_000_u64, any::<bool>()), 1..300),
    ) {
        let store = MemoryReplayStore::new(8);
        // Until when each key is taken, seen from the latest time so far: an entry that had
        // ended then may be gone.
        let mut taken: HashMap<u8, Duration> = HashMap::new();
        let mut latest = Duration::ZERO;
        for (id, at, lasts, commits) in calls {
            let now = Duration::from_millis(at);
            latest = latest.max(now);
            let lasts = Duration::from_millis(lasts);
            let times = Times { now, lease: lasts, lifetime: lasts };
            let full = store.len() == 8;
            match store.reserve(key(id), times).now() {
                Ok(Reserve::Reserved(token)) => {
                    prop_assert!(taken.get(&id).is_none_or(|ends| *ends <= latest));
                    if commits {
                        store.commit(key(id), token, times).now().unwrap();
                    }
                    taken.insert(id, now + lasts);
                }
                Ok(_) => prop_assert!(taken[&id] > now),
                Err(error) => prop_assert!(full && error == StoreError::Full),
            }
            prop_assert!(store.len() <= 8);
        }
        // Everything ends: twice its time and a second later a few calls drop all of it.
        let times = Times { now: latest + Duration::from_secs(202), lease: Duration::ZERO, lifetime: Duration::ZERO };
        for _ in 0..8 {
            store.reserve(key(99), times).now().unwrap();
        }
        prop_assert!(store.len() <= 1);
    }
}

/// The cap and the memory of it hold for a store of a million, filled to the brim.
#[test]
fn a_million_deliveries_take_57_bytes_each_and_are_never_allocated_for_again() {
    const MILLION: usize = 1_000_000;
    let mut store = None;
    let made = allocation_counter::measure(|| store = Some(MemoryReplayStore::new(MILLION)));
    let store = store.unwrap();
    assert!(made.bytes_current <= 57 * MILLION as i64, "{made:?}");
    let times = Times {
        now: Duration::from_secs(1_700_000_000),
        lease: Duration::from_secs(60),
        lifetime: Duration::from_secs(600),
    };
    let number = |number: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    };
    let mut refused = 0;
    let filled = allocation_counter::measure(|| {
        for id in 0..1_300_000 {
            match store.reserve(number(id), times).now() {
                Ok(Reserve::Reserved(token)) => {
                    store.commit(number(id), token, times).now().unwrap();
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => refused += 1,
            }
        }
    });
    assert_eq!(filled.count_total, 0);
    assert_eq!(store.len(), MILLION);
    assert_eq!(refused, 300_000);
    let later = Times {
        now: times.now + times.lifetime,
        ..times
    };
    for id in 0..2_000_000 {
        let _ = store.reserve(number(id), later).now();
        assert!(id % 4096 != 0 || store.len() <= MILLION);
    }
}

#[test]
fn threads_never_hold_one_key_twice() {
    const KEYS: usize = 3;
    let store = MemoryReplayStore::new(2).when_full(WhenFull::ForgetOldest);
    let held: [AtomicBool; KEYS] = Default::default();
    let got = AtomicUsize::new(0);
    let times = Times {
        now: Duration::from_secs(1),
        lease: Duration::from_secs(60),
        lifetime: Duration::from_secs(60),
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, held, got) = (&store, &held, &got);
            scope.spawn(move || {
                for call in thread..100_000 {
                    let id = call % KEYS;
                    let Ok(Reserve::Reserved(token)) = store.reserve(key(id as u8), times).now()
                    else {
                        continue;
                    };
                    assert!(!held[id].swap(true, Ordering::SeqCst), "held twice");
                    got.fetch_add(1, Ordering::Relaxed);
                    std::hint::spin_loop();
                    held[id].store(false, Ordering::SeqCst);
                    if call % 7 == 0 {
                        let _ = store.commit(key(id as u8), token, times).now();
                    } else {
                        store.release(key(id as u8), token);
                    }
                    assert!(store.len() <= 2);
                }
            });
        }
    });
    assert!(got.into_inner() > 1000);
}
