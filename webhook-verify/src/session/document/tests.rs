//! The engine under a scheme that exists for these tests.
//!
//! Its body is one claim in each line, in six fields: what begins here (`reading`, or `claim`
//! of the reading before), time, end, id, name of the key, what was signed with other
//! spellings after `/`, and signatures in hex, of SHA-512 when they are long.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, Request, request::Parts};
use proptest::prelude::*;

use crate::{
    Error, IpRules, KeyFormat, PayloadPolicy, Reason, ReplayBasis, Scheme, Secret, SignError,
    Signer, Step, Verified, Verifier,
    clock::WallClock,
    document::{Claim, Document, Extract, Head, Outgoing, Sign, Signed},
    encoding::hex_encode,
    mac::{Algorithm, Hash, SharedKey},
    verifier::Builder,
};

const NOW: u64 = 1_700_000_000;
const SHA256: Algorithm = Algorithm::Hmac(Hash::Sha256);
const SHA512: Algorithm = Algorithm::Hmac(Hash::Sha512);
static MARK: HeaderName = HeaderName::from_static("x-mark");
static TIME: HeaderName = HeaderName::from_static("x-time");

#[derive(Clone, Debug, Default)]
struct Lines {
    timestamp: bool,
    id: bool,
    repeatable: bool,
    /// How often a body was read.
    read: Arc<AtomicUsize>,
}

impl Document for Lines {
    fn headers(&self) -> &[HeaderName] {
        static ALL: [HeaderName; 2] = [
            HeaderName::from_static("x-mark"),
            HeaderName::from_static("x-time"),
        ];
        &ALL
    }

    fn repeatable(&self) -> bool {
        self.repeatable
    }

    fn algorithms(&self) -> &[Algorithm] {
        &[SHA256, SHA512]
    }

    fn has_timestamp(&self) -> bool {
        self.timestamp
    }

    fn has_id(&self) -> bool {
        self.id
    }

    fn head(&self, request: &Parts) -> Result<Head, Reason> {
        if !request.headers.contains_key(&MARK) {
            return Err(Reason::Missing(MARK.clone()));
        }
        let time = request.headers.get(&TIME).map(|time| time.to_str());
        let timestamp = time.map(|time| time.unwrap().parse().unwrap());
        Ok(Head { timestamp })
    }

    fn read(&self, _: &Parts, body: &[u8]) -> Result<Extract, Reason> {
        self.read.fetch_add(1, Ordering::Relaxed);
        let text = std::str::from_utf8(body).map_err(|_| Reason::NotForm)?;
        let mut readings: Vec<Extract> = Vec::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('|').collect();
            let [begins, time, end, id, key, signed, signatures] = fields[..] else {
                return Err(Reason::NotForm);
            };
            if begins == "reading" || readings.is_empty() {
                readings.push(Extract {
                    timestamp: time.parse().ok(),
                    expires: end.parse().ok(),
                    id: text_of(id),
                    ..Extract::default()
                });
            }
            let reading = readings.last_mut().ok_or(Reason::NotForm)?;
            reading.claims.extend(claim(key, signed, signatures));
        }
        let mut readings = readings.into_iter();
        let mut first = readings.next().ok_or(Reason::NotForm)?;
        first.others = readings.collect();
        Ok(first)
    }

    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError> {
        let text = String::from_utf8_lossy(delivery.body).into_owned();
        let signature = hex_encode(&sign(SHA256, text.as_bytes())?);
        let (at, id) = (delivery.at.as_secs(), delivery.id.unwrap_or(""));
        let mut headers = HeaderMap::new();
        headers.insert(&MARK, 1.into());
        let body = format!("reading|{at}||{id}|{}|{text}|{signature}", delivery.key);
        Ok(Signed {
            headers,
            body: Some(body.into_bytes()),
        })
    }
}

fn text_of(field: &str) -> Option<Vec<u8>> {
    (!field.is_empty()).then(|| field.as_bytes().to_vec())
}

