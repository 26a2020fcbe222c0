//! Where answers are kept: bounded in bytes and addresses, with the requests that are on their way.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use quick_cache::sync::Cache as Bounded;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use tokio::sync::watch;

use super::entry::{Chosen, Key, Stored, Wanted, chosen_by};
use crate::config::CacheStoreConfig;
use crate::metrics::{CacheMetrics, Metrics};

/// All that is kept.
pub(crate) struct Store {
    entries: Bounded<Key, Arc<Resource>, ByWeight, DefaultHashBuilder, Evicted>,
    /// The least that an address weighs, so that there are not too many.
    least: AtomicU64,
    most_bytes: AtomicU64,
    /// Bytes of answers that are being read.
    filling: AtomicU64,
    flights: Mutex<HashMap<FlightKey, watch::Receiver<()>>>,
    /// Go up when what a key has is no longer true: what was asked for before is not kept.
    generations: Box<[AtomicU64]>,
    hasher: RandomState,
    pub(super) metrics: Arc<CacheMetrics>,
}

/// The answers of one address.
#[derive(Debug)]
pub(super) struct Resource {
    /// The newest first.
    variants: Vec<Arc<Stored>>,
    /// Until then requests are not held back for one another: the answer could not be kept.
    pass_until: Option<Duration>,
    weight: u64,
}

/// What the cache has for a request.
#[derive(Debug)]
pub(super) enum Found {
    Kept(Arc<Stored>),
    /// The answer was one that cannot be kept.
    Pass,
    /// Nothing; the names are those that the answers of the address are chosen by.
    Nothing(Chosen),
}

/// One address as one client may want it.
type FlightKey = (Key, Vec<u8>, Chosen);

/// The way of the first of several requests for the same answer.
pub(super) enum Flight {
    /// This is the first one.
    First(Guard),
    /// Done when the first one is, however it ended.
    Behind(watch::Receiver<()>),
}

/// Held by the first request; the others look again when it is dropped.
pub(super) struct Guard {
    store: Arc<Store>,
    key: FlightKey,
    _done: watch::Sender<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.store.flights.lock().remove(&self.key);
    }
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<Key, Arc<Resource>> for ByWeight {
    fn weight(&self, _: &Key, resource: &Arc<Resource>) -> u64 {
        resource.weight
    }
}

#[derive(Clone)]
struct Evicted(Arc<CacheMetrics>);

impl Lifecycle<Key, Arc<Resource>> for Evicted {
    type RequestState = Vec<Arc<Resource>>;

    fn on_evict(&self, state: &mut Self::RequestState, _: Key, resource: Arc<Resource>) {
        self.0.evicted();
        // Dropped outside the lock.
        state.push(resource);
    }
}

/// Most answers of one address.
const VARIANTS: usize = 16;
const GENERATIONS: usize = 1024;
const SHARDS: usize = 4;

impl Store {
    pub(crate) fn new(config: &CacheStoreConfig, metrics: &Metrics) -> Self {
        let metrics = Arc::new(metrics.cache());
        // Both are set, so there is nothing that fails; and then it would keep nothing.
        let mut options = OptionsBuilder::new();
        let options = options
            .shards(SHARDS)
            .estimated_items_capacity(config.max_entries.min(10_000))
            .weight_capacity(config.max_bytes.bytes())
            .build();
        let lifecycle = Evicted(Arc::clone(&metrics));
        let entries = match options {
            Ok(options) => {
                Bounded::with_options(options, ByWeight, DefaultHashBuilder::default(), lifecycle)
            }
            Err(_) => Bounded::with(1, 0, ByWeight, DefaultHashBuilder::default(), lifecycle),
        };
        let store = Self {
            entries,
            least: AtomicU64::new(1),
            most_bytes: AtomicU64::new(0),
            filling: AtomicU64::new(0),
            flights: Mutex::default(),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            metrics,
        };
        store.configure(config);
        store
    }

