//! One place of the table: sixteen bytes, two words.
//!
//! ```text
//! id    [tag of the key: 44 | code of the fill time it was written under: 20]   0 = empty
//! time  [version: 2 | when its bucket is full again, ns: 62]                    time 0 = frozen
//! ```
//!
//! Calls change `time` only, by compare-exchange. `id` changes only under the shard's lock while
//! `time` is frozen, and freezing moves the version on. So a call that has read id, time and id
//! again, and then exchanges that very time word, has charged that very key: had the place changed
//! hands since, the word would be frozen or of another version. (Four changes of hands within one
//! call that end on the same nanosecond would go unseen. The key then in the place is charged for
//! that call, and the one that was evicted is not: no key is admitted more than its quota by it.)

use super::{
    super::{Admitted, Limited, cell, quota::Quota},
    fills::{CODE_BITS, Fills, Terms},
};
use crate::primitive::{AtomicU64, Ordering};

const TIME: u64 = (1 << 62) - 1;
const NEXT_VERSION: u64 = TIME + 1;
const CODE: u64 = (1 << CODE_BITS) - 1;
/// The tag that a hash leaves in a slot.
#[inline]
pub(super) fn tag(hash: u64) -> u64 {
    hash & !CODE
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word(u64);

impl Word {
    #[inline]
    pub(super) fn time(self) -> u64 {
        self.0 & TIME
    }

    #[inline]
    fn is_frozen(self) -> bool {
        self.time() == 0
    }

    #[inline]
    fn with_time(self, time: u64) -> Self {
        Self(self.0 & !TIME | time)
    }

    #[inline]
    fn same_version(self, other: Self) -> bool {
        (self.0 ^ other.0) & !TIME == 0
    }

    fn frozen(self) -> Self {
        Self((self.0 & !TIME).wrapping_add(NEXT_VERSION))
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    id: AtomicU64,
    time: AtomicU64,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            id: AtomicU64::new(0),
            time: AtomicU64::new(0),
        }
    }

    /// Whether it holds this key, written under this fill time.
    #[inline]
    pub(super) fn holds(&self, id: u64) -> bool {
        // ORDERING: Acquire. Pairs with the store of the id: the time is then frozen or of the new
        // key, never of the one before.
        self.id.load(Ordering::Acquire) == id
    }

    pub(super) fn id(&self) -> u64 {
        self.id.load(Ordering::Acquire)
    }

    /// Whether it holds the key with this tag, under whatever fill time.
    pub(super) fn has_tag(&self, wanted: u64) -> bool {
        let id = self.id();
        id != 0 && tag(id) == wanted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.id() == 0
    }

    /// The time word of the key `id`; `None` when the place is changing or has changed hands.
    #[inline]
    fn word_of(&self, id: u64) -> Option<Word> {
        // ORDERING: Acquire. Pairs with the store that ends a freeze: whoever sees a time of the
        // next key sees its id as well, in the second look.
        let word = Word(self.time.load(Ordering::Acquire));
        let same = self.id.load(Ordering::Relaxed) == id;
        (same && !word.is_frozen()).then_some(word)
    }

    /// Decides a call of the key `id`; `None` as in `word_of`.
    #[inline]
    pub(super) fn take(
        &self,
        id: u64,
        n: u32,
        now: u64,
        quota: &Quota,
    ) -> Option<Result<Admitted, Limited>> {
        let mut word = self.word_of(id)?;
        loop {
            let next = match cell::decide(word.time(), n, now, quota) {
                Ok(next) => next,
                Err(limited) => return Some(Err(limited)),
            };
            if next == word.time() {
                return Some(Ok(cell::admitted(next, now, quota)));
            }
            match self.exchange(word, next) {
                Ok(()) => return Some(Ok(cell::admitted(next, now, quota))),
                Err(seen) => word = seen?,
            }
        }
    }

    /// Gives filling time back to the key `id`; `None` as in `word_of`.
    pub(super) fn give_back(&self, id: u64, nanos: u64, now: u64) -> Option<()> {
        let mut word = self.word_of(id)?;
        loop {
            let time = word.time();
            let next = cell::given_back(time, nanos, now).max(1);
            if next == time {
                return Some(());
            }
            match self.exchange(word, next) {
                Ok(()) => return Some(()),
                Err(seen) => word = seen?,
            }
        }
    }

    /// Stores `time`; else answers the word that came between, `None` if it is no longer the same
    /// key's.
    #[inline]
    fn exchange(&self, word: Word, time: u64) -> Result<(), Option<Word>> {
        // ORDERING: Relaxed. The word publishes nothing; an exchange carries on the release of the
        // store that it replaces.
        let next = word.with_time(time).0;
        match self
            .time
            .compare_exchange(word.0, next, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            Err(seen) => {
                let seen = Word(seen);
                Err((seen.same_version(word) && !seen.is_frozen()).then_some(seen))
            }
        }
    }

    /// When the bucket of the key with this tag is full again, in the terms given; `None` when the
    /// place is changing or has changed hands.
    pub(super) fn look(&self, wanted: u64, now: u64, terms: &Terms, fills: &Fills) -> Option<u64> {
        let id = self.id();
        if tag(id) != wanted {
            return None;
        }
        let time = self.word_of(id)?.time();
        Some(if id & CODE == terms.code {
            time
        } else {
            converted(time, now, fills.of(id & CODE), &terms.quota)
        })
    }
}