/// None when nothing was signed.
fn claim(key: &str, signed: &str, signatures: &str) -> Option<Claim> {
    let mut spellings = signed.split('/').map(|one| one.as_bytes().to_vec());
    let decode = |hex: &str| {
        let pairs = hex.as_bytes().chunks(2);
        let digit = |pair: &[u8]| {
            u8::from_str_radix(std::str::from_utf8(pair).unwrap_or(""), 16).unwrap_or(0)
        };
        let bytes: Vec<u8> = pairs.map(digit).collect();
        let algorithm = if bytes.len() < 64 { SHA256 } else { SHA512 };
        (algorithm, bytes)
    };
    (!signatures.is_empty()).then(|| Claim {
        key: (!key.is_empty()).then(|| key.to_owned()),
        signed: spellings.next().unwrap_or_default(),
        also: spellings.collect(),
        signatures: signatures.split(',').map(decode).collect(),
    })
}

#[derive(Debug)]
struct At(u64);

impl WallClock for At {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0)
    }
}

fn secret(id: &str) -> Secret {
    Secret::new(id, format!("key {id}")).unwrap()
}

fn signature(key: &str, text: &str) -> String {
    let key = SharedKey::new(format!("key {key}").as_bytes());
    hex_encode(key.mac(Hash::Sha256, text.as_bytes()).bytes())
}

fn builder(lines: &Lines) -> Builder {
    let document = Arc::new(lines.clone());
    Verifier::builder(Scheme::of_document("lines", document, KeyFormat::Text)).clock(At(NOW))
}

/// One with the keys `new` and `old`.
fn verifier(lines: &Lines) -> Verifier {
    let keys = builder(lines).secret(secret("new")).secret(secret("old"));
    keys.build().unwrap()
}

fn parts(headers: &[(&HeaderName, &str)]) -> Parts {
    let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
    for (name, value) in headers {
        parts.headers.append(*name, value.parse().unwrap());
    }
    parts
}

fn marked() -> Parts {
    parts(&[(&MARK, "1")])
}

fn verify(verifier: &Verifier, body: &str) -> Result<Verified, Error> {
    verifier.verify(&marked(), None, body.as_bytes())
}

fn reason(result: Result<Verified, Error>) -> (Step, Reason) {
    let error = result.unwrap_err();
    (error.step(), error.reason().clone())
}

fn mismatch() -> (Step, Reason) {
    (Step::Signature, Reason::SignatureMismatch)
}

/// One reading of one claim.
fn line(key: &str, text: &str) -> String {
    format!("reading|||||{text}|{}", signature(key, text))
}

#[test]
fn what_a_signer_writes_a_verifier_of_the_same_scheme_accepts() {
    let lines = Lines {
        timestamp: true,
        id: true,
        ..Lines::default()
    };
    let scheme = Scheme::of_document("lines", Arc::new(lines.clone()), KeyFormat::Text);
    assert_eq!(scheme.replay_basis(), ReplayBasis::Id);
    assert!(scheme.has_id() && scheme.tolerance().is_some());
    assert!(scheme.headers().eq([&MARK, &TIME]));
    let signer = Signer::new(scheme, secret("old"));
    let at = Duration::from_secs(NOW - 300);
    let signed = signer.sign_delivery(None, Some("m1"), at, b"text").unwrap();
    let (headers, body) = signed.into_parts();
    let mut parts = parts(&[]);
    parts.headers = headers;
    let verified = verifier(&lines).verify(&parts, None, &body.unwrap());
    let verified = verified.unwrap();
    assert_eq!(verified.key_id(), "old");
    assert_eq!(verified.timestamp(), Some(NOW - 300));
    assert_eq!(verified.age_seconds(), Some(300));
    assert_eq!(signer.sign(b"text").unwrap_err(), SignError::Body);
}

