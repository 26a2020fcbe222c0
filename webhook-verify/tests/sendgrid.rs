//! SendGrid: its published deliveries, what it refuses by its own tests, and round trips.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, Request, request::Parts};
use webhook_verify::{
    KeyFormat, KeySet, Reason, ReplayBasis, Secret, SecretError, Signer, Step, Verified, Verifier,
    clock::ManualWallClock, presets, replay::MemoryReplayStore,
};

const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
const PRIVATE: &str = include_str!("vectors/keys/p256.pem");

/// `src/eventwebhook.spec.js` of `@sendgrid/eventwebhook` 8.0.0, and `sendgrid-python`
/// `test/unit/test_eventwebhook.py`.
struct Published {
    key: &'static str,
    signature: &'static str,
    timestamp: &'static str,
    body: &'static [u8],
}

const SINGLE: Published = Published {
    key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
    signature: "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
    timestamp: "1600112502",
    body: include_bytes!("vectors/sendgrid-single.body"),
};

const BATCH: Published = Published {
    key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQ4LIFtWztlsF7skFqOncjD1lun4H5w8XOhyOArHW9RcIx/FfEzx6cikC/yPfUvwaX/JScE7Fc9CJD2afQ9Ok3Q==",
    signature: "MEYCIQC/I4o6vCgqRYrTljjoVWB/GRWNtxeePlLMHr3x9ETeRQIhAIpV+03nREPTTHWSW0wIOA0EoMPdcNgXa70yCaqDJlu5",
    timestamp: "1619651159",
    body: include_bytes!("vectors/sendgrid-multi.body"),
};

/// Keys and signatures of the same file that do not belong to the first delivery.
const OTHER_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqTxd43gyp8IOEto2LdIfjRQrIbsd4SXZkLW6jDutdhXSJCWHw8REntlo7aNDthvj+y7GjUuFDb/R1NGe1OPzpA==";
const OTHER_SIGNATURE: &str = "MEUCIQCtIHJeH93Y+qpYeWrySphQgpNGNr/U+UyUlBkU6n7RAwIgJTz2C+8a8xonZGi6BpSzoQsbVRamr2nlxFDWYNH3j/0=";

impl Published {
    fn at(&self) -> u64 {
        self.timestamp.parse().unwrap()
    }

    fn parts(&self) -> Parts {
        post(&[(SIGNATURE, self.signature), (TIMESTAMP, self.timestamp)])
    }
}

