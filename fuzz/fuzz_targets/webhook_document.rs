//! Schemes that are read out of the delivery: forms, JSON, HTTP message signatures. Genuine deliveries are changed, and joined with others; what is accepted says nothing
//! that was not signed by a key of the receiver, in time, whole and in chunks alike.
#![no_main]

use std::{collections::HashSet, sync::LazyLock, time::Duration};

use http::{HeaderName, HeaderValue, Method, Request, Uri, header::CONTENT_TYPE, request::Parts};
use libfuzzer_sys::fuzz_target;
use resilience_fuzz::{
    Choices,
    webhook::{
        changes::Edit,
        documents::{Document, content},
        encode, sha256,
    },
};
use webhook_verify::{
    Scheme, Secret, Signer, Verifier, clock::ManualWallClock, presets, replay::MemoryReplayStore,
};

const NOW: u64 = 1_700_000_000;
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

struct Subject {
    document: Document,
    verifier: Verifier,
    key: Signer,
    stranger: Signer,
    /// Seconds in the past and in the future.
    window: Option<(u64, u64)>,
}

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let message = presets::http_message("https://example.com").require(CONTENT_TYPE);
    let minute5 = Some((300, 300));
    vec![
        subject(Document::PayTabsReturn, presets::paytabs_return(), None),
        subject(Document::Mailgun, presets::mailgun(), Some((900, 300))),
        subject(
            Document::Twilio,
            presets::twilio("https://example.com").expect("an origin"),
            None,
        ),
        subject(Document::Adyen, presets::adyen(), None),
        subject(
            Document::Message,
            message.build().expect("an origin"),
            minute5,
        ),
    ]
});

fn subject(document: Document, scheme: Scheme, window: Option<(u64, u64)>) -> Subject {
    let secret = |key: &str| Secret::new("k", key).expect("a key");
    Subject {
        document,
        verifier: Verifier::builder(scheme.clone())
            .secret(secret("the key"))
            .clock(ManualWallClock::new(NOW))
            .replay(MemoryReplayStore::new(1))
            .build()
            .expect("these settings fit together"),
        key: Signer::new(scheme.clone(), secret("the key")),
        stranger: Signer::new(scheme, secret("another key")),
        window,
    }
}

#[derive(Clone)]
struct Delivery {
    parts: Parts,
    body: Vec<u8>,
}

impl Delivery {
    fn new(media: &str, target: &str, body: &[u8]) -> Self {
        let request = Request::post(target).header(CONTENT_TYPE, media).body(());
        Self {
            parts: request.expect("a request").into_parts().0,
            body: body.to_vec(),
        }
    }

    /// Whether it could be signed.
    fn sign(&mut self, signer: &Signer, id: &str, at: u64) -> bool {
        let at = Duration::from_secs(at);
        let Ok(signed) = signer.sign_delivery(Some(&self.parts), Some(id), at, &self.body) else {
            return false;
        };
        let (headers, body) = signed.into_parts();
        for (name, value) in headers {
            self.parts
                .headers
                .insert(name.expect("each name once"), value);
        }
        self.body = body.unwrap_or_else(|| self.body.clone());
        true
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = run(Choices::new(data));
});

fn run(mut choices: Choices<'_>) -> Option<()> {
    let subject = &SUBJECTS[choices.below(SUBJECTS.len())?];
    let chunk = choices.below(60)? + 1;
    // What the receiver's provider has signed in time.
    let mut signed: HashSet<Vec<u8>> = HashSet::new();
    let mut delivery = genuine(subject, &mut choices, &mut signed)?;
    if chunk % 8 == 0 {
        check(subject, &delivery, &signed, chunk);
    }
    let mut other = None;
    while let Some(kind) = choices.below(16) {
        let changed = if kind < 3 {
            let other = match &other {
                Some(other) => other,
                None => other.insert(genuine(subject, &mut choices, &mut signed)?),
            };
            join(&mut delivery, other, &mut choices)
        } else {
            change(&mut delivery, kind, &mut choices)
        };
        if changed.is_none() {
            break;
        }
    }
    check(subject, &delivery, &signed, chunk);
    Some(())
}