#[test]
fn nothing_of_the_body_is_asked_for_when_the_head_is_refused() {
    let lines = Lines {
        timestamp: true,
        ..Lines::default()
    };
    let old = (NOW - 301).to_string();
    let missing = Reason::Missing(MARK.clone());
    let twice = Reason::Malformed(MARK.clone());
    let keys = builder(&lines).secret(secret("new")).secret(secret("old"));
    let verifier = keys.source(IpRules::allow(["192.0.2.0/24"]).unwrap());
    let verifier = verifier.build().unwrap();
    let inside = Some([192, 0, 2, 1].into());
    for (peer, headers, step, reason) in [
        (
            None,
            &[(&MARK, "1")][..],
            Step::Source,
            Reason::SourceUnknown,
        ),
        (inside, &[(&MARK, "1"), (&MARK, "1")], Step::Header, twice),
        (inside, &[], Step::Signature, missing),
        (
            inside,
            &[(&MARK, "1"), (&TIME, &old)],
            Step::Timestamp,
            Reason::TooOld { by_seconds: 1 },
        ),
    ] {
        let parts = parts(headers);
        let begun = verifier.begin(&parts, peer).unwrap_err();
        let whole = verifier.verify(&parts, peer, b"").unwrap_err();
        assert_eq!(begun, whole);
        assert_eq!((begun.step(), begun.reason().clone()), (step, reason));
        assert_eq!(begun.trace().iter().last(), Some(step));
    }
    // Without a timestamp the signature step is the first that looks at the head.
    let plain = Lines {
        read: Arc::clone(&lines.read),
        ..Lines::default()
    };
    let refused = self::verifier(&plain).begin(&parts(&[]), None).unwrap_err();
    assert_eq!(refused.reason(), &Reason::Missing(MARK.clone()));
    assert_eq!(lines.read.load(Ordering::Relaxed), 0);
    let repeatable = Lines {
        repeatable: true,
        ..Lines::default()
    };
    let twice = parts(&[(&MARK, "1"), (&MARK, "1")]);
    let body = line("new", "text");
    let verified = self::verifier(&repeatable).verify(&twice, None, body.as_bytes());
    assert!(verified.is_ok());
}

#[test]
fn without_an_active_key_the_body_is_not_asked_for() {
    let lines = Lines::default();
    let end = Duration::from_secs(NOW);
    let verifier = builder(&lines).secret_until(secret("old"), end);
    let verifier = verifier.build().unwrap();
    let marked = marked();
    let error = verifier.begin(&marked, None).unwrap_err();
    assert_eq!(error.reason(), &Reason::NoActiveKey);
    let body = line("old", "text");
    assert_eq!(verify(&verifier, &body).unwrap_err(), error);
    assert_eq!(lines.read.load(Ordering::Relaxed), 0);
}

#[test]
fn a_time_in_the_body_is_judged_by_its_own_step_before_the_signature() {
    let lines = Lines {
        timestamp: true,
        ..Lines::default()
    };
    let verifier = verifier(&lines);
    let at = |time: u64| format!("reading|{time}||||text|00");
    for (time, expected) in [
        (NOW - 301, Reason::TooOld { by_seconds: 1 }),
        (NOW + 302, Reason::TooNew { by_seconds: 2 }),
    ] {
        let refused = verify(&verifier, &at(time)).unwrap_err();
        let steps = [Step::Source, Step::Header, Step::Timestamp];
        assert!(refused.trace().iter().eq(steps), "{refused:?}");
        assert_eq!(reason(Err(refused)), (Step::Timestamp, expected));
    }
    for inside in [NOW - 300, NOW + 300] {
        assert_eq!(reason(verify(&verifier, &at(inside))), mismatch());
    }
    let none = reason(verify(&verifier, &line("new", "text")));
    assert_eq!(none.1, Reason::FieldMissing("timestamp".into()));
    // Signature first: the time is judged all the same.
    let keys = builder(&lines).secret(secret("new"));
    let verifier = keys.order(Step::SIGNATURE_FIRST).build().unwrap();
    let late = format!("reading|1||||text|{}", signature("new", "text"));
    assert_eq!(reason(verify(&verifier, &late)).0, Step::Timestamp);
    assert_eq!(reason(verify(&verifier, &at(1))), mismatch());
}

