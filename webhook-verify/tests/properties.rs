//! Properties of every preset, over deliveries of any content.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, header::CONTENT_TYPE, request::Parts};
use proptest::prelude::*;
use webhook_verify::{
    Builder, Hash, KeyFormat, Reason, ReplayBasis, Scheme, Secret, Signer, Step, Verified,
    Verifier,
    clock::ManualWallClock,
    presets,
    replay::{MemoryReplayStore, ReplayKey, ReplayStore, Reserve, StoreFuture, Times, Token},
};

const NOW: u64 = 1_700_000_000;
const URL: &str = "https://example.com/hook";
const FORM: &str = "application/x-www-form-urlencoded";

/// What a body has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bytes,
    Form,
    Mailgun,
    Adyen,
    /// Bytes, with a `content-type` that is signed as well.
    Message,
}

/// A preset; `slow` ones sign by a pair of keys.
struct Case {
    scheme: Scheme,
    kind: Kind,
    slow: bool,
}

fn case(scheme: Scheme) -> Case {
    let kind = match scheme.name() {
        "paytabs_return" | "twilio" | "twilio_shared_key" => Kind::Form,
        "mailgun" | "mailgun_parent" => Kind::Mailgun,
        "adyen" => Kind::Adyen,
        "http_message" => Kind::Message,
        _ => Kind::Bytes,
    };
    let slow = matches!(scheme.key_format(), KeyFormat::Ed25519Hex | KeyFormat::Spki);
    Case { scheme, kind, slow }
}

/// All presets, those that need a setting too. PayPal's alone is missing: nobody but PayPal
/// can sign, so `tests/paypal.rs` holds it to recorded deliveries.
fn cases() -> Vec<Case> {
    let message = presets::http_message("https://example.com").require(CONTENT_TYPE);
    let settings = [
        presets::square(URL),
        presets::twilio(URL).unwrap(),
        presets::twilio("https://example.com").unwrap(),
        presets::twilio_shared_key(URL).unwrap(),
        message.build().unwrap(),
        // A signature that is longer than a name.
        Scheme::custom("long")
            .signature_header("x-long")
            .hmac(Hash::Sha512, "")
            .build()
            .unwrap(),
    ];
    let named = presets::names().filter_map(presets::by_name);
    named.chain(settings).map(case).collect()
}

fn secret(case: &Case) -> Secret {
    match case.scheme.key_format() {
        KeyFormat::Ed25519Hex => Secret::ed25519_private("k", &[7; 32]).unwrap(),
        KeyFormat::Spki => Secret::pem("k", include_str!("vectors/keys/p256.pem")).unwrap(),
        _ => Secret::new("k", "a shared key of any length").unwrap(),
    }
}

fn verifier(case: &Case, settings: impl FnOnce(Builder) -> Builder) -> Verifier {
    let clock = ManualWallClock::new(NOW);
    let builder = Verifier::builder(case.scheme.clone()).clock(clock);
    settings(builder).secret(secret(case)).build().unwrap()
}

/// A delivery as it arrives.
#[derive(Clone, Debug)]
struct Delivery {
    parts: Parts,
    body: Vec<u8>,
    /// The header fields of the scheme that the signer wrote; `content-type` is not signed.
    signed: Vec<HeaderName>,
}

/// Signs `content`, in whatever the provider puts it.
fn deliver(case: &Case, content: &[u8], id: &str, at: u64) -> Delivery {
    let text: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
    let (media, body) = match case.kind {
        Kind::Bytes | Kind::Message => ("application/json", content.to_vec()),
        Kind::Form => (FORM, format!("respStatus=A&note={text}z").into_bytes()),
        Kind::Mailgun => ("application/json", b"{\"event-data\":{}}".to_vec()),
        Kind::Adyen => ("application/json", adyen(&text).into_bytes()),
    };
    // Tokens of Mailgun have one length.
    let id = match case.kind {
        Kind::Mailgun => format!("{id:0>50}"),
        _ => id.to_owned(),
    };
    let request = Request::post("/hook").header(CONTENT_TYPE, media).body(());
    let mut parts = request.unwrap().into_parts().0;
    let name = case.scheme.name();
    let signer = Signer::new(case.scheme.clone(), secret(case));
    let at = Duration::from_secs(at);
    let signed = signer.sign_delivery(Some(&parts), Some(&id), at, &body);
    let (headers, changed) = signed.expect(name).into_parts();
    let read: Vec<_> = case.scheme.headers().collect();
    let written = headers
        .keys()
        .filter(|name| *name != CONTENT_TYPE && read.contains(name));
    let signed = written.cloned().collect();
    parts.headers.extend(headers);
    Delivery {
        parts,
        body: changed.unwrap_or(body),
        signed,
    }
}

