//! Invalidations that failed.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Keys of the far tier that still hold what a write has replaced. Bounded: with too many the
/// first leaves, and its entry lives until its own end.
#[derive(Debug, Default)]
pub(super) struct Retries {
    waiting: Mutex<BTreeMap<String, Invalidation>>,
}

/// What the far tier has to be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Invalidation {
    /// The version that was written; `None` if nobody knows whether it was.
    pub(super) version: Option<i64>,
    /// What stands in the place of the entry.
    pub(super) tombstone: String,
}

impl Retries {
    pub(super) fn add(&self, key: &str, invalidation: Invalidation) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST && !waiting.contains_key(key) {
            waiting.pop_first();
        }
        waiting.insert(key.to_owned(), invalidation);
    }

    /// Takes `key` out, if nothing newer waits for it.
    pub(super) fn done(&self, key: &str, invalidation: &Invalidation) {
        let mut waiting = self.waiting.lock();
        if waiting.get(key) == Some(invalidation) {
            waiting.remove(key);
        }
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.waiting.lock().contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    pub(super) fn all(&self) -> Vec<(String, Invalidation)> {
        let waiting = self.waiting.lock();
        waiting
            .iter()
            .map(|(k, i)| (k.clone(), i.clone()))
            .collect()
    }
}

/// A few megabytes of keys.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: i64) -> Invalidation {
        Invalidation {
            version: Some(version),
            tombstone: String::new(),
        }
    }

    #[test]
    fn a_newer_invalidation_is_not_taken_out_by_an_older_one() {
        let retries = Retries::default();
        retries.add("a", version(1));
        retries.add("a", version(2));
        retries.done("a", &version(1));
        assert!(retries.contains("a"));
        retries.done("a", &version(2));
        assert!(!retries.contains("a"));
    }

    #[test]
    fn the_list_is_bounded() {
        let retries = Retries::default();
        for n in 0..MOST + 10 {
            retries.add(&n.to_string(), version(1));
        }
        assert_eq!(retries.len(), MOST);
    }
}