#[test]
fn a_time_in_the_body_that_differs_from_the_one_in_the_head_is_judged_as_well() {
    let lines = Lines {
        timestamp: true,
        ..Lines::default()
    };
    let now = NOW.to_string();
    let parts = parts(&[(&MARK, "1"), (&TIME, &now)]);
    let late = format!("reading|1||||text|{}", signature("new", "text"));
    let refused = verifier(&lines).verify(&parts, None, late.as_bytes());
    assert_eq!(reason(refused).0, Step::Timestamp);
    let body = line("new", "text");
    let verified = verifier(&lines).verify(&parts, None, body.as_bytes());
    assert_eq!(verified.unwrap().timestamp(), Some(NOW));
}

#[test]
fn an_end_that_the_sender_set_is_kept_without_tolerance() {
    let ends = |end: u64| format!("reading||{end}|||text|{}", signature("new", "text"));
    let verifier = verifier(&Lines::default());
    assert!(verify(&verifier, &ends(NOW)).is_ok());
    let refused = reason(verify(&verifier, &ends(NOW - 2)));
    assert_eq!(refused, (Step::Timestamp, Reason::TooOld { by_seconds: 2 }));
}

#[test]
fn a_body_that_cannot_be_read_is_refused_by_the_signature_step() {
    for timestamp in [false, true] {
        let lines = Lines {
            timestamp,
            ..Lines::default()
        };
        let refused = verify(&verifier(&lines), "x").unwrap_err();
        assert_eq!(refused.step(), Step::Signature);
        assert_eq!(refused.reason(), &Reason::NotForm);
        assert_eq!(refused.trace().iter().last(), Some(Step::Signature));
    }
}

#[test]
fn one_key_must_have_signed_every_claim() {
    let verifier = verifier(&Lines::default());
    let both = |first: &str, second: &str| {
        let claim = format!("claim|||||b|{}", signature(second, "b"));
        format!("{}\n{claim}", line(first, "a"))
    };
    for key in ["new", "old"] {
        let verified = verify(&verifier, &both(key, key)).unwrap();
        assert_eq!(verified.key_id(), key);
    }
    assert_eq!(reason(verify(&verifier, &both("new", "old"))), mismatch());
    assert_eq!(reason(verify(&verifier, &both("new", "none"))), mismatch());
    // Nobody signed nothing.
    assert_eq!(reason(verify(&verifier, "reading|||||a|")), mismatch());
}

#[test]
fn a_claim_that_names_its_key_is_tried_under_no_other() {
    let verifier = verifier(&Lines::default());
    let named = |name: &str| format!("reading||||{name}|text|{}", signature("old", "text"));
    assert!(verify(&verifier, &named("old")).is_ok());
    assert_eq!(reason(verify(&verifier, &named("new"))), mismatch());
    assert_eq!(reason(verify(&verifier, &named("none"))), mismatch());
}

#[test]
fn one_good_reading_suffices_and_gives_its_own_time() {
    let lines = Lines {
        timestamp: true,
        ..Lines::default()
    };
    let verifier = verifier(&lines);
    let reading = |time: u64, key: &str| {
        let text = format!("at {time}");
        format!("reading|{time}||||{text}|{}", signature(key, &text))
    };
    let good = reading(NOW - 7, "old");
    for bad in [reading(1, "new"), reading(NOW, "none")] {
        for body in [format!("{bad}\n{good}"), format!("{good}\n{bad}")] {
            assert_eq!(verify(&verifier, &body).unwrap().timestamp(), Some(NOW - 7));
        }
        assert!(verify(&verifier, &bad).is_err());
    }
    // Late and signed, or in time and unsigned: neither lends the other what it lacks.
    let neither = format!("{}\n{}", reading(1, "new"), reading(NOW, "none"));
    assert_eq!(reason(verify(&verifier, &neither)), mismatch());
    let late = format!("{}\n{}", reading(1, "new"), reading(2, "new"));
    let age = NOW - 301;
    let first = Reason::TooOld { by_seconds: age };
    assert_eq!(reason(verify(&verifier, &late)), (Step::Timestamp, first));
}

