//! Each preset against published values, or against values computed here with nothing of
//! the crate.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, Request, request::Parts};
use sha2::Sha256;
use webhook_verify::{
    Reason, Scheme, Secret, Signer, Step, Verifier, clock::ManualWallClock, presets,
};

fn post(fields: &[(&str, &str)]) -> Parts {
    let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        parts.headers.append(name, value.parse().unwrap());
    }
    parts
}

fn verifier(scheme: &Scheme, secret: Secret, now: u64) -> Verifier {
    let clock = ManualWallClock::new(now);
    let builder = Verifier::builder(scheme.clone()).clock(clock);
    builder.secret(secret).build().unwrap()
}

/// Accepts the delivery whole and in chunks, signs the same headers, refuses every flipped
/// bit of the body, another key, and another form of the signature.
fn holds(scheme: &Scheme, key: &str, at: u64, body: &[u8], fields: &[(&str, &str)]) {
    let name = scheme.name();
    let secret = || scheme.secret("k", key).unwrap();
    let verifier = verifier(scheme, secret(), at);
    let parts = post(fields);
    let verified = verifier.verify(&parts, None, body).expect(name);
    let time = scheme.tolerance().map(|_| at);
    assert_eq!((verified.scheme(), verified.timestamp()), (name, time));
    let mut session = verifier.begin(&parts, None).expect(name);
    body.chunks(7)
        .for_each(|chunk| session.update(chunk).unwrap());
    let streamed = session.finish().expect(name);
    assert_eq!(streamed.replay_key(), verified.replay_key());

    let id = parts
        .headers
        .iter()
        .find(|(name, _)| name.as_str().ends_with("-id"));
    let id = id.map(|(_, id)| id.to_str().unwrap());
    let at = Duration::from_secs(at);
    let signer = Signer::new(scheme.clone(), secret());
    let signed = signer.sign_with_id(id.unwrap_or(""), at, body).expect(name);
    assert_eq!(sorted(&signed), sorted(&parts.headers), "{name}");

    for bit in 0..body.len() * 8 {
        let mut changed = body.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = verifier.verify(&parts, None, &changed).unwrap_err();
        assert_eq!(error.reason(), &Reason::SignatureMismatch, "{name}: {bit}");
    }
    let field = scheme.headers().next().unwrap();
    let text = parts.headers[field].to_str().unwrap();
    for loose in [
        format!("{text} "),
        format!(" {text}"),
        format!("{text}="),
        text.to_uppercase(),
        text[..text.len() - 1].to_owned(),
        text[1..].to_owned(),
        text.replace(['=', ','], ""),
        format!("sha1={text}"),
        String::new(),
    ] {
        // Hex without a prefix has nothing to take away, and a list with blanks may have
        // an empty place.
        if loose == text || (text.starts_with("v1") && loose.trim() == text) {
            continue;
        }
        let mut parts = parts.clone();
        parts.headers.insert(field, loose.parse().unwrap());
        let error = verifier.verify(&parts, None, body).unwrap_err();
        assert!(
            matches!(error.step(), Step::Signature | Step::Timestamp),
            "{name}: {loose:?}"
        );
        assert_eq!(error.status(), 401, "{name}: {loose:?}");
    }
}

fn sorted(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let fields = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut fields: Vec<_> = fields.collect();
    fields.sort_unstable();
    fields
}

