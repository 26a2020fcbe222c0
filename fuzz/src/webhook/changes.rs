//! A genuine delivery, and what somebody on the way may do to it.

use std::{sync::LazyLock, time::Duration};

use ed25519_dalek::SigningKey;
use http::{HeaderName, HeaderValue, Method, Request, Uri, request::Parts};
use webhook_verify::{
    Scheme, Secret, SignError, Signer, Step, Verifier, clock::ManualWallClock, presets,
    replay::MemoryReplayStore,
};

use super::{Key, Kind, Plain, Time};
use crate::Choices;

/// The URL of the subscription at Square.
pub const SQUARE: &str = "https://example.com/hook";
/// Seconds at which deliveries are received, unless a choice moves the clock.
pub const NOW: u64 = 1_700_000_000;
/// The end of the second key.
pub const END: u64 = NOW + 100;
pub const LIMIT: usize = 400;

const SEED: [u8; 32] = [7; 32];

/// A scheme as the crate has it and as the books have it, with a verifier of each kind.
pub struct Subject {
    pub plain: Plain,
    pub scheme: Scheme,
    pub keys: Vec<Key>,
    /// The first one has the defaults, the others a limit and a store.
    pub verifiers: Vec<Verifier>,
    signers: Vec<Signer>,
}

/// All presets with a signature in a header; one that nobody read stops the run. The first one, and no other, has pairs of keys
/// alone, which are slow.
pub static PRESETS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let named = presets::names().filter_map(presets::by_name);
    let all = named.chain([presets::square(SQUARE)]);
    let header = all.filter_map(|scheme| {
        let plain = super::presets::of(scheme.name());
        let elsewhere = OTHERS.contains(&scheme.name());
        assert!(
            plain.is_some() != elsewhere,
            "no reading of {}",
            scheme.name()
        );
        let plain = plain?;
        Some(Subject::new(plain, scheme, &CLOCK))
    });
    let mut all: Vec<_> = header.collect();
    all.sort_by_key(|subject| subject.plain.hmac.is_some());
    assert!(all[0].plain.hmac.is_none() && all[1].plain.hmac.is_some());
    all
});

/// Presets of the target `webhook_document`, and SendGrid, whose curve is too slow.
const OTHERS: [&str; 5] = [
    "adyen",
    "mailgun",
    "mailgun_parent",
    "paytabs_return",
    "sendgrid",
];

pub static CLOCK: LazyLock<ManualWallClock> = LazyLock::new(|| ManualWallClock::new(NOW));

impl Subject {
    pub fn new(plain: Plain, scheme: Scheme, clock: &ManualWallClock) -> Self {
        let shared = plain.hmac.is_some();
        let pair = plain.ed25519.is_some();
        let secret = |id: &str| Secret::new(id, format!("key of {id}")).expect("it is well formed");
        let private = |seed| Secret::ed25519_private("pair", seed).expect("it has an id");
        let public = SigningKey::from_bytes(&SEED).verifying_key();
        let public = || Secret::ed25519_public("pair", &public.to_bytes()).expect("it is a key");
        let mut keys = Vec::new();
        let mut signers = Vec::new();
        if shared {
            for id in ["new", "old", "stranger"] {
                signers.push(Signer::new(scheme.clone(), secret(id)));
            }
            for (id, until) in [("new", None), ("old", Some(END))] {
                let kind = Kind::Shared(format!("key of {id}").into_bytes());
                keys.push(Key { id, kind, until });
            }
        }
        if pair {
            signers.push(Signer::new(scheme.clone(), private(&SEED)));
            keys.push(Key {
                id: "pair",
                kind: Kind::Ed25519(SigningKey::from_bytes(&SEED).verifying_key()),
                until: None,
            });
        }
        let [source, header, timestamp, signature, payload] = Step::CHEAP_FIRST;
        let orders = [
            Step::CHEAP_FIRST,
            Step::SIGNATURE_FIRST,
            [payload, header, timestamp, source, signature],
        ];
        let verifiers = orders.into_iter().enumerate().map(|(i, order)| {
            let mut builder = Verifier::builder(scheme.clone())
                .clock(clock.clone())
                .order(order);
            if shared {
                let end = Duration::from_secs(END);
                builder = builder
                    .secret(secret("new"))
                    .secret_until(secret("old"), end);
            }
            if pair {
                builder = builder.secret(public());
            }
            if i > 0 {
                builder = builder.body_limit(LIMIT).replay(MemoryReplayStore::new(1));
            }
            builder.build().expect("these settings fit together")
        });
        Self {
            verifiers: verifiers.collect(),
            plain,
            scheme,
            keys,
            signers,
        }
    }

