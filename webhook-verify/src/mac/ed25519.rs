//! Ed25519 (RFC 8032), strict and chunk by chunk.
//!
//! Strict means: `s` below the group order, the point `R` in its canonical form, and neither
//! `R` nor the public key of small order. So a signature cannot be changed into another
//! one for the same bytes, and may name a delivery.

use ed25519_dalek::{Signature, Signer as _, SigningKey, StreamVerifier, VerifyingKey};

use super::{Algorithm, Mac};

/// Decodes a public key; none of small order, under which nearly everything is signed.
pub(crate) fn public_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(bytes).ok()?;
    (!key.is_weak()).then_some(key)
}

/// One candidate under one key, while the signed bytes come in.
pub(crate) struct Check {
    pub(crate) candidate: Mac,
    stream: StreamVerifier,
}

impl Check {
    /// `None` when the candidate cannot be a signature of any bytes.
    pub(crate) fn new(key: &VerifyingKey, candidate: &Mac) -> Option<Self> {
        let signature = Signature::from_bytes(candidate.room());
        public_key(signature.r_bytes())?;
        Some(Self {
            candidate: *candidate,
            stream: key.verify_stream(&signature).ok()?,
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.stream.update(bytes);
    }

    /// The candidate, if it signs what came in.
    pub(crate) fn finish(self) -> Option<Mac> {
        let Self { candidate, stream } = self;
        stream.finalize_and_verify().ok().map(|()| candidate)
    }
}

/// Whether `signature` signs `signed`.
pub(crate) fn verifies(key: &VerifyingKey, signed: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = <&[u8; 64]>::try_from(signature) else {
        return false;
    };
    let candidate = Mac::new(Algorithm::Ed25519, signature);
    Check::new(key, &candidate).is_some_and(|mut check| {
        check.update(signed);
        check.finish().is_some()
    })
}

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Mac {
    Mac::new(Algorithm::Ed25519, &key.sign(bytes).to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hex_decode;

    /// RFC 8032 section 7.1, tests 1 to 3.
    #[test]
    fn the_published_signatures_are_made_and_accepted() {
        for (seed, public, bytes, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                &b""[..],
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let key = SigningKey::from_bytes(&hex_decode(seed.as_bytes()).unwrap());
            let public = public_key(&hex_decode(public.as_bytes()).unwrap()).unwrap();
            assert_eq!(key.verifying_key(), public);
            let mut signature: [u8; 64] = hex_decode(signature.as_bytes()).unwrap();
            assert_eq!(sign(&key, bytes).bytes(), signature);
            assert!(verifies(&public, bytes, &signature));
            assert!(!verifies(&public, b"other", &signature));
            for bit in (0..512).step_by(13) {
                signature[bit / 8] ^= 1 << (bit % 8);
                assert!(!verifies(&public, bytes, &signature), "bit {bit}");
                signature[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    /// With `s` and `s + L` both accepted anybody could make a second signature.
    #[test]
    fn a_second_form_of_a_signature_is_refused() {
        // L = 2^252 + 27742317777372353535851937790883648493, little-endian.
        let order: [u8; 32] =
            hex_decode(b"edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
                .unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut signature: [u8; 64] = *sign(&key, b"x").room();
        assert!(verifies(&key.verifying_key(), b"x", &signature));
        let mut carry = 0;
        for (byte, more) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(carry, 0, "s + L fits");
        assert!(!verifies(&key.verifying_key(), b"x", &signature));
    }

    #[test]
    fn points_of_small_order_are_refused_as_key_and_as_r() {
        // The neutral element: with s = 0 it "signs" everything under a weak key.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(public_key(&neutral).is_none());
        assert!(public_key(&[0; 32]).is_none(), "order 4");
        let mut signature = [0; 64];
        signature[0] = 1;
        let candidate = Mac::new(Algorithm::Ed25519, &signature);
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        assert!(Check::new(&key, &candidate).is_none());
    }
}
