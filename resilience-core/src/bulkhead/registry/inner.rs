//! The shared part of a registry: finding, making, evicting.

use std::{
    borrow::Borrow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    super::{Bulkhead, config::Config},
    Full, RegistryBuilder,
    builder::Configs,
};
use crate::{
    clock::SharedClock,
    primitive::fence,
    shards::{self, Hand},
};

pub(super) type Entry<K> = shards::Entry<K, Bulkhead>;
type Shards<K> = shards::Shards<K, Bulkhead>;

pub(super) struct Inner<K> {
    shards: Shards<K>,
    writer: Mutex<Writer>,
    configs: Option<Configs<K>>,
    max: usize,
    clock: SharedClock,
    evicted: AtomicU64,
    full: AtomicU64,
}

/// Guarded by the one lock of the registry.
pub(super) struct Writer {
    pub(super) hand: Hand,
    wanted: Wanted,
}

/// What all bulkheads shall have, present and future ones.
#[derive(Clone, Copy)]
struct Wanted {
    config: Config,
    /// Goes up with each change, so that who acts on an older one sees that it is.
    changes: u64,
}

/// What an eviction left over; to be dropped outside the lock, for a key is code of the user.
type Garbage<K> = Option<Arc<Entry<K>>>;

impl<K> Inner<K> {
    pub(super) fn new(builder: RegistryBuilder<K>) -> Self {
        Self {
            shards: Shards::new(builder.max),
            writer: Mutex::new(Writer {
                hand: Hand::default(),
                wanted: Wanted {
                    config: builder.config,
                    changes: 0,
                },
            }),
            configs: builder.configs,
            max: builder.max,
            clock: builder.clock,
            evicted: AtomicU64::new(0),
            full: AtomicU64::new(0),
        }
    }

    pub(super) fn shards(&self) -> &Shards<K> {
        &self.shards
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
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

    pub(super) fn config(&self) -> Config {
        self.lock().wanted.config
    }

    /// The bulkhead of a key that was not found without the lock.
    #[cold]
    pub(super) fn find_or_make<Q>(&self, hash: u64, key: &Q) -> Result<Bulkhead, Full>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        loop {
            let wanted = match self.look(hash, key)? {
                Ok(found) => return Ok(found),
                Err(wanted) => wanted,
            };
            // Keys and settings are code of the user: outside the lock.
            let key_of_entry = key.to_owned();
            let config = self.config_of(&key_of_entry, wanted);
            let entry = Entry {
                key: key_of_entry,
                value: Bulkhead::with_clock(config, self.clock.clone()),
            };
            if let Some(bulkhead) = self.put(hash, key, entry, wanted)? {
                return Ok(bulkhead);
            }
        }
    }

    /// The bulkhead of `key`, else what a new one shall have, once there is room for it.
    fn look<Q>(&self, hash: u64, key: &Q) -> Result<Result<Bulkhead, Wanted>, Full>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let garbage;
        let mut writer = self.lock();
        if let Some(found) = self.shards.find(hash, key) {
            return Ok(Ok(found.value.clone()));
        }
        let wanted = writer.wanted;
        garbage = self.make_room(&mut writer)?;
        drop(writer);
        drop(garbage);
        Ok(Err(wanted))
    }

    /// Puts a new entry in, unless another caller was faster (then that one's bulkhead is the
    /// answer) or the settings have changed meanwhile (then `None`).
    fn put<Q>(
        &self,
        hash: u64,
        key: &Q,
        entry: Entry<K>,
        made_with: Wanted,
    ) -> Result<Option<Bulkhead>, Full>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let garbage;
        let mut writer = self.lock();
        if let Some(found) = self.shards.find(hash, key) {
            return Ok(Some(found.value.clone()));
        }
        if writer.wanted.changes != made_with.changes {
            return Ok(None);
        }
        // Another key may have taken the room.
        garbage = self.make_room(&mut writer)?;
        let bulkhead = entry.value.clone();
        self.shards.insert(hash, entry, &mut writer.hand);
        drop(writer);
        drop(garbage);
        Ok(Some(bulkhead))
    }

    fn make_room(&self, writer: &mut Writer) -> Result<Garbage<K>, Full> {
        if self.shards.len() < self.max {
            return Ok(None);
        }
        let can_go = |entry: &Entry<K>| {
            let alone = entry.value.is_alone();
            // ORDERING: pairs with the Release with which the last handle or permit was dropped:
            // all that its call did comes before what a new bulkhead of this key admits.
            fence();
            alone
        };
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

    fn config_of(&self, key: &K, wanted: Wanted) -> Config {
        let own = self.configs.as_ref().and_then(|config| config(key));
        own.unwrap_or(wanted.config)
    }

    pub(super) fn remove<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry<K>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.shards.remove(hash, key, &mut self.lock().hand)
    }

    /// Visits each entry, outside the lock and one shard after the other, so that at any moment
    /// only the entries of one are kept from being evicted.
    pub(super) fn each(&self, mut visit: impl FnMut(&Entry<K>)) {
        for index in 0..self.shards.count() {
            let shard = self.shards.shard(index, &mut self.lock().hand);
            shard.iter().for_each(|slot| visit(&slot.entry));
        }
    }

    /// Again as long as they change meanwhile: of two changes at once the later is the last that
    /// each bulkhead is told.
    pub(super) fn set_config(&self, config: Config) {
        let mut writer = self.lock();
        writer.wanted.config = config;
        writer.wanted.changes += 1;
        let mut wanted = writer.wanted;
        drop(writer);
        loop {
            self.each(|entry| {
                let config = self.config_of(&entry.key, wanted);
                entry.value.set_config(config);
            });
            let now = self.lock().wanted;
            if now.changes == wanted.changes {
                return;
            }
            wanted = now;
        }
    }
}
