//! The keys of a limit that have a lease: so many, and only those in use.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// The hash of a key, by which it is known here and in Redis.
pub(super) type Hash = [u8; 16];

/// A bounded map of what is held for keys.
///
/// A key is idle when it was not asked for as long as a lease lasts: all that it held is over, and
/// nothing is lost with it. Whoever comes with a new key looks at a few others and drops those that
/// are idle; so there is no moment in which all are looked at.
pub(super) struct Keys<T> {
    max: usize,
    len: AtomicUsize,
    /// Dropped as idle.
    evicted: AtomicUsize,
    /// Where the next new key looks for idle ones.
    turn: AtomicUsize,
    shards: [Mutex<Shard<T>>; SHARDS],
}

struct Shard<T> {
    there: HashMap<Hash, Entry<T>>,
    /// All keys of `there`, those that were looked at last at the end.
    order: VecDeque<Hash>,
}

struct Entry<T> {
    held: Arc<T>,
    used: Duration,
}

const SHARDS: usize = 16;
/// How many others a new key looks at: enough that idle keys go faster than new ones come.
const LOOKS: usize = 4;

impl<T> Keys<T> {
    pub(super) fn new(max: usize) -> Self {
        let zero = || AtomicUsize::new(0);
        let shard = |_| {
            Mutex::new(Shard {
                there: HashMap::new(),
                order: VecDeque::new(),
            })
        };
        Self {
            max,
            len: zero(),
            evicted: zero(),
            turn: zero(),
            shards: std::array::from_fn(shard),
        }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    // ORDERING: Relaxed throughout. What keys hold is behind the locks; the count is raised before
    // and lowered after, so it is never below what is there.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn evicted(&self) -> usize {
        self.evicted.load(Ordering::Relaxed)
    }

    /// What is held for a key, made if there is room; `None` if there is none. `idle` is for how long
    /// a key was not asked for that may be dropped.
    ///
    /// `make` runs under a lock that [`for_each`](Self::for_each) takes as well.
    pub(super) fn get(
        &self,
        hash: &Hash,
        now: Duration,
        idle: Duration,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<Arc<T>> {
        let shard = &self.shards[usize::from(hash[0]) % SHARDS];
        if let Some(entry) = shard.lock().there.get_mut(hash) {
            entry.used = now;
            return Some(Arc::clone(&entry.held));
        }
        self.sweep(now, idle);
        let mut shard = shard.lock();
        if let Some(entry) = shard.there.get_mut(hash) {
            entry.used = now;
            return Some(Arc::clone(&entry.held));
        }
        let more = |len: usize| (len < self.max).then_some(len + 1);
        let raised = self
            .len
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        raised.ok()?;
        let Some(held) = make().map(Arc::new) else {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let entry = Entry {
            held: Arc::clone(&held),
            used: now,
        };
        shard.there.insert(*hash, entry);
        shard.order.push_back(*hash);
        Some(held)
    }

    /// All that is held; what comes meanwhile may be left out, if its `make` began after this.
    pub(super) fn for_each(&self, mut does: impl FnMut(&T)) {
        for shard in &self.shards {
            shard
                .lock()
                .there
                .values()
                .for_each(|entry| does(&entry.held));
        }
    }

    fn sweep(&self, now: Duration, idle: Duration) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shards[turn % SHARDS].lock();
        for _ in 0..LOOKS {
            let Some(hash) = shard.order.pop_front() else {
                return;
            };
            let used = shard.there.get(&hash).map(|entry| entry.used);
            if used.is_some_and(|used| now.saturating_sub(used) < idle) {
                shard.order.push_back(hash);
                continue;
            }
            shard.there.remove(&hash);
            self.len.fetch_sub(1, Ordering::Relaxed);
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// By hand: what is held is not to be shown one by one.
impl<T> fmt::Debug for Keys<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("len", &self.len())
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Model;

    use proptest::prelude::*;

    use super::*;

    fn hash(key: u8) -> Hash {
        let mut hash = [0; 16];
        (hash[0], hash[9]) = (key.wrapping_mul(97), key);
        hash
    }

    const IDLE: u64 = 10;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Keys by number, and how much later each is asked for.
        #[test]
        fn a_key_in_use_stays_and_there_are_never_more_than_allowed(
            max in 1..20_usize,
            history in prop::collection::vec((0..40_u8, prop_oneof![4 => Just(0), 2 => 1..3_u64, 1 => 9..12_u64]), 1..200),
        ) {
            let keys = Keys::new(max);
            // By key: what it holds, and when it was asked for.
            let mut model: Model<u8, (usize, u64)> = Model::new();
            let (mut now, mut made) = (0, 0);
            for (key, later) in history {
                now += later;
                let held = keys.get(
                    &hash(key),
                    Duration::from_secs(now),
                    Duration::from_secs(IDLE),
                    || {
                        made += 1;
                        Some(made)
                    },
                );
                prop_assert!(keys.len() <= max);
                let mut there = 0;
                keys.for_each(|_| there += 1);
                prop_assert_eq!(there, keys.len());
                prop_assert_eq!(made, keys.len() + keys.evicted());
                match (held, model.get(&key)) {
                    // The one it had, or a new one if it was idle.
                    (Some(held), Some((had, used))) => {
                        prop_assert!(*held == *had || now - used >= IDLE && *held == made);
                        model.insert(key, (*held, now));
                    }
                    (Some(held), None) => {
                        prop_assert_eq!(*held, made);
                        model.insert(key, (*held, now));
                    }
                    (None, had) => {
                        prop_assert!(had.is_none_or(|(_, used)| now - used >= IDLE));
                        prop_assert_eq!(keys.len(), max);
                    }
                }
            }
        }
    }

    #[test]
    fn idle_keys_go_as_new_ones_come() {
        let keys = Keys::new(1_000);
        let get = |key: u128, now| {
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let idle = Duration::from_secs(IDLE);
            keys.get(&hash.to_be_bytes(), Duration::from_secs(now), idle, || {
                Some(())
            })
        };
        assert!((0..1_000).all(|key| get(key, 0).is_some()));
        assert!(get(1_000, 9).is_none());
        // All of them are idle: each that comes takes the place of up to four.
        assert!((2_000..2_500).all(|key| get(key, 10).is_some()));
        assert_eq!(keys.len(), 500);
    }

    #[test]
    fn what_cannot_be_made_takes_no_room() {
        let keys = Keys::<()>::new(1);
        let none = keys.get(&hash(1), Duration::ZERO, Duration::ZERO, || None);
        assert!(none.is_none() && keys.len() == 0);
    }
}
