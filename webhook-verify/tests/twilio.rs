//! Twilio: the URL from the configuration, the fields of a form, the hash of any other body.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Method, Request, request::Parts};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use webhook_verify::{
    Error, Reason, Scheme, SchemeError, Secret, SignError, Signer, Verified, Verifier,
    clock::ManualWallClock, presets,
};

const TOKEN: &str = "12345";
const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
const ORIGIN: &str = "https://mycompany.com";
const TARGET: &str = "/myapp.php?foo=1&bar=2";
const PARAMS: [(&str, &str); 5] = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
    ("Caller", "+14158675309"),
];
/// Over `URL` and `PARAMS`, without a port.
const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

const FORM: &str = "application/x-www-form-urlencoded; charset=UTF-8";
const JSON: &str = "application/json";
const JSON_BODY: &str = r#"{"property": "value", "boolean": true}"#;

fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        let each = text.bytes().map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        });
        each.collect()
    };
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    fields.collect::<Vec<_>>().join("&")
}

fn request(method: Method, target: &str, content_type: &str, signature: &str) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    let request = request.header("x-twilio-signature", signature);
    request.body(()).unwrap().into_parts().0
}

fn verifier_of(scheme: Scheme) -> Verifier {
    let secret = Secret::new("primary", TOKEN).unwrap();
    let builder = Verifier::builder(scheme).secret(secret).methods([]);
    builder.clock(ManualWallClock::new(0)).build().unwrap()
}

fn verifier(url: &str) -> Verifier {
    verifier_of(presets::twilio(url).unwrap())
}

fn deliver(
    url: &str,
    method: Method,
    target: &str,
    content_type: &str,
    body: &str,
    signature: &str,
) -> Result<Verified, Error> {
    let request = request(method, target, content_type, signature);
    verifier(url).verify(&request, None, body.as_bytes())
}

fn post_form(url: &str, target: &str, body: &str, signature: &str) -> Result<Verified, Error> {
    deliver(url, Method::POST, target, FORM, body, signature)
}

fn post_json(url: &str, target: &str, body: &str, signature: &str) -> Result<Verified, Error> {
    deliver(url, Method::POST, target, JSON, body, signature)
}

fn reason(answer: Result<Verified, Error>) -> Reason {
    answer.unwrap_err().reason().clone()
}

fn missing_cover(what: &str) -> Reason {
    Reason::NotCovered(what.into())
}

