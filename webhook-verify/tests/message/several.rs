//! Several signatures, labels, and the bounds of work.

use super::*;

#[test]
fn one_good_signature_among_others_suffices() {
    let strangers = [
        (r#"x=("@method");created=1"#, "x=:AAAA:"),
        (r#"x=("signature";key="a");created=1;keyid="y""#, "x=:AAAA:"),
        (
            r#"x=("@method" "@authority" "@path" "content-digest");created=1700000000;keyid="k""#,
            "x=:AAAA:",
        ),
        // Stale, and not signed.
        (
            r#"x=("@method" "@authority" "@path" "content-digest");created=1600000000;keyid="k""#,
            "x=:AAAA:",
        ),
        (
            r#"x=("@method" "@authority" "@path" "content-digest" "x-none");created=1;keyid="k""#,
            "x=:AAAA:",
        ),
        ("x=()", "x=\"\""),
    ];
    for (input, signature) in strangers {
        let mut behind = by_hand(PARAMETERS);
        add(&mut behind, "signature-input", input);
        add(&mut behind, "signature", signature);
        let mut before = request("/hook");
        set(&mut before, "content-digest", &sha_256(BODY));
        set(&mut before, "signature-input", input);
        set(&mut before, "signature", signature);
        add_by_hand(&mut before, "a", PARAMETERS);
        for parts in [behind, before] {
            assert_eq!(verify(&verifier(), &parts, BODY), Ok(()), "{input}");
            let verified = verifier().verify(&parts, None, BODY).unwrap();
            assert_eq!(verified.timestamp(), Some(NOW));
            let alone = verifier().verify(&by_hand(PARAMETERS), None, BODY).unwrap();
            assert_eq!(verified.replay_key(), alone.replay_key());
            let answer = verify(&verifier(), &parts, b"{}");
            assert_eq!(answer, Err(Reason::Digest));
        }
    }
}

#[test]
fn a_stale_signature_does_not_pass_in_the_company_of_a_fresh_one() {
    // Both are ours; the body of the fresh one is signed by a key that we do not know.
    let mut parts = by_hand(r#";created=1600000000;keyid="k""#);
    add_by_hand(&mut parts, "b", r#";created=1700000000;keyid="unknown""#);
    assert_eq!(
        verify(&verifier(), &parts, BODY),
        Err(Reason::SignatureMismatch)
    );
}

#[test]
fn a_signature_counts_under_its_own_label_only() {
    let good = by_hand(PARAMETERS);
    for (name, from, to) in [
        ("signature", "a=:", "b=:"),
        ("signature-input", "a=(", "b=("),
    ] {
        let mut parts = good.clone();
        let moved = text(&parts, name).replace(from, to);
        set(&mut parts, name, &moved);
        let malformed = Err(Reason::Malformed(HeaderName::from_static("signature")));
        assert_eq!(verify(&verifier(), &parts, BODY), malformed);
    }
    // Renamed in both it is the same signature.
    let mut parts = good.clone();
    for (name, from) in [("signature", "a=:"), ("signature-input", "a=(")] {
        let moved = text(&parts, name).replace(from, &from.replace('a', "zz"));
        set(&mut parts, name, &moved);
    }
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
    // The signature of one label does not prove the input of another.
    let mut parts = good;
    let inputs = format!(
        "{}, b={COMPONENTS};created=1700000001;keyid=\"k\"",
        text(&parts, "signature-input")
    );
    let swapped = text(&parts, "signature").replace("a=:", "b=:");
    set(&mut parts, "signature-input", &inputs);
    set(&mut parts, "signature", &format!("a=:AAAA:, {swapped}"));
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&verifier(), &parts, BODY), mismatch);
}

#[test]
fn sixteen_signatures_are_tried_and_seventeen_refused() {
    let mut parts = request("/hook");
    set(&mut parts, "content-digest", &sha_256(BODY));
    for i in 0..15 {
        let input = format!("x{i}={COMPONENTS}{PARAMETERS}");
        add(&mut parts, "signature-input", &input);
        add(&mut parts, "signature", &format!("x{i}=:AAAA:"));
    }
    add_by_hand(&mut parts, "a", PARAMETERS);
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
    add_by_hand(&mut parts, "b", PARAMETERS);
    let many = Err(Reason::TooManySignatures);
    assert_eq!(verify(&verifier(), &parts, BODY), many);
}

/// Work is bounded by the bytes that came, whatever they are. The bound on time is far above
/// what it takes, and far below what anything quadratic would.
#[test]
#[allow(clippy::disallowed_methods)] // Real work takes real time.
fn long_headers_end_soon() {
    let fill = |unit: &str| unit.repeat(65_536 / unit.len());
    let names = |count: usize| -> String {
        let all = (0..count).map(|i| format!("\"@query-param\";name=\"p{i}\""));
        all.collect::<Vec<_>>().join(" ")
    };
    let query: String = (0..1000).map(|i| format!("p{i}={i}&")).collect();
    let sixteen: Vec<_> = (0..16)
        .map(|i| format!("s{i}=(\"@method\" {}){PARAMETERS}", names(63)))
        .collect();
    let signatures: Vec<_> = (0..16).map(|i| format!("s{i}=:AAAA:")).collect();
    for (input, signature) in [
        (fill("a=(),"), "a=:AAAA:".to_owned()),
        (format!("a=({}", fill("\"x\" ")), "a=:AAAA:".to_owned()),
        (format!("a=(){}", fill(";a=1")), "a=:AAAA:".to_owned()),
        (format!("a={}", fill("(")), "a=:AAAA:".to_owned()),
        (
            format!("a=();keyid=\"{}", fill("\\\"")),
            "a=:AAAA:".to_owned(),
        ),
        (fill(" "), fill(" ")),
        (fill("a"), fill(":")),
        (format!("a=(){}", PARAMETERS), format!("a=:{}:", fill("A"))),
        (sixteen.join(", "), signatures.join(", ")),
    ] {
        let mut parts = request(&format!("/hook?{query}"));
        set(&mut parts, "content-digest", &sha_256(BODY));
        set(&mut parts, "signature-input", &input);
        set(&mut parts, "signature", &signature);
        let scheme = policy().insecure_any_components().build().unwrap();
        let lenient = verifier_at(&scheme, &[&secret()], NOW);
        let start = Instant::now();
        assert!(verify(&lenient, &parts, BODY).is_err());
        assert!(verify(&verifier(), &parts, BODY).is_err());
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(2), "{taken:?}");
    }
}
