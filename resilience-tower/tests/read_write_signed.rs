//! Signed tokens: what is read is what was signed, and nothing else.
#![cfg(feature = "read-write")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use allocation_counter::measure;
use proptest::prelude::*;
use resilience_core::route::{Counter, GtidSet, Lsn, Offset, Position, Token, TokenError};
use resilience_tower::read_write::{Signer, SigningKey, SigningKeyError, VerifyError};

const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
const OTHER: [u8; 32] = *b"fedcba9876543210fedcba9876543210";

fn key(id: &str) -> SigningKey {
    SigningKey::new(id, KEY).unwrap()
}

fn signer() -> Signer {
    Signer::new([key("k")]).unwrap()
}

/// Seconds since 1970.
fn at(signer: Signer, now: &Arc<AtomicU64>) -> Signer {
    let now = Arc::clone(now);
    signer.clock(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed)))
}

fn token<P>(position: P) -> Token<P> {
    Token {
        cluster: 7,
        epoch: 3,
        position,
    }
}

/// The text with the bytes changed.
fn changed(text: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = decode(text);
    change(&mut bytes);
    encode(&bytes)
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn decode(text: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for digit in text.bytes() {
        let value = DIGITS.iter().position(|one| *one == digit).unwrap();
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    let bytes = bits.chunks_exact(8);
    bytes
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8))
        .collect()
}

fn encode(bytes: &[u8]) -> String {
    let mut bits: Vec<u8> = Vec::new();
    for byte in bytes {
        bits.extend((0..8).rev().map(|bit| byte >> bit & 1));
    }
    let digit = |bits: &[u8]| {
        let value = (0..6).fold(0, |value, at| {
            value << 1 | bits.get(at).copied().unwrap_or(0)
        });
        char::from(DIGITS[usize::from(value)])
    };
    bits.chunks(6).map(digit).collect()
}

/// A position from numbers; one of each family.
trait Sample: Position {
    fn sample(a: u64, b: u64) -> Self;
}

impl Sample for Lsn {
    fn sample(a: u64, _: u64) -> Self {
        Self(a)
    }
}

impl Sample for Counter {
    fn sample(a: u64, _: u64) -> Self {
        Self(a)
    }
}

impl Sample for GtidSet {
    fn sample(a: u64, b: u64) -> Self {
        let many = b % 31;
        let ids = (0..many).map(|server| format!("{}-{}-{}", server / 3, server + 1, a >> 1));
        Self::state(&ids.collect::<Vec<_>>().join(",")).unwrap()
    }
}

impl Sample for Offset {
    fn sample(a: u64, b: u64) -> Self {
        let info = format!(
            "role:master\r\nmaster_replid:{a:020x}{b:020x}\r\n\
             master_replid2:{b:020x}{a:020x}\r\nmaster_repl_offset:{a}\r\n\
             second_repl_offset:{}\r\n",
            b >> 1
        );
        Self::from_info(&info).unwrap()
    }
}

fn comes_back<P: Sample>(a: u64, b: u64, cluster: u64, epoch: u64) -> Result<(), TestCaseError> {
    let token = Token {
        cluster,
        epoch,
        position: P::sample(a, b),
    };
    let text = signer().sign(&token).unwrap();
    prop_assert!(text.len() <= 782);
    prop_assert!(text.bytes().all(|byte| DIGITS.contains(&byte)));
    prop_assert_eq!(signer().verify::<P>(&text), Ok(token));
    Ok(())
}

proptest! {
    #[test]
    fn any_token_comes_back_as_it_was_signed(a: u64, b: u64, cluster: u64, epoch: u64) {
        comes_back::<Lsn>(a, b, cluster, epoch)?;
        comes_back::<Counter>(a, b, cluster, epoch)?;
        comes_back::<GtidSet>(a, b, cluster, epoch)?;
        comes_back::<Offset>(a, b, cluster, epoch)?;
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..900),
        versioned: bool,
    ) {
        prop_assert!(signer().verify::<Lsn>(&bytes).is_err());
        // As far as the parts, and the tag.
        let mut bytes = bytes;
        if let (Some(first), true) = (bytes.first_mut(), versioned) {
            *first = 1;
        }
        let text = encode(&bytes);
        prop_assert!(signer().verify::<Lsn>(&text).is_err());
        prop_assert!(signer().verify::<GtidSet>(&text).is_err());
        if let Some(length) = bytes.get_mut(1) {
            *length = 1;
        }
        if let Some(id) = bytes.get_mut(2) {
            *id = b'k';
        }
        prop_assert!(signer().verify::<Lsn>(encode(&bytes)).is_err());
    }
}

