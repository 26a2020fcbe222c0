//! The shared part of a registry: finding, making, evicting, and what all breakers shall have.

use std::{
    any::Any,
    borrow::Borrow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    super::{
        CircuitBreaker,
        config::Config,
        events::Events,
        group::{Member, attempt},
        mode::Mode,
        snapshot::Snapshot,
        state::State,
    },
    Full, RegistryBuilder,
    builder::{Configs, Names},
};
use crate::{
    clock::SharedClock,
    primitive::fence,
    shards::{self, Hand},
};

type Entry<K> = shards::Entry<K, Kept>;
type Shards<K> = shards::Shards<K, Kept>;

/// What is kept for a key.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) breaker: CircuitBreaker,
    /// When it was last looked up, in nanoseconds of the registry's clock.
    used: AtomicU64,
}

pub(in crate::breaker) struct Inner<K> {
    shards: Shards<K>,
    writer: Mutex<Writer>,
    events: Arc<Events>,
    names: Names<K>,
    configs: Option<Configs<K>>,
    max: usize,
    /// At most half of the range, so that nine eighths of it do not overflow.
    idle_nanos: u64,
    clock: SharedClock,
    evicted: AtomicU64,
    full: AtomicU64,
}

/// Guarded by the one lock of the registry.
pub(super) struct Writer {
    hand: Hand,
    wanted: Wanted,
}

/// What all breakers shall have, present and future ones.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) config: Config,
    pub(super) mode: Mode,
    /// Go up with each change, so that who acts on an older one sees that it is.
    configs: u64,
    modes: u64,
}

impl Wanted {
    fn same(&self, other: &Self) -> bool {
        (self.configs, self.modes) == (other.configs, other.modes)
    }
}

/// What an eviction left over; to be dropped outside the lock, for what is in it may run code of
/// the user when dropped (a subscriber's closure, a key).
type Garbage<K> = Option<Arc<Entry<K>>>;

type Panic = Box<dyn Any + Send>;

impl<K> Inner<K> {
    pub(super) fn new(builder: RegistryBuilder<K>) -> Self {
        let nanos = u64::try_from(builder.idle_after.as_nanos()).unwrap_or(u64::MAX);
        Self {
            shards: Shards::new(builder.max),
            writer: Mutex::new(Writer {
                hand: Hand::default(),
                wanted: Wanted {
                    config: builder.config,
                    mode: Mode::Automatic,
                    configs: 0,
                    modes: 0,
                },
            }),
            events: Arc::default(),
            names: builder.names,
            configs: builder.configs,
            max: builder.max,
            idle_nanos: nanos.min(u64::MAX / 2),
            clock: builder.clock,
            evicted: AtomicU64::new(0),
            full: AtomicU64::new(0),
        }
    }

    pub(super) fn shards(&self) -> &Shards<K> {
        &self.shards
    }

