//! MACs and the only comparison they have.
//!
//! `Candidates` has no equality but [`Candidates::contain`], which looks at every
//! candidate in constant time; `Mac` derives neither `PartialEq` nor `Eq`.

use hmac::{Hmac, KeyInit};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

pub(crate) use self::algorithm::Algorithm;
pub use self::algorithm::Hash;

mod algorithm;
#[cfg(feature = "ecdsa")]
pub(crate) mod ecdsa;
#[cfg(feature = "ed25519")]
pub(crate) mod ed25519;
#[cfg(feature = "rsa")]
pub(crate) mod rsa;

/// The most candidate signatures one delivery may carry.
pub const MAX_CANDIDATES: usize = 16;

/// A computed or received signature, as long as its algorithm makes it.
// Aligned and the room in front: a MAC is written word by word and copied at once, and a load
// across two stores that are still on their way waits for both.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Mac {
    /// Zero beyond `len`.
    room: [u8; 64],
    algorithm: Algorithm,
    len: u8,
}

impl Mac {
    /// `bytes` are as many as `algorithm` makes; what is beyond 64 is cut off.
    pub(crate) fn new(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let len = bytes.len().min(64);
        let mut room = [0; 64];
        room[..len].copy_from_slice(&bytes[..len]);
        Self {
            algorithm,
            // At most 64.
            len: len as u8,
            room,
        }
    }

    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.room.get(..usize::from(self.len)).unwrap_or(&[])
    }

    fn words(&self) -> [u64; 8] {
        let (words, _) = self.room.as_chunks();
        std::array::from_fn(|i| u64::from_ne_bytes(words[i]))
    }

    #[cfg(feature = "ed25519")]
    pub(crate) const fn room(&self) -> &[u8; 64] {
        &self.room
    }
}

/// The HMAC states of one key, with both pads absorbed; the scheme picks the hash.
#[derive(Clone)]
pub(crate) struct SharedKey {
    pub(crate) sha256: Hmac<Sha256>,
    pub(crate) sha512: Hmac<Sha512>,
    pub(crate) sha1: Hmac<Sha1>,
}

impl SharedKey {
    /// Absorbs `key`; an HMAC key may have any length.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self {
            sha256: absorbed(key),
            sha512: absorbed(key),
            sha1: absorbed(key),
        }
    }
}

fn absorbed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC takes keys of any length")
}

pub(crate) fn finish<M: hmac::Mac>(hash: Hash, state: M) -> Mac {
    Mac::new(Algorithm::Hmac(hash), &state.finalize().into_bytes())
}

#[cfg(any(feature = "ecdsa", feature = "rsa"))]
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::Digest as _;
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The decoded signatures of one delivery.
pub(crate) struct Candidates {
    first: Mac,
    /// Nearly all deliveries carry one, so room for others is not even written before a
    /// second one comes.
    others: Option<[Mac; MAX_CANDIDATES - 1]>,
    len: usize,
}

const NONE: Mac = Mac {
    algorithm: Algorithm::Ed25519,
    len: 0,
    room: [0; 64],
};

impl Candidates {
    pub(crate) const fn new() -> Self {
        Self {
            first: NONE,
            others: None,
            len: 0,
        }
    }