    // ORDERING: Relaxed for the sizes: each stands alone, and one that is a moment old is good.
    /// Puts other bounds in force; what is too much goes.
    pub(crate) fn configure(&self, config: &CacheStoreConfig) {
        let (bytes, entries) = (config.max_bytes.bytes(), config.max_entries as u64);
        // A part for each shard, as they do not fill alike.
        let least = bytes.div_ceil(entries.max(1));
        self.least.store(least, Ordering::Relaxed);
        if self.most_bytes.swap(bytes, Ordering::Relaxed) != bytes {
            self.entries.set_capacity(bytes);
        }
    }

    /// Addresses, and the bytes they are counted with.
    pub(crate) fn sizes(&self) -> (usize, u64) {
        (self.entries.len(), self.entries.weight())
    }

    /// What there is for a request with these fields at `now`.
    pub(super) fn find(&self, wanted: &Wanted, headers: &HeaderMap, now: Duration) -> Found {
        let Some(resource) = self.entries.get(&wanted.key) else {
            return Found::Nothing(Chosen::new());
        };
        let mut variants = resource.variants.iter();
        if let Some(stored) = variants.find(|stored| stored.is_for(wanted, headers)) {
            return Found::Kept(Arc::clone(stored));
        }
        if resource.pass_until.is_some_and(|until| now < until) {
            return Found::Pass;
        }
        let names = resource.variants.first().into_iter();
        let names = names.flat_map(|stored| stored.chosen.iter().map(|(name, _)| name));
        Found::Nothing(chosen_by(names, headers))
    }

    /// Takes the lead for an answer, or a place behind the one who has it.
    pub(super) fn fly(self: &Arc<Self>, wanted: &Wanted, chosen: Chosen) -> Flight {
        let key = (wanted.key.clone(), wanted.came_in.clone(), chosen);
        match self.flights.lock().entry(key) {
            Entry::Occupied(first) => Flight::Behind(first.get().clone()),
            Entry::Vacant(free) => {
                let (done, behind) = watch::channel(());
                let key = free.key().clone();
                free.insert(behind);
                Flight::First(Guard {
                    store: Arc::clone(self),
                    key,
                    _done: done,
                })
            }
        }
    }

    /// What [`keep`](Self::keep) wants to know of the time at which a request went out.
    pub(super) fn generation(&self, key: &Key) -> u64 {
        self.slot(key).load(Ordering::SeqCst)
    }

    fn slot(&self, key: &Key) -> &AtomicU64 {
        // There are 1024 of them.
        let index = self.hasher.hash_one(key) as usize % GENERATIONS;
        &self.generations[index]
    }

    /// Keeps an answer to what went out at `generation`, unless it is known to be old by now.
    pub(super) fn keep(
        &self,
        wanted: &Wanted,
        asked: &HeaderMap,
        stored: &Arc<Stored>,
        generation: u64,
    ) -> bool {
        let key = &wanted.key;
        let known = self.entries.get(key);
        let known = known.iter().flat_map(|resource| &resource.variants);
        let others = known.filter(|other| !other.is_like(wanted, asked));
        let mut variants = vec![Arc::clone(stored)];
        variants.extend(others.take(VARIANTS - 1).cloned());
        self.put(key, variants, None);
        // ORDERING: SeqCst, against `forget`, which first goes up and then removes: either it
        // removes what was put here, or this sees that it went up.
        let kept = self.generation(key) == generation;
        if !kept {
            self.entries.remove(key);
        }
        kept
    }

    fn put(&self, key: &Key, mut variants: Vec<Arc<Stored>>, pass_until: Option<Duration>) {
        let most = self.most_bytes.load(Ordering::Relaxed) / SHARDS as u64;
        let size = |variants: &[Arc<Stored>]| {
            let sizes = variants.iter().map(|stored| stored.size as u64);
            sizes.sum::<u64>()
        };
        while variants.len() > 1 && size(&variants) > most / 2 {
            variants.pop();
        }
        let weight = size(&variants).max(self.least.load(Ordering::Relaxed));
        let resource = Resource {
            variants,
            pass_until,
            weight,
        };
        self.entries.insert(key.clone(), Arc::new(resource));
    }