fn post(fields: &[(&'static str, &str)]) -> Parts {
    let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
    for (name, value) in fields {
        let name = HeaderName::from_static(name);
        parts.headers.append(name, value.parse().unwrap());
    }
    parts
}

fn verifier(key: &str, now: u64) -> Verifier {
    let scheme = presets::sendgrid();
    let secret = scheme.secret("k", key).unwrap();
    let builder = Verifier::builder(scheme).clock(ManualWallClock::new(now));
    builder.secret(secret).build().unwrap()
}

/// The answer to the whole body, which chunks must give as well.
fn verify(verifier: &Verifier, parts: &Parts, body: &[u8]) -> Result<Verified, (Step, Reason)> {
    let whole = verifier.verify(parts, None, body);
    let streamed = verifier.begin(parts, None).and_then(|mut session| {
        body.chunks(5).try_for_each(|chunk| session.update(chunk))?;
        session.finish()
    });
    match (&whole, &streamed) {
        (Ok(whole), Ok(streamed)) => assert_eq!(whole.replay_key(), streamed.replay_key()),
        (Err(whole), Err(streamed)) => assert_eq!(whole.reason(), streamed.reason()),
        _ => panic!("{whole:?} but in chunks {streamed:?}"),
    }
    whole.map_err(|error| (error.step(), error.reason().clone()))
}

fn malformed(name: &'static str) -> Reason {
    Reason::Malformed(HeaderName::from_static(name))
}

#[test]
fn the_published_deliveries_are_accepted() {
    for delivery in [SINGLE, BATCH] {
        let verifier = verifier(delivery.key, delivery.at());
        let verified = verify(&verifier, &delivery.parts(), delivery.body).unwrap();
        assert_eq!(verified.scheme(), "sendgrid");
        assert_eq!(verified.timestamp(), Some(delivery.at()));
        assert_eq!(verified.key_id(), "k");
    }
}

#[test]
fn what_the_tests_of_the_provider_refuse_is_refused() {
    let own = verifier(SINGLE.key, SINGLE.at());
    let mismatch = (Step::Signature, Reason::SignatureMismatch);
    let other = verifier(OTHER_KEY, SINGLE.at());
    assert_eq!(
        verify(&other, &SINGLE.parts(), SINGLE.body).unwrap_err(),
        mismatch
    );
    assert_eq!(
        verify(&own, &SINGLE.parts(), b"payload").unwrap_err(),
        mismatch
    );
    let parts = post(&[(SIGNATURE, OTHER_SIGNATURE), (TIMESTAMP, SINGLE.timestamp)]);
    assert_eq!(verify(&own, &parts, SINGLE.body).unwrap_err(), mismatch);
    let parts = post(&[(SIGNATURE, SINGLE.signature), (TIMESTAMP, "timestamp")]);
    assert_eq!(
        verify(&own, &parts, SINGLE.body).unwrap_err(),
        (Step::Timestamp, malformed(TIMESTAMP))
    );
}

/// A JSON parser and its writer would take the CR LF away.
#[test]
fn a_body_without_its_last_line_end_is_another_body() {
    let verifier = verifier(SINGLE.key, SINGLE.at());
    let trimmed = SINGLE.body.strip_suffix(b"\r\n").unwrap();
    let unix = [trimmed, b"\n"].concat();
    for body in [trimmed, &unix, b""] {
        let error = verify(&verifier, &SINGLE.parts(), body).unwrap_err();
        assert_eq!(error.1, Reason::SignatureMismatch);
    }
}

#[test]
fn every_flipped_bit_of_the_body_is_refused() {
    let verifier = verifier(SINGLE.key, SINGLE.at());
    let parts = SINGLE.parts();
    for bit in (0..SINGLE.body.len() * 8).step_by(3) {
        let mut body = SINGLE.body.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        let error = verifier.verify(&parts, None, &body).unwrap_err();
        assert_eq!(error.reason(), &Reason::SignatureMismatch, "bit {bit}");
    }
}

/// Most break the DER form, the others the numbers in it.
#[test]
fn every_flipped_bit_of_the_signature_is_refused() {
    let verifier = verifier(SINGLE.key, SINGLE.at());
    let der = STANDARD.decode(SINGLE.signature).unwrap();
    for bit in 0..der.len() * 8 {
        let mut other = der.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let text = STANDARD.encode(&other);
        let parts = post(&[(SIGNATURE, &text), (TIMESTAMP, SINGLE.timestamp)]);
        let error = verifier.verify(&parts, None, SINGLE.body).unwrap_err();
        assert_eq!(error.step(), Step::Signature, "bit {bit}");
    }
}

#[test]
fn every_other_form_of_the_headers_is_refused() {
    let verifier = verifier(SINGLE.key, SINGLE.at());
    let der = STANDARD.decode(SINGLE.signature).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut other = der.clone();
        change(&mut other);
        STANDARD.encode(other)
    };
    let numbers = [&der[4..36], &der[39..]].concat();
    for bad in [
        String::new(),
        format!("{} ", SINGLE.signature),
        format!("{},{}", SINGLE.signature, SINGLE.signature),
        SINGLE.signature.replace('=', ""),
        SINGLE.signature.replace('+', "-").replace('/', "_"),
        with(&|der| der.push(0)),
        with(&|der| der[0] = 0x31),
        // A length in two bytes, an indefinite one, a number with a needless zero.
        with(&|der| drop(der.splice(1..2, [0x81, 0x45]))),
        with(&|der| drop(der.splice(1..2, [0x80]))),
        with(&|der| {
            drop(der.splice(1..4, [0x46, 0x02, 0x21, 0]));
        }),
        // The form of RFC 9421.
        STANDARD.encode(numbers),
        "A".repeat(100_000),
    ] {
        let parts = post(&[(SIGNATURE, &bad), (TIMESTAMP, SINGLE.timestamp)]);
        let error = verify(&verifier, &parts, SINGLE.body).unwrap_err();
        assert_eq!(error, (Step::Signature, malformed(SIGNATURE)), "{bad}");
    }
    for (fields, expected) in [
        (
            vec![(TIMESTAMP, SINGLE.timestamp)],
            Reason::Missing(HeaderName::from_static(SIGNATURE)),
        ),
        (
            vec![(SIGNATURE, SINGLE.signature)],
            Reason::Missing(HeaderName::from_static(TIMESTAMP)),
        ),
        (
            vec![
                (SIGNATURE, SINGLE.signature),
                (SIGNATURE, SINGLE.signature),
                (TIMESTAMP, SINGLE.timestamp),
            ],
            malformed(SIGNATURE),
        ),
        (
            vec![
                (SIGNATURE, SINGLE.signature),
                (TIMESTAMP, SINGLE.timestamp),
                (TIMESTAMP, SINGLE.timestamp),
            ],
            malformed(TIMESTAMP),
        ),
    ] {
        let error = verify(&verifier, &post(&fields), SINGLE.body).unwrap_err();
        assert_eq!(error.1, expected);
    }
}

/// Signer and verifier must agree on where the time ends and the body begins, even when the
/// window is as wide as it can be.
#[test]
fn a_digit_cannot_move_between_time_and_body() {
    let scheme = presets::sendgrid();
    let secret = Secret::pem("k", PRIVATE).unwrap();
    let signer = Signer::new(scheme.clone(), secret.clone());
    let at = 1_700_000_000;
    let signed = signer.sign_at(Duration::from_secs(at), b"123").unwrap();
    let builder = Verifier::builder(scheme).clock(ManualWallClock::new(at));
    let builder = builder.tolerance(Duration::from_secs(1 << 40), Duration::from_secs(1 << 40));
    let verifier = builder.secret(secret).build().unwrap();
    let mut parts = post(&[]);
    parts.headers = signed;
    verify(&verifier, &parts, b"123").unwrap();
    for (time, body) in [("17000000001", &b"23"[..]), ("170000000", b"0123")] {
        parts.headers.insert(TIMESTAMP, time.parse().unwrap());
        let error = verify(&verifier, &parts, body).unwrap_err();
        assert_eq!(error, (Step::Timestamp, malformed(TIMESTAMP)), "{time}");
    }
}

#[test]
fn the_time_is_judged_with_both_ends_of_the_window_inside() {
    for (now, accepted) in [(-301, false), (-300, true), (300, true), (301, false)] {
        let now = SINGLE.at().checked_add_signed(now).unwrap();
        let verifier = verifier(SINGLE.key, now);
        let answer = verify(&verifier, &SINGLE.parts(), SINGLE.body);
        assert_eq!(answer.is_ok(), accepted, "{now}");
    }
}

#[test]
fn what_is_signed_here_verifies_and_only_under_its_key() {
    let scheme = presets::sendgrid();
    let secret = Secret::pem("own", PRIVATE).unwrap();
    let at = 1_700_000_000;
    for body in [&b""[..], b"[]\r\n", &[0xff; 70_000]] {
        let signer = Signer::new(scheme.clone(), secret.clone());
        let mut parts = post(&[]);
        parts.headers = signer.sign_at(Duration::from_secs(at), body).unwrap();
        let builder = Verifier::builder(scheme.clone()).clock(ManualWallClock::new(at));
        let other = scheme.secret("other", SINGLE.key).unwrap();
        let both = builder.secret(other).secret(secret.clone());
        let verified = verify(&both.build().unwrap(), &parts, body).unwrap();
        assert_eq!(verified.key_id(), "own");
        let error = verify(&verifier(SINGLE.key, at), &parts, body).unwrap_err();
        assert_eq!(error.1, Reason::SignatureMismatch);
    }
}

/// The second signature of a delivery is found by arithmetic; it must not make it a new one.
#[test]
fn the_second_form_of_a_signature_is_the_same_delivery() {
    let second = second_form(SINGLE.signature);
    assert_ne!(second, SINGLE.signature);
    let parts = [SINGLE.signature, &second]
        .map(|text| post(&[(SIGNATURE, text), (TIMESTAMP, SINGLE.timestamp)]));
    let plain = verifier(SINGLE.key, SINGLE.at());
    let scheme = presets::sendgrid();
    assert_eq!(scheme.replay_basis(), ReplayBasis::Content);
    let clock = ManualWallClock::new(SINGLE.at());
    let secret = scheme.secret("k", SINGLE.key).unwrap();
    let builder = Verifier::builder(scheme)
        .clock(clock.clone())
        .secret(secret);
    let builder = builder.replay(MemoryReplayStore::new(16));
    let storing = builder.build().unwrap();
    for verifier in [plain, storing] {
        let [one, two] = parts.each_ref().map(|parts| {
            let verified = verify(&verifier, parts, SINGLE.body).unwrap();
            *verified.replay_key()
        });
        assert_eq!(one, two);
        let other = post(&[(SIGNATURE, BATCH.signature), (TIMESTAMP, BATCH.timestamp)]);
        assert!(verify(&verifier, &other, BATCH.body).is_err());
    }
}

/// `(r, n - s)` in DER, by arithmetic on bytes.
fn second_form(signature: &str) -> String {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let der = STANDARD.decode(signature).unwrap();
    let (r, s) = (&der[2..36], &der[der.len() - 32..]);
    assert_eq!(r[..2], [0x02, 0x20], "r of 32 bytes");
    let mut borrow = 0;
    let mut other = [0; 32];
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        other[at] = difference.rem_euclid(256).to_le_bytes()[0];
    }
    assert!(other[0] < 0x80 && other[0] > 0, "a number of 32 bytes");
    STANDARD.encode([&[0x30, 0x44][..], r, &[0x02, 0x20], &other].concat())
}

