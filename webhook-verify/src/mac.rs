//! MACs and the only comparison they have.
//!
//! `Candidates` has no equality but [`Candidates::contain`], which looks at every
//! candidate in constant time; `Mac` derives neither `PartialEq` nor `Eq`.

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The most candidate signatures one delivery may carry.
pub const MAX_CANDIDATES: usize = 16;

/// The HMAC state of one key, with both pads absorbed.
pub(crate) type KeyState = Hmac<Sha256>;

/// A computed or received HMAC-SHA256 value.
#[derive(Clone, Copy)]
pub(crate) struct Mac(pub(crate) [u8; 32]);

/// Absorbs `key`; an HMAC key may have any length.
pub(crate) fn key_state(key: &[u8]) -> KeyState {
    KeyState::new_from_slice(key).expect("HMAC takes keys of any length")
}

pub(crate) fn finish(state: KeyState) -> Mac {
    Mac(state.finalize().into_bytes().into())
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The decoded signatures of one delivery.
pub(crate) struct Candidates {
    macs: [[u8; 32]; MAX_CANDIDATES],
    len: usize,
}

impl Candidates {
    pub(crate) const fn new() -> Self {
        Self {
            macs: [[0; 32]; MAX_CANDIDATES],
            len: 0,
        }
    }

    /// Adds one; false when there is no room.
    pub(crate) fn push(&mut self, mac: [u8; 32]) -> bool {
        let Some(slot) = self.macs.get_mut(self.len) else {
            return false;
        };
        *slot = mac;
        self.len += 1;
        true
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether one of the candidates is `mac`; always compares all bytes of all of them.
    pub(crate) fn contain(&self, mac: &Mac) -> bool {
        let mut found = Choice::from(0);
        for candidate in self.macs.iter().take(self.len) {
            found |= compare(candidate, mac);
        }
        found.into()
    }
}

impl std::fmt::Debug for Candidates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidates")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

fn compare(candidate: &[u8; 32], mac: &Mac) -> Choice {
    #[cfg(test)]
    tests::COMPARED.with(|count| count.set(count.get() + 1));
    candidate.ct_eq(&mac.0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
            assert!(all.push(if i == position { mac } else { other }));
        }
        all
    }

    #[test]
    fn every_candidate_is_compared_wherever_the_match_is() {
        let mac = [7; 32];
        for position in [0, 7, 15, 99] {
            let all = sixteen_with_match_at(position, mac);
            let count = comparisons(|| assert_eq!(all.contain(&Mac(mac)), position < 16));
            assert_eq!(count, MAX_CANDIDATES, "match at {position}");
        }
    }

    #[test]
    fn a_seventeenth_candidate_has_no_room() {
        let mut all = sixteen_with_match_at(0, [7; 32]);
        assert!(!all.push([7; 32]));
    }

    /// Timing cannot be asserted on a shared machine, so this reads the source: the code of
    /// this module (tests cut off) compares MAC bytes by `ct_eq` and by nothing else, and no
    /// other module can, because the bytes are compared nowhere else.
    #[test]
    fn mac_bytes_are_compared_by_ct_eq_only() {
        let code = include_str!("mac.rs")
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or("");
        let body = code.split("fn compare").nth(1).unwrap_or("");
        assert!(
            body.contains("candidate.ct_eq(&mac.0)"),
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
                "plain comparison in mac.rs: {line}"
            );
            assert!(
                !line.contains("PartialEq"),
                "a MAC has no equality operator: {line}"
            );
        }
        for (name, other) in [
            ("verifier.rs", include_str!("verifier.rs")),
            ("session.rs", include_str!("session.rs")),
            ("scheme.rs", include_str!("scheme.rs")),
        ] {
            assert!(
                !other.contains("mac.0 ==") && !other.contains("== mac"),
                "{name}"
            );
        }
        assert!(include_str!("session.rs").contains("candidates.contain(&mac)"));
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
            let mut state = key_state(key);
            state.update(data);
            assert_eq!(crate::encoding::hex_encode(&finish(state).0), expected);
        }
    }
}