    pub(super) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    // ORDERING: Relaxed here and where they are counted. Statistics.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    pub(super) fn wanted(&self) -> Wanted {
        self.lock().wanted.clone()
    }

    // ---- use and idleness

    /// Notes that the entry is used now. Written only when the time noted is older than an eighth
    /// of the idle time, so that callers of one key do not take its line from each other.
    #[inline]
    pub(super) fn touch(&self, entry: &Entry<K>) {
        if self.idle_nanos == 0 {
            return;
        }
        let now = self.clock.nanos();
        // ORDERING: Relaxed. An evictor reads it again when no reader is left, see `take`.
        let used = entry.value.used.load(Ordering::Relaxed);
        // Wrapping: after a step back of the clock it is written as well.
        if now.wrapping_sub(used) > self.idle_nanos / 8 {
            entry.value.used.store(now, Ordering::Relaxed);
        }
    }

    fn is_idle(&self, entry: &Entry<K>, now: u64) -> bool {
        // A time in the future is one of before the clock stepped back.
        let used = entry.value.used.fetch_min(now, Ordering::Relaxed).min(now);
        now - used >= self.idle_nanos + self.idle_nanos / 8
    }

    fn can_go(&self, entry: &Entry<K>, mode: Mode, now: u64) -> bool {
        let breaker = &entry.value.breaker;
        if !self.is_idle(entry, now) || !breaker.is_alone() {
            return false;
        }
        // ORDERING: pairs with the Release with which the last handle or permit was dropped: what
        // it did to the state is seen below.
        fence();
        breaker.mode() == mode
            // One that was open before it was forced has something to remember.
            && mode != Mode::ForcedOpen
            && breaker.state() == State::Closed
    }

    // ---- making

    /// The breaker of a key that was not found without the lock.
    #[cold]
    pub(super) fn find_or_make<Q>(&self, hash: u64, key: &Q) -> Result<CircuitBreaker, Full>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        loop {
            let wanted = match self.look(hash, key)? {
                Ok(found) => return Ok(found),
                Err(wanted) => wanted,
            };
            // Names, settings and subscribers are code of the user: outside the lock.
            let owned = key.to_owned();
            let breaker = self.make(&owned, &wanted);
            let entry = Entry {
                key: owned,
                value: Kept {
                    breaker: breaker.clone(),
                    used: AtomicU64::new(self.clock.nanos()),
                },
            };
            if let Some(breaker) = self.put(hash, key, entry, &wanted)? {
                return Ok(breaker);
            }
        }
    }

    /// The breaker of `key`, else what a new one shall have, once there is room for it.
    fn look<Q>(&self, hash: u64, key: &Q) -> Result<Result<CircuitBreaker, Wanted>, Full>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let garbage;
        let mut writer = self.lock();
        if let Some(found) = self.shards.find(hash, key) {
            self.touch(&found);
            return Ok(Ok(found.value.breaker.clone()));
        }
        let wanted = writer.wanted.clone();
        garbage = self.make_room(&mut writer)?;
        drop(writer);
        drop(garbage);
        Ok(Err(wanted))
    }

    /// Puts a new entry in, unless another caller was faster (then that one's breaker is the
    /// answer) or what a new one shall have has changed meanwhile (then `None`).
    fn put<Q>(
        &self,
        hash: u64,
        key: &Q,
        entry: Entry<K>,
        made_with: &Wanted,
    ) -> Result<Option<CircuitBreaker>, Full>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let garbage;
        let mut writer = self.lock();
        if let Some(found) = self.shards.find(hash, key) {
            return Ok(Some(found.value.breaker.clone()));
        }
        if !writer.wanted.same(made_with) {
            return Ok(None);
        }
        // Another key may have taken the room.
        garbage = self.make_room(&mut writer)?;
        let breaker = entry.value.breaker.clone();
        self.shards.insert(hash, entry, &mut writer.hand);
        drop(writer);
        drop(garbage);
        Ok(Some(breaker))
    }

    fn make_room(&self, writer: &mut Writer) -> Result<Garbage<K>, Full> {
        if self.shards.len() < self.max {
            return Ok(None);
        }
        let (mode, now) = (writer.wanted.mode, self.clock.nanos());
        let can_go = |entry: &Entry<K>| self.can_go(entry, mode, now);
        match self.shards.evict(&mut writer.hand, can_go) {
            Some(garbage) => {
                self.evicted.fetch_add(1, Ordering::Relaxed);
                Ok(Some(garbage))
            }
            None => {
                self.full.fetch_add(1, Ordering::Relaxed);
                Err(Full { max: self.max })
            }
        }
    }

    fn make(&self, key: &K, wanted: &Wanted) -> CircuitBreaker {
        let config = self.config_of(key, wanted);
        let name = (self.names)(key);
        let breaker = CircuitBreaker::with_clock(&name, config, self.clock.clone());
        if wanted.mode != Mode::Automatic {
            breaker.set_mode(wanted.mode);
        }
        let events = Arc::clone(&self.events);
        let forward = move |transition: &_| events.emit(transition);
        breaker.subscribe(forward).forget();
        breaker
    }

    fn config_of(&self, key: &K, wanted: &Wanted) -> Config {
        let own = self.configs.as_ref().and_then(|config| config(key));
        own.unwrap_or_else(|| wanted.config.clone())
    }

    pub(super) fn remove<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry<K>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.shards.remove(hash, key, &mut self.lock().hand)
    }

    // ---- all breakers

    /// Visits each entry, outside the lock and one shard after the other, so that at any moment
    /// only the entries of one are kept from being evicted.
    pub(super) fn each(&self, mut visit: impl FnMut(&Entry<K>)) {
        for index in 0..self.shards.count() {
            let shard = self.shards.shard(index, &mut self.lock().hand);
            shard.iter().for_each(|slot| visit(&slot.entry));
        }
    }

    pub(super) fn set_config(&self, config: Config) {
        self.want(|wanted| {
            wanted.config = config;
            wanted.configs += 1;
        });
        self.bring(
            |wanted| wanted.configs,
            |entry, wanted, _| {
                entry
                    .value
                    .breaker
                    .set_config(self.config_of(&entry.key, wanted));
            },
        );
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.lock().wanted);
    }

    /// Brings what is wanted to every breaker, again as long as it changes meanwhile: of two
    /// changes at once the later is the last that each breaker is told. The panics of `tell` are
    /// held back until all are told.
    fn bring(&self, version: impl Fn(&Wanted) -> u64, tell: impl Fn(&Entry<K>, &Wanted, bool)) {
        let mut panic: Option<Panic> = None;
        let mut again = false;
        loop {
            let wanted = self.wanted();
            self.each(|entry| attempt(&mut panic, || tell(entry, &wanted, again)));
            if version(&self.wanted()) == version(&wanted) {
                break;
            }
            again = true;
        }
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic);
        }
    }
}

impl<K> Member for Inner<K> {
    fn set_mode(&self, mode: Mode) {
        self.want(|wanted| {
            wanted.mode = mode;
            wanted.modes += 1;
        });
        let tell = |entry: &Entry<K>, wanted: &Wanted, _| entry.value.breaker.set_mode(wanted.mode);
        self.bring(|wanted| wanted.modes, tell);
    }

    fn reset(&self) {
        self.want(|wanted| {
            wanted.mode = Mode::Automatic;
            wanted.modes += 1;
        });
        let tell = |entry: &Entry<K>, wanted: &Wanted, again| {
            // The second time it is a mode set meanwhile that has to be brought.
            if again {
                entry.value.breaker.set_mode(wanted.mode);
            } else {
                entry.value.breaker.reset();
            }
        };
        self.bring(|wanted| wanted.modes, tell);
    }

    fn visit(&self, visit: &mut dyn FnMut(&str, Snapshot)) {
        self.each(|entry| visit(entry.value.breaker.name(), entry.value.breaker.snapshot()));
    }
}