#[test]
fn what_is_tried_is_bounded_and_no_signature_is_cut_to_fit() {
    let verifier = verifier(&Lines::default());
    let good = signature("new", "text");
    let many = |count: usize| format!("{}{good}", "00,".repeat(count - 1));
    let body = |signed: &str, signatures: &str| format!("reading|||||{signed}|{signatures}");
    assert!(verify(&verifier, &body("text", &many(16))).is_ok());
    let spellings = |count: usize| format!("{}text", "x/".repeat(count));
    assert!(verify(&verifier, &body(&spellings(8), &good)).is_ok());
    let readings = |count: usize| {
        format!(
            "{}{}",
            "reading|||||x|00\n".repeat(count),
            body("text", &good)
        )
    };
    assert!(verify(&verifier, &readings(15)).is_ok());
    for too_many in [
        body("text", &many(17)),
        body(&spellings(9), &good),
        readings(16),
    ] {
        let refused = reason(verify(&verifier, &too_many));
        assert_eq!(refused, (Step::Signature, Reason::TooManySignatures));
    }
    let key = SharedKey::new(b"key new");
    let longest = hex_encode(key.mac(Hash::Sha512, b"text").bytes());
    assert!(verify(&verifier, &body("text", &longest)).is_ok());
    // Half of it, and one byte more than it.
    let long = format!("{longest}00");
    for other in [&good[..32], &format!("{good}00"), &longest[..126], &long] {
        assert_eq!(reason(verify(&verifier, &body("text", other))), mismatch());
    }
}

#[test]
fn the_replay_key_is_that_of_the_signed_bytes_whichever_key_and_spelling_it_was() {
    let lines = Lines::default();
    let verifier = verifier(&lines);
    let key = |body: &str| *verify(&verifier, body).unwrap().replay_key();
    let text = key(&line("new", "text"));
    assert_eq!(text, key(&line("old", "text")));
    let other = format!("reading|||||text/other|{}", signature("new", "other"));
    assert_eq!(text, key(&other));
    let two = |first: &str, second: &str| {
        let claim = format!("claim|||||{second}|{}", signature("new", second));
        format!("{}\n{claim}", line("new", first))
    };
    let all = [
        text,
        key(&line("new", "text ")),
        key(&two("text", "")),
        key(&two("tex", "t")),
        key(&two("te", "xt")),
    ];
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), all.len());
    let elsewhere = builder(&lines).secret(secret("new")).replay_namespace("b");
    let elsewhere = elsewhere.build().unwrap();
    let there = verify(&elsewhere, &line("new", "text")).unwrap();
    assert_ne!(there.replay_key(), &text);
}

#[test]
fn a_signed_id_names_a_delivery_that_was_signed_anew() {
    let lines = Lines {
        id: true,
        ..Lines::default()
    };
    let verifier = verifier(&lines);
    let named = |id: &str, text: &str| {
        let body = format!("reading|||{id}||{text}|{}", signature("new", text));
        *verify(&verifier, &body).unwrap().replay_key()
    };
    assert_eq!(named("m1", "text"), named("m1", "text, again"));
    assert_ne!(named("m1", "text"), named("m2", "text"));
}