/// HMAC-SHA256, by other means than the crate's.
fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `libraries/python/tests/test_webhooks.py` and `libraries/rust/src/lib.rs` of Standard
/// Webhooks; Svix has the first one as well.
#[test]
fn standard_webhooks_and_svix() {
    let vectors = [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            &br#"{"test": 2432232314}"#[..],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            br#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ];
    for (key, id, at, body, signature) in vectors {
        for (scheme, family) in [
            (presets::standard_webhooks(), "webhook"),
            (presets::svix(), "svix"),
        ] {
            let names = ["id", "timestamp", "signature"].map(|name| format!("{family}-{name}"));
            let at_text = at.to_string();
            let values = [id, &at_text, signature];
            let fields: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
            holds(&scheme, key, at, body, &fields);
        }
    }
}

#[test]
fn a_field_of_the_other_family_never_takes_the_place_of_one() {
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (scheme, other) in [
        (presets::svix(), "webhook"),
        (presets::standard_webhooks(), "svix"),
    ] {
        let secret = scheme.secret("k", key).unwrap();
        let verifier = verifier(&scheme, secret.clone(), 1);
        let signer = Signer::new(scheme.clone(), secret);
        let good = signer
            .sign_with_id("m", Duration::from_secs(1), b"{}")
            .unwrap();
        for name in scheme.headers() {
            let mut parts = post(&[]);
            parts.headers = good.clone();
            let value = parts.headers.remove(name).unwrap();
            let end = name.as_str().split('-').next_back().unwrap();
            let other: HeaderName = format!("{other}-{end}").parse().unwrap();
            parts.headers.insert(other, value);
            let error = verifier.verify(&parts, None, b"{}").unwrap_err();
            assert_eq!(error.reason(), &Reason::Missing(name.clone()));
        }
    }
}

/// Stripe publishes no fixed value; the first one is computed here, the second one was made
/// by `generate_signature_header` of stripe-python 16.1.0.
#[test]
fn stripe() {
    let made = "t=1700000000,v1=0c8670ed117751cc551a20e35839447075c42800ea3cf3e8a2fbda99cd1e6edd";
    let event = br#"{"id":"evt_1","object":"event"}"#;
    let fields = [("stripe-signature", made)];
    holds(
        &presets::stripe(),
        "whsec_test_secret",
        1_700_000_000,
        event,
        &fields,
    );
    let (key, at, body) = ("whsec_test_secret", 1_700_000_000, br#"{"id":"evt_1"}"#);
    let mac = hex(&hmac(key.as_bytes(), &[b"1700000000.", body]));
    let header = format!("t=1700000000,v1={mac}");
    holds(
        &presets::stripe(),
        key,
        at,
        body,
        &[("stripe-signature", &header)],
    );
}

/// Which lists of Stripe's form are read, and what is said of the others.
#[test]
fn a_list_is_read_by_its_labels_wherever_they_stand() {
    let (key, body) = ("whsec_test_secret", b"{}");
    let scheme = presets::stripe();
    let verifier = verifier(&scheme, scheme.secret("k", key).unwrap(), 1_700_000_000);
    let good = hex(&hmac(key.as_bytes(), &[b"1700000000.", body]));
    let other = "0".repeat(64);
    let name = HeaderName::from_static("stripe-signature");
    let malformed = || Err(Reason::Malformed(name.clone()));
    let many = |count| {
        format!(
            "t=1700000000{},v1={good}",
            format!(",v0={other}").repeat(count)
        )
    };
    for (header, expected) in [
        (format!("v1={good},t=1700000000"), Ok(())),
        (format!("t=1700000000,v1={other},v1={good}"), Ok(())),
        (format!("t=1700000000,v0={other},v1={good}"), Ok(())),
        (format!("t=1700000000,v1=x,,v1={good}"), Ok(())),
        (many(15), Ok(())),
        (many(16), Err(Reason::TooManySignatures)),
        (format!("t=1700000000,v0={good}"), malformed()),
        (format!("t=1700000000,V1={good}"), malformed()),
        (format!("t=1700000000, v1={good}"), malformed()),
        (format!("t=1700000000;v1={good}"), malformed()),
        (
            format!("t=1700000000,v1={other}"),
            Err(Reason::SignatureMismatch),
        ),
        (format!("v1={good}"), malformed()),
        (format!("t=1700000000,t=1700000000,v1={good}"), malformed()),
        (format!("t=01700000000,v1={good}"), malformed()),
        (format!("t=,v1={good}"), malformed()),
        (
            format!("t=1699999699,v1={good}"),
            Err(Reason::TooOld { by_seconds: 1 }),
        ),
        (
            format!("t=1700000301,v1={good}"),
            Err(Reason::TooNew { by_seconds: 1 }),
        ),
    ] {
        let answer = verifier.verify(&post(&[("stripe-signature", &header)]), None, body);
        assert_eq!(
            answer.map(drop).map_err(|error| error.reason().clone()),
            expected,
            "{header}"
        );
    }
    let missing = verifier.verify(&post(&[]), None, body).unwrap_err();
    assert_eq!(missing.reason(), &Reason::Missing(name.clone()));
    let twice = format!("t=1700000000,v1={good}");
    let twice = post(&[("stripe-signature", &twice), ("stripe-signature", &twice)]);
    let twice = verifier.verify(&twice, None, body).unwrap_err();
    assert_eq!(
        (twice.step(), twice.reason()),
        (Step::Header, &Reason::Malformed(name))
    );
}

/// <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>
#[test]
fn github() {
    let value = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let fields = [("x-hub-signature-256", value)];
    holds(
        &presets::github(),
        "It's a Secret to Everybody",
        1,
        b"Hello, World!",
        &fields,
    );
}

/// The example of Slack's documentation and of the tests of its Python library.
#[test]
fn slack() {
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let fields = [
        ("x-slack-request-timestamp", "1531420618"),
        (
            "x-slack-signature",
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        ),
    ];
    holds(
        &presets::slack(),
        "8f742231b10e8888abcd99yyyzzz85a5",
        1_531_420_618,
        body,
        &fields,
    );
}

/// Zoom's documentation has no value; the second one is accepted by @zoom/rivet 0.4.0.
#[test]
fn zoom() {
    let event =
        br#"{"event":"meeting.started","payload":{"account_id":"A"},"event_ts":1739923528123}"#;
    let fields = [
        ("x-zm-request-timestamp", "1739923528"),
        (
            "x-zm-signature",
            "v0=1e09f2c29a9a7bcf2e2eeaca8def903c059d763879df552a05ca008cdab28461",
        ),
    ];
    holds(
        &presets::zoom(),
        "zoom-secret",
        1_739_923_528,
        event,
        &fields,
    );
    let (key, body) = ("zoom secret token", br#"{"event":"meeting.started"}"#);
    let mac = hex(&hmac(key.as_bytes(), &[b"v0:1700000000:", body]));
    let value = format!("v0={mac}");
    let fields = [
        ("x-zm-request-timestamp", "1700000000"),
        ("x-zm-signature", &value),
    ];
    holds(&presets::zoom(), key, 1_700_000_000, body, &fields);
}

/// `tests/Unit/Notification/test_Verifier.py` of Paddle's Python library and
/// `webhooks-validator.node.test.ts` of the one for Node; the latter's first value.
#[test]
fn paddle() {
    let key = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh";
    let mac = "d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02";
    let one = format!("ts=1696195954;h1={mac}");
    holds(
        &presets::paddle(),
        key,
        1_696_195_954,
        b"hello-world",
        &[("paddle-signature", &one)],
    );
    let scheme = presets::paddle();
    let rotated = format!("ts=1696195954;h1=dummy;h1={mac}");
    let parts = post(&[("paddle-signature", &rotated)]);
    let accepts = |key: &str| {
        let verifier = verifier(&scheme, scheme.secret("k", key).unwrap(), 1_696_195_954);
        verifier.verify(&parts, None, b"hello-world").is_ok()
    };
    assert!(accepts(key));
    assert!(!accepts(
        "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_TjIG2BXbm83HPXqNfziwe506sBEdqL/4"
    ));
    let node = "ts=1698796800;h1=a300428748dce5c70e4da19bffd60769591ea969c99dea3105d0ec9612cf43f9";
    holds(
        &scheme,
        "VALID_SECRET",
        1_698_796_800,
        br#"{"data": ["1", "2"]}"#,
        &[("paddle-signature", node)],
    );
}

/// `tests/integration/test_webhooks_helper.py` of Square's Python library.
#[test]
fn square() {
    let url = "https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9";
    let key = "Ibxx_5AKakO-3qeNVR61Dw";
    let body = br#"{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification","event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f","created_at":"2022-07-13T20:30:59.037339943Z","data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}"#;
    let fields = [(
        "x-square-hmacsha256-signature",
        "GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4=",
    )];
    holds(&presets::square(url), key, 1, body, &fields);
    let short = presets::square("https://webhook.site/webhooks");
    let value = "Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U=";
    let event = br#"{"data":{"type":"webhooks","id":">id<"}}"#;
    let second = [("x-square-hmacsha256-signature", value)];
    holds(&short, "signature-key", 1, event, &second);
    let other = presets::square("https://webhook.site/79a4f3a-dcfa-49ee-bac5-9d0edad886b9");
    let verifier = verifier(&other, other.secret("k", key).unwrap(), 1);
    assert!(
        verifier.verify(&post(&fields), None, body).is_err(),
        "another URL"
    );
}

/// `tests/test_client_utility.py` of Razorpay's Python library, over its
/// `mocks/fake_payment_authorized_webhook.json`.
#[test]
fn razorpay() {
    let value = "d60e67fd884556c045e9be7dad57903e33efc7172c17c6e3ef77db42d2b366e9";
    let body = include_bytes!("vectors/razorpay.json");
    let fields = [("x-razorpay-signature", value)];
    holds(&presets::razorpay(), "key_secret", 1, body, &fields);
}

/// Accepted by @shopify/shopify-api 13.1.0.
#[test]
fn shopify() {
    let fields = [(
        "x-shopify-hmac-sha256",
        "VnKUjZsLuN5iZWjn5EntcBVCF9kMN43LglzCE1/GSeY=",
    )];
    holds(&presets::shopify(), "hush", 1, br#"{"id":1}"#, &fields);
}

/// Providers with one value over the body that publish no value.
#[test]
fn one_value_over_the_body() {
    let (key, body) = ("a key", br#"{"id":1}"#);
    let mac = hmac(key.as_bytes(), &[body]);
    let hex = hex(&mac);
    for (scheme, name, value) in [
        (presets::paytabs_callback(), "signature", &hex),
        (presets::lemon_squeezy(), "x-signature", &hex),
        (presets::linear(), "linear-signature", &hex),
        (presets::dropbox(), "x-dropbox-signature", &hex),
        (
            presets::timestamped_body_only(),
            "x-webhook-signature",
            &hex,
        ),
    ] {
        holds(&scheme, key, 1, body, &[(name, value)]);
    }
}

#[cfg(feature = "ed25519")]
mod asymmetric {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const PUBLIC: &str = "whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g=";
    const PRIVATE: &str = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";
    const V1A: &str = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
    const V1: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const AT: u64 = 1_614_265_330;

    fn delivery(signature: &str) -> Parts {
        post(&[
            ("webhook-id", ID),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signature),
        ])
    }

    /// `libraries/go/webhook_asymmetric_test.go` of Standard Webhooks.
    #[test]
    fn standard_webhooks_v1a() {
        let scheme = presets::standard_webhooks();
        let fields = [
            ("webhook-id", ID),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", V1A),
        ];
        holds(&scheme, PRIVATE, AT, BODY, &fields);
        let public = verifier(&scheme, scheme.secret("k", PUBLIC).unwrap(), AT);
        assert!(public.verify(&delivery(V1A), None, BODY).is_ok());
    }

    /// The example in the specification, under the key of Svix's own tests: a pair of 64
    /// bytes, where the Go library has a seed of 32.
    #[test]
    fn svix_v1a() {
        let key = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
        let value = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        let fields = [
            ("svix-id", ID),
            ("svix-timestamp", "1614265330"),
            ("svix-signature", value),
        ];
        let scheme = presets::svix();
        holds(&scheme, key, AT, BODY, &fields);
        let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
        let public = verifier(&scheme, scheme.secret("k", public).unwrap(), AT);
        assert!(public.verify(&post(&fields), None, BODY).is_ok());
    }

    #[test]
    fn the_kind_of_key_chooses_the_version_and_not_the_sender() {
        let scheme = presets::standard_webhooks();
        let both = format!("{V1} {V1A}");
        for (key, signature, passes) in [
            (PUBLIC, both.as_str(), true),
            (WHSEC, &both, true),
            (PUBLIC, V1, false),
            (WHSEC, V1A, false),
            // A value under the label of the other version.
            (PUBLIC, &V1A.replace("v1a,", "v1,"), false),
            (WHSEC, &V1.replace("v1,", "v1a,"), false),
        ] {
            let verifier = verifier(&scheme, scheme.secret("k", key).unwrap(), AT);
            let answer = verifier.verify(&delivery(signature), None, BODY);
            assert_eq!(answer.is_ok(), passes, "{key} {signature}");
        }
    }

    /// The public key as text is what everybody knows: an HMAC under it must prove nothing.
    #[test]
    fn a_public_key_is_no_hmac_key() {
        let scheme = presets::standard_webhooks();
        let public = scheme.secret("k", PUBLIC).unwrap();
        let signer = Signer::new(scheme.clone(), public);
        let error = signer.sign_with_id(ID, Duration::from_secs(AT), BODY);
        assert_eq!(error.unwrap_err(), webhook_verify::SignError::Key);
        let forged = Signer::new(scheme.clone(), Secret::base64("k", &PUBLIC[5..]).unwrap());
        let mut parts = delivery("");
        parts.headers = forged
            .sign_with_id(ID, Duration::from_secs(AT), BODY)
            .unwrap();
        let verifier = verifier(&scheme, scheme.secret("k", PUBLIC).unwrap(), AT);
        assert!(verifier.verify(&parts, None, BODY).is_err());
    }

    /// Discord publishes no value; the signature is made by another call of the library.
    #[test]
    fn discord() {
        use ed25519_dalek::{Signer as _, SigningKey};
        let pair = SigningKey::from_bytes(&[9; 32]);
        let (at, body) = (1_700_000_000, br#"{"type":1}"#);
        let signature = pair.sign(br#"1700000000{"type":1}"#).to_bytes();
        let fields = [
            ("x-signature-ed25519", &*hex(&signature)),
            ("x-signature-timestamp", "1700000000"),
        ];
        let scheme = presets::discord();
        let key = hex(pair.verifying_key().as_bytes());
        let verifier = verifier(&scheme, scheme.secret("app", &key).unwrap(), at);
        assert!(verifier.verify(&post(&fields), None, body).is_ok());
        let private = Secret::ed25519_private("app", &[9; 32]).unwrap();
        let signed = Signer::new(scheme, private).sign_at(Duration::from_secs(at), body);
        assert_eq!(sorted(&signed.unwrap()), sorted(&post(&fields).headers));
        for (time, body) in [("170000000", &b"0{\"type\":1}"[..]), ("1700000001", body)] {
            let mut parts = post(&fields);
            parts
                .headers
                .insert("x-signature-timestamp", time.parse().unwrap());
            assert!(verifier.verify(&parts, None, body).is_err());
        }
        let upper = signature
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<String>();
        let mut parts = post(&fields);
        parts
            .headers
            .insert("x-signature-ed25519", upper.parse().unwrap());
        let error = verifier.verify(&parts, None, body).unwrap_err();
        assert!(matches!(error.reason(), Reason::Malformed(_)));
    }
}
