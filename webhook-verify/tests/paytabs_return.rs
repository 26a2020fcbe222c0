//! The return URL of PayTabs: its published vector, values made by PHP, and what must not pass.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request, header::CONTENT_TYPE, request::Parts};
use proptest::prelude::*;
use sha2::Sha256;
use webhook_verify::{
    Error, PayloadPolicy, Reason, Scheme, Secret, SignError, Signer, Step, Verified, Verifier,
    presets,
};

const KEY: &str = "SGJNZ96JLG-JDMKHGRWT9-RWRK2KJNRJ";
const FORM: &str = "application/x-www-form-urlencoded";

/// The delivery that PayTabs publishes (support article 60000718961).
const PUBLISHED: &str = "acquirerMessage=&acquirerRRN=&cartId=cart_11111\
    &customerEmail=email%40domain.com&respCode=G84718&respMessage=Authorised&respStatus=A\
    &signature=7a181a32c768621eb6966107752ee70205a01f1c4403a3d13c0ff604f591f988\
    &token=&tranRef=TST2215201242166";

fn request(method: Method, uri: &str, content: Option<&str>) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(content) = content {
        request = request.header(CONTENT_TYPE, content);
    }
    request.body(()).unwrap().into_parts().0
}

fn verifier(scheme: Scheme) -> Verifier {
    Verifier::builder(scheme)
        .secret(Secret::new("profile", KEY).unwrap())
        .methods([Method::GET, Method::HEAD, Method::POST])
        .build()
        .unwrap()
}

fn post(body: &str) -> Result<Verified, Error> {
    let parts = request(Method::POST, "/return?order=1", Some(FORM));
    verifier(presets::paytabs_return()).verify(&parts, None, body.as_bytes())
}

fn refused(body: &str) -> Reason {
    let error = post(body).expect_err(body);
    assert_eq!(
        (error.step(), error.status().as_u16()),
        (Step::Signature, 401)
    );
    error.reason().clone()
}