    /// Whether `verifiers[index]` names a delivery by its content where the scheme says so.
    pub fn receiver(&self, index: usize, now: u64) -> super::Receiver<'_> {
        super::Receiver {
            keys: &self.keys,
            limit: if index == 0 { 256 * 1024 } else { LIMIT },
            store: index > 0,
            now,
        }
    }
}

/// One delivery on its way.
#[derive(Clone)]
pub struct Delivery {
    pub parts: Parts,
    pub body: Vec<u8>,
    /// Milliseconds at which it arrives.
    pub now: u64,
}

const BODIES: [&[u8]; 6] = [
    b"",
    br#"{"a":1}"#,
    b"1",
    b"a=1&b=%20",
    b".0{\"id\":\"evt_1\"}\n",
    &[b'x'; 300],
];
const IDS: [&str; 5] = ["msg_1", "a", "", "a.b", "\u{7f}"];
const TARGETS: [&str; 4] = ["/", "/hook?a=1", "http://h/x?", "*"];

/// Signs as chosen. `None` at the end of the choices.
pub fn genuine(subject: &Subject, choices: &mut Choices<'_>) -> Option<Delivery> {
    let body = choices.one_of(&BODIES)?.to_vec();
    let target = choices.one_of(&TARGETS)?;
    let request = Request::post(target).header("x-extra", "e").body(());
    let mut delivery = Delivery {
        parts: request.expect("a request").into_parts().0,
        body,
        now: NOW * 1000 + 999,
    };
    let headers = signed(subject, choices, &delivery)?;
    delivery.parts.headers.extend(headers.unwrap_or_default());
    Some(delivery)
}

type Signed = Result<http::HeaderMap, SignError>;

/// The headers of one of the keys, at one of the times.
fn signed(subject: &Subject, choices: &mut Choices<'_>, delivery: &Delivery) -> Option<Signed> {
    // Pairs are slow, so they are rare where there are shared keys as well.
    let signer = match (choices.byte()?, &subject.signers[..]) {
        (_, [only]) => only,
        (byte @ 0..=254, all) => &all[usize::from(byte) % 3],
        (_, all) => &all[all.len() - 1],
    };
    let id = match choices.byte()? {
        byte @ 0..=15 => IDS[usize::from(byte) % IDS.len()],
        _ => "msg_1",
    };
    let seconds = match choices.byte()? {
        byte @ 0..=63 => {
            const TIMES: [u64; 14] = [
                0,
                9,
                NOW - 301,
                NOW - 300,
                NOW - 6,
                NOW - 5,
                NOW + 5,
                NOW + 6,
                NOW + 60,
                NOW + 61,
                NOW + 300,
                NOW + 301,
                999_999_999_999,
                1_000_000_000_000,
            ];
            TIMES[usize::from(byte) % TIMES.len()]
        }
        _ => NOW,
    };
    let at = Duration::from_secs(seconds);
    Some(signer.sign_request(&delivery.parts, Some(id), at, &delivery.body))
}

/// Makes one change. `None` at the end of the choices.
pub fn change(delivery: &mut Delivery, subject: &Subject, choices: &mut Choices<'_>) -> Option<()> {
    match choices.below(24)? {
        0 => set(delivery, &name(subject, choices)?, text(choices)?),
        1 => {
            let (name, text) = (name(subject, choices)?, text(choices)?);
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                delivery.parts.headers.append(name, value);
            }
        }
        2 => drop(delivery.parts.headers.remove(name(subject, choices)?)),
        3 => {
            let name = name(subject, choices)?;
            if let Some(value) = delivery.parts.headers.get(&name).cloned() {
                delivery.parts.headers.append(name, value);
            }
        }
        4..=7 => {
            let name = name(subject, choices)?;
            let edit = Edit::choose(choices)?;
            with(delivery, &name, |value| edit.apply(value));
        }
        8 => {
            let (from, to) = (name(subject, choices)?, name(subject, choices)?);
            if let Some(value) = delivery.parts.headers.remove(&from) {
                delivery.parts.headers.insert(to, value);
            }
        }
        9..=12 => splice(delivery, subject, choices)?,
        13 => repeat(delivery, subject, choices)?,
        14 => {
            let length =
                choices.one_of(&["0", "7", "400", "401", "+1", "", "999999999999999999999"])?;
            set(delivery, &http::header::CONTENT_LENGTH, length.into());
        }
        15..=18 => Edit::choose(choices)?.apply(&mut delivery.body),
        // From the head to the body and back.
        19 => {
            let name = name(subject, choices)?;
            let mut moved = None;
            with(delivery, &name, |value| moved = value.pop());
            delivery.body.splice(0..0, moved);
        }
        20 => {
            delivery.parts.method =
                [Method::GET, Method::PUT, Method::POST][choices.below(3)?].clone()
        }
        21 => {
            let target = choices.one_of(&TARGETS)?;
            delivery.parts.uri = Uri::from_static(target);
        }
        22 => {
            let second = choices.one_of(&[0, NOW - 300, NOW + 60, NOW + 300, END - 1, END])?;
            delivery.now = second * 1000 + u64::from(choices.short()?) % 1000;
        }
        _ => {
            let name = name(subject, choices)?;
            with(delivery, &name, |value| value.make_ascii_uppercase());
        }
    }
    Some(())
}