fn check(subject: &Subject, delivery: &Delivery, signed: &HashSet<Vec<u8>>, chunk: usize) {
    let Delivery { parts, body } = delivery;
    let verifier = &subject.verifier;
    let whole = verifier.verify(parts, None, body);
    if whole.is_ok() {
        let content = content(subject.document, parts, body);
        let all = content.as_ref().is_some_and(|content| {
            !content.is_empty() && content.iter().all(|part| signed.contains(part))
        });
        assert!(
            all && parts.method == Method::POST,
            "{:?} was never signed: {parts:?} {}",
            subject.document,
            body.escape_ascii()
        );
    }
    let streamed = verifier.begin(parts, None).and_then(|mut session| {
        body.chunks(chunk)
            .try_for_each(|chunk| session.update(chunk))?;
        session.finish()
    });
    let name = |verified: webhook_verify::Verified| *verified.replay_key();
    assert_eq!(whole.map(name), streamed.map(name));
}

/// A delivery that is signed; what it says is noted when the key is the receiver's.
fn genuine(
    subject: &Subject,
    choices: &mut Choices<'_>,
    signed: &mut HashSet<Vec<u8>>,
) -> Option<Delivery> {
    let mut delivery = unsigned(subject.document, choices)?;
    let at = match choices.byte()? {
        byte @ 0..=31 => {
            const TIMES: [u64; 5] = [NOW - 900, NOW - 301, NOW - 300, NOW + 300, NOW + 301];
            TIMES[usize::from(byte) % TIMES.len()]
        }
        _ => NOW,
    };
    let (signer, known) = match choices.byte()? {
        0..=31 => (&subject.stranger, false),
        _ => (&subject.key, true),
    };
    let id = format!("{:0>50}", choices.below(3)?);
    let in_time = subject
        .window
        .is_none_or(|(past, future)| (NOW - past..=NOW + future).contains(&at));
    let fits = delivery.sign(signer, &id, at) && known && in_time;
    if fits {
        let Delivery { parts, body } = &delivery;
        signed.extend(content(subject.document, parts, body)?);
        let accepted = subject.verifier.verify(parts, None, body);
        assert!(accepted.is_ok(), "{accepted:?}: {}", body.escape_ascii());
    }
    Some(delivery)
}

