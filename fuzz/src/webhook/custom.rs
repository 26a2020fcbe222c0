//! Schemes of one's own out of choices, for the crate and for the books.

use std::time::Duration;

use webhook_verify::{Encoding, Part, ReplayBasis, Scheme, SchemeBuilder, TimeUnit};

use super::{Hash, Piece, Plain, Replay, Time};
use crate::Choices;

/// Settings, as given to the crate and as the books read them.
pub struct Custom {
    pub builder: SchemeBuilder,
    pub plain: Plain,
    /// Whether they make a scheme by the documented rules.
    pub fits: bool,
}

const LABELS: [&str; 12] = [
    "", "v1=", "v1,", "v1a,", "sha256=", "t=", "ts=", "v", "t=v1", "h1=", "é=", "v1 ",
];
const NAMES: [&str; 5] = ["x-sig", "x-time", "x-id", "x-extra", "no name"];
const TEXTS: [&str; 6] = [".", ":", "", "v0:", "https://example.com", "\n"];

fn label(choices: &mut Choices<'_>) -> Option<String> {
    choices.one_of(&LABELS).map(str::to_owned)
}

/// Mostly the usual one, which makes more schemes that fit.
fn name(choices: &mut Choices<'_>, usual: &'static str) -> Option<&'static str> {
    match choices.byte()? {
        0..=223 => Some(usual),
        other => Some(NAMES[usize::from(other) % NAMES.len()]),
    }
}

fn pieces(choices: &mut Choices<'_>) -> Option<Vec<Piece>> {
    let count = choices.below(8)?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push(match choices.below(10)? {
            0 | 1 => Piece::Body,
            2 | 3 => Piece::Time,
            4 => Piece::Id,
            5 => Piece::Method,
            6 => Piece::Target,
            7 => Piece::Header(name(choices, "x-extra")?.to_owned()),
            _ => Piece::Text(choices.one_of(&TEXTS)?.into()),
        });
    }
    Some(pieces)
}

/// Reads settings; a header that is signed is always a name (its type knows no other).
pub fn custom(choices: &mut Choices<'_>) -> Option<Custom> {
    let mut plain = Plain {
        name: choices.one_of(&["own", "own", "own", ""])?,
        header: name(choices, "x-sig")?.to_owned(),
        separator: None,
        base64: choices.below(2)? == 1,
        hmac: None,
        ed25519: None,
        time: Time::None,
        millis: false,
        digits: None,
        id: None,
        signed: Vec::new(),
        tolerance: choices.one_of(&[(300, 300), (0, 0), (5, 60)])?,
        replay: Replay::Signature,
    };
    let mut builder = Scheme::custom(plain.name).signature_header(&plain.header);
    let separator = choices.one_of(&['-', ',', ' ', ';', '|', '&', '=', '§'])?;
    if separator != '-' {
        builder = builder.list(separator);
        plain.separator = u8::try_from(separator).ok();
    }
    if plain.base64 {
        builder = builder.encoding(Encoding::Base64);
    }
    let kinds = choices.byte()?;
    if kinds < 252 {
        let (ours, hash) = choices.one_of(&[
            (webhook_verify::Hash::Sha256, Hash::Sha256),
            (webhook_verify::Hash::Sha512, Hash::Sha512),
            (webhook_verify::Hash::Sha1, Hash::Sha1),
        ])?;
        let label = label(choices)?;
        builder = builder.hmac(ours, label.clone());
        plain.hmac = Some((hash, label));
    }
    if kinds >= 240 {
        let label = label(choices)?;
        builder = builder.ed25519(label.clone());
        plain.ed25519 = Some(label);
    }
    if plain.hmac.is_none() && plain.ed25519.is_none() {
        plain.hmac = Some((Hash::Sha256, String::new()));
    }
    match choices.below(3)? {
        0 => {}
        1 => {
            let name = name(choices, "x-time")?;
            builder = builder.timestamp_header(name);
            plain.time = Time::Header(name.to_owned());
        }
        _ => {
            let label = label(choices)?;
            builder = builder.timestamp_in_signature(label.clone());
            plain.time = Time::Label(label);
        }
    }
    if choices.below(3)? == 0 {
        builder = builder.timestamp_unit(TimeUnit::Milliseconds);
        plain.millis = plain.time != Time::None;
    }
    if let Some(digits) = choices.one_of(&[None, None, None, Some(10), Some(13), Some(0)])? {
        builder = builder.timestamp_digits(digits);
        plain.digits = Some(digits);
    }
    if choices.below(2)? == 1 {
        let name = name(choices, "x-id")?;
        builder = builder.id_header(name);
        plain.id = Some(name.to_owned());
    }
    plain.signed = pieces(choices)?;
    if plain.signed.contains(&Piece::Header("no name".to_owned())) {
        return None;
    }
    builder = builder.signs(plain.signed.iter().map(part));
    let (past, future) = plain.tolerance;
    let seconds = Duration::from_secs;
    builder = builder.tolerance(seconds(past), seconds(future));
    plain.replay = match (&plain.id, plain.separator) {
        (Some(_), _) => Replay::Id,
        (None, Some(_)) => Replay::Content,
        (None, None) => Replay::Signature,
    };
    if let Some((basis, replay)) = choices.one_of(&[
        None,
        None,
        Some((ReplayBasis::Id, Replay::Id)),
        Some((ReplayBasis::Signature, Replay::Signature)),
        Some((ReplayBasis::Content, Replay::Content)),
    ])? {
        builder = builder.replay(basis);
        plain.replay = replay;
    }
    let forgets = choices.byte()? == 255;
    if forgets {
        builder = builder.replay_lifetime(Duration::ZERO);
    }
    let list = separator != '-';
    let fits = !forgets && (!list || " ,;|&".contains(separator)) && fits(&plain);
    Some(Custom {
        builder,
        plain,
        fits,
    })
}