/// A batch of one item in which all that there is counts.
fn adyen(reference: &str) -> String {
    let item = format!(
        "\"pspReference\":\"P\",\"merchantAccountCode\":\"M\",\
         \"merchantReference\":\"r{reference}\",\"amount\":{{\"value\":1,\"currency\":\"EUR\"}},\
         \"eventCode\":\"AUTHORISATION\",\"success\":\"true\",\"additionalData\":{{}}"
    );
    format!("{{\"notificationItems\":[{{\"NotificationRequestItem\":{{{item}}}}}]}}")
}

/// The bytes of the body that are protected: all, but for Mailgun, which signs no event.
fn protected(case: &Case, body: &[u8]) -> std::ops::Range<usize> {
    if case.kind != Kind::Mailgun {
        return 0..body.len();
    }
    let text = str::from_utf8(body).unwrap();
    let begin = text.find("\"timestamp\"").unwrap();
    let end = begin + text[begin..].find('}').unwrap();
    begin..end
}

/// How many bits of a delivery are protected.
fn bits(case: &Case, delivery: &Delivery) -> usize {
    let values = delivery
        .signed
        .iter()
        .map(|name| &delivery.parts.headers[name]);
    let headers: usize = values.map(|value| value.len()).sum();
    8 * (protected(case, &delivery.body).len() + headers)
}

/// The delivery with one of these bits flipped; `None` when no header may hold the result, so
/// that it never arrives.
fn flipped(case: &Case, delivery: &Delivery, bit: usize) -> Option<Delivery> {
    let mut delivery = delivery.clone();
    let mask = 1 << (bit % 8);
    let mut at = bit / 8;
    for name in &delivery.signed {
        let value = &delivery.parts.headers[name];
        if at < value.len() {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] ^= mask;
            let value = HeaderValue::from_bytes(&bytes).ok()?;
            delivery.parts.headers.insert(name, value);
            return Some(delivery);
        }
        at -= value.len();
    }
    let begin = protected(case, &delivery.body).start;
    delivery.body[begin + at] ^= mask;
    Some(delivery)
}

fn known(verified: &Verified) -> (&str, &str, Option<u64>, [u8; 32]) {
    (
        verified.scheme(),
        verified.key_id(),
        verified.timestamp(),
        *verified.replay_key(),
    )
}

#[test]
fn every_flipped_bit_of_headers_and_body_is_refused() {
    for case in cases() {
        let name = case.scheme.name();
        let delivery = deliver(&case, b"{\"id\":1}", "msg_1", NOW);
        let verifier = verifier(&case, |builder| builder);
        assert!(
            verifier
                .verify(&delivery.parts, None, &delivery.body)
                .is_ok(),
            "{name}"
        );
        let step = if case.slow { 41 } else { 1 };
        for bit in (0..bits(&case, &delivery)).step_by(step) {
            let Some(Delivery { parts, body, .. }) = flipped(&case, &delivery, bit) else {
                continue;
            };
            let error = verifier.verify(&parts, None, &body).expect_err(name);
            let steps = [Step::Header, Step::Timestamp, Step::Signature];
            assert!(
                steps.contains(&error.step()),
                "{name}, bit {bit}: {error:?}"
            );
        }
    }
}

#[test]
fn a_preset_that_is_added_is_held_to_the_properties() {
    let cases = cases();
    for name in presets::names() {
        assert!(
            cases.iter().any(|case| case.scheme.name() == name),
            "{name}"
        );
    }
    let mut kinds: Vec<_> = cases
        .iter()
        .map(|case| format!("{:?}", case.kind))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}

/// A bit of a delivery is drawn as a share of its length.
fn bit_of(case: &Case, delivery: &Delivery, share: u32) -> usize {
    let bits = bits(case, delivery) as u64;
    ((bits * u64::from(share)) >> 32) as usize
}