#[test]
fn memory_follows_what_arrives_and_ends_at_the_limit() {
    let lines = Lines::default();
    let verifier = builder(&lines).secret(secret("new")).body_limit(1000);
    let verifier = verifier.build().unwrap();
    let mut claims = marked();
    claims.headers.insert("content-length", 1000.into());
    let mut session = verifier.begin(&claims, None).unwrap();
    assert_eq!(session.kept.as_ref().unwrap().capacity(), 0);
    session.update(&[b'x'; 1000]).unwrap();
    for _ in 0..100 {
        let refused = session.update(&[b'x'; 1000]).unwrap_err();
        assert_eq!(refused.step(), Step::BodyLimit);
    }
    assert_eq!(session.kept.as_ref().unwrap().len(), 1000);
    assert_eq!(session.finish().unwrap_err().step(), Step::BodyLimit);
    claims.headers.insert("content-length", 1001.into());
    let refused = verifier.begin(&claims, None).unwrap_err();
    assert_eq!(refused.step(), Step::BodyLimit);
    assert_eq!(lines.read.load(Ordering::Relaxed), 0);
}

#[test]
fn the_body_is_read_once_and_the_payload_step_sees_the_same() {
    let lines = Lines {
        timestamp: true,
        ..Lines::default()
    };
    let payload = builder(&lines).secret(secret("new"));
    let verifier = payload.payload(PayloadPolicy::json()).build().unwrap();
    let body = format!("reading|{NOW}||||text|{}", signature("new", "text"));
    assert_eq!(
        reason(verify(&verifier, &body)),
        (Step::Payload, Reason::NotJson)
    );
    assert_eq!(lines.read.load(Ordering::Relaxed), 1);
}

#[cfg(feature = "ed25519")]
#[test]
fn a_key_of_a_kind_that_no_signature_has_is_refused() {
    let pair = Secret::ed25519_private("pair", &[7; 32]).unwrap();
    let built = builder(&Lines::default()).secret(pair.clone()).build();
    assert_eq!(
        built.unwrap_err(),
        crate::BuildError::KeyKind("pair".into())
    );
    let scheme = Scheme::of_document("lines", Arc::new(Lines::default()), KeyFormat::Text);
    let signed = Signer::new(scheme, pair).sign_delivery(None, None, Duration::ZERO, b"");
    assert_eq!(signed.unwrap_err(), SignError::Key);
}

fn told(result: &Result<Verified, Error>) -> String {
    format!("{result:?}")
}

proptest! {
    #[test]
    fn chunks_of_any_size_give_the_answer_of_the_whole(
        timestamp: bool,
        time_in_head: bool,
        signature_first: bool,
        time in NOW - 310..NOW - 290,
        key in prop::sample::select(vec!["new", "old", "none"]),
        flip in prop::option::of(0..200_usize),
        sizes in prop::collection::vec(0..70_usize, 1..9),
    ) {
        let lines = Lines { timestamp, ..Lines::default() };
        let keys = builder(&lines).secret(secret("new")).secret(secret("old"));
        let order = if signature_first { Step::SIGNATURE_FIRST } else { Step::CHEAP_FIRST };
        let verifier = keys.order(order).build().unwrap();
        let mut body = format!("reading|{time}||||text|{}", signature(key, "text")).into_bytes();
        if let Some(at) = flip.filter(|at| *at < body.len()) {
            body[at] ^= 1;
        }
        let now = NOW.to_string();
        let headers = [(&MARK, "1"), (&TIME, &*now)];
        let parts = parts(&headers[..1 + usize::from(time_in_head)]);
        let whole = verifier.verify(&parts, None, &body);
        let chunked = verifier.begin(&parts, None).and_then(|mut session| {
            let mut left = &body[..];
            for size in sizes.into_iter().cycle().take(500) {
                let (chunk, rest) = left.split_at(size.min(left.len()));
                session.update(chunk)?;
                left = rest;
            }
            session.update(left)?;
            session.finish()
        });
        prop_assert_eq!(told(&whole), told(&chunked));
        if key == "none" {
            prop_assert!(whole.is_err());
        }
    }
}
