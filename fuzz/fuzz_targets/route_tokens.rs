//! Tokens of a read/write split, and what engines say of positions: any text is read or refused,
//! never with a panic. A token that was signed reads as itself; nothing else verifies.
#![no_main]

use std::{
    fmt::Debug,
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use resilience_core::route::{
    Counter, Coverage, GtidSet, Lsn, MAX_TOKEN, Offset, Position, Token, parse_history,
    parse_timeline,
};
use resilience_fuzz::Choices;
use resilience_tower::read_write::{Signer, SigningKey, VerifyError};
use sha2::Sha256;

const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
const OTHER: [u8; 32] = *b"fedcba9876543210fedcba9876543210";
const NOW: u64 = 1_700_000_000;

fuzz_target!(|data: &[u8]| {
    let _ = run(Choices::new(data));
});

fn run(mut choices: Choices<'_>) -> Option<()> {
    match choices.below(6)? {
        0 => nobody_signed(choices.rest()),
        1 => text(choices.rest()),
        2 => of_any_kind::<Lsn>(choices)?,
        3 => of_any_kind::<GtidSet>(choices)?,
        4 => of_any_kind::<Offset>(choices)?,
        _ => of_any_kind::<Counter>(choices)?,
    }
    Some(())
}

fn signer(id: &str, key: [u8; 32]) -> Signer {
    let key = SigningKey::new(id, key).expect("an id and a key");
    let signer = Signer::new([key]).expect("one key");
    signer.clock(|| UNIX_EPOCH + Duration::from_secs(NOW))
}

/// Whatever it is, the key has not signed it.
fn nobody_signed(text: &[u8]) {
    let signer = signer("k", KEY);
    assert!(signer.verify::<Lsn>(text).is_err());
    assert!(signer.verify::<GtidSet>(text).is_err());
    assert!(signer.verify::<Offset>(text).is_err());
    assert!(signer.verify::<Counter>(text).is_err());
}

/// What engines answer.
fn text(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if let Ok(timeline) = parse_timeline(text) {
        assert_eq!(u64::from_str_radix(&text[..8], 16), Ok(timeline));
    }
    let forks = parse_history(text).unwrap_or_default();
    assert!(forks.is_sorted_by(|one, next| one.epoch < next.epoch));
    shown::<Lsn>(text);
    shown::<Counter>(text);
    shown::<Offset>(text);
    if let Ok(position) = Offset::from_info(text) {
        shown::<Offset>(&position.to_string());
        whole(&position);
        let short = position.without_before();
        assert!(position.covers(&short).is_yes() && short.covers(&short).is_yes());
    }
    for read in [GtidSet::state, GtidSet::last] {
        if let Ok(position) = read(text) {
            assert_eq!(read(&position.to_string()), Ok(position.clone()));
            whole(&position);
        }
    }
}

/// A text that is read is shown as one that reads the same.
fn shown<P: Position + FromStr<Err: Debug>>(text: &str) {
    if let Ok(position) = text.parse::<P>() {
        let again = position.to_string().parse::<P>();
        assert_eq!(again.expect("it is shown as it is read"), position);
        whole(&position);
    }
}

fn whole<P: Position>(position: &P) {
    assert_eq!(position.covers(position), Coverage::Yes);
    let mut bytes = Vec::new();
    position.encode(&mut bytes);
    assert_eq!(P::decode(&bytes).as_ref(), Some(position));
}

/// Bytes that were signed as a token, and then a few that are changed.
fn of_any_kind<P: Position>(mut choices: Choices<'_>) -> Option<()> {
    let (flips, place, bit) = (choices.byte()?, choices.short()?, choices.byte()? % 8);
    let kind = if flips & 1 == 0 {
        P::KIND
    } else {
        choices.byte()?
    };
    let token = [&[1, kind][..], choices.rest()].concat();
    let signer = signer("k", KEY);
    let signed = sign(&token);
    let read = signer.verify::<P>(base64(&signed));
    if token.len() > MAX_TOKEN {
        // By any key: much longer ones are refused before their tag is looked at.
        assert_eq!(read, Err(VerifyError::Malformed));
        return Some(());
    }
    match Token::<P>::decode(&token) {
        Ok(token) => {
            assert_eq!(read.as_ref(), Ok(&token));
            whole(&token.position);
            let text = signer.sign(&token).expect("it was short enough to be read");
            assert_eq!(text, base64(&signed));
        }
        Err(error) => assert_eq!(read, Err(error.into())),
    }
    let other = self::signer("k", OTHER).verify::<P>(base64(&signed));
    assert_eq!(other, Err(VerifyError::Forged));
    let unknown = self::signer("l", KEY).verify::<P>(base64(&signed));
    assert_eq!(unknown, Err(VerifyError::UnknownKey));
    if flips & 2 != 0 {
        let mut changed = signed.clone();
        let place = usize::from(place) % changed.len();
        changed[place] ^= 1 << bit;
        assert!(signer.verify::<P>(base64(&changed)).is_err());
    }
    if flips & 4 != 0 {
        let kept = usize::from(place) % signed.len();
        assert!(signer.verify::<P>(base64(&signed[..kept])).is_err());
    }
    if flips & 8 != 0 {
        // Another text of the same length.
        let mut text = base64(&signed).into_bytes();
        let place = usize::from(place) % text.len();
        text[place] ^= 1 << bit;
        assert!(signer.verify::<P>(text).is_err());
    }
    Some(())
}

/// By the documented form.
fn sign(token: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 1, b'k'];
    bytes.extend(NOW.to_be_bytes());
    bytes.extend(token);
    let mut hash = Hmac::<Sha256>::new_from_slice(&KEY).expect("any length");
    hash.update(b"resilience-tower read-write token\0");
    hash.update(&bytes);
    bytes.extend(hash.finalize().into_bytes());
    bytes
}

/// URL-safe, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |group: &[u8]| {
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (24 - 8 * group.len());
        let digit =
            move |place: usize| char::from(DIGITS[(bits >> (18 - 6 * place)) as usize & 63]);
        (0..=group.len()).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