/// What is done under the lock of the shard.
impl Slot {
    /// The time of its key; 0 in an empty place.
    pub(super) fn word(&self) -> Word {
        Word(self.time.load(Ordering::Relaxed))
    }

    /// Keeps calls away; answers the last word before. Ended by `fill`, or stays with `clear`.
    pub(super) fn freeze(&self) -> Word {
        // ORDERING: Relaxed. The version changes only under this lock, and the stores of the id
        // that follow are releases.
        let frozen = self.word().frozen();
        Word(self.time.swap(frozen.0, Ordering::Relaxed))
    }

    /// Freezes only if no call came between.
    pub(super) fn freeze_if(&self, word: Word) -> bool {
        let frozen = word.frozen().0;
        self.time
            .compare_exchange(word.0, frozen, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Empties a frozen place.
    pub(super) fn clear(&self) {
        self.id.store(0, Ordering::Release);
    }

    /// Puts a key into a frozen place.
    pub(super) fn fill(&self, id: u64, time: u64) {
        // ORDERING: Release, both; see `holds` and `word_of`.
        self.id.store(id, Ordering::Release);
        let word = self.word().with_time(time.clamp(1, TIME));
        self.time.store(word.0, Ordering::Release);
    }

    /// Moves its key to an empty place of another bucket of the key.
    pub(super) fn move_to(&self, empty: &Self) {
        let word = self.freeze();
        empty.fill(self.id(), word.time());
        self.clear();
    }

    /// Brings the balance into the terms given, in proportion.
    pub(super) fn convert(&self, now: u64, terms: &Terms, fills: &Fills) {
        let id = self.id();
        if id & CODE == terms.code {
            return;
        }
        let time = self.freeze().time();
        let time = converted(time, now, fills.of(id & CODE), &terms.quota);
        self.fill(tag(id) | terms.code, time);
    }
}

/// A time of full under another quota: the same share of the burst is missing, rounded up.
fn converted(time: u64, now: u64, (least, most): (u64, u64), quota: &Quota) -> u64 {
    if time <= now {
        return time;
    }
    // Of the fills it may have been the shortest, so that the share is not below what it was. What
    // is missing beyond the longest is a step back of the clock, and stays as time.
    let missing = time - now;
    let beyond = missing.saturating_sub(most);
    let spare = missing.min(most).saturating_sub(least) + beyond;
    let time = cell::rescaled(time - spare, now, least, quota.fill()) + beyond;
    time.clamp(1, TIME)
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(permits: u32, burst: u32) -> Quota {
        Quota::per_second(permits).unwrap().burst(burst).unwrap()
    }

    #[test]
    fn a_word_of_an_earlier_owner_cannot_be_exchanged() {
        let (slot, quota, code) = (Slot::new(), quota(1, 5), 7);
        let (old, new) = (1 << 20 | code, 2 << 20 | code);
        slot.freeze();
        slot.fill(old, 10);
        let late = slot.word_of(old).unwrap();
        slot.freeze();
        slot.fill(new, 10);
        assert_eq!(slot.exchange(late, 20), Err(None));
        assert_eq!(slot.take(old, 1, 0, &quota), None);
        assert_eq!(slot.word_of(new).map(Word::time), Some(10));
    }

    #[test]
    fn a_refund_fills_at_most_to_the_burst() {
        let slot = Slot::new();
        let id = 1 << 20 | 7;
        slot.fill(id, 5_000_000_000);
        slot.give_back(id, 1_000_000_000, 0).unwrap();
        assert_eq!(slot.word().time(), 4_000_000_000);
        slot.give_back(id, u64::MAX, 700).unwrap();
        assert_eq!(slot.word().time(), 700);
        // The clock has stepped back: what is full stays as it is.
        slot.give_back(id, 1, 800).unwrap();
        assert_eq!(slot.word().time(), 700);
    }

    proptest! {
        #[test]
        fn a_changed_quota_keeps_the_share_that_is_missing(
            old in (1..1000_u32, 1..1000_u32), new in (1..1000_u32, 1..1000_u32),
            now in 1..1_000_000_000_000_u64, taken in 0..1000_u32, doubt in 0..1000_u64,
        ) {
            let (old, new) = (quota(old.0, old.1), quota(new.0, new.1));
            let full = old.fill();
            let missing = old.interval() * u64::from(taken % (old.burst_size() + 1));
            let exact = u128::from(missing) * u128::from(new.fill());
            let after = converted(now + missing, now, (full, full), &new) - now;
            prop_assert_eq!(u128::from(after), exact.div_ceil(full.into()));
            // Where the old fill time is known only roughly, never less is missing.
            let rough = (full - doubt.min(full / 20_000), full + doubt);
            let roughly = converted(now + missing, now, rough, &new) - now;
            prop_assert!(after <= roughly && roughly <= after + after / 19_000 + 2);
            prop_assert!(roughly <= new.fill());
        }

        #[test]
        fn what_the_clock_stepped_back_stays_missing(beyond in 0..u64::from(u32::MAX)) {
            let (old, new) = (quota(1, 1), quota(1, 7));
            let after = converted(old.fill() + beyond, 0, (old.fill(), old.fill()), &new);
            prop_assert_eq!(after, new.fill() + beyond);
        }
    }
}