    /// Adds one; false when there is no room.
    pub(crate) fn push(&mut self, mac: Mac) -> bool {
        let slot = match self.len.checked_sub(1) {
            None => Some(&mut self.first),
            Some(at) => self
                .others
                .get_or_insert([NONE; MAX_CANDIDATES - 1])
                .get_mut(at),
        };
        let Some(slot) = slot else {
            return false;
        };
        *slot = mac;
        self.len += 1;
        true
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn all(&self) -> impl Iterator<Item = &Mac> {
        let others = self.others.iter().flatten();
        std::iter::once(&self.first).chain(others).take(self.len)
    }

    /// Whether one of the candidates is `mac`; always compares all bytes of all of them.
    pub(crate) fn contain(&self, mac: &Mac) -> bool {
        let mut found = Choice::from(0);
        for candidate in self.all() {
            found |= compare(candidate, mac);
        }
        found.into()
    }

    /// The Ed25519 signatures, which are public data.
    #[cfg(feature = "ed25519")]
    pub(crate) fn ed25519(&self) -> impl Iterator<Item = &Mac> {
        self.all()
            .filter(|mac| matches!(mac.algorithm, Algorithm::Ed25519))
    }

    /// The ECDSA signatures, which are public data.
    #[cfg(feature = "ecdsa")]
    pub(crate) fn ecdsa(&self) -> impl Iterator<Item = &Mac> {
        self.all()
            .filter(|mac| matches!(mac.algorithm, Algorithm::EcdsaP256))
    }
}

impl std::fmt::Debug for Candidates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidates")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Lengths and algorithms are no secrets; values of another length are another value.
fn compare(candidate: &Mac, mac: &Mac) -> Choice {
    #[cfg(test)]
    tests::COMPARED.with(|count| count.set(count.get() + 1));
    let algorithm = candidate.algorithm.code().ct_eq(&mac.algorithm.code());
    let len = candidate.len.ct_eq(&mac.len);
    // Eight comparisons in place of up to 64: each ends in a barrier for the compiler.
    algorithm & len & candidate.words().ct_eq(&mac.words())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use hmac::Mac as _;

    use super::*;

    thread_local! { pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) }; }

    fn comparisons(run: impl FnOnce()) -> usize {
        COMPARED.with(|count| count.set(0));
        run();
        COMPARED.with(Cell::get)
    }

    /// Candidate values that differ from `mac` at the first byte, so that an early exit shows.
    fn sixteen_with_match_at(position: usize, mac: [u8; 32]) -> Candidates {
        let mut all = Candidates::new();
        for i in 0..MAX_CANDIDATES {
            let mut other = mac;
            other[0] ^= 0xff;
            assert!(all.push(of_sha256(if i == position { mac } else { other })));
        }
        all
    }

    fn of_sha256(bytes: [u8; 32]) -> Mac {
        Mac::new(Algorithm::Hmac(Hash::Sha256), &bytes)
    }

    #[test]
    fn the_same_bytes_of_another_algorithm_or_length_are_another_value() {
        let wide = [7; 64];
        let hmac = Mac::new(Algorithm::Hmac(Hash::Sha512), &wide);
        let mut all = Candidates::new();
        assert!(all.push(Mac::new(Algorithm::Ed25519, &wide)));
        assert!(all.push(Mac::new(Algorithm::Hmac(Hash::Sha512), &wide[..63])));
        assert!(all.push(Mac::new(Algorithm::Hmac(Hash::Sha512), &[])));
        let mut end = [7; 64];
        end[63] = 0;
        assert!(!all.contain(&Mac::new(Algorithm::Hmac(Hash::Sha512), &end)));
        assert!(!all.contain(&hmac));
        assert!(all.push(hmac) && all.contain(&hmac));
    }

    #[test]
    fn every_candidate_is_compared_wherever_the_match_is() {
        let mac = [7; 32];
        for position in [0, 7, 15, 99] {
            let all = sixteen_with_match_at(position, mac);
            let count = comparisons(|| assert_eq!(all.contain(&of_sha256(mac)), position < 16));
            assert_eq!(count, MAX_CANDIDATES, "match at {position}");
        }
    }

    #[test]
    fn a_seventeenth_candidate_has_no_room() {
        let mut all = sixteen_with_match_at(0, [7; 32]);
        assert!(!all.push(of_sha256([7; 32])));
    }

    /// Timing cannot be asserted on a shared machine, so this reads the source: the code of
    /// this module (tests cut off) compares MAC bytes by `ct_eq` and by nothing else, and no
    /// other module can, because the bytes are compared nowhere else.
    #[test]
    fn mac_bytes_are_compared_by_ct_eq_only() {
        let code = include_str!("mod.rs")
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or("");
        let body = code.split("fn compare").nth(1).unwrap_or("");
        assert!(
            body.contains("algorithm & len & candidate.words().ct_eq(&mac.words())"),
            "compare() must use subtle's ct_eq"
        );
        let contain = code.split("fn contain").nth(1).unwrap_or("");
        let contain = contain.split("\n    }\n").next().unwrap_or("");
        assert!(contain.contains("found |= compare(candidate, mac)"));
        for banned in ["return", "break", ".any(", "if "] {
            assert!(
                !contain.contains(banned),
                "`{banned}` in contain() is an early exit"
            );
        }
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            assert!(
                !line.contains("==") || line.contains("self.len == 0"),
                "plain comparison in mac: {line}"
            );
            assert!(
                !line.contains("PartialEq"),
                "a MAC has no equality operator: {line}"
            );
        }
        for (name, other) in [
            ("verifier.rs", include_str!("../verifier.rs")),
            ("session/run.rs", include_str!("../session/run.rs")),
            ("session/mod.rs", include_str!("../session/mod.rs")),
            ("session/state.rs", include_str!("../session/state.rs")),
            ("session/layout.rs", include_str!("../session/layout.rs")),
            (
                "session/document/mod.rs",
                include_str!("../session/document/mod.rs"),
            ),
            ("secret/material.rs", include_str!("../secret/material.rs")),
            ("scheme/mod.rs", include_str!("../scheme/mod.rs")),
            ("scheme/layout.rs", include_str!("../scheme/layout.rs")),
            (
                "scheme/signature.rs",
                include_str!("../scheme/signature.rs"),
            ),
        ] {
            assert!(
                !other.contains("bytes() ==") && !other.contains("== mac"),
                "{name}"
            );
        }
        assert!(include_str!("../session/state.rs").contains("candidates.contain(&mac)"));
        assert!(include_str!("../secret/material.rs").contains("one.contain(&mac)"));
    }

    /// RFC 4231, test cases 1, 2, 6 and 7.
    #[test]
    fn hmac_matches_rfc_4231() {
        let long_key = [0xaa; 131];
        let cases: [(&[u8], &[u8], &str); 4] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (&long_key, b"Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
            (&long_key, b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
        ];
        for (key, data, expected) in cases {
            let mut state = SharedKey::new(key).sha256;
            state.update(data);
            let mac = finish(Hash::Sha256, state);
            assert_eq!(crate::encoding::hex_encode(mac.bytes()), expected);
        }
    }

    /// RFC 4231 (SHA-512) and RFC 2202 (SHA-1), test case 2.
    #[test]
    fn the_other_hashes_match_their_published_values() {
        let key = SharedKey::new(b"Jefe");
        let data = b"what do ya want for nothing?";
        let sha512 = finish(Hash::Sha512, key.sha512.chain_update(data));
        let sha1 = finish(Hash::Sha1, key.sha1.chain_update(data));
        assert_eq!(
            crate::encoding::hex_encode(sha512.bytes()),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
        assert_eq!(
            crate::encoding::hex_encode(sha1.bytes()),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }
}