    /// Remembers that the answers of an address cannot be kept, so that nobody waits for one.
    pub(super) fn pass(&self, key: &Key, until: Duration) {
        let known = self.entries.get(key);
        let variants = known.map(|resource| resource.variants.clone());
        self.put(key, variants.unwrap_or_default(), Some(until));
    }

    /// Forgets an address; what is on its way from there is not kept.
    pub(super) fn forget(&self, key: &Key) {
        self.slot(key).fetch_add(1, Ordering::SeqCst);
        self.entries.remove(key);
    }

    /// Forgets what an address has; whether there was anything.
    pub(crate) fn forget_address(&self, address: &str) -> bool {
        let key = Key::from(address);
        let known = self.entries.get(&key);
        self.forget(&key);
        known.is_some_and(|resource| !resource.variants.is_empty())
    }

    /// Forgets all whose address begins so; how many there were.
    pub(crate) fn forget_below(&self, start: &str) -> usize {
        self.forget_if(|key, _| key.as_str().starts_with(start))
    }

    /// Forgets all answers of a route; how many addresses that were.
    pub(crate) fn forget_route(&self, route: &str) -> usize {
        self.forget_if(|_, resource| resource.variants.iter().any(|one| &*one.route == route))
    }

    fn forget_if(&self, which: impl Fn(&Key, &Resource) -> bool) -> usize {
        for slot in &self.generations {
            slot.fetch_add(1, Ordering::SeqCst);
        }
        let gone = Cell::new(0);
        self.entries.retain(|key, resource| {
            let goes = which(key, resource);
            // A mark that nothing can be kept is no answer.
            gone.set(gone.get() + usize::from(goes && !resource.variants.is_empty()));
            !goes
        });
        gone.get()
    }

    /// A place for `bytes` of an answer that is being read.
    pub(super) fn fill(self: &Arc<Self>, bytes: usize) -> Option<Filling> {
        let bytes = bytes as u64;
        let most = self.most_bytes.load(Ordering::Relaxed);
        let before = self.filling.fetch_add(bytes, Ordering::Relaxed);
        let filling = Filling {
            store: Arc::clone(self),
            bytes,
        };
        (before.saturating_add(bytes) <= most).then_some(filling)
    }
}