fn unsigned(document: Document, choices: &mut Choices<'_>) -> Option<Delivery> {
    const WORDS: [&str; 8] = ["A", "b", "0", "1", "tranRef", "x_y", "", "ab"];
    const VALUES: [&str; 8] = ["A", "%41", "a+b", "%7e*", "", "0", "1", "%C3%A9"];
    Some(match document {
        Document::PayTabsReturn | Document::Twilio => {
            let mut pairs = vec!["respStatus=A".to_owned()];
            for _ in 0..choices.below(4)? {
                let (name, value) = (choices.one_of(&WORDS)?, choices.one_of(&VALUES)?);
                pairs.push(format!("{name}={value}"));
            }
            let form = pairs.join("&");
            if document == Document::Twilio && choices.below(3)? == 0 {
                let hash = encode::hex(&sha256(&[form.as_bytes()]));
                let target = format!("/hook?a=1&bodySHA256={hash}");
                Delivery::new(JSON, &target, form.as_bytes())
            } else {
                let target = choices.one_of(&["/hook", "/hook?a=1", "/"])?;
                Delivery::new(FORM, target, form.as_bytes())
            }
        }
        Document::Mailgun => match choices.below(2)? {
            0 => Delivery::new(JSON, "/", br#"{"event-data":{"event":"opened"}}"#),
            _ => Delivery::new(FORM, "/", b"subject=hi&to=a%40b"),
        },
        Document::Adyen => {
            let mut items = Vec::new();
            for number in 0..=choices.below(3)? {
                let value = choices.one_of(&["1", "0", "1130", "-5"])?;
                let reference = choices.one_of(&["r", "a:b", "", "\\u0041"])?;
                let original = choices.one_of(&["", "\"originalReference\":null,"])?;
                items.push(format!(
                    "{{\"NotificationRequestItem\":{{\"pspReference\":\"P{number}\",{original}\
                     \"merchantAccountCode\":\"M\",\"merchantReference\":\"{reference}\",\
                     \"amount\":{{\"value\":{value},\"currency\":\"EUR\"}},\
                     \"eventCode\":\"REFUND\",\"success\":\"true\",\"additionalData\":{{}}}}}}"
                ));
            }
            let items = items.join(",");
            let body = format!("{{\"live\":\"false\",\"notificationItems\":[{items}]}}");
            Delivery::new(JSON, "/", body.as_bytes())
        }
        Document::Message => {
            let target = choices.one_of(&["/hook", "/hook?a=1", "/", "/?"])?;
            let body = choices.one_of(&[&b"{}"[..], b"", b"a=1", b"[1]"])?;
            Delivery::new(choices.one_of(&[JSON, FORM])?, target, body)
        }
    })
}

/// Takes a part of another genuine delivery.
fn join(delivery: &mut Delivery, other: &Delivery, choices: &mut Choices<'_>) -> Option<()> {
    match choices.below(6)? {
        0 => delivery.body.clone_from(&other.body),
        1 => delivery.parts.uri.clone_from(&other.parts.uri),
        2 => {
            let name = name(choices)?;
            if let Some(value) = other.parts.headers.get(&name) {
                delivery.parts.headers.insert(name, value.clone());
            }
        }
        3 => {
            // A second member of a dictionary, under another label.
            for name in ["signature-input", "signature"] {
                let value = |of: &Delivery| {
                    let value = of.parts.headers.get(name)?.to_str().ok()?;
                    Some(value.to_owned())
                };
                let (Some(ours), Some(theirs)) = (value(delivery), value(other)) else {
                    continue;
                };
                let joined = format!("{ours}, {}", theirs.replacen("sig1", "sig2", 1));
                if let Ok(joined) = HeaderValue::try_from(joined) {
                    delivery.parts.headers.insert(name, joined);
                }
            }
        }
        4 => {
            delivery.body.push(b'&');
            delivery.body.extend_from_slice(&other.body);
        }
        _ => {
            // Items of two batches in one.
            let begin = delivery.body.iter().position(|byte| *byte == b'[')?;
            let from = other.body.iter().position(|byte| *byte == b'[')?;
            let to = other.body.iter().rposition(|byte| *byte == b']')?;
            let items = [&other.body[from + 1..to], b","].concat();
            delivery.body.splice(begin + 1..begin + 1, items);
        }
    }
    Some(())
}

fn name(choices: &mut Choices<'_>) -> Option<HeaderName> {
    const NAMES: [&str; 6] = [
        "signature-input",
        "signature",
        "content-digest",
        "content-type",
        "x-twilio-signature",
        "host",
    ];
    Some(HeaderName::from_static(choices.one_of(&NAMES)?))
}

fn change(delivery: &mut Delivery, kind: usize, choices: &mut Choices<'_>) -> Option<()> {
    const WORDS: [&str; 32] = [
        "&",
        "=",
        "%41",
        "+",
        "%26",
        "&signature=",
        "&timestamp=1",
        "&token=",
        "&respStatus=D",
        "\"",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        "\\u0041",
        "\"success\":\"false\",",
        "\"timestamp\":\"1\",",
        "\"signature\":{},",
        " ",
        ";created=1",
        ";alg=\"ed25519\"",
        "()",
        "\"@path\" ",
        "sig1=",
        "sha-256=",
        "sha-512=::",
        "?",
        "\n",
        "\"value\":2,",
        "0",
    ];
    let headers = &mut delivery.parts.headers;
    match kind {
        3..=7 => Edit::choose(choices)?.apply(&mut delivery.body),
        8 | 9 => {
            let word = choices.one_of(&WORDS)?;
            let at = usize::from(choices.short()?) % (delivery.body.len() + 1);
            delivery.body.splice(at..at, word.bytes());
        }
        10 | 11 => {
            let (name, edit) = (name(choices)?, Edit::choose(choices)?);
            if let Some(value) = headers.get_mut(&name) {
                let mut bytes = value.as_bytes().to_vec();
                edit.apply(&mut bytes);
                if let Ok(changed) = HeaderValue::from_bytes(&bytes) {
                    *value = changed;
                }
            }
        }
        12 => {
            let (name, word) = (name(choices)?, choices.one_of(&WORDS)?);
            if let Some(value) = headers.get_mut(&name) {
                let mut bytes = value.as_bytes().to_vec();
                let at = usize::from(choices.short()?) % (bytes.len() + 1);
                bytes.splice(at..at, word.bytes());
                if let Ok(changed) = HeaderValue::from_bytes(&bytes) {
                    *value = changed;
                }
            }
        }
        13 => {
            let name = name(choices)?;
            let value = headers.get(&name).cloned();
            headers.append(name, value.unwrap_or(HeaderValue::from_static("x")));
        }
        14 => drop(headers.remove(name(choices)?)),
        _ => {
            let targets = [
                "/hook",
                "/hook?a=1",
                "/hook?a=1&respStatus=A",
                "/hook?",
                "/a",
            ];
            match choices.byte()? {
                0..=31 => delivery.parts.method = Method::PUT,
                byte => {
                    let target = targets[usize::from(byte) % targets.len()];
                    delivery.parts.uri = Uri::from_static(target);
                }
            }
        }
    }
    Some(())
}
