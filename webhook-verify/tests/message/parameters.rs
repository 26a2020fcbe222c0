//! Time, algorithm, key, tag and nonce.

use super::*;

#[test]
fn time_is_judged_around_created_and_up_to_expires() {
    let parts = by_hand(PARAMETERS);
    for (now, expected) in [
        (NOW + 300, Ok(())),
        (NOW + 301, Err(Reason::TooOld { by_seconds: 1 })),
        (NOW - 300, Ok(())),
        (NOW - 301, Err(Reason::TooNew { by_seconds: 1 })),
    ] {
        let verifier = verifier_at(&scheme(), &[&secret()], now);
        assert_eq!(verify(&verifier, &parts, BODY), expected);
    }
    let parts = by_hand(&format!("{PARAMETERS};expires=1700000010"));
    for (now, expected) in [
        (NOW + 10, Ok(())),
        (NOW + 11, Err(Reason::TooOld { by_seconds: 1 })),
    ] {
        let verifier = verifier_at(&scheme(), &[&secret()], now);
        assert_eq!(verify(&verifier, &parts, BODY), expected);
    }
    // A long life does not stretch the tolerance.
    let parts = by_hand(&format!("{PARAMETERS};expires=1800000000"));
    let verifier = verifier_at(&scheme(), &[&secret()], NOW + 301);
    let too_old = Err(Reason::TooOld { by_seconds: 1 });
    assert_eq!(verify(&verifier, &parts, BODY), too_old);
}

#[test]
fn a_stale_delivery_is_refused_before_its_body_is_read() {
    let parts = by_hand(PARAMETERS);
    let verifier = verifier_at(&scheme(), &[&secret()], NOW + 301);
    let error = verifier.begin(&parts, None).unwrap_err();
    assert_eq!(error.step(), Step::Timestamp);
}

#[test]
fn a_signer_can_end_a_delivery_itself() {
    let scheme = policy().expires_after(Duration::from_millis(10_999));
    let scheme = scheme.build().unwrap();
    let mut parts = request("/hook");
    let signer = Signer::new(scheme.clone(), secret());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert!(text(&parts, "signature-input").contains(";expires=1700000010"));
    let late = verifier_at(&scheme, &[&secret()], NOW + 11);
    let too_old = Err(Reason::TooOld { by_seconds: 1 });
    assert_eq!(verify(&late, &parts, BODY), too_old);
}

#[test]
fn the_algorithm_is_that_of_the_key() {
    let named = |name: &str| by_hand(&format!("{PARAMETERS};alg=\"{name}\""));
    assert_eq!(verify(&verifier(), &named("hmac-sha256"), BODY), Ok(()));
    for name in ["ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512"] {
        let answer = verify(&verifier(), &named(name), BODY);
        assert_eq!(answer, Err(Reason::SignatureMismatch), "{name}");
    }
    for name in ["", "none", "hmac-sha512", "rsa-v1_5-sha256", "HMAC-SHA256"] {
        let answer = verify(&verifier(), &named(name), BODY);
        assert_eq!(answer, Err(Reason::FieldMalformed("alg".into())), "{name}");
    }
}

/// The oldest trick: an HMAC under the bytes of a public key, which everybody knows.
#[cfg(feature = "ed25519")]
#[test]
fn a_public_key_is_no_shared_secret() {
    // RFC 8032, 7.1, test 1.
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let key = Secret::ed25519_hex("k", public).unwrap();
    let verifier = verifier_at(&scheme(), &[&key], NOW);
    let as_shared = Secret::hex("k", public).unwrap();
    let mut parts = request("/hook");
    let signer = Signer::new(scheme(), as_shared.clone());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&verifier, &parts, BODY), mismatch);
    let fooled = verifier_at(&scheme(), &[&as_shared], NOW);
    assert_eq!(verify(&fooled, &parts, BODY), Ok(()));
}

