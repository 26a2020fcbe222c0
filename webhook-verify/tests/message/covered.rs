//! What is signed is protected, and what must be signed is.

use super::*;

#[test]
fn what_is_signed_here_is_what_the_rfc_says() {
    let parts = signed("/hook?a=1");
    let digest = sha_256(BODY);
    assert_eq!(text(&parts, "content-digest"), digest);
    let input = "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\")\
                 ;created=1700000000;keyid=\"k\";alg=\"hmac-sha256\"";
    assert_eq!(text(&parts, "signature-input"), format!("sig1={input}"));
    let base = format!(
        "\"@method\": POST\n\"@authority\": hooks.example\n\"@path\": /hook\n\"@query\": ?a=1\n\
         \"content-digest\": {digest}\n\"@signature-params\": {input}"
    );
    assert_eq!(text(&parts, "signature"), format!("sig1={}", hmac(&base)));
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
    let verified = verifier().verify(&parts, None, BODY).unwrap();
    assert_eq!(
        (verified.key_id(), verified.scheme()),
        ("k", "http_message")
    );
    assert_eq!(verified.timestamp(), Some(NOW));
}

#[test]
fn each_kind_of_key_signs_what_it_verifies() {
    let keys = [
        (secret(), "hmac-sha256"),
        #[cfg(feature = "ed25519")]
        (Secret::ed25519_private("e", &[7; 32]).unwrap(), "ed25519"),
        #[cfg(feature = "ecdsa")]
        (
            Secret::pem("p", include_str!("../vectors/keys/p256.pem")).unwrap(),
            "ecdsa-p256-sha256",
        ),
    ];
    let all: Vec<&Secret> = keys.iter().map(|(key, _)| key).collect();
    let verifier = verifier_at(&scheme(), &all, NOW);
    for (key, algorithm) in &keys {
        let mut parts = request("/hook");
        let signer = Signer::new(scheme(), key.clone());
        let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
        parts.headers.extend(headers);
        let alg = format!(";alg=\"{algorithm}\"");
        assert!(text(&parts, "signature-input").ends_with(&alg));
        let verified = verifier.verify(&parts, None, BODY).unwrap();
        assert_eq!(verified.key_id(), key.id());
        // Under another name the key is not asked.
        let input = text(&parts, "signature-input").replace("keyid=\"", "keyid=\"x");
        set(&mut parts, "signature-input", &input);
        assert_eq!(
            verify(&verifier, &parts, BODY),
            Err(Reason::SignatureMismatch)
        );
    }
}

