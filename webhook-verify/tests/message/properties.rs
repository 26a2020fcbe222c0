//! Properties over whatever headers hold.

use super::*;

/// What a dictionary is made of, whole and in pieces.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "a",
        "b=",
        "sig1=",
        "(",
        ")",
        "\"@method\"",
        "\"@path\"",
        "\"content-digest\"",
        " ",
        "\t",
        ";",
        ";created=1700000000",
        ";keyid=\"k\"",
        ";alg=\"ed25519\"",
        ";name=\"a\"",
        ",",
        ":",
        "AAAA",
        "=",
        "\"",
        "\\",
        "?1",
        "1.5",
        "-",
        "sha-256=",
        "*",
        "é",
        "@",
    ]);
    prop::collection::vec(scrap, 0..24).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn whatever_the_headers_hold_is_judged(
        input in prop_oneof![scraps(), "\\PC{0,64}"],
        signature in prop_oneof![scraps(), "\\PC{0,64}"],
        digest in prop_oneof![scraps(), "\\PC{0,64}"],
        body in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut parts = request("/hook?a=1");
        for (name, value) in [
            ("signature-input", &input),
            ("signature", &signature),
            ("content-digest", &digest),
        ] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                parts.headers.insert(name, value);
            }
        }
        prop_assert!(verify(&verifier(), &parts, &body).is_err());
        let scheme = policy().insecure_any_components().build().unwrap();
        let lenient = verifier_at(&scheme, &[&secret()], NOW);
        prop_assert!(verify(&lenient, &parts, &body).is_err());
    }

    #[test]
    fn what_is_signed_is_accepted_and_with_one_bit_changed_refused(
        target in "/[a-z0-9%+.~/-]{0,12}(\\?[a-z0-9%+.~&=-]{0,12})?",
        value in "[ -~]{0,12}",
        id in "[ -~]{1,16}",
        body in prop::collection::vec(any::<u8>(), 0..32),
        bit in any::<prop::sample::Index>(),
    ) {
        let x_name = HeaderName::from_static("x-name");
        let scheme = policy().require(x_name).nonce().tag("t").build().unwrap();
        let mut parts = request(&target);
        set(&mut parts, "x-name", &value);
        let signer = Signer::new(scheme.clone(), secret());
        let headers = signer.sign_request(&parts, Some(&id), AT, &body).unwrap();
        parts.headers.extend(headers);
        let verifier = verifier_at(&scheme, &[&secret()], NOW);
        prop_assert_eq!(verify(&verifier, &parts, &body), Ok(()));

        if !body.is_empty() {
            let mut other = body.clone();
            flip(&mut other, bit);
            prop_assert_eq!(verify(&verifier, &parts, &other), Err(Reason::Digest));
        }
        for name in ["signature-input", "signature", "content-digest"] {
            let mut bytes = parts.headers[name].as_bytes().to_vec();
            flip(&mut bytes, bit);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut parts = parts.clone();
                parts.headers.insert(name, value);
                prop_assert!(verify(&verifier, &parts, &body).is_err(), "{} {:?}", name, bytes);
            }
        }
    }
}

fn flip(bytes: &mut [u8], bit: prop::sample::Index) {
    let at = bit.index(bytes.len() * 8);
    bytes[at / 8] ^= 1 << (at % 8);
}
