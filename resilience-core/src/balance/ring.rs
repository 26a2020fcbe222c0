//! A ring of points, each of which belongs to an endpoint.

use crate::random::mix;

/// Sorted points with the index of the endpoint they belong to.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: Box<[(u64, u32)]>,
    /// The first point of each of equal parts of the ring. There are about as many as points, which
    /// are evenly spread, so that a search ends after a point or two and does not walk through
    /// memory.
    parts: Box<[u32]>,
    /// Takes a place on the ring to its part.
    shift: u32,
}

/// Points per weight, as ketama's: shares then differ by about a twelfth (1 / √160).
const POINTS: u64 = 160;

/// The most points that are kept, 16 MiB. Beyond that all weights have half of the points, and
/// again half.
const MOST: u64 = 1 << 20;

impl Ring {
    /// Points for endpoints by name and weight. They depend on nothing else, so that a point
    /// stays where it is whatever becomes of others.
    pub(super) fn new<'a>(endpoints: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let sum: u64 = endpoints.clone().map(|(_, weight)| u64::from(weight)).sum();
        let halved = (0..)
            .find(|by| (sum * POINTS) >> by <= MOST)
            .unwrap_or(u64::BITS - 1);
        let mut points: Vec<_> = (0..)
            .zip(endpoints)
            .flat_map(|(index, (name, weight))| {
                let seed = hash_key(name.as_bytes());
                let many = match u64::from(weight) * POINTS {
                    0 => 0,
                    many => (many >> halved).max(1),
                };
                (0..many).map(move |point| (mix(seed ^ mix(point)), index))
            })
            .collect();
        // Of two endpoints at one point the one with the lower index comes first; 2^20 points
        // meet with a chance of 2^-25.
        points.sort_unstable();
        if points.is_empty() {
            return Self::default();
        }
        let bits = points.len().next_power_of_two().trailing_zeros().max(1);
        let shift = u64::BITS - bits;
        let parts = (0..1_u64 << bits).scan(0, |first: &mut usize, part| {
            let before = |(point, _): &&(u64, u32)| point >> shift < part;
            *first += points[*first..].iter().take_while(before).count();
            u32::try_from(*first).ok()
        });
        Self {
            parts: parts.collect(),
            points: points.into(),
            shift,
        }
    }

    /// The endpoints from `key` on around the ring, beginning with the one it belongs to; those
    /// that have many points come again and again.
    #[inline]
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let part = (key >> self.shift) as usize;
        let first = self.parts.get(part).map_or(0, |first| *first as usize);
        let before = |(point, _): &&(u64, u32)| *point < key;
        let first = first + self.points[first..].iter().take_while(before).count();
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }
}

/// A key for [`Criteria::key`](super::Criteria::key) from bytes, such as a user's id or a path:
/// FNV-1a, and SplitMix64's finaliser.
///
/// The same in every process and version, so that gateways side by side send a key to the same
/// endpoint. It is not secret: whoever chooses their keys can choose their endpoint.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(endpoints: &[(String, u32)]) -> Ring {
        Ring::new(endpoints.iter().map(|(name, weight)| (&**name, *weight)))
    }

    /// Whom `key` belongs to in the ring of `endpoints`.
    fn owner<'a>(ring: &Ring, endpoints: &'a [(String, u32)], key: u64) -> Option<&'a str> {
        ring.from(key).next().map(|index| &*endpoints[index].0)
    }

    fn endpoints() -> impl Strategy<Value = Vec<(String, u32)>> {
        let weights = prop::collection::vec(0_u32..4, 1..8);
        weights.prop_map(|weights| {
            let names = (0..).map(|index| format!("10.0.0.{index}:80"));
            names.zip(weights).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_endpoint_that_goes_moves_only_its_own_keys(
            all in endpoints(), gone: prop::sample::Index, keys in prop::collection::vec(any::<u64>(), 50),
        ) {
            let mut rest = all.clone();
            let (gone, _) = rest.remove(gone.index(all.len()));
            let (old, new) = (ring(&all), ring(&rest));
            for key in keys {
                let before = owner(&old, &all, key);
                if before != Some(&*gone) {
                    prop_assert_eq!(before, owner(&new, &rest, key));
                }
            }
        }

        #[test]
        fn a_larger_weight_only_draws_keys_and_a_smaller_one_only_gives_keys_away(
            all in endpoints(), one: prop::sample::Index, keys in prop::collection::vec(any::<u64>(), 50),
        ) {
            let mut heavier = all.clone();
            let one = one.index(all.len());
            heavier[one].1 += 1;
            let (old, new) = (ring(&all), ring(&heavier));
            for key in keys {
                let (light, heavy) = (owner(&old, &all, key), owner(&new, &heavier, key));
                prop_assert!(light == heavy || heavy == Some(&*all[one].0));
            }
        }

        #[test]
        fn the_first_point_from_a_key_on_is_the_next_around_the_ring(
            all in endpoints(), keys in prop::collection::vec(any::<u64>(), 50),
        ) {
            let ring = ring(&all);
            let points = ring.points.iter().step_by(211);
            let ends = points.flat_map(|(at, _)| [at.wrapping_sub(1), *at, at.wrapping_add(1)]);
            for key in ends.chain(keys).chain([0, u64::MAX]) {
                let next = ring.points.iter().min_by_key(|(point, _)| point.wrapping_sub(key));
                prop_assert_eq!(ring.from(key).next(), next.map(|(_, index)| *index as usize));
            }
        }

        #[test]
        fn the_order_in_which_endpoints_are_told_moves_no_key(all in endpoints(), key: u64) {
            let reversed: Vec<_> = all.iter().rev().cloned().collect();
            let (one, other) = (ring(&all), ring(&reversed));
            prop_assert_eq!(owner(&one, &all, key), owner(&other, &reversed, key));
        }
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let names = [("a", 1), ("b", 2), ("c", 1)];
        let ring = Ring::new(names.into_iter());
        let mut keys = [0_i32; 3];
        for key in 0..40_000_u64 {
            keys[ring.from(hash_key(&key.to_le_bytes())).next().unwrap()] += 1;
        }
        for (keys, expected) in keys.iter().zip([10_000, 20_000, 10_000]) {
            assert!((keys - expected).abs() < expected / 4, "{keys}");
        }
    }

    #[test]
    fn a_ring_of_the_heaviest_weights_keeps_its_bound() {
        let names: Vec<_> = (0..100).map(|index| index.to_string()).collect();
        let ring = Ring::new(names.iter().map(|name| (&**name, 1_000)));
        assert!(ring.points.len() as u64 <= MOST);
        assert!((0..100).all(|index| ring.points.iter().any(|(_, owner)| *owner == index)));
    }

    // Gateways of different versions must agree.
    #[test]
    fn the_hash_of_a_key_never_changes() {
        assert_eq!(hash_key(b""), mix(0xcbf2_9ce4_8422_2325));
        // FNV-1a of "foobar", from the test suite of the FNV draft.
        assert_eq!(hash_key(b"foobar"), mix(0x8594_4171_f739_67e8));
    }
}