#[test]
fn one_changed_bit_anywhere_is_refused() {
    let text = signer().sign(&token(Lsn(0x3000))).unwrap();
    assert_eq!(encode(&decode(&text)), text);
    for bit in 0..decode(&text).len() * 8 {
        let other = changed(&text, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let error = signer().verify::<Lsn>(&other).unwrap_err();
        let expected = match bit / 8 {
            0 => VerifyError::Version {
                found: 1 ^ 1 << bit,
            },
            // A length of 0 is another id, one far too long is beyond the end.
            1 => error,
            2 => VerifyError::UnknownKey,
            _ => VerifyError::Forged,
        };
        assert_eq!(error, expected, "bit {bit}");
    }
}

#[test]
fn every_other_character_is_refused() {
    let text = signer().sign(&token(Lsn(0x3000))).unwrap();
    for index in 0..text.len() {
        for byte in 0..=255 {
            let mut other = text.clone().into_bytes();
            other[index] = byte;
            let verified = signer().verify::<Lsn>(&other);
            assert_eq!(verified.is_ok(), other == text.as_bytes(), "{index} {byte}");
        }
    }
}

#[test]
fn every_part_of_a_text_and_every_longer_one_is_refused() {
    let text = signer().sign(&token(Lsn(0x3000))).unwrap();
    for length in 0..text.len() {
        assert!(signer().verify::<Lsn>(&text[..length]).is_err());
        assert!(
            signer()
                .verify::<Lsn>(&text[text.len() - length..])
                .is_err()
        );
    }
    for more in ["A", "=", "==", " ", "\n", "AAAA"] {
        assert!(signer().verify::<Lsn>(format!("{text}{more}")).is_err());
        assert!(signer().verify::<Lsn>(format!("{more}{text}")).is_err());
    }
}

/// The tag is that of Python's `hmac`.
#[test]
fn the_form_is_the_one_that_is_documented() {
    let now = Arc::new(AtomicU64::new(0x6550_0000));
    let text = at(signer(), &now).sign(&token(Counter(5))).unwrap();
    let bytes = decode(&text);
    let (covered, tag) = bytes.split_at(bytes.len() - 32);
    let mut expected = vec![1, 1, b'k', 0, 0, 0, 0, 0x65, 0x50, 0, 0];
    expected.extend(token(Counter(5)).encode().unwrap());
    assert_eq!(covered, expected);
    let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        tag,
        "74c01e959a994caee6436ad2f3a990611f98d4931b830f8060a2ad44e7742d5a"
    );
    assert_eq!(text.len(), 92);
}

#[test]
fn the_longest_token_is_signed_and_a_longer_one_is_not() {
    let ids = |many| {
        let ids = (0..many).map(|server| format!("{server}-{}-{}", u32::MAX, u64::MAX - server));
        token(GtidSet::last(&ids.collect::<Vec<_>>().join(",")).unwrap())
    };
    let longest = (1..100)
        .map(ids)
        .take_while(|token| token.encode().is_ok())
        .last()
        .unwrap();
    let signer = Signer::new([key(&"k".repeat(32))]).unwrap();
    let text = signer.sign(&longest).unwrap();
    assert!(text.len() <= 782);
    assert_eq!(signer.verify(&text), Ok(longest));
    assert_eq!(signer.sign(&ids(100)), Err(TokenError::TooLong));
}

#[test]
fn the_first_key_signs_and_all_verify() {
    let text = |signer: &Signer| signer.sign(&token(Lsn(1))).unwrap();
    let other = SigningKey::new("new", OTHER).unwrap();
    let old = signer();
    let both = Signer::new([key("k"), other.clone()]).unwrap();
    let swapped = Signer::new([other.clone(), key("k")]).unwrap();
    let new = Signer::new([other]).unwrap();
    assert_eq!(old.verify(text(&both)), Ok(token(Lsn(1))));
    assert_eq!(both.verify(text(&swapped)), Ok(token(Lsn(1))));
    assert_eq!(swapped.verify(text(&old)), Ok(token(Lsn(1))));
    let unknown = Err(VerifyError::UnknownKey);
    assert_eq!(new.verify::<Lsn>(text(&old)), unknown);
    assert_eq!(old.verify::<Lsn>(text(&swapped)), unknown);
    // The same at run time, for all handles.
    let handle = old.clone();
    handle
        .set_keys([SigningKey::new("new", OTHER).unwrap()])
        .unwrap();
    assert_eq!(old.verify(text(&new)), Ok(token(Lsn(1))));
    assert_eq!(old.key_ids(), ["new"]);
}