#[test]
fn every_component_that_is_signed_is_protected() {
    type Change = fn(&mut Parts);
    let good = {
        let scheme = policy()
            .require(HeaderName::from_static("content-type"))
            .build()
            .unwrap();
        let mut parts = request("/hook?a=1");
        let signer = Signer::new(scheme, secret());
        let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
        parts.headers.extend(headers);
        parts
    };
    assert_eq!(verify(&verifier(), &good, BODY), Ok(()));
    let changes: [Change; 9] = [
        |parts| parts.method = Method::PUT,
        |parts| parts.uri = "/hooK?a=1".parse().unwrap(),
        |parts| parts.uri = "/hook?a=2".parse().unwrap(),
        |parts| parts.uri = "/hook?".parse().unwrap(),
        |parts| parts.uri = "/hook".parse().unwrap(),
        |parts| set(parts, "content-type", "application/jsom"),
        |parts| add(parts, "content-type", "application/json"),
        |parts| {
            let digests = format!("{}, md5=:AAAA:", text(parts, "content-digest"));
            set(parts, "content-digest", &digests);
        },
        |parts| {
            let input = text(parts, "signature-input").replace("1700000000", "1700000001");
            set(parts, "signature-input", &input);
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut parts = good.clone();
        change(&mut parts);
        let answer = verify(&verifier(), &parts, BODY);
        assert_eq!(answer, Err(Reason::SignatureMismatch), "change {i}");
    }
    // Another receiver, with the same key.
    let other = presets::http_message("https://other.example").build();
    let other = verifier_at(&other.unwrap(), &[&secret()], NOW);
    assert_eq!(verify(&other, &good, BODY), Err(Reason::SignatureMismatch));
}

#[test]
fn a_query_that_was_not_there_when_it_was_signed_is_refused() {
    let mut parts = signed("/hook");
    for target in ["/hook?a=1", "/hook?"] {
        parts.uri = target.parse().unwrap();
        let refused = Err(Reason::NotCovered("@query".into()));
        assert_eq!(verify(&verifier(), &parts, BODY), refused);
    }
}

#[test]
fn headers_that_are_not_signed_may_change() {
    let mut parts = signed("/hook");
    parts.headers.remove("x-other");
    set(&mut parts, "content-type", "text/plain");
    set(&mut parts, "host", "other.example");
    set(&mut parts, "forwarded", "host=other.example;proto=http");
    set(&mut parts, "x-forwarded-host", "other.example");
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
}

#[test]
fn a_required_header_must_be_signed_and_there() {
    let content_type = HeaderName::from_static("content-type");
    let scheme = policy().require(content_type.clone()).build().unwrap();
    let verifier = verifier_at(&scheme, &[&secret()], NOW);
    assert_eq!(
        verify(&verifier, &signed("/hook"), BODY),
        Err(Reason::NotCovered("content-type".into()))
    );
    let mut parts = request("/hook");
    let signer = Signer::new(scheme, secret());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert_eq!(verify(&verifier, &parts, BODY), Ok(()));
    parts.headers.remove(&content_type);
    let missing = Err(Reason::Missing(content_type.clone()));
    assert_eq!(verify(&verifier, &parts, BODY), missing);
    let signed = signer.sign_request(&parts, None, AT, BODY);
    assert_eq!(signed.unwrap_err(), SignError::Header(content_type));
    assert_eq!(signer.sign_at(AT, BODY).unwrap_err(), SignError::Request);
}

#[test]
fn headers_of_the_scheme_must_be_there() {
    for name in ["signature-input", "signature", "content-digest"] {
        let mut parts = signed("/hook");
        parts.headers.remove(name);
        let missing = Err(Reason::Missing(HeaderName::from_static(name)));
        assert_eq!(verify(&verifier(), &parts, BODY), missing);
    }
}

#[test]
fn the_same_signature_twice_is_malformed() {
    for name in ["signature-input", "signature"] {
        let mut parts = signed("/hook");
        let again = text(&parts, name).to_owned();
        add(&mut parts, name, &again);
        let malformed = Err(Reason::Malformed(HeaderName::from_static(name)));
        assert_eq!(verify(&verifier(), &parts, BODY), malformed);
    }
    let mut parts = signed("/hook");
    let again = text(&parts, "content-digest").to_owned();
    add(&mut parts, "content-digest", &again);
    let content_digest = HeaderName::from_static("content-digest");
    assert_eq!(
        verify(&verifier(), &parts, BODY),
        Err(Reason::Malformed(content_digest))
    );
}

#[test]
fn the_body_is_the_one_of_every_digest_that_is_known() {
    let sha_512 = format!("sha-512=:{}:", STANDARD.encode(Sha512::digest(BODY)));
    let other = format!("sha-512=:{}:", STANDARD.encode(Sha512::digest(b"other")));
    let answer = |digest: &str, body: &[u8]| {
        let mut parts = request("/hook");
        set(&mut parts, "content-digest", digest);
        add_by_hand(&mut parts, "a", PARAMETERS);
        verify(&verifier(), &parts, body)
    };
    let right = sha_256(BODY);
    for good in [
        &*right,
        &sha_512,
        &format!("{right}, {sha_512}, md5=:AA==:"),
    ] {
        assert_eq!(answer(good, BODY), Ok(()), "{good}");
        assert_eq!(answer(good, b"{\"id\":2}"), Err(Reason::Digest), "{good}");
        assert_eq!(answer(good, b""), Err(Reason::Digest), "{good}");
    }
    assert_eq!(
        answer(&format!("{right}, {other}"), BODY),
        Err(Reason::Digest)
    );
    let md5 = answer("md5=:AA==:", BODY);
    let malformed = Reason::Malformed(HeaderName::from_static("content-digest"));
    assert_eq!(md5, Err(malformed));
}

#[test]
fn headers_that_a_signer_adds_replace_those_that_were_there() {
    let mut parts = request("/hook");
    set(&mut parts, "content-digest", &sha_256(b"other"));
    set(&mut parts, "signature", "old=:AAAA:");
    let signer = Signer::new(scheme(), secret());
    let headers: HeaderMap = signer.sign_request(&parts, None, AT, BODY).unwrap();
    assert_eq!(headers.len(), 3);
    parts.headers.extend(headers);
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
}

#[test]
fn an_origin_that_is_none_is_refused() {
    for bad in [
        "hooks.example",
        "https://hooks.example/hook",
        "ftp://hooks.example",
        "",
    ] {
        let built = presets::http_message(bad).build();
        assert!(matches!(built, Err(SchemeError::Url(_))), "{bad}");
    }
    assert!(presets::http_message("http://[::1]:8080/").build().is_ok());
}