/// Signs what is there now once more, by any key at any time, and puts parts of that in.
fn splice(delivery: &mut Delivery, subject: &Subject, choices: &mut Choices<'_>) -> Option<()> {
    let other = signed(subject, choices, delivery)?;
    let kind = choices.below(4)?;
    let Ok(other) = other else { return Some(()) };
    let header = field(&subject.plain.header)?;
    let separator = subject.plain.separator;
    for (name, value) in &other {
        if kind == 0 {
            delivery.parts.headers.insert(name, value.clone());
        } else if *name == header {
            let bytes = value.as_bytes();
            // Of a list with the time in it the signature is the last value.
            let last = match (&subject.plain.time, separator) {
                (Time::Label(_), Some(separator)) if kind == 1 => {
                    bytes.rsplit(|byte| *byte == separator).next()?
                }
                _ => bytes,
            };
            with(delivery, name, |value| {
                let between = separator.unwrap_or(b' ');
                if kind == 3 {
                    value.splice(0..0, last.iter().copied().chain([between]));
                } else {
                    value.push(between);
                    value.extend_from_slice(last);
                }
            });
        }
    }
    Some(())
}

/// A signature header that is a list of many.
fn repeat(delivery: &mut Delivery, subject: &Subject, choices: &mut Choices<'_>) -> Option<()> {
    let times = choices.one_of(&[2, 14, 15, 16, 17])?;
    let before = choices.below(2)? == 0;
    let filler = choices.one_of(&["x", "v1,AAAA", "t", "v0=00", ""])?;
    let separator = subject.plain.separator.unwrap_or(b',');
    with(delivery, &field(&subject.plain.header)?, |value| {
        let filler = [filler.as_bytes(), &[separator]].concat().repeat(times);
        if before {
            value.splice(0..0, filler);
        } else {
            value.push(separator);
            value.extend_from_slice(&filler[..filler.len() - 1]);
        }
    });
    Some(())
}

/// A change of bytes somewhere.
pub enum Edit {
    Flip(usize, u8),
    Insert(usize, u8),
    Delete(usize),
    Cut(usize),
}

impl Edit {
    pub fn choose(choices: &mut Choices<'_>) -> Option<Self> {
        const INSERTED: &[u8] = b" ,;=|&.vt01aAfF+/-_\t\n\x00\x80\xff";
        let kind = choices.below(4)?;
        let at = usize::from(choices.byte()?);
        Some(match kind {
            0 => Self::Flip(at, 1 << choices.below(8)?),
            1 => Self::Insert(at, choices.one_of(INSERTED)?),
            2 => Self::Delete(at),
            _ => Self::Cut(at),
        })
    }

    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match *self {
            Self::Insert(at, byte) => bytes.insert(at % (len + 1), byte),
            _ if bytes.is_empty() => {}
            Self::Flip(at, bits) => bytes[at % len] ^= bits,
            Self::Delete(at) => drop(bytes.remove(at % len)),
            Self::Cut(at) => bytes.truncate(at % len),
        }
    }
}

fn name(subject: &Subject, choices: &mut Choices<'_>) -> Option<HeaderName> {
    const OTHERS: [&str; 8] = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "svix-id",
        "svix-timestamp",
        "svix-signature",
        "x-hub-signature",
        "x-extra",
    ];
    let plain = &subject.plain;
    match choices.byte()? {
        0..=127 => field(&plain.header),
        128..=175 => match &plain.time {
            Time::Header(name) => field(name),
            _ => field(&plain.header),
        },
        176..=207 => field(plain.id.as_ref().unwrap_or(&plain.header)),
        other => field(OTHERS[usize::from(other) % OTHERS.len()]),
    }
}

fn field(name: &str) -> Option<HeaderName> {
    name.parse().ok()
}

fn text(choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let length = choices.below(24)?;
    (0..length).map(|_| choices.byte()).collect()
}

fn set(delivery: &mut Delivery, name: &HeaderName, value: Vec<u8>) {
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        delivery.parts.headers.insert(name, value);
    }
}

/// Changes the first value of a header, as long as it stays one.
fn with(delivery: &mut Delivery, name: &HeaderName, change: impl FnOnce(&mut Vec<u8>)) {
    let Some(value) = delivery.parts.headers.get_mut(name) else {
        return;
    };
    let mut bytes = value.as_bytes().to_vec();
    change(&mut bytes);
    if let Ok(changed) = HeaderValue::from_bytes(&bytes) {
        *value = changed;
    }
}
