//! Correlation ids of requests that bring none.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use uuid::fmt::Simple;
use uuid::{Builder, Uuid};

/// UUIDs of version 7 (RFC 9562). Asking the system for random bytes costs more than all else that
/// is done for an id, so they are a keyed hash of a count, under a key of this process; ahead of
/// them stands the end of the count itself, which keeps ids of one millisecond in order.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    key: RandomState,
    // ORDERING: Relaxed. Only that each value is given once matters.
    count: AtomicU64,
}

impl Ids {
    /// An id made at this time of day.
    pub(crate) fn next(&self, now: SystemTime) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let [.., high, low] = count.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = self.key.hash_one(count).to_be_bytes();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        // 64 bits of milliseconds last longer than the 48 that an id has.
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let random = [high, low, a, b, c, d, e, f, g, h];
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        text_of(id)
    }

    /// A UUID of version 4, as random as the ids above.
    pub(crate) fn random(&self) -> Uuid {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let halves = [(count, 0_u8), (count, 1)].map(|half| self.key.hash_one(half));
        let [high, low] = halves.map(u128::from);
        let random = (high << 64 | low).to_be_bytes();
        Builder::from_random_bytes(random).into_uuid()
    }
}

/// The id without hyphens.
pub(crate) fn text_of(id: Uuid) -> HeaderValue {
    let mut text = [0; Simple::LENGTH];
    let text = id.simple().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use uuid::{Variant, Version};

    use super::*;

    #[test]
    fn random_ids_are_of_version_4_and_no_two_have_a_half_in_common() {
        let (ids, others) = (Ids::default(), Ids::default());
        let mut seen = BTreeSet::new();
        for _ in 0..5000 {
            for ids in [&ids, &others] {
                let id = ids.random();
                assert_eq!(id.get_version(), Some(Version::Random));
                assert_eq!(id.get_variant(), Variant::RFC4122);
                let (high, low) = id.as_u64_pair();
                assert!(seen.insert(high) && seen.insert(low));
            }
        }
    }

    #[test]
    fn ids_are_of_version_7_and_no_two_are_the_same() {
        let (ids, others) = (Ids::default(), Ids::default());
        let mut seen = BTreeSet::new();
        for _ in 0..5000 {
            for ids in [&ids, &others] {
                let id: Uuid = ids.next(UNIX_EPOCH).to_str().unwrap().parse().unwrap();
                assert_eq!(id.get_version(), Some(Version::SortRand));
                assert_eq!(id.get_variant(), Variant::RFC4122);
                // Without the time and the count: what another process differs by.
                assert!(seen.insert(id.as_u64_pair().1));
            }
        }
    }

    #[test]
    fn ids_are_in_the_order_in_which_they_were_made() {
        let ids = Ids::default();
        let mut last = HeaderValue::from_static("");
        for millis in [0, 1, 7_000_000_000_000] {
            let now = UNIX_EPOCH + Duration::from_millis(millis);
            for _ in 0..1000 {
                let id = ids.next(now);
                assert!(last < id, "{last:?} {id:?}");
                let bits: Uuid = id.to_str().unwrap().parse().unwrap();
                assert_eq!(bits.as_u128() >> 80, millis.into());
                last = id;
            }
        }
    }
}