/// By other means than the crate's.
fn mac(signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let mac = mac.finalize().into_bytes();
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `form` with the signature of `canonical`.
fn signed(form: &str, canonical: &str) -> String {
    format!("{form}&signature={}", mac(canonical))
}

#[test]
fn the_published_delivery_is_accepted() {
    let verified = post(PUBLISHED).unwrap();
    assert_eq!(verified.scheme(), "paytabs_return");
    assert_eq!(verified.timestamp(), None);
    // In another order and another spelling it is the same delivery.
    let other = PUBLISHED
        .replace("&token=", "")
        .replace("cartId=cart_11111", "z=&cart%49d=%63art%5f11111&");
    assert_eq!(post(&other).unwrap().replay_key(), verified.replay_key());
}

/// Made by PHP 8.3.33: `parse_str`, `unset`, `array_filter`, `ksort`, `http_build_query`,
/// `hash_hmac`.
#[test]
fn forms_that_php_signed_are_accepted() {
    for (form, signature) in [
        (
            "a=1&a=2",
            "cbfd060b00a0b480cf2a2bd2481ae7449d71e071c56e8f44be51facfdcab7782",
        ),
        (
            "m=a+b%20c~*%27()!%2F%C3%A9%2B&n=%00x",
            "ec3dcbe29cdeded7ddb34eb583c2664f94ba59fa461f687e3c1732a3fad6211c",
        ),
        (
            "a=%c3%a9",
            "dbd2a2f037d26ab42c35faa84072d46aa1d48a0aca4313b4b2401e99c362ac16",
        ),
        (
            "a=%ff%fe",
            "5a82ed6b39f5bd5b64b3a69fa5f41873b09e9d146014b4da90d9cf8d5d29b7b1",
        ),
        (
            "&&a=1&&",
            "a4cec59bad7505b18be30d54fd7f0620f08125971ad5358f4d9fa91791bf290c",
        ),
        (
            "a=1;b=2&c=3",
            "7ed7117276e18075f756efff80c3c3712f522b71ffcb7d4da2d5984eb5527275",
        ),
        (
            "Signature=t&a=1",
            "4bdc5f68549b6926f66c5f5861d90cd18a4e4fadc0b78b1bc4afe900b115b8bb",
        ),
        (
            "b=00&c=0.0&d=+&e=false",
            "a201be220946e85a764881d4e045bb516646a3eae56b2b014873794cd8819ece",
        ),
    ] {
        post(&format!("{form}&signature={signature}")).expect(form);
        post(&format!("signature={signature}&{form}")).expect(form);
    }
}

/// What PHP changes while it reads: another reader of the same form would see other fields
/// than the ones that were signed.
#[test]
fn names_that_php_rewrites_or_sorts_otherwise_are_refused() {
    for name in [
        "a.b",
        "c+d",
        "%20a",
        "b%00c",
        "x[]",
        "x%5Bk%5D",
        "10",
        "1a",
        "-1",
        "%C3%A9",
        "%FF",
        "{\"a\":\"",
    ] {
        for value in ["1", ""] {
            let form = format!("a=1&{name}={value}");
            assert_eq!(refused(&signed(&form, "a=1")), Reason::NotForm, "{name}");
        }
    }
    for form in ["a=1&=2", "a=%zz", "a=1\n", "a=\u{e9}"] {
        assert_eq!(refused(&signed(form, "a=1")), Reason::NotForm, "{form}");
    }
}

/// A field without a value is not signed, so whoever carries the form (the payer) can add
/// some. In names as PHP has them no JSON fits, which another reader would take for the body.
#[test]
fn a_form_cannot_be_json_as_well() {
    let json = format!("{{\"respStatus\":\"A\",\"z\":\"&{PUBLISHED}&\"}}");
    assert_eq!(refused(&json), Reason::NotForm);
    let mut parts = request(Method::POST, "/return", Some("application/json"));
    let verifier = verifier(presets::paytabs_return());
    let check = |parts: &Parts| {
        let error = verifier.verify(parts, None, PUBLISHED.as_bytes());
        error.unwrap_err().reason().clone()
    };
    assert_eq!(check(&parts), Reason::ContentType);
    parts.headers.remove(CONTENT_TYPE);
    assert_eq!(check(&parts), Reason::Missing(CONTENT_TYPE));
    parts.headers.append(CONTENT_TYPE, FORM.parse().unwrap());
    parts.headers.append(CONTENT_TYPE, FORM.parse().unwrap());
    assert_eq!(check(&parts), Reason::Malformed(CONTENT_TYPE));
}

#[test]
fn empty_values_are_not_signed_and_zero_is_a_value() {
    // Shown, because a receiver must know: it is accepted.
    post(&format!("{PUBLISHED}&discount=&acquirerMessage2=")).unwrap();
    post(&signed("a=0&b=1", "a=0&b=1")).unwrap();
    // As the PHP library of PayTabs would sign it. If that passed, anybody could add `a=0` to
    // any delivery, or take it away.
    let library = signed("a=0&b=1", "b=1");
    assert_eq!(refused(&library), Reason::SignatureMismatch);
    let added = format!("{PUBLISHED}&fee=0");
    assert_eq!(refused(&added), Reason::SignatureMismatch);
}

#[test]
fn of_a_repeated_field_the_last_value_is_signed() {
    post(&signed("x=1&x=2", "x=2")).unwrap();
    assert_eq!(
        refused(&signed("x=1&x=2", "x=1")),
        Reason::SignatureMismatch
    );
    // The last one is empty, so there is none.
    post(&signed("y=1&x=2&x=", "y=1")).unwrap();
}

/// A payer whose payment was declined puts another outcome before the signed one, for a
/// receiver that takes the first.
#[test]
fn a_second_field_of_paytabs_is_refused() {
    for field in PUBLISHED.split('&') {
        let (name, _) = field.split_once('=').unwrap();
        let repeated = Reason::FieldRepeated(name.into());
        for again in [field.to_owned(), format!("{name}="), format!("{name}=A")] {
            assert_eq!(refused(&format!("{again}&{PUBLISHED}")), repeated);
            assert_eq!(refused(&format!("{PUBLISHED}&{again}")), repeated);
        }
    }
}

#[test]
fn the_signature_is_there_once_in_its_one_form() {
    let (before, rest) = PUBLISHED.split_once("&signature=").unwrap();
    let (signature, after) = rest.split_at(64);
    let with = |text: &str| refused(&format!("{before}&{text}{after}"));
    let missing = Reason::FieldMissing("signature".into());
    assert_eq!(refused(&format!("{before}{after}")), missing);
    assert_eq!(with(&format!("Signature={signature}")), missing);
    let malformed = Reason::FieldMalformed("signature".into());
    for text in [
        String::new(),
        signature.to_uppercase(),
        signature[..62].to_owned(),
        format!("{signature}00"),
        format!("{signature}+"),
        format!("sha256={signature}"),
    ] {
        assert_eq!(with(&format!("signature={text}")), malformed, "{text}");
    }
    let other = format!("signature={}", mac("a=1"));
    assert_eq!(with(&other), Reason::SignatureMismatch);
    // Nothing signed is nothing verified, even with a signature of nothing.
    let nothing = Reason::FieldMissing("tranRef".into());
    assert_eq!(refused(&format!("signature={}&token=", mac(""))), nothing);
}

#[test]
fn a_get_brings_the_fields_in_its_query() {
    let get = |scheme: &Scheme, query: &str, body: &[u8]| {
        let parts = request(Method::GET, &format!("/return?{query}"), None);
        let verified = verifier(scheme.clone()).verify(&parts, None, body);
        let verified = verified.map(|verified| *verified.replay_key());
        verified.map_err(|error| error.reason().clone())
    };
    let plain = presets::paytabs_return();
    let by_get = get(&plain, PUBLISHED, b"").unwrap();
    assert_eq!(&by_get, post(PUBLISHED).unwrap().replay_key());
    let head = request(Method::HEAD, &format!("/return?{PUBLISHED}"), None);
    let by_head = verifier(plain.clone()).verify(&head, None, b"").unwrap();
    assert_eq!(&by_get, by_head.replay_key());

    let query = format!("order=7&{PUBLISHED}&lang[]=en");
    assert_eq!(
        get(&plain, &format!("order=7&{PUBLISHED}"), b""),
        Err(Reason::SignatureMismatch)
    );
    let own = presets::paytabs_return_with_query(&["order", "lang[]", "respStatus", "signature"]);
    get(&own, &query, b"").unwrap();
    // A name of PayTabs is never one's own.
    let paid = query.replace("respStatus=A", "respStatus=D");
    assert_eq!(get(&own, &paid, b""), Err(Reason::SignatureMismatch));
    let twice = format!("respStatus=A&{query}");
    let repeated = Reason::FieldRepeated("respStatus".into());
    assert_eq!(get(&own, &twice, b""), Err(repeated));
    // A body would be accepted without anything that protects it.
    assert_eq!(get(&own, &query, b"a=1"), Err(Reason::NotForm));
    let missing = Err(Reason::FieldMissing("signature".into()));
    assert_eq!(get(&plain, "", b""), missing);

    let parts = request(Method::GET, &format!("/return?{PUBLISHED}"), None);
    let builder = Verifier::builder(plain).secret(Secret::new("k", KEY).unwrap());
    let error = builder.build().unwrap().verify(&parts, None, b"");
    assert_eq!(error.unwrap_err().reason(), &Reason::Method);
}

#[test]
fn a_post_is_judged_by_its_body_whatever_its_query_says() {
    let uri = format!("/return?{PUBLISHED}");
    let parts = request(Method::POST, &uri, Some(FORM));
    for scheme in [
        presets::paytabs_return(),
        presets::paytabs_return_with_query(&["order"]),
    ] {
        let verifier = verifier(scheme);
        assert!(verifier.verify(&parts, None, PUBLISHED.as_bytes()).is_ok());
        let error = verifier.verify(&parts, None, b"").unwrap_err();
        assert_eq!(error.reason(), &Reason::FieldMissing("signature".into()));
        let own = format!("order=1&{PUBLISHED}");
        let error = verifier.verify(&parts, None, own.as_bytes()).unwrap_err();
        assert_eq!(error.reason(), &Reason::SignatureMismatch);
    }
}

#[test]
fn a_thousand_fields_are_read_and_no_more() {
    let fields: Vec<_> = (0..999).map(|i| format!("f{i:03}={i}")).collect();
    let form = fields.join("&");
    post(&signed(&form, &form)).unwrap();
    let more = format!("{form}&x=");
    assert_eq!(refused(&signed(&more, &form)), Reason::NotForm);
}

/// Shown, because both are signed with the same key: what a payer brings back is a callback
/// whose body is no JSON.
#[test]
fn a_return_is_no_callback_for_a_receiver_of_json() {
    let canonical = "cartId=cart_11111&customerEmail=email%40domain.com&respCode=G84718\
        &respMessage=Authorised&respStatus=A&tranRef=TST2215201242166";
    let mut parts = request(Method::POST, "/callback", None);
    let signature = mac(canonical).parse().unwrap();
    parts.headers.insert("signature", signature);
    let callback = |json| {
        let mut builder = Verifier::builder(presets::paytabs_callback());
        builder = builder.secret(Secret::new("profile", KEY).unwrap());
        if json {
            builder = builder.payload(PayloadPolicy::json());
        }
        let verifier = builder.build().unwrap();
        verifier.verify(&parts, None, canonical.as_bytes())
    };
    assert!(callback(false).is_ok());
    assert_eq!(callback(true).unwrap_err().reason(), &Reason::NotJson);
}

#[test]
fn what_is_signed_is_accepted_by_post_and_by_get() {
    let signer = Signer::new(
        presets::paytabs_return(),
        Secret::new("profile", KEY).unwrap(),
    );
    let form = b"tranRef=T+1%7E*&acquirerRRN=&cartId=c&respStatus=A";
    let at = Duration::ZERO;
    let signed = signer.sign_delivery(None, None, at, form).unwrap();
    let mut parts = request(Method::POST, "/return", None);
    parts.headers.extend(signed.headers().clone());
    let verifier = verifier(presets::paytabs_return());
    let body = signed.body().unwrap();
    assert!(verifier.verify(&parts, None, body).is_ok());

    let get = request(Method::GET, "/return", None);
    let signed = signer.sign_delivery(Some(&get), None, at, form).unwrap();
    assert!(signed.headers().is_empty());
    let query = std::str::from_utf8(signed.body().unwrap()).unwrap();
    let get = request(Method::GET, &format!("/return?{query}"), None);
    assert!(verifier.verify(&get, None, b"").is_ok());

    let refused = |form: &str| {
        let error = signer.sign_delivery(None, None, at, form.as_bytes());
        error.unwrap_err()
    };
    for (form, reason) in [
        (PUBLISHED, Reason::FieldRepeated("signature".into())),
        ("a=%", Reason::NotForm),
        ("a.b=1", Reason::NotForm),
        ("a=", Reason::FieldMissing("tranRef".into())),
    ] {
        assert_eq!(refused(form), SignError::Delivery(reason));
    }
    let key = signer.sign_at(at, form).unwrap_err();
    assert_eq!(key, SignError::Body);
}

/// The canonical form of the fields, in the plainest way that could be right.
fn plain_canonical(fields: &[(String, Vec<u8>)]) -> String {
    let mut names: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    let mut pairs = Vec::new();
    for name in names {
        let (_, value) = fields.iter().rfind(|(other, _)| other == name).unwrap();
        if !value.is_empty() {
            pairs.push(format!("{name}={}", escape(value, false)));
        }
    }
    pairs.join("&")
}

/// PHP's `urlencode`, or every byte escaped.
fn escape(value: &[u8], all: bool) -> String {
    let one = |byte: &u8| match byte {
        b' ' if !all => "+".to_owned(),
        _ if !all && (byte.is_ascii_alphanumeric() || b"-_.".contains(byte)) => {
            char::from(*byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    value.iter().map(one).collect()
}

/// Every bit of the published body, one by one.
#[test]
fn a_flipped_bit_is_refused_but_in_the_name_of_a_field_without_value() {
    let parts = request(Method::POST, "/return", Some(FORM));
    let verifier = verifier(presets::paytabs_return());
    let empty = ["acquirerMessage", "acquirerRRN", "token"];
    let mut harmless = 0;
    for bit in 0..PUBLISHED.len() * 8 {
        let mut body = PUBLISHED.as_bytes().to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        if verifier.verify(&parts, None, &body).is_err() {
            continue;
        }
        // Another name for a field without a value.
        let body = String::from_utf8(body).unwrap();
        let fields = |text: &str| -> Vec<String> {
            let fields = text.split('&').map(str::to_owned);
            let has_value = |field: &String| !field.ends_with('=') && field.contains('=');
            fields.filter(has_value).collect()
        };
        assert_eq!(fields(&body), fields(PUBLISHED), "{body}");
        let at = bit / 8;
        let start = PUBLISHED[..at].rfind('&').map_or(0, |amp| amp + 1);
        assert!(
            empty
                .iter()
                .any(|name| PUBLISHED[start..].starts_with(name)),
            "{body}"
        );
        harmless += 1;
    }
    assert!(harmless > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any fields: what the plain code signs is accepted however it is spelled; with one
    /// value, name or signature byte changed it is not.
    #[test]
    fn fields_are_verified_as_the_plain_code_signs_them(
        fields in prop::collection::vec(
            ("[A-Za-z_][A-Za-z0-9_-]{0,3}", prop::collection::vec(any::<u8>(), 0..6)),
            1..8,
        ),
        all in any::<bool>(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let canonical = plain_canonical(&fields);
        prop_assume!(!canonical.is_empty());
        let spell = |fields: &[(String, Vec<u8>)]| {
            let pairs = fields.iter().map(|(name, value)| format!("{name}={}", escape(value, all)));
            pairs.collect::<Vec<_>>().join("&")
        };
        prop_assert!(post(&signed(&spell(&fields), &canonical)).is_ok());
        let mut changed = fields.clone();
        let field = at.index(changed.len());
        match changed[field].1.last_mut() {
            Some(byte) => *byte ^= 1 << bit,
            None => changed[field].1.push(b'0'),
        }
        let same = plain_canonical(&changed) == canonical;
        let verified = post(&signed(&spell(&changed), &canonical));
        prop_assert_eq!(verified.is_ok(), same);
    }
}