#[test]
fn an_rsa_algorithm_that_is_not_the_chosen_one_is_refused_by_name() {
    let v1_5 = policy().rsa_v1_5().build().unwrap();
    for (scheme, name) in [(v1_5, "rsa-pss-sha512"), (scheme(), "rsa-v1_5-sha256")] {
        let parts = by_hand(&format!("{PARAMETERS};alg=\"{name}\""));
        let verifier = verifier_at(&scheme, &[&secret()], NOW);
        let malformed = Err(Reason::FieldMalformed("alg".into()));
        assert_eq!(verify(&verifier, &parts, BODY), malformed);
    }
}

/// Both signatures were made by OpenSSL.
#[cfg(feature = "rsa")]
#[test]
fn rsa_keys_verify_the_one_padding_that_is_chosen() {
    let key = include_str!("../vectors/keys/rsa2048.pub.pem");
    let key = Secret::pem("k", key).unwrap();
    let pss = verifier_at(&scheme(), &[&key], NOW);
    let v1_5 = verifier_at(&policy().rsa_v1_5().build().unwrap(), &[&key], NOW);
    let by_rsa = |signature: &str| {
        let mut parts = by_hand(PARAMETERS);
        set(&mut parts, "signature", &format!("a=:{signature}:"));
        parts
    };
    let mismatch = || Err(Reason::SignatureMismatch);
    let parts = by_rsa(V1_5);
    assert_eq!(verify(&v1_5, &parts, BODY), Ok(()));
    assert_eq!(verify(&pss, &parts, BODY), mismatch());
    let parts = by_rsa(PSS);
    assert_eq!(verify(&pss, &parts, BODY), Ok(()));
    assert_eq!(verify(&v1_5, &parts, BODY), mismatch());
}

#[cfg(feature = "rsa")]
const V1_5: &str = "yY6u9yMyWpSxTmdeXawv465pPZGiw6B95Nsuv4GXY69iLztX1oaLDjYFvOmstW+dk3nV86rOJKTnCCn7nuuYN9r1OlDz8xv95EgWgUjXQPj8usHIxx9ePE6xyfIeArE0sQwh51AFrXbsi3RdSoYMi7ojZ1oz7sry5JfMaUpnC+EyKwIwc4aJADpctJSUU801A7c4bSdnswrSSXOeq1vboncVR4VkmKTVcKZA/8Q7PU2TIShVtkWyITrU825yyoaxLIz+2y8+EkSdWKL7UBAxXXwYMlUBTgOEbh9MMF/pQPkWDKN93/0ALx900v2MJlDF787s3ZluAFIqPtBJ/RbxGQ==";
#[cfg(feature = "rsa")]
const PSS: &str = "jfPfSy2OziovtJFnyWB8y/5S44qIOef2nKUfA/0e3GtS/WUfBAPPklAkoBdrqmMaQgRzWMOj+kuOZ4IyMzwpaS3ZX9HWXluGCQXtCWeHcfhgihGMzzz3oIXKYmjWsSPyZB6Yi+sosuy/nOOajBF4dQBJ45niOQrExo8XBI5oY7+TqyjaCPNmOp8HIjcCP3m0ufAyMG1LFZwnJacY5DgcELKoljA3eOcW7b35gIc0eVpKUgo9idfwXB9UFSRQ/ZIg9eMtdo1+lA0z1/OcqtzQx2N5jMw+Ep3FXREaI35VrTgyLgNHS2I75VB7XpDjFPipXNu9ctiPUw5iUx9r/zLmuQ==";

#[test]
fn a_tag_keeps_signatures_of_other_applications_out() {
    let scheme = policy().tag("hook").build().unwrap();
    let verifier = verifier_at(&scheme, &[&secret()], NOW);
    let tagged = |tag: &str| by_hand(&format!("{PARAMETERS}{tag}"));
    assert_eq!(verify(&verifier, &tagged(";tag=\"hook\""), BODY), Ok(()));
    for tag in ["", ";tag=\"Hook\"", ";tag=\"other\""] {
        let answer = verify(&verifier, &tagged(tag), BODY);
        assert_eq!(answer, Err(Reason::FieldMissing("tag".into())));
    }
    let mut parts = request("/hook");
    let signer = Signer::new(scheme, secret());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert_eq!(verify(&verifier, &parts, BODY), Ok(()));
    for bad in ["", "a\nb", "é"] {
        let bad = policy().tag(bad).build();
        assert_eq!(bad.unwrap_err(), SchemeError::Tag);
    }
}

