use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Which entries have which tag, and what was invalidated while calls were under way.
pub(super) struct Index<K> {
    tags: HashMap<Arc<str>, HashMap<K, u64>>,
    /// Goes up with each invalidation.
    generation: u64,
    /// How many calls began in which generation, of those under way.
    underway: BTreeMap<u64, usize>,
    /// In which generation a key or a tag was invalidated: as long as calls are under way that
    /// began before.
    keys_gone: HashMap<K, u64>,
    tags_gone: HashMap<Arc<str>, u64>,
    /// Nothing is kept of calls that began before.
    floor: u64,
}

/// The most invalidations that are remembered one by one. Beyond, no call that is under way is kept.
const REMEMBERED: usize = 4096;

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            tags: HashMap::new(),
            generation: 0,
            underway: BTreeMap::new(),
            keys_gone: HashMap::new(),
            tags_gone: HashMap::new(),
            floor: 0,
        }
    }
}

impl<K: Hash + Eq + Clone> Index<K> {
    /// A call begins; what it will bring is older than what is invalidated from here on.
    pub(super) fn begin(&mut self) -> u64 {
        *self.underway.entry(self.generation).or_default() += 1;
        self.generation
    }

    /// A call that began then has ended.
    pub(super) fn end(&mut self, began: u64) {
        if let Some(calls) = self.underway.get_mut(&began) {
            *calls -= 1;
            if *calls == 0 {
                self.underway.remove(&began);
            }
        }
        let oldest = self.underway.keys().next().copied();
        // Asked for each call, so nothing is looked through while there is nothing to forget.
        if oldest.is_none_or(|oldest| oldest > began) && self.remembered() > 0 {
            let oldest = oldest.unwrap_or(u64::MAX);
            self.keys_gone.retain(|_, gone| *gone > oldest);
            self.tags_gone.retain(|_, gone| *gone > oldest);
        }
    }

    /// Whether what a call brings that began then may be kept.
    pub(super) fn is_current(&self, began: u64, key: &K, tags: &[Arc<str>]) -> bool {
        let before = |gone: Option<&u64>| gone.is_none_or(|gone| *gone <= began);
        self.floor <= began
            && before(self.keys_gone.get(key))
            && tags.iter().all(|tag| before(self.tags_gone.get(tag)))
    }

    /// Notes the tags of the entry `id`.
    pub(super) fn add(&mut self, key: &K, id: u64, tags: &[Arc<str>]) {
        for tag in tags {
            let keys = self.tags.entry(Arc::clone(tag)).or_default();
            keys.insert(key.clone(), id);
        }
    }

    /// Forgets the tags of the entry `id`, where they are not another's by now.
    pub(super) fn remove(&mut self, key: &K, id: u64, tags: &[Arc<str>]) {
        for tag in tags {
            let Some(keys) = self.tags.get_mut(tag) else {
                continue;
            };
            if keys.get(key) == Some(&id) {
                keys.remove(key);
            }
            if keys.is_empty() {
                self.tags.remove(tag);
            }
        }
    }

    /// The generation from here on, in which nothing of `key` that began before is kept.
    pub(super) fn invalidate_key(&mut self, key: &K) -> u64 {
        self.generation += 1;
        if self.may_remember() {
            self.keys_gone.insert(key.clone(), self.generation);
        }
        self.generation
    }

    /// As for a key; with the keys of the entries that have the tag.
    pub(super) fn invalidate_tag(&mut self, tag: &str) -> (u64, Vec<K>) {
        self.generation += 1;
        if self.may_remember() {
            self.tags_gone.insert(tag.into(), self.generation);
        }
        let keys = self.tags.remove(tag).unwrap_or_default();
        (self.generation, keys.into_keys().collect())
    }

    pub(super) fn invalidate_all(&mut self) -> u64 {
        self.generation += 1;
        self.forget();
        self.generation
    }

    /// Tags that entries have, and in how many places they are noted.
    pub(super) fn size(&self) -> (usize, usize) {
        let places = self.tags.values().map(HashMap::len).sum();
        (self.tags.len(), places)
    }

    /// Invalidations that are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.keys_gone.len() + self.tags_gone.len()
    }

    /// Whether there is a call to which it matters, and room for it; without room no call matters
    /// any more.
    fn may_remember(&mut self) -> bool {
        if self.underway.is_empty() {
            return false;
        }
        let room = self.remembered() < REMEMBERED;
        if !room {
            self.forget();
        }
        room
    }

    fn forget(&mut self) {
        self.floor = self.generation;
        self.keys_gone.clear();
        self.tags_gone.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: usize) -> Arc<str> {
        number.to_string().into()
    }

    #[test]
    fn what_was_invalidated_is_remembered_only_for_calls_under_way() {
        let mut index = Index::default();
        index.invalidate_key(&1);
        index.invalidate_tag("a");
        assert_eq!(index.remembered(), 0, "nobody calls");
        let (first, _) = (index.begin(), index.invalidate_key(&1));
        let second = index.begin();
        index.invalidate_tag("a");
        assert!(!index.is_current(first, &1, &[]));
        assert!(index.is_current(second, &1, &[]));
        assert!(!index.is_current(second, &1, &["a".into()]));
        assert!(index.is_current(second, &2, &["b".into()]));
        index.end(first);
        assert_eq!(
            index.remembered(),
            1,
            "the second began after the first of them"
        );
        index.end(second);
        assert_eq!((index.remembered(), index.underway.len()), (0, 0));
    }

    #[test]
    fn a_flood_of_invalidations_takes_bounded_room_and_forgets_none() {
        let mut index = Index::default();
        let began = index.begin();
        for number in 0..3 * REMEMBERED {
            index.invalidate_tag(&tag(number));
            assert!(index.remembered() <= REMEMBERED);
            assert!(!index.is_current(began, &1, &[tag(number)]));
            assert!(!index.is_current(began, &1, &[tag(0)]));
        }
        let began = index.begin();
        assert!(index.is_current(began, &1, &[tag(0)]));
    }

    #[test]
    fn an_entry_that_left_leaves_no_tag() {
        let mut index = Index::default();
        let tags = [tag(1), tag(2)];
        index.add(&7, 1, &tags);
        index.add(&8, 2, &tags[..1]);
        assert_eq!(index.size(), (2, 3));
        // Replaced by another of the same key, which has one of the tags.
        index.add(&7, 3, &tags[..1]);
        index.remove(&7, 1, &tags);
        assert_eq!(index.size(), (1, 2));
        assert_eq!(index.invalidate_tag("1").1.len(), 2);
        index.remove(&7, 3, &tags[..1]);
        index.remove(&8, 2, &tags[..1]);
        assert_eq!(index.size(), (0, 0));
    }
}
