use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, RandomState};
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use resilience_core::coalesce::{Join, Refused, Underway};

use super::flight::{Flight, Landing, Seat};
use super::hashed::{Hashed, Known};
use super::{Coalescing, Share};

type Flights<K, F, V> = HashMap<Hashed<K>, Arc<Flight<F, V>>, BuildHasherDefault<Known>>;

/// The calls under way, by key.
pub(crate) struct Group<K, F: Future, V> {
    handle: Coalescing,
    /// By which keys are hashed; random, so that nobody can choose keys that collide.
    hashes: RandomState,
    flights: Mutex<Flights<K, F, V>>,
}

/// One of those that wait for a call. When the last one is dropped, the call is.
pub(crate) struct Member<K: Hash + Eq, F: Future, V> {
    group: Arc<Group<K, F, V>>,
    key: Hashed<K>,
    flight: Arc<Flight<F, V>>,
    seat: Seat,
    /// It saw the call end, and took it out.
    closed: bool,
}

impl<K, F: Future, V> Group<K, F, V> {
    pub(crate) fn new(handle: Coalescing) -> Self {
        Self {
            handle,
            hashes: RandomState::new(),
            flights: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq + Clone, F: Future, V> Group<K, F, V> {
    /// Makes room for a call of `key`, unless one is under way that could be joined, or there is
    /// none.
    #[cfg(feature = "cache")]
    pub(crate) fn begin(self: &Arc<Self>, key: K, generation: u64) -> Option<Member<K, F, V>> {
        let key = self.hashed(key);
        let (config, now) = (self.handle.config(), self.handle.now());
        let joinable = self.flights.lock().get(&key).is_some_and(|flight| {
            flight.generation >= generation && !config.is_too_old(flight.began, now)
        });
        if joinable {
            return None;
        }
        // Should another one begin in between, this one follows: there is still one call.
        self.join_hashed(key, generation).ok()
    }

    /// Joins the call of `key`, or makes room for one. A call of an older `generation` is not
    /// joined.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: K,
        generation: u64,
    ) -> Result<Member<K, F, V>, Refused> {
        self.join_hashed(self.hashed(key), generation)
    }

    fn hashed(&self, key: K) -> Hashed<K> {
        let hash = self.hashes.hash_one(&key);
        Hashed { hash, key }
    }

    fn join_hashed(
        self: &Arc<Self>,
        key: Hashed<K>,
        generation: u64,
    ) -> Result<Member<K, F, V>, Refused> {
        let (config, now) = (self.handle.config(), self.handle.now());
        let mut flights = self.flights.lock();
        let current = flights.get(&key);
        let joinable = current.filter(|flight| flight.generation >= generation);
        let keys = flights.len() - usize::from(current.is_some() && joinable.is_none());
        let underway = joinable.map(|flight| Underway {
            began: flight.began,
            followers: flight.members().saturating_sub(1),
        });
        let decided = config.join(underway, keys, now);
        let (flight, replaced) = match (decided, joinable) {
            (Ok(Join::Follow), Some(flight)) => {
                flight.set_members(flight.members() + 1);
                self.handle.followed();
                (Arc::clone(flight), None)
            }
            (Ok(_), _) => {
                self.handle.began();
                let flight = Arc::new(Flight::new(now, generation));
                let replaced = flights.insert(key.clone(), Arc::clone(&flight));
                if replaced.is_none() {
                    self.handle.keys_grew();
                }
                (flight, replaced)
            }
            (Err(refused), _) => {
                self.handle.refused(refused.reason);
                return Err(refused);
            }
        };
        drop(flights);
        // Its members go on with it.
        drop(replaced);
        Ok(Member {
            group: Arc::clone(self),
            key,
            flight,
            seat: Seat::default(),
            closed: false,
        })
    }
}

impl<K: Hash + Eq, F: Future, V> Group<K, F, V> {
    /// Takes `flight` out, unless another one has its place.
    fn remove(
        &self,
        flights: &mut Flights<K, F, V>,
        key: &Hashed<K>,
        flight: &Arc<Flight<F, V>>,
    ) -> Option<Arc<Flight<F, V>>> {
        let current = flights.get(key)?;
        if !Arc::ptr_eq(current, flight) {
            return None;
        }
        self.handle.keys_shrank(1);
        flights.remove(key)
    }
}

impl<K, F: Future, V> Drop for Group<K, F, V> {
    fn drop(&mut self) {
        self.handle.keys_shrank(self.flights.get_mut().len());
    }
}

impl<K: Hash + Eq, F: Future, V> Member<K, F, V> {
    /// See [`Flight::poll`].
    pub(crate) fn poll<T, E, H>(
        &mut self,
        cx: &mut Context<'_>,
        share: &H,
        start: impl FnOnce() -> F,
    ) -> Poll<Landing<Result<T, E>>>
    where
        F: Future<Output = Result<T, E>>,
        H: Share<T, E, Kept = V>,
    {
        let (group, key, flight) = (&self.group, &self.key, &self.flight);
        let closed = &mut self.closed;
        let close = || {
            *closed = true;
            let mut flights = group.flights.lock();
            let gone = group.remove(&mut flights, key, flight);
            let others = flight.members() > 1;
            drop(flights);
            drop(gone);
            others
        };
        flight.poll(cx, &mut self.seat, share, start, close)
    }
}

impl<K: Hash + Eq, F: Future, V> Drop for Member<K, F, V> {
    fn drop(&mut self) {
        self.flight.leave(&self.seat);
        if self.closed {
            // Nobody joins it any more, so nobody asks how many are left.
            return;
        }
        let mut flights = self.group.flights.lock();
        let left = self.flight.members().saturating_sub(1);
        self.flight.set_members(left);
        let last = if left == 0 {
            self.group.remove(&mut flights, &self.key, &self.flight)
        } else {
            None
        };
        drop(flights);
        // With it the call, without the lock: to drop it may run anything.
        drop(last);
    }
}

impl<K, F: Future, V> fmt::Debug for Group<K, F, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("keys", &self.flights.lock().len())
            .finish_non_exhaustive()
    }
}