#[test]
fn an_unknown_key_id_is_refused_also_when_a_key_made_the_signature() {
    let parts = by_hand(";created=1700000000;keyid=\"old\"");
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&verifier(), &parts, BODY), mismatch);
    let old = Secret::new("old", KEY).unwrap();
    let both = verifier_at(&scheme(), &[&secret(), &old], NOW);
    let verified = both.verify(&parts, None, BODY).unwrap();
    assert_eq!(verified.key_id(), "old");
}

#[test]
fn a_rotated_key_signs_until_its_end() {
    let new = Secret::new("new", b"another secret, of 32 random bytes").unwrap();
    let keys = KeySet::new([secret()]).unwrap();
    keys.rotate(&new, AT).unwrap();
    let at = |now: u64| {
        let builder = Verifier::builder(scheme()).clock(ManualWallClock::new(now));
        builder.keys(keys.clone()).build().unwrap()
    };
    let old = signed("/hook");
    assert_eq!(verify(&at(NOW - 1), &old, BODY), Ok(()));
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&at(NOW), &old, BODY), mismatch);
    let mut parts = request("/hook");
    let signer = Signer::new(scheme(), new);
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert_eq!(verify(&at(NOW), &parts, BODY), Ok(()));
}

#[test]
fn a_nonce_is_taken_once_under_each_key() {
    let scheme = policy().nonce().build().unwrap();
    assert!(scheme.has_id());
    let builder = Verifier::builder(scheme.clone()).clock(ManualWallClock::new(NOW));
    let other = Secret::new("other", b"another secret, of 32 random bytes").unwrap();
    let builder = builder.secret(secret()).secret(other.clone());
    let builder = builder.replay(MemoryReplayStore::new(8));
    let verifier = builder.build().unwrap();
    let name = |key: &Secret, id: &str, at: u64, body: &[u8]| {
        let mut parts = request("/hook");
        let signer = Signer::new(scheme.clone(), key.clone());
        let at = Duration::from_secs(at);
        let headers = signer.sign_request(&parts, Some(id), at, body).unwrap();
        parts.headers.extend(headers);
        *verifier.verify(&parts, None, body).unwrap().replay_key()
    };
    let first = name(&secret(), "n1", NOW, BODY);
    // A retry is signed anew.
    assert_eq!(name(&secret(), "n1", NOW + 9, b"{}"), first);
    assert_ne!(name(&secret(), "n2", NOW, BODY), first);
    assert_ne!(name(&other, "n1", NOW, BODY), first);
    assert_eq!(
        verify(&verifier, &by_hand(PARAMETERS), BODY),
        Err(Reason::FieldMissing("nonce".into()))
    );
    let signer = Signer::new(scheme.clone(), secret());
    let without = signer.sign_request(&request("/hook"), None, AT, BODY);
    assert_eq!(without.unwrap_err(), SignError::Id);
}

#[test]
fn without_a_nonce_the_signed_bytes_name_the_delivery() {
    assert!(!scheme().has_id());
    let key = |parts: &Parts| *verifier().verify(parts, None, BODY).unwrap().replay_key();
    let first = key(&by_hand(PARAMETERS));
    assert_eq!(key(&by_hand(PARAMETERS)), first);
    let relabelled = {
        let mut parts = request("/hook");
        set(&mut parts, "content-digest", &sha_256(BODY));
        add_by_hand(&mut parts, "other", PARAMETERS);
        parts
    };
    assert_eq!(key(&relabelled), first);
    let white_space = {
        let mut parts = by_hand(PARAMETERS);
        let input = text(&parts, "signature-input").replace(';', ";  ");
        set(&mut parts, "signature-input", &input);
        parts
    };
    assert_eq!(key(&white_space), first);
    assert_ne!(key(&by_hand(";created=1700000001;keyid=\"k\"")), first);
}