/// Given back on drop.
#[derive(Debug)]
pub(super) struct Filling {
    store: Arc<Store>,
    bytes: u64,
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.store.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Names only, for a flight of an address that is not known yet.
pub(super) fn names(chosen: &Chosen) -> impl Iterator<Item = &HeaderName> {
    chosen.iter().map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use http::{HeaderValue, Request, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::policy::cache::directives::Freshness;
    use crate::policy::cache::entry::{Came, Times};

    #[derive(Clone, Debug)]
    enum Op {
        /// An answer is kept for so many seconds; `late`: its address was forgotten meanwhile.
        Keep {
            key: u8,
            value: u8,
            seconds: u64,
            late: bool,
        },
        Look {
            key: u8,
            value: u8,
        },
        Forget {
            key: u8,
        },
        ForgetAll,
        Pass {
            key: u8,
            seconds: u64,
        },
        Wait {
            seconds: u64,
        },
    }

    fn op() -> impl Strategy<Value = Op> {
        let (key, value, seconds) = (0..3_u8, 0..3_u8, 0..10_u64);
        prop_oneof![
            4 => (key.clone(), value.clone(), seconds.clone(), prop::bool::weighted(0.2))
                .prop_map(|(key, value, seconds, late)| Op::Keep { key, value, seconds, late }),
            6 => (key.clone(), value).prop_map(|(key, value)| Op::Look { key, value }),
            1 => key.clone().prop_map(|key| Op::Forget { key }),
            1 => Just(Op::ForgetAll),
            1 => (key, seconds.clone()).prop_map(|(key, seconds)| Op::Pass { key, seconds }),
            2 => seconds.prop_map(|seconds| Op::Wait { seconds }),
        ]
    }

    fn request(value: u8) -> Request<()> {
        let mut request = Request::new(());
        let value = HeaderValue::from(u16::from(value));
        request.headers_mut().insert("x-v", value);
        request
    }

    fn wanted(key: u8, request: &Request<()>) -> Wanted {
        Wanted::new(Key::new("h", &format!("/{key}"), None), request, false)
    }

    /// What is known of an address, in the plainest form.
    #[derive(Default)]
    struct Plain {
        /// By the value that was asked with: what, from when and for how long.
        kept: HashMap<u8, (Bytes, u64, u64)>,
        pass_until: Option<u64>,
    }

    proptest! {
        #[test]
        fn the_store_has_what_was_put_there_last(ops in prop::collection::vec(op(), 1..60)) {
            let metrics = Metrics::new();
            let store = Store::new(&CacheStoreConfig::default(), &metrics);
            let mut plain: HashMap<u8, Plain> = HashMap::new();
            let mut now = 0;
            for (number, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Keep { key, value, seconds, late } => {
                        let request = request(value);
                        let wanted = wanted(key, &request);
                        let generation = store.generation(&wanted.key);
                        if late {
                            store.forget(&wanted.key);
                            plain.remove(&key);
                        }
                        let body = Bytes::from(number.to_string());
                        let mut headers = HeaderMap::new();
                        headers.insert("vary", HeaderValue::from_static("X-V"));
                        let came = Came { status: StatusCode::OK, headers: &headers, body: &body };
                        let freshness = Freshness {
                            age: Duration::ZERO,
                            time: Duration::from_secs(seconds),
                            while_revalidate: Duration::ZERO,
                            if_error: Duration::ZERO,
                            for_authorized: false,
                        };
                        let clock = Duration::from_secs(now);
                        let times = Times { clock, wall: clock };
                        let stored = Stored::new(
                            &wanted, request.headers(), &came, "r", freshness, times,
                            |size| store.metrics.hold(size),
                        );
                        let kept =
                            store.keep(&wanted, request.headers(), &Arc::new(stored), generation);
                        prop_assert_eq!(kept, !late);
                        if kept {
                            let plain = plain.entry(key).or_default();
                            plain.kept.insert(value, (body, now, seconds));
                            plain.pass_until = None;
                        }
                    }
                    Op::Look { key, value } => {
                        let request = request(value);
                        let found = store.find(
                            &wanted(key, &request), request.headers(), Duration::from_secs(now),
                        );
                        let plain = plain.get(&key);
                        let known = plain.and_then(|plain| plain.kept.get(&value));
                        match (found, known) {
                            (Found::Kept(stored), Some((body, at, seconds))) => {
                                prop_assert_eq!(stored.body(), body);
                                let fresh = stored.fresh(Duration::from_secs(now));
                                prop_assert_eq!(fresh.is_ok(), now < at + seconds);
                                let age = stored.age(Duration::from_secs(now));
                                prop_assert_eq!(age.as_secs(), now - at);
                            }
                            (Found::Pass, None) => {
                                let until = plain.and_then(|plain| plain.pass_until);
                                prop_assert!(until.is_some_and(|until| now < until));
                            }
                            (Found::Nothing(chosen), None) => {
                                let until = plain.and_then(|plain| plain.pass_until);
                                prop_assert!(until.is_none_or(|until| now >= until));
                                let varies = plain.is_some_and(|plain| !plain.kept.is_empty());
                                prop_assert_eq!(!chosen.is_empty(), varies);
                            }
                            (found, known) => prop_assert!(false, "{found:?} {known:?}"),
                        }
                    }
                    Op::Forget { key } => {
                        store.forget_address(&format!("h/{key}"));
                        plain.remove(&key);
                    }
                    Op::ForgetAll => {
                        let answers = plain.values().filter(|plain| !plain.kept.is_empty());
                        prop_assert_eq!(store.forget_below("h/"), answers.count());
                        plain.clear();
                    }
                    Op::Pass { key, seconds } => {
                        let key_of = wanted(key, &request(0)).key;
                        store.pass(&key_of, Duration::from_secs(now + seconds));
                        plain.entry(key).or_default().pass_until = Some(now + seconds);
                    }
                    Op::Wait { seconds } => now += seconds,
                }
            }
        }
    }
}