fn part(piece: &Piece) -> Part {
    match piece {
        Piece::Body => Part::Body,
        Piece::Text(text) => Part::literal(text.clone()),
        Piece::Time => Part::Timestamp,
        Piece::Id => Part::Id,
        Piece::Method => Part::Method,
        Piece::Target => Part::Target,
        Piece::Header(name) => Part::Header(name.parse().expect("it is a name")),
    }
}

/// The rules that `SchemeError` names.
fn fits(plain: &Plain) -> bool {
    let count = |piece: Piece| plain.signed.iter().filter(|other| **other == piece).count();
    let mut names: Vec<&str> = vec![&plain.header];
    let mut labels: Vec<&str> = Vec::new();
    match &plain.time {
        Time::None => {}
        Time::Header(name) => names.push(name),
        Time::Label(label) => labels.push(label),
    }
    names.extend(plain.id.as_deref());
    names.extend(plain.signed.iter().filter_map(|piece| match piece {
        Piece::Header(name) => Some(name.as_str()),
        _ => None,
    }));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    if plain.name.is_empty() || names.len() < all || names.contains(&"no name") {
        return false;
    }
    labels.extend(plain.hmac.as_ref().map(|(_, label)| label.as_str()));
    labels.extend(plain.ed25519.as_deref());
    let separator = plain.separator.map(char::from);
    let visible = |label: &str| {
        let mut all = label.chars();
        all.all(|c| ('!'..='~').contains(&c) && Some(c) != separator)
    };
    let may_be_empty = separator.is_none() && labels.len() == 1;
    for (i, label) in labels.iter().enumerate() {
        if !visible(label) || (label.is_empty() && !may_be_empty) {
            return false;
        }
        let mut others = labels.iter().enumerate();
        if others.any(|(j, other)| i != j && other.starts_with(label)) {
            return false;
        }
    }
    let timed = plain.time != Time::None;
    let most = if plain.millis { 15 } else { 12 };
    let digits = plain
        .digits
        .is_none_or(|digits| (1..=most).contains(&digits));
    count(Piece::Body) == 1
        && (digits || !timed)
        && (count(Piece::Time) > 0) == timed
        && (count(Piece::Id) > 0) == plain.id.is_some()
        && !(matches!(plain.time, Time::Label(_)) && separator.is_none())
        && !(plain.replay == Replay::Id && plain.id.is_none())
        && !(plain.replay == Replay::Signature && separator.is_some())
}