prop_compose! {
    fn content()(bytes in prop::collection::vec(any::<u8>(), 0..200)) -> Vec<u8> { bytes }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn one_flipped_bit_of_any_delivery_is_refused(
        content in content(), id in "[a-z0-9_-]{1,40}", at in NOW - 5..=NOW + 5, share in any::<u32>(),
    ) {
        for case in cases() {
            let delivery = deliver(&case, &content, &id, at);
            let bit = bit_of(&case, &delivery, share);
            let verifier = verifier(&case, |builder| builder);
            if let Some(Delivery { parts, body, .. }) = flipped(&case, &delivery, bit) {
                let answer = verifier.verify(&parts, None, &body);
                prop_assert!(answer.is_err(), "{}: bit {}", case.scheme.name(), bit);
            }
        }
    }

    #[test]
    fn what_is_signed_is_accepted_however_the_body_is_cut(
        content in content(), id in "[a-z0-9_-]{1,40}", at in NOW - 5..=NOW + 5,
        cuts in prop::collection::vec(0..400_usize, 0..8),
    ) {
        for case in cases() {
            let name = case.scheme.name();
            let Delivery { parts, body, .. } = deliver(&case, &content, &id, at);
            let verifier = verifier(&case, |b| b.replay(MemoryReplayStore::new(1)));
            let whole = verifier.verify(&parts, None, &body);
            let whole = whole.map_err(|error| TestCaseError::fail(format!("{name}: {error:?}")))?;
            prop_assert_eq!((whole.scheme(), whole.key_id()), (name, "k"));
            prop_assert_eq!(whole.timestamp(), case.scheme.tolerance().map(|_| at), "{}", name);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let mut session = verifier.begin(&parts, None).unwrap();
            for cut in cuts.windows(2) {
                session.update(&body[cut[0]..cut[1]]).unwrap();
            }
            let streamed = session.finish().unwrap();
            prop_assert_eq!(known(&streamed), known(&whole), "{}", name);
        }
    }

    #[test]
    fn the_replay_key_is_that_of_one_delivery(content in content(), id in "[a-z0-9_-]{1,40}") {
        for case in cases() {
            let name = case.scheme.name();
            let verifier = verifier(&case, |b| b.replay(MemoryReplayStore::new(1)));
            let key = |delivery: &Delivery| {
                let verified = verifier.verify(&delivery.parts, None, &delivery.body);
                *verified.expect(name).replay_key()
            };
            let first = deliver(&case, &content, &id, NOW);
            prop_assert_eq!(key(&first), key(&first), "{}", name);
            let other_id = deliver(&case, &content, &format!("{id}2"), NOW);
            let more = [&content[..], b"2"].concat();
            let other_content = deliver(&case, &more, &id, NOW);
            let by_id = case.scheme.replay_basis() == ReplayBasis::Id || case.kind == Kind::Mailgun;
            prop_assert_eq!(key(&first) != key(&other_id), by_id, "{}: id", name);
            prop_assert_eq!(key(&first) != key(&other_content), !by_id, "{}: content", name);
        }
    }
}

/// Two services that share a store, and get the same deliveries under the same key.
#[tokio::test]
async fn a_namespace_keeps_the_deliveries_of_two_receivers_apart() {
    for case in cases() {
        let store = Arc::new(MemoryReplayStore::new(16));
        let [first, second] = ["a", "b"].map(|name| {
            let store = Arc::clone(&store);
            verifier(&case, |builder| {
                builder.replay_shared(store).replay_namespace(name)
            })
        });
        let delivery = deliver(&case, b"{}", "msg_1", NOW);
        let name = case.scheme.name();
        for (verifier, seen) in [(&first, false), (&second, false), (&first, true)] {
            let verified = verifier.verify(&delivery.parts, None, &delivery.body);
            let reserved = verifier.reserve(&verified.expect(name)).await;
            match reserved {
                Ok(reservation) => {
                    assert!(!seen, "{name}");
                    reservation.expect(name).commit().await.expect(name);
                }
                Err(error) => assert!(seen && *error.reason() == Reason::Duplicate, "{name}"),
            }
        }
    }
}

/// Keeps what it is told of lifetimes.
#[derive(Debug, Default)]
struct Lifetimes(Mutex<Vec<Duration>>);

impl ReplayStore for Lifetimes {
    fn reserve(&self, _: ReplayKey, times: Times) -> StoreFuture<'_, Reserve> {
        self.0.lock().unwrap().push(times.lifetime);
        StoreFuture::ready(Ok(Reserve::Duplicate))
    }

    fn commit(&self, _: ReplayKey, _: Token, _: Times) -> StoreFuture<'_, ()> {
        StoreFuture::ready(Ok(()))
    }

    fn release(&self, _: ReplayKey, _: Token) {}
}

#[tokio::test]
async fn a_delivery_is_remembered_as_long_as_it_would_pass_and_ids_for_a_day() {
    let day = Duration::from_secs(24 * 60 * 60);
    for case in cases() {
        let name = case.scheme.name();
        let store = Arc::new(Lifetimes::default());
        let kept = Arc::clone(&store);
        let verifier = verifier(&case, |builder| builder.replay_shared(kept));
        let delivery = deliver(&case, b"{}", "msg_1", NOW);
        let verified = verifier.verify(&delivery.parts, None, &delivery.body);
        assert!(verifier.reserve(&verified.expect(name)).await.is_err());
        let second = Duration::from_secs(1);
        let lifetime = match case.scheme.tolerance() {
            None => day,
            Some((past, future)) if case.scheme.replay_basis() == ReplayBasis::Id => {
                (past + future).max(day) + second
            }
            Some((past, future)) => past + future + second,
        };
        assert_eq!(*store.0.lock().unwrap(), [lifetime], "{name}");
    }
}