#[test]
fn keys_of_another_kind_are_refused_and_never_tried() {
    let scheme = presets::sendgrid();
    assert_eq!(scheme.key_format(), KeyFormat::Spki);
    let rsa = Secret::pem("rsa", include_str!("vectors/keys/rsa2048.pub.pem"));
    let kinds = [Secret::new("text", "key"), rsa];
    // The feature of RSA may be off.
    for secret in kinds.into_iter().flatten() {
        let builder = Verifier::builder(scheme.clone()).secret(secret.clone());
        assert!(builder.build().is_err(), "{}", secret.id());
        let own = scheme.secret("own", SINGLE.key).unwrap();
        let keys = KeySet::new([own]).unwrap();
        let clock = ManualWallClock::new(SINGLE.at());
        let builder = Verifier::builder(scheme.clone()).clock(clock);
        let verifier = builder.keys(keys.clone()).build().unwrap();
        keys.replace([(secret, None)]).unwrap();
        let error = verify(&verifier, &SINGLE.parts(), SINGLE.body).unwrap_err();
        assert_eq!(error.1, Reason::NoActiveKey);
    }
    let newline = format!("{}\n", SINGLE.key);
    let error = scheme.secret("k", &newline).unwrap_err();
    assert_eq!(error, SecretError::WhiteSpace);
    let private = scheme.secret("k", PRIVATE).unwrap();
    assert!(Signer::new(scheme.clone(), private).sign(b"x").is_ok());
    // A public key signs nothing.
    let public = scheme.secret("k", SINGLE.key).unwrap();
    assert!(Signer::new(scheme, public).sign(b"x").is_err());
}

#[test]
fn verification_takes_no_memory_from_the_heap() {
    let verifier = verifier(SINGLE.key, SINGLE.at());
    let parts = SINGLE.parts();
    let taken = allocation_counter::measure(|| {
        verifier.verify(&parts, None, SINGLE.body).unwrap();
    });
    assert_eq!(taken.count_total, 0);
}
