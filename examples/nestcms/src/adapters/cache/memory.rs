//! A bounded map with a lifetime per entry.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;
use resilience_core::clock::{Clock, SharedClock};

use crate::ports::{Cache, CacheError};

/// A cache in this process: bounded, entries live for a set time.
pub struct MemoryCache {
    clock: SharedClock,
    lifetime: Duration,
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    // All entries live equally long, so the order of writing is the order of expiry.
    by_age: BTreeMap<u64, String>,
    next: u64,
}

struct Entry {
    version: i64,
    value: String,
    stored_at: Duration,
    age: u64,
}

impl MemoryCache {
    /// A cache of at most `capacity` entries, each for `lifetime`.
    #[must_use]
    pub fn new(clock: SharedClock, capacity: usize, lifetime: Duration) -> Self {
        Self {
            clock,
            lifetime,
            capacity,
            entries: Mutex::default(),
        }
    }

    fn read(&self, key: &str) -> Option<String> {
        let now = self.clock.now();
        let entries = self.entries.lock();
        let entry = entries.by_key.get(key)?;
        let age = now.saturating_sub(entry.stored_at);
        (age < self.lifetime).then(|| entry.value.clone())
    }

    fn write(&self, key: &str, version: i64, value: String) {
        let stored_at = self.clock.now();
        let mut entries = self.entries.lock();
        if entries.by_key.get(key).is_some_and(|e| e.version > version) {
            return;
        }
        entries.drop_key(key);
        while entries.by_key.len() >= self.capacity {
            let Some((_, oldest)) = entries.by_age.pop_first() else {
                return;
            };
            entries.by_key.remove(&oldest);
        }
        let age = entries.next;
        entries.next += 1;
        entries.by_age.insert(age, key.to_owned());
        let entry = Entry {
            version,
            value,
            stored_at,
            age,
        };
        entries.by_key.insert(key.to_owned(), entry);
    }
}

impl Entries {
    fn drop_key(&mut self, key: &str) {
        if let Some(entry) = self.by_key.remove(key) {
            self.by_age.remove(&entry.age);
        }
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("capacity", &self.capacity)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Cache for MemoryCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, CacheError>> {
        ready(Ok(self.read(key))).boxed()
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        version: i64,
        value: String,
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        self.write(key, version, value);
        ready(Ok(())).boxed()
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), CacheError>> {
        self.entries.lock().drop_key(key);
        ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use resilience_core::clock::ManualClock;

    use super::*;

    fn cache(capacity: usize) -> (ManualClock, MemoryCache) {
        let clock = ManualClock::new();
        let lifetime = Duration::from_secs(10);
        let cache = MemoryCache::new(clock.clone().into(), capacity, lifetime);
        (clock, cache)
    }

    #[test]
    fn an_entry_is_gone_at_the_end_of_its_life() {
        let (clock, cache) = cache(2);
        cache.write("a", 1, "x".into());
        clock.advance(Duration::from_millis(9_999));
        assert_eq!(cache.read("a").as_deref(), Some("x"));
        clock.advance(Duration::from_millis(1));
        assert_eq!(cache.read("a"), None);
    }

    #[test]
    fn the_oldest_entry_makes_room() {
        let (_, cache) = cache(2);
        for key in ["a", "b", "a", "c"] {
            cache.write(key, 1, key.into());
        }
        assert_eq!(cache.read("b"), None);
        assert!(cache.read("a").is_some() && cache.read("c").is_some());
        assert_eq!(cache.entries.lock().by_age.len(), 2);
    }

    #[test]
    fn a_late_write_of_an_older_version_is_dropped() {
        let (_, cache) = cache(2);
        cache.write("a", 2, "new".into());
        cache.write("a", 1, "old".into());
        assert_eq!(cache.read("a").as_deref(), Some("new"));
    }
}