#[test]
fn a_key_of_the_same_id_and_other_bytes_is_forged() {
    let impostor = Signer::new([SigningKey::new("k", OTHER).unwrap()]).unwrap();
    let text = impostor.sign(&token(Lsn(1))).unwrap();
    assert_eq!(signer().verify::<Lsn>(&text), Err(VerifyError::Forged));
}

/// A tag of another protocol under the same key: HMAC over the same bytes without the domain.
#[test]
fn what_the_key_signs_elsewhere_is_no_token() {
    use hmac::{Hmac, KeyInit, Mac};
    let text = signer().sign(&token(Lsn(1))).unwrap();
    let other = changed(&text, |bytes| {
        let end = bytes.len() - 32;
        let mut hash = Hmac::<sha2::Sha256>::new_from_slice(&KEY).unwrap();
        hash.update(&bytes[..end]);
        bytes.truncate(end);
        bytes.extend(hash.finalize().into_bytes());
    });
    assert_eq!(signer().verify::<Lsn>(&other), Err(VerifyError::Forged));
}

#[test]
fn a_token_of_another_cluster_or_another_store_is_told_apart() {
    let text = signer().sign(&token(Lsn(1))).unwrap();
    assert_eq!(signer().cluster(7).verify(&text), Ok(token(Lsn(1))));
    let foreign = Err(VerifyError::Foreign { cluster: 7 });
    assert_eq!(signer().cluster(8).verify::<Lsn>(&text), foreign);
    let kind = Err(VerifyError::Kind { found: Lsn::KIND });
    assert_eq!(signer().verify::<Counter>(&text), kind);
}

#[test]
fn a_token_is_refused_one_second_after_its_time() {
    let now = Arc::new(AtomicU64::new(1_000));
    let signer = at(signer(), &now).max_age(Duration::from_secs(60));
    let text = signer.sign(&token(Lsn(1))).unwrap();
    for time in [0, 1_000, 1_060] {
        now.store(time, Ordering::Relaxed);
        assert_eq!(signer.verify(&text), Ok(token(Lsn(1))), "{time}");
    }
    now.store(1_061, Ordering::Relaxed);
    let age = Duration::from_secs(61);
    assert_eq!(
        signer.verify::<Lsn>(&text),
        Err(VerifyError::Expired { age })
    );
    now.store(u64::MAX >> 2, Ordering::Relaxed);
    assert!(signer.verify::<Lsn>(&text).is_err());
}

#[test]
fn a_token_of_a_later_release_is_told_apart() {
    let text = signer().sign(&token(Lsn(1))).unwrap();
    let later = changed(&text, |bytes| {
        bytes[0] = 2;
        bytes.truncate(3);
    });
    assert_eq!(
        signer().verify::<Lsn>(&later),
        Err(VerifyError::Version { found: 2 })
    );
}

#[test]
fn keys_that_are_too_short_or_cannot_be_told_apart_are_refused() {
    let short = Err(SigningKeyError::Short { found: 31 });
    assert_eq!(SigningKey::new("k", [7; 31]).map(drop), short);
    assert!(SigningKey::new("k", [7; 32]).is_ok());
    for id in ["", "a b", "ä", "a\n", &"k".repeat(33)] {
        assert_eq!(
            SigningKey::new(id, KEY).map(drop),
            Err(SigningKeyError::Id),
            "{id:?}"
        );
    }
    assert_eq!(Signer::new([]).map(drop), Err(SigningKeyError::NoKey));
    let twice = Err(SigningKeyError::DuplicateId("k".into()));
    assert_eq!(Signer::new([key("k"), key("k")]).map(drop), twice);
    let signer = signer();
    assert_eq!(
        signer.set_keys([key("l"), key("l")]),
        Err(SigningKeyError::DuplicateId("l".into()))
    );
    assert_eq!(signer.key_ids(), ["k"]);
}

#[test]
fn nothing_shows_a_key() {
    let shown = format!("{:?} {:?}", signer(), key("k"));
    assert!(
        !shown.contains("0123") && !shown.contains("48, 49"),
        "{shown}"
    );
}

#[test]
fn a_token_is_signed_with_few_allocations_and_read_with_none() {
    let signer = signer().cluster(7).max_age(Duration::from_secs(60));
    let token = token(Lsn(0x3000));
    let text = signer.sign(&token).unwrap();
    let read = measure(|| {
        assert_eq!(signer.verify(&text), Ok(token.clone()));
    });
    assert_eq!(read.count_total, 0);
    // The token's bytes, those that are signed, and the text.
    let signed = measure(|| {
        let _ = signer.sign(&token);
    });
    assert_eq!(signed.count_total, 3);
    let refused = measure(|| {
        assert!(signer.verify::<Lsn>(&text[1..]).is_err());
    });
    assert_eq!(refused.count_total, 0);
}

