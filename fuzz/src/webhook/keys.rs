//! Keys as providers write them, read by the books.

use ed25519_dalek::{SigningKey, VerifyingKey};

use super::encode::{from_base64, from_hex};

/// What a text is.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Shared(Vec<u8>),
    Public(VerifyingKey),
    Private([u8; 32]),
}

fn shared(bytes: Vec<u8>) -> Option<Key> {
    (!bytes.is_empty()).then_some(Key::Shared(bytes))
}

fn public(bytes: &[u8]) -> Option<Key> {
    let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
    (!key.is_weak()).then_some(Key::Public(key))
}

/// The bytes themselves, without white space around them.
pub fn text(text: &str) -> Option<Key> {
    let outer = [text.chars().next(), text.chars().next_back()];
    let blank = |c: &char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
    let blank = outer.iter().flatten().any(blank);
    shared(text.into()).filter(|_| !blank)
}

pub fn base64(text: &str) -> Option<Key> {
    shared(from_base64(text)?)
}

pub fn hex(text: &str) -> Option<Key> {
    shared(from_hex(text)?)
}

pub fn standard_webhooks(text: &str) -> Option<Key> {
    let (prefix, rest) = text.split_once('_')?;
    let bytes = from_base64(rest)?;
    match prefix {
        "whsec" => shared(bytes),
        "whpk" => public(&bytes),
        "whsk" => {
            let (seed, beside) = bytes.split_at_checked(32)?;
            let seed = seed.try_into().ok()?;
            let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
            (beside.is_empty() || beside == public).then_some(Key::Private(seed))
        }
        _ => None,
    }
}

pub fn ed25519_hex(text: &str) -> Option<Key> {
    public(&from_hex(text)?)
}
