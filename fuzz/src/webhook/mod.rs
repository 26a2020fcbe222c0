//! The plain reading of webhooks: slow, by the providers' documentation, with nothing of the
//! crate that is tested.

use std::borrow::Cow;

use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, request::Parts};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

pub mod changes;
pub mod custom;
pub mod documents;
pub mod encode;
pub mod forwarded;
pub mod json;
pub mod keys;
pub mod presets;

/// A scheme whose signature stands in a header.
#[derive(Clone, Debug)]
pub struct Plain {
    pub name: &'static str,
    pub header: String,
    pub separator: Option<u8>,
    pub base64: bool,
    pub hmac: Option<(Hash, String)>,
    pub ed25519: Option<String>,
    pub time: Time,
    pub millis: bool,
    /// Exactly so many, for a time beside which nothing stands.
    pub digits: Option<usize>,
    pub id: Option<String>,
    pub signed: Vec<Piece>,
    /// Seconds in the past and in the future.
    pub tolerance: (u64, u64),
    pub replay: Replay,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hash {
    Sha256,
    Sha512,
    Sha1,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Time {
    None,
    Header(String),
    Label(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Body,
    Text(Cow<'static, str>),
    Time,
    Id,
    Method,
    Target,
    Header(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Replay {
    Id,
    Signature,
    Content,
}

/// A key of a set, and when it ends (seconds since the epoch).
#[derive(Clone, Debug)]
pub struct Key {
    pub id: &'static str,
    pub kind: Kind,
    pub until: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Shared(Vec<u8>),
    Ed25519(VerifyingKey),
}

/// What is known of an accepted delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub key: &'static str,
    pub timestamp: Option<u64>,
    pub replay_key: [u8; 32],
}

/// What the verifier is told beside the scheme.
#[derive(Clone, Copy, Debug)]
pub struct Receiver<'a> {
    pub keys: &'a [Key],
    pub limit: usize,
    /// With a store the content of a delivery names it, where the scheme says so.
    pub store: bool,
    /// Milliseconds since the epoch.
    pub now: u64,
}

/// The answer of the books: which key signed this delivery, if one did, in time.
pub fn judge(plain: &Plain, to: &Receiver<'_>, parts: &Parts, body: &[u8]) -> Option<Accepted> {
    if parts.method != "POST" || body.len() > to.limit {
        return None;
    }
    let headers = &parts.headers;
    let value = once(headers, &plain.header)?;
    let tokens: Vec<&[u8]> = match plain.separator {
        Some(separator) => value.split(|byte| *byte == separator).collect(),
        None => vec![value],
    };
    let is_time = |token: &&[u8]| matches!(&plain.time, Time::Label(label) if token.starts_with(label.as_bytes()));
    let time: &[u8] = match &plain.time {
        Time::None => b"",
        Time::Header(name) => once(headers, name)?,
        Time::Label(label) => match tokens
            .iter()
            .filter(|token| is_time(token))
            .collect::<Vec<_>>()[..]
        {
            [token] => &token[label.len()..],
            _ => return None,
        },
    };
    let mut timestamp = None;
    if plain.time != Time::None {
        let (digits, unit) = if plain.millis { (15, 1000) } else { (12, 1) };
        let at = number(time, digits)?;
        if plain.digits.is_some_and(|digits| digits != time.len()) {
            return None;
        }
        let now = to.now / (1000 / unit);
        let (past, future) = plain.tolerance;
        if at + past * unit < now || at > now + future * unit {
            return None;
        }
        timestamp = Some(at / unit);
    }
    let id = match &plain.id {
        Some(name) => {
            let id = once(headers, name)?;
            let fits = |byte: &u8| (b'!'..=b'~').contains(byte) && *byte != b'.';
            if id.is_empty() || id.len() > 256 || !id.iter().all(fits) {
                return None;
            }
            id
        }
        None => b"",
    };
    let signatures: Vec<&[u8]> = tokens.into_iter().filter(|token| !is_time(token)).collect();
    if plain.separator.is_some() && signatures.len() > 16 {
        return None;
    }
    let mut signed = Vec::new();
    for piece in &plain.signed {
        match piece {
            Piece::Body => signed.extend_from_slice(body),
            Piece::Text(text) => signed.extend_from_slice(text.as_bytes()),
            Piece::Time => signed.extend_from_slice(time),
            Piece::Id => signed.extend_from_slice(id),
            Piece::Method => signed.extend_from_slice(parts.method.as_str().as_bytes()),
            Piece::Target => {
                if let Some(target) = parts.uri.path_and_query() {
                    signed.extend_from_slice(target.as_str().as_bytes());
                }
            }
            Piece::Header(name) => signed.extend_from_slice(once(headers, name)?),
        }
    }
    let (key, signature) = to.keys.iter().find_map(|key| {
        let ended = key.until.is_some_and(|until| to.now >= until * 1000);
        let signature = signature(plain, &key.kind, &signatures, &signed);
        Some((key.id, signature.filter(|_| !ended)?))
    })?;
    Some(Accepted {
        key,
        timestamp,
        replay_key: replay_key(plain, to.store, id, &signature, &signed),
    })
}

/// The bytes of the one among `signatures` that `key` made.
fn signature(plain: &Plain, key: &Kind, signatures: &[&[u8]], signed: &[u8]) -> Option<Vec<u8>> {
    match key {
        Kind::Shared(key) => {
            let (hash, label) = plain.hmac.as_ref()?;
            let mac = hmac(*hash, key, signed);
            let right = format!("{label}{}", written(plain, &mac));
            signatures.contains(&right.as_bytes()).then_some(mac)
        }
        Kind::Ed25519(key) => signatures.iter().find_map(|token| {
            let text = token.strip_prefix(plain.ed25519.as_ref()?.as_bytes())?;
            let text = std::str::from_utf8(text).ok()?;
            let bytes = if plain.base64 {
                encode::from_base64(text)?
            } else {
                encode::from_hex(text)?
            };
            let signature = Signature::from_slice(&bytes).ok()?;
            // There is one way to write these bytes.
            let right = written(plain, &bytes) == text;
            (right && key.verify_strict(signed, &signature).is_ok()).then_some(bytes)
        }),
    }
}

fn written(plain: &Plain, bytes: &[u8]) -> String {
    if plain.base64 {
        encode::base64(bytes)
    } else {
        encode::hex(bytes)
    }
}

fn replay_key(plain: &Plain, store: bool, id: &[u8], signature: &[u8], signed: &[u8]) -> [u8; 32] {
    let named = |bytes: &[u8]| sha256(&[plain.name.as_bytes(), &[0], bytes]);
    match plain.replay {
        Replay::Id => named(id),
        Replay::Content if store => named(signed),
        _ if store => named(signature),
        _ => signature.try_into().unwrap_or_else(|_| named(signature)),
    }
}

pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

pub fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    fn of<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    }
    match hash {
        Hash::Sha256 => of::<Hmac<Sha256>>(key, message),
        Hash::Sha512 => of::<Hmac<Sha512>>(key, message),
        Hash::Sha1 => of::<Hmac<Sha1>>(key, message),
    }
}

/// The value of a header that is there exactly once.
pub fn once<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    match headers.get_all(name).iter().collect::<Vec<_>>()[..] {
        [value] => Some(value.as_bytes()),
        _ => None,
    }
}

/// Digits alone, no zero before others.
pub fn number(text: &[u8], most: usize) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits =
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = text.parse().ok().filter(|_| digits)?;
    (number.to_string() == text).then_some(number)
}

/// Whether a stream under this `Content-Length` may be read.
pub fn length_fits(headers: &HeaderMap, limit: usize) -> bool {
    headers.get_all("content-length").iter().all(|value| {
        let text = value.to_str().unwrap_or("x");
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.parse::<usize>().is_ok_and(|length| length <= limit)
    })
}