#[cfg(feature = "http")]
mod http {
    use ::http::{HeaderMap, HeaderName, HeaderValue, header::COOKIE};
    use resilience_tower::read_write::{NameError, TokenCookie, TokenHeader};

    use super::*;

    fn cookies(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (COOKIE, HeaderValue::from_str(line).unwrap());
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_cookie_is_written_as_browsers_keep_it_and_read_back() {
        let cookie = TokenCookie::new(signer().max_age(Duration::from_secs(3600)));
        let value = cookie.write(&token(Lsn(1))).unwrap();
        let value = value.to_str().unwrap();
        let (pair, attributes) = value.split_once("; ").unwrap();
        assert_eq!(
            attributes,
            "Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=3600"
        );
        assert!(pair.starts_with("__Host-read-after="));
        for headers in [
            cookies(&[pair]),
            cookies(&[&format!("a=b; {pair}; c=d")]),
            cookies(&["a=b", &format!("c=d;{pair} ")]),
        ] {
            assert_eq!(
                cookie.read(&headers),
                Ok(Some(token(Lsn(1)))),
                "{headers:?}"
            );
        }
        for none in [
            cookies(&[]),
            cookies(&["a=b", &format!("x{pair}"), "__Host-read-after"]),
        ] {
            assert_eq!(cookie.read::<Lsn>(&none), Ok(None), "{none:?}");
        }
    }

    #[test]
    fn of_several_cookies_the_first_that_is_signed_counts() {
        let cookie = TokenCookie::new(signer())
            .name("seen")
            .unwrap()
            .path("/shop")
            .unwrap();
        let value = cookie.write(&token(Lsn(1))).unwrap();
        let value = value.to_str().unwrap();
        assert!(value.ends_with("; Path=/shop; HttpOnly; Secure; SameSite=Lax"));
        let pair = value.split(';').next().unwrap();
        let read = |text: &str| cookie.read::<Lsn>(&cookies(&[text]));
        assert_eq!(
            read(&format!("seen=x; {pair}; seen=")),
            Ok(Some(token(Lsn(1))))
        );
        assert_eq!(
            read(&format!("seen=; {pair}x")),
            Err(VerifyError::Malformed)
        );
        // No more than four are tried.
        let many = "seen=x; ".repeat(4);
        assert_eq!(read(&format!("{many}{pair}")), Err(VerifyError::Malformed));
    }

    #[test]
    fn names_and_paths_that_no_cookie_has_are_refused() {
        let cookie = || TokenCookie::new(signer());
        for name in ["", "a b", "a=b", "a;b", "ä", "a\n"] {
            assert_eq!(
                cookie().name(name).map(drop),
                Err(NameError::Name),
                "{name:?}"
            );
        }
        for path in ["", "shop", "/a;b", "/ä", "/\n"] {
            assert_eq!(
                cookie().path(path).map(drop),
                Err(NameError::Path),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_cookie_that_browsers_would_drop_is_refused() {
        let cookie = || TokenCookie::new(signer());
        assert_eq!(cookie().path("/shop").map(drop), Err(NameError::Host));
        let elsewhere = cookie().name("seen").unwrap().path("/shop").unwrap();
        assert_eq!(
            elsewhere.name("__HOST-seen").map(drop),
            Err(NameError::Host)
        );

        let short = TokenCookie::new(signer().max_age(Duration::from_millis(1)));
        let value = short.write(&token(Lsn(1))).unwrap();
        assert!(
            value.to_str().unwrap().ends_with("; Max-Age=1"),
            "{value:?}"
        );
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_only_once() {
        let header = TokenHeader::new(signer());
        assert_eq!(header.name(), "x-read-after");
        let mut headers = HeaderMap::new();
        assert_eq!(header.read::<Lsn>(&headers), Ok(None));
        headers.append("x-read-after", header.write(&token(Lsn(1))).unwrap());
        assert_eq!(header.read(&headers), Ok(Some(token(Lsn(1)))));
        headers.append("x-read-after", header.write(&token(Lsn(1))).unwrap());
        assert_eq!(header.read::<Lsn>(&headers), Err(VerifyError::Malformed));
        let other = TokenHeader::named(HeaderName::from_static("x-seen"), signer());
        assert_eq!(other.read::<Lsn>(&headers), Ok(None));
        headers.insert("x-seen", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(other.read::<Lsn>(&headers), Err(VerifyError::Malformed));
    }
}