/// By other means than the crate's.
fn sha1(signed: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(TOKEN.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn digest(body: &str) -> String {
    let hash = Sha256::digest(body.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `tests/unit/test_request_validator.py` of Twilio's library for Python.
#[test]
fn a_form_passes_with_the_origin_and_with_the_whole_url() {
    let body = form(&PARAMS);
    for url in [ORIGIN, URL] {
        let verified = post_form(url, TARGET, &body, SIGNATURE).unwrap();
        assert_eq!(
            (verified.scheme(), verified.key_id()),
            ("twilio", "primary")
        );
        assert_eq!(verified.timestamp(), None);
        let request = request(Method::POST, TARGET, FORM, SIGNATURE);
        let verifier = verifier(url);
        let mut session = verifier.begin(&request, None).unwrap();
        let chunks = body.as_bytes().chunks(7);
        chunks.for_each(|chunk| session.update(chunk).unwrap());
        let streamed = session.finish().unwrap();
        assert_eq!(streamed.replay_key(), verified.replay_key());
    }
}

/// The worked example of Twilio's page on security.
#[test]
fn the_example_of_the_docs_passes() {
    let params = [
        ("To", "+18005551212"),
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675310"),
        ("From", "+14158675310"),
        ("Digits", "1234"),
    ];
    let url = "https://example.com/myapp.php?foo=1&bar=2";
    let signature = "L/OH5YylLD5NRKLltdqwSvS0BnU=";
    assert!(post_form(url, TARGET, &form(&params), signature).is_ok());
}

/// As above, and `spec/validation.spec.js` of the library for Node.
#[test]
fn the_port_may_be_signed_or_not() {
    let body = form(&PARAMS);
    let over_443 = "kvajT1Ptam85bY51eRf/AJRuM3w=";
    let over_http_80 = "0ZXoZLH/DfblKGATFgpif+LLRf4=";
    let over_http_1234 = "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=";
    for (origin, signature, passes) in [
        (ORIGIN, over_443, true),
        ("https://mycompany.com:443", SIGNATURE, true),
        ("https://mycompany.com:443", over_443, true),
        ("https://mycompany.com:1234", SIGNATURE, true),
        ("http://mycompany.com", over_http_80, true),
        ("http://mycompany.com:1234", over_http_1234, true),
        // Another port than the configured one, and another scheme.
        ("http://mycompany.com", over_http_1234, false),
        ("https://mycompany.com:1234", over_443, false),
        ("http://mycompany.com", SIGNATURE, false),
        (ORIGIN, over_http_80, false),
    ] {
        let whole = format!("{origin}{TARGET}");
        for url in [origin, &whole] {
            let answer = post_form(url, TARGET, &body, signature);
            assert_eq!(answer.is_ok(), passes, "{url} {signature}");
        }
    }
}

/// Twilio documents that a user is left out; its libraries and their tests keep it.
#[test]
fn a_user_in_the_url_may_be_signed_or_not() {
    let body = form(&PARAMS);
    for (user, signature) in [
        ("user:pass", "CukzLTc1tT5dXEDIHm/tKBanW10="),
        ("user:pass", "ZQFR1PTIZXF2MXB8ZnKCvnnA+rI="),
        ("user", "2YRLlVAflCqxaNicjMpJcSTgzSs="),
        ("user:pass", SIGNATURE),
    ] {
        let origin = format!("https://{user}@mycompany.com");
        for url in [format!("{origin}{TARGET}"), origin] {
            let answer = post_form(&url, TARGET, &body, signature);
            assert!(answer.is_ok(), "{url} {signature}");
        }
    }
    let answer = post_form(ORIGIN, TARGET, &body, "CukzLTc1tT5dXEDIHm/tKBanW10=");
    assert_eq!(reason(answer), Reason::SignatureMismatch);
}

/// `spec/validation.spec.js` again: names with several values.
#[test]
fn values_are_sorted_and_the_same_one_counts_once() {
    let signature = "IK+Dwps556ElfBT0I3Rgjkr1wJU=";
    let first = [("Sid", "CA123"), ("SidAccount", "AC123")];
    let mut keys = Vec::new();
    for digits in [
        &["5678", "1234"][..],
        &["1234", "5678"],
        &["5678", "1234", "1234"],
    ] {
        let digits = digits.iter().map(|value| ("Digits", *value));
        let fields: Vec<_> = first.into_iter().chain(digits).collect();
        let verified = post_form(URL, TARGET, &form(&fields), signature).unwrap();
        keys.push(*verified.replay_key());
    }
    // Order and number are not signed: one delivery, for a replay store.
    assert!(keys.iter().all(|key| *key == keys[0]));
    let signature = "83O6e2vORAoJHUNzJjDWN1jz+BA=";
    for values in [
        ["+1325xxxxxxx", "+1415xxxxxxx"],
        ["+1415xxxxxxx", "+1325xxxxxxx"],
    ] {
        let fields = values.map(|value| ("MessagingBinding.Address", value));
        assert!(post_form(URL, TARGET, &form(&fields), signature).is_ok());
    }
}

#[test]
fn the_query_is_signed_as_it_was_sent() {
    let body = form(&PARAMS);
    let target = format!("{TARGET}&Body=It's+amazing");
    let signature = "dsq4Ehbj6cs+KdTkpF5sSSplOWw=";
    assert!(post_form(ORIGIN, &target, &body, signature).is_ok());
    for other in [
        target.replace('\'', "%27"),
        target.replace('+', "%20"),
        format!("{target}&"),
        "/myapp.php?bar=2&foo=1&Body=It's+amazing".into(),
    ] {
        let answer = post_form(ORIGIN, &other, &body, signature);
        assert_eq!(reason(answer), Reason::SignatureMismatch, "{other}");
    }
}

#[test]
fn values_are_decoded_and_not_trimmed() {
    let fields = [
        ("Body", " ä&=+%\n "),
        ("AccountSid", ""),
        ("b.c", "\u{1f600}"),
    ];
    let signature = sha1(&format!("{URL}AccountSidBody ä&=+%\n b.c\u{1f600}"));
    assert!(post_form(URL, TARGET, &form(&fields), &signature).is_ok());
    let answer = post_form(URL, TARGET, "Body=%zz", &signature);
    assert_eq!(reason(answer), Reason::NotForm);
}

/// `tests/unit/test_request_validator.py` and `spec/validation.spec.js`; the last one is over
/// the URL with port.
#[test]
fn a_body_that_is_no_form_is_covered_by_its_hash_in_the_query() {
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    for (path, query, hash, body, signature) in [
        (
            "/myapp.php",
            "foo=1&bar=2&",
            hash,
            JSON_BODY,
            "a9nBmqA0ju/hNViExpshrM61xv4=",
        ),
        (
            "/myapp.php",
            "",
            hash,
            JSON_BODY,
            "y77kIzt2vzLz71DgmJGsen2scGs=",
        ),
        (
            "/myapp.php",
            "foo=1&bar=2&",
            empty,
            "{}",
            "Ldidvp12m26NI7eqEvxnEpkd9Hc=",
        ),
    ] {
        assert_eq!(digest(body), hash);
        let target = format!("{path}?{query}bodySHA256={hash}");
        let mark = if query.is_empty() { "" } else { "?" };
        let whole = format!("{ORIGIN}{path}{mark}{}", query.trim_end_matches('&'));
        for url in [ORIGIN, &whole] {
            for content_type in [JSON, "text/plain", ""] {
                let deliver =
                    |body| deliver(url, Method::POST, &target, content_type, body, signature);
                assert!(deliver(body).is_ok(), "{url} {target}");
                assert_eq!(reason(deliver("{ }")), Reason::Digest);
                assert_eq!(reason(deliver("")), Reason::Digest);
            }
        }
    }
}

/// With `params={}` Twilio's library for Python accepts such a URL and looks at no body.
#[test]
fn each_flipped_bit_of_a_json_body_is_refused() {
    let target = format!("{TARGET}&bodySHA256={}", digest(JSON_BODY));
    let signature = sha1(&format!("{ORIGIN}{target}"));
    for bit in 0..JSON_BODY.len() * 8 {
        let mut changed = JSON_BODY.as_bytes().to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let request = request(Method::POST, &target, JSON, &signature);
        let error = verifier(URL).verify(&request, None, &changed).unwrap_err();
        assert_eq!(error.reason(), &Reason::Digest);
    }
}

#[test]
fn each_flipped_bit_of_a_form_or_target_is_refused() {
    let body = form(&PARAMS);
    let verifiers = [verifier(ORIGIN), verifier(URL)];
    let good = request(Method::POST, TARGET, FORM, SIGNATURE);
    for bit in 0..body.len() * 8 {
        let mut changed = body.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        // Another spelling of the same fields: hex digits in lower case.
        let digit = bit / 8 >= 2 && body.as_bytes()[bit / 8 - 2] == b'%';
        if digit && changed.eq_ignore_ascii_case(body.as_bytes()) {
            continue;
        }
        for verifier in &verifiers {
            let answer = verifier.verify(&good, None, &changed);
            assert!(answer.is_err(), "{:?}", String::from_utf8_lossy(&changed));
        }
    }
    for bit in 0..TARGET.len() * 8 {
        let mut changed = TARGET.as_bytes().to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let uri = http::Uri::try_from(changed.as_slice());
        let Some(uri) = uri.ok().filter(|uri| uri.path().starts_with('/')) else {
            continue;
        };
        let mut request = good.clone();
        request.uri = uri;
        let answer = verifiers[0].verify(&request, None, body.as_bytes());
        assert!(answer.is_err(), "{:?}", request.uri);
    }
}

#[test]
fn the_hash_stands_there_once_in_lower_case() {
    let hash = digest(JSON_BODY);
    for (query, expected) in [
        (
            format!("bodySHA256={hash}&bodySHA256={hash}"),
            Reason::FieldRepeated("bodySHA256".into()),
        ),
        (
            format!("bodySHA256={hash}&bodySHA256"),
            Reason::FieldRepeated("bodySHA256".into()),
        ),
        (
            format!("bodySHA256={}", hash.to_uppercase()),
            Reason::FieldMalformed("bodySHA256".into()),
        ),
        (
            format!("bodySHA256={}", &hash[2..]),
            Reason::FieldMalformed("bodySHA256".into()),
        ),
        (
            "bodySHA256=".into(),
            Reason::FieldMalformed("bodySHA256".into()),
        ),
        (
            "bodySHA256".into(),
            Reason::FieldMalformed("bodySHA256".into()),
        ),
        (format!("bodySHA255={hash}"), missing_cover("body")),
        (format!("bodysha256={hash}"), missing_cover("body")),
        (format!("body%53HA256={hash}"), missing_cover("body")),
        (format!("xbodySHA256={hash}"), missing_cover("body")),
    ] {
        let target = format!("/myapp.php?{query}");
        let signature = sha1(&format!("{ORIGIN}{target}"));
        let answer = post_json(ORIGIN, &target, JSON_BODY, &signature);
        assert_eq!(reason(answer), expected, "{query}");
    }
}

/// A signature over the URL alone says nothing about a body.
#[test]
fn a_body_that_nothing_covers_is_refused() {
    let signature = sha1(URL);
    for body in [JSON_BODY, "", "a=1"] {
        for content_type in [JSON, "", "multipart/form-data; boundary=x"] {
            let answer = deliver(ORIGIN, Method::POST, TARGET, content_type, body, &signature);
            assert_eq!(
                reason(answer),
                missing_cover("body"),
                "{content_type} {body}"
            );
        }
    }
    for empty in ["", "&", "&&"] {
        let answer = post_form(ORIGIN, TARGET, empty, &signature);
        assert_eq!(reason(answer), missing_cover("body"));
    }
    for content_type in [FORM, JSON, ""] {
        let answer = deliver(ORIGIN, Method::GET, TARGET, content_type, "a=1", &signature);
        assert_eq!(reason(answer), missing_cover("body"), "{content_type}");
    }
}

/// The library for Node takes a form for JSON as soon as the query has a hash.
#[test]
fn a_hash_does_not_replace_the_fields_of_a_form() {
    let body = form(&PARAMS);
    let target = format!("{TARGET}&bodySHA256={}", digest(&body));
    let signature = sha1(&format!("{ORIGIN}{target}"));
    let answer = post_form(URL, &target, &body, &signature);
    assert_eq!(reason(answer), Reason::SignatureMismatch);
    assert!(post_json(URL, &target, &body, &signature).is_ok());
}

#[test]
fn requests_without_a_body_are_signed_by_their_url() {
    let target = format!("{TARGET}&From=%2B1415&Body=a+b");
    let signature = sha1(&format!("{ORIGIN}{target}"));
    for url in [ORIGIN, URL, "https://mycompany.com/myapp.php"] {
        for (method, content_type) in [(Method::GET, FORM), (Method::GET, ""), (Method::HEAD, "")] {
            let get =
                |target: &str| deliver(url, method.clone(), target, content_type, "", &signature);
            assert!(get(&target).is_ok(), "{url} {method}");
            assert!(get(&target.replace("1415", "1416")).is_err(), "{url}");
        }
    }
    let scheme = presets::twilio(ORIGIN).unwrap();
    let secret = scheme.secret("primary", TOKEN).unwrap();
    let by_default = Verifier::builder(scheme).secret(secret).build().unwrap();
    let request = request(Method::GET, &target, "", &signature);
    let error = by_default.verify(&request, None, b"").unwrap_err();
    assert_eq!(error.reason(), &Reason::Method);
}

/// The format has no mark between the URL and the fields. Who recorded a form could send the
/// fields as the end of the URL.
#[test]
fn fields_do_not_become_a_part_of_the_url() {
    let fields = [("A", "1"), ("Body", "&bodySHA256=x&"), ("From", "2")];
    let signature = sha1(&format!("{URL}A1Body&bodySHA256=x&From2"));
    assert!(post_form(URL, TARGET, &form(&fields), &signature).is_ok());
    let all = format!("{TARGET}A1Body&bodySHA256=x&From2");
    for (method, target, body) in [
        (Method::GET, &all, String::new()),
        (Method::POST, &all, String::new()),
        (Method::POST, &format!("{TARGET}A1"), form(&fields[1..])),
        (
            Method::POST,
            &"/myapp.php?foo=1".into(),
            form(&[("&bar=2A1Body", "")]),
        ),
    ] {
        let answer = deliver(URL, method.clone(), target, FORM, &body, &signature);
        assert!(answer.is_err(), "{method} {target}");
    }
    // With an origin an empty POST is still refused, which is not what somebody signed.
    let target = format!("{TARGET}A1From2");
    let signature = sha1(&format!("{ORIGIN}{target}"));
    for content_type in [FORM, JSON, ""] {
        let answer = deliver(ORIGIN, Method::POST, &target, content_type, "", &signature);
        assert_eq!(reason(answer), missing_cover("body"));
    }
}

#[test]
fn a_whole_url_stands_for_the_path_but_not_for_another_query() {
    let body = form(&PARAMS);
    let rewritten = "/inner?foo=1&bar=2";
    assert!(post_form(URL, rewritten, &body, SIGNATURE).is_ok());
    assert!(post_form(ORIGIN, rewritten, &body, SIGNATURE).is_err());
    for target in [
        "/myapp.php",
        "/myapp.php?",
        "/myapp.php?foo=1&bar=2&",
        "/myapp.php?foo=1&bar=2&x=3",
        "/myapp.php?bar=2&foo=1",
        "/myapp.php?foo=1",
    ] {
        let answer = post_form(URL, target, &body, SIGNATURE);
        assert_eq!(reason(answer), missing_cover("@query"), "{target}");
    }
    for target in ["/x?foo=1&bar=22", "/x?foo=1", "/x"] {
        let answer = deliver(URL, Method::GET, target, "", "", SIGNATURE);
        assert_eq!(reason(answer), missing_cover("@query"), "{target}");
    }
}

#[test]
fn the_sender_does_not_choose_host_or_scheme() {
    let body = form(&PARAMS);
    let mut request = request(Method::POST, TARGET, FORM, &sha1("http://evil.example/x"));
    let good = HeaderValue::from_static(SIGNATURE);
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-original-url", "/x"),
    ] {
        request
            .headers
            .insert(name, HeaderValue::from_static(value));
    }
    let verifier = verifier(ORIGIN);
    assert!(verifier.verify(&request, None, body.as_bytes()).is_err());
    request.headers.insert("x-twilio-signature", good);
    assert!(verifier.verify(&request, None, body.as_bytes()).is_ok());
    // A proxy's form of the target names a host as well.
    request.uri = format!("http://evil.example{TARGET}").parse().unwrap();
    assert!(verifier.verify(&request, None, body.as_bytes()).is_ok());
    for odd in ["*", "evil.example:80"] {
        request.uri = odd.parse().unwrap();
        let answer = verifier.verify(&request, None, body.as_bytes());
        assert_eq!(reason(answer), missing_cover("@path"), "{odd}");
    }
}

#[test]
fn the_signature_is_there_once_and_canonical() {
    let body = form(&PARAMS);
    let name = "x-twilio-signature";
    let malformed = Reason::Malformed(name.parse().unwrap());
    for loose in [
        SIGNATURE.trim_end_matches('='),
        "RSOYDt4T1cUTdK1PDd93_VVr8B8=",
        "RSOYDt4T1cUTdK1PDd93/VVr8B9=",
        " RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        "RSOYDt4T1cUTdK1PDd93/VVr8B8= ",
        "RSOYDt4T1cUTdK1PDd93/VVr8A==",
        "",
    ] {
        assert_eq!(
            reason(post_form(URL, TARGET, &body, loose)),
            malformed,
            "{loose:?}"
        );
    }
    let verifier = verifier(URL);
    let mut request = request(Method::POST, TARGET, FORM, SIGNATURE);
    request
        .headers
        .append(name, HeaderValue::from_static(SIGNATURE));
    let answer = verifier.verify(&request, None, body.as_bytes());
    assert_eq!(reason(answer), malformed);
    request.headers.remove(name);
    let answer = verifier.verify(&request, None, body.as_bytes());
    assert_eq!(reason(answer), Reason::Missing(name.parse().unwrap()));
    let good = HeaderValue::from_static(SIGNATURE);
    request.headers.insert(name, good);
    request
        .headers
        .append("content-type", HeaderValue::from_static(JSON));
    let answer = verifier.verify(&request, None, body.as_bytes());
    let content_type = Reason::Malformed(http::header::CONTENT_TYPE);
    assert_eq!(reason(answer), content_type);
}

/// Made with Twilio's library for Python, 9.13.0.
#[test]
fn shared_keys_sign_with_sha256_and_nothing_else() {
    let body = form(&PARAMS);
    let signature = "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=";
    let shared = verifier_of(presets::twilio_shared_key(URL).unwrap());
    let mut parts = request(Method::POST, TARGET, FORM, signature);
    let verified = shared.verify(&parts, None, body.as_bytes()).unwrap();
    assert_eq!(verified.scheme(), "twilio_shared_key");
    assert!(post_form(URL, TARGET, &body, signature).is_err());
    // The settings are not signed: they do not choose the algorithm.
    parts = request(Method::POST, TARGET, FORM, SIGNATURE);
    let settings = HeaderValue::from_static("key=k,algorithm=HMAC_SHA1");
    let name = "x-twilio-webhooks-signature-settings";
    parts.headers.insert(name, settings);
    assert!(shared.verify(&parts, None, body.as_bytes()).is_err());
}

#[test]
fn the_slash_behind_a_web_socket_url_may_be_signed_or_not() {
    let get = |url: &str, signed: &str| deliver(url, Method::GET, "/stream", "", "", &sha1(signed));
    for url in ["wss://a.example", "wss://a.example/stream"] {
        for end in ["", "/"] {
            assert!(get(url, &format!("wss://a.example/stream{end}")).is_ok());
            assert!(get(url, &format!("wss://a.example:443/stream{end}")).is_ok());
        }
        assert!(get(url, "wss://a.example/stream//").is_err());
    }
    assert!(get("https://a.example", "https://a.example/stream/").is_err());
}

/// One signature over the URL with the slash passes for both targets.
#[test]
fn one_web_socket_url_has_one_replay_key_with_and_without_the_slash() {
    let key = |url: &str, target: &str, signed: &str| {
        let answer = deliver(url, Method::GET, target, "", "", &sha1(signed));
        *answer.unwrap().replay_key()
    };
    let whole = "wss://a.example/ws";
    for query in ["", "?x=1"] {
        let target = format!("/ws{query}");
        let (bare, slash) = (format!("{whole}{query}"), format!("{whole}{query}/"));
        let first = key("wss://a.example", &target, &slash);
        assert_eq!(first, key("wss://a.example", &format!("{target}/"), &slash));
        assert_eq!(first, key("wss://a.example", &target, &bare));
        assert_eq!(first, key(whole, &target, &slash));
        assert_eq!(first, key(whole, &target, &bare));
        let signed = sha1(&bare);
        let other = deliver(
            "wss://a.example",
            Method::GET,
            &format!("{target}/"),
            "",
            "",
            &signed,
        );
        assert_eq!(reason(other), Reason::SignatureMismatch);
    }
    let other = key("wss://a.example", "/wt", "wss://a.example/wt");
    assert_ne!(other, key("wss://a.example", "/ws", "wss://a.example/ws"));
}

/// The slash behind a URL could as well be the first character of a field's name.
#[test]
fn no_slash_stands_between_a_web_socket_url_and_fields() {
    let signature = sha1("wss://a.example/ws/A1");
    for url in ["wss://a.example", "wss://a.example/ws"] {
        assert!(post_form(url, "/ws", "%2FA=1", &signature).is_ok());
        let answer = post_form(url, "/ws", "A=1", &signature);
        assert_eq!(reason(answer), Reason::SignatureMismatch, "{url}");
    }
}

#[test]
fn one_delivery_has_one_replay_key_in_every_spelling() {
    let body = form(&PARAMS);
    let key = |url: &str, signature: &str, body: &str| {
        let verified = post_form(url, TARGET, body, signature).unwrap();
        *verified.replay_key()
    };
    let over_443 = "kvajT1Ptam85bY51eRf/AJRuM3w=";
    let first = key(ORIGIN, SIGNATURE, &body);
    let mut fields = PARAMS;
    fields.reverse();
    assert_eq!(first, key(ORIGIN, over_443, &body));
    assert_eq!(first, key(ORIGIN, SIGNATURE, &form(&fields)));
    assert_eq!(first, key(URL, SIGNATURE, &body));
    let other = sha1(&format!("{URL}A1"));
    assert_ne!(first, key(ORIGIN, &other, "A=1"));
}

#[test]
fn what_is_signed_is_accepted() {
    let signer = |scheme| Signer::new(scheme, Secret::new("primary", TOKEN).unwrap());
    let sign = |scheme: Scheme, request: &Parts, body: &str| {
        let signed =
            signer(scheme).sign_delivery(Some(request), None, Duration::ZERO, body.as_bytes());
        signed.map(|signed| {
            assert!(signed.body().is_none());
            signed.headers().clone()
        })
    };
    let stream = request(Method::GET, "/stream", "", "");
    let headers = sign(presets::twilio("wss://a.example").unwrap(), &stream, "").unwrap();
    let expected = sha1("wss://a.example/stream");
    assert_eq!(headers["x-twilio-signature"], expected);
    let mut request = request(Method::POST, TARGET, FORM, "");
    let body = form(&PARAMS);
    for url in [ORIGIN, URL, "https://user:pass@mycompany.com"] {
        let headers = sign(presets::twilio(url).unwrap(), &request, &body).unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-twilio-signature"], SIGNATURE);
    }
    let shared = sign(presets::twilio_shared_key(URL).unwrap(), &request, &body).unwrap();
    let shared: BTreeMap<_, _> = shared
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let expected = [
        (
            "x-twilio-signature",
            "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=",
        ),
        (
            "x-twilio-webhooks-signature-settings",
            "key=primary,algorithm=HMAC_SHA256",
        ),
    ];
    assert_eq!(shared, expected.into());
    let scheme = || presets::twilio(ORIGIN).unwrap();
    request
        .headers
        .insert("content-type", HeaderValue::from_static(JSON));
    let bare = sign(scheme(), &request, JSON_BODY);
    assert_eq!(
        bare.unwrap_err(),
        SignError::Delivery(missing_cover("body"))
    );
    let none = signer(scheme()).sign_delivery(None, None, Duration::ZERO, b"a=1");
    assert!(matches!(none, Err(SignError::Request)));
    request.uri = format!("{TARGET}&bodySHA256={}", digest(JSON_BODY))
        .parse()
        .unwrap();
    let headers = sign(scheme(), &request, JSON_BODY).unwrap();
    assert_eq!(
        headers["x-twilio-signature"],
        "a9nBmqA0ju/hNViExpshrM61xv4="
    );
}

#[test]
fn urls_that_cannot_be_signed_are_refused() {
    for url in [
        "mycompany.com",
        "https://mycompany.com/",
        "https://mycompany.com/a#rc=2",
        "https://mycompany.com/a?bodySHA256=00",
    ] {
        let refused = matches!(presets::twilio(url), Err(SchemeError::Url(_)));
        assert!(refused, "{url}");
    }
}
