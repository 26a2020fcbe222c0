//! Keys in any text, and settings of schemes of one's own: what is taken is what the documents
//! say, signs what a plain HMAC signs, and is verified by its own verifier.
#![no_main]

use std::time::Duration;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use http::Request;
use libfuzzer_sys::fuzz_target;
use resilience_fuzz::{
    Choices,
    webhook::{
        Hash,
        changes::Edit,
        custom::custom,
        encode::{self, from_hex},
        hmac,
        keys::{self, Key},
    },
};
use webhook_verify::{KeyFormat, Secret, SignError, Signer, Verifier, presets};

const NOW: u64 = 1_700_000_000;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let _ = match choices.byte() {
        Some(0..=95) => scheme(choices),
        Some(96..=127) => file(choices),
        Some(_) => key(choices),
        None => None,
    };
});

fn scheme(mut choices: Choices<'_>) -> Option<()> {
    let custom = custom(&mut choices)?;
    let built = custom.builder.build();
    assert_eq!(
        built.is_ok(),
        custom.fits,
        "{built:?} of {:?}",
        custom.plain
    );
    let scheme = built.ok()?;
    custom.plain.hmac.as_ref()?;
    let digits = if custom.plain.millis { 13 } else { 10 };
    if custom.plain.digits.is_some_and(|other| other != digits) {
        return None;
    }
    let request = Request::post("/a?b").header("x-extra", "e").body(());
    let mut parts = request.ok()?.into_parts().0;
    let secret = Secret::new("k", choices.rest()).ok()?;
    let signer = Signer::new(scheme.clone(), secret.clone());
    // Headers of the scheme that it signs as headers of the request as well do not exist.
    let signed = signer.sign_request(&parts, Some("id"), Duration::from_secs(NOW), b"body");
    match signed {
        Ok(headers) => parts.headers.extend(headers),
        Err(error) => {
            assert!(matches!(error, SignError::Header(_)), "{error}");
            return None;
        }
    }
    let clock = webhook_verify::clock::ManualWallClock::new(NOW);
    let verifier = Verifier::builder(scheme)
        .secret(secret)
        .clock(clock)
        .build();
    let verified = verifier.ok()?.verify(&parts, None, b"body");
    assert!(verified.is_ok(), "{verified:?} of {:?}", custom.plain);
    Some(())
}

/// Files of keys and certificates, changed in their text or in the bytes below it: no panic,
/// and a key of the kind that the file had, if any.
fn file(mut choices: Choices<'_>) -> Option<()> {
    const FILES: [&str; 7] = [
        include_str!("../../webhook-verify/tests/vectors/keys/ed25519.pub.pem"),
        include_str!("../../webhook-verify/tests/vectors/keys/p256.pub.pem"),
        include_str!("../../webhook-verify/tests/vectors/keys/p256.cert.pem"),
        include_str!("../../webhook-verify/tests/vectors/keys/p256.pem"),
        include_str!("../../webhook-verify/tests/vectors/keys/rsa2048.pub.pem"),
        include_str!("../../webhook-verify/tests/vectors/keys/rsa2048.cert.pem"),
        include_str!("../../webhook-verify/tests/vectors/keys/rsa1024.pub.pem"),
    ];
    let file = FILES[choices.below(FILES.len())?];
    let below = choices.below(4)? > 0;
    let mut lines: Vec<&str> = file.lines().collect();
    let (first, last) = (lines.remove(0), lines.pop()?);
    let mut bytes = match below {
        true => encode::from_base64(&lines.concat())?,
        false => file.as_bytes().to_vec(),
    };
    while let Some(edit) = Edit::choose(&mut choices) {
        edit.apply(&mut bytes);
    }
    let text = match below {
        true => format!("{first}\n{}\n{last}\n", encode::base64(&bytes)),
        false => String::from_utf8(bytes.clone()).ok()?,
    };
    if let Ok(secret) = Secret::pem("k", &text) {
        let made = Signer::new(presets::linear(), secret).sign(b"body");
        assert_eq!(made, Err(SignError::Key), "none of them is a shared key");
    }
    let line = encode::base64(&bytes);
    if let Ok(secret) = Secret::spki("k", &line) {
        let scheme = presets::linear();
        let built = Verifier::builder(scheme).secret(secret).build();
        assert!(built.is_err(), "none of them is a shared key");
    }
    Some(())
}

type Format = (KeyFormat, fn(&str) -> Option<Key>);

const FORMATS: [Format; 5] = [
    (KeyFormat::Text, keys::text),
    (KeyFormat::Base64, keys::base64),
    (KeyFormat::Hex, keys::hex),
    (KeyFormat::StandardWebhooks, keys::standard_webhooks),
    (KeyFormat::Ed25519Hex, keys::ed25519_hex),
];

fn key(mut choices: Choices<'_>) -> Option<()> {
    let (format, read) = FORMATS[match choices.byte()? {
        // Points of the curve are slow.
        byte @ 0..=239 => usize::from(byte) % 4,
        _ => 4,
    }];
    let text = text(&mut choices)?;
    let ours = Secret::parse("k", format, &text);
    let books = read(&text);
    assert_eq!(
        ours.is_ok(),
        books.is_some(),
        "{format:?} {text:?}: {ours:?}"
    );
    let ours = ours.ok()?;
    match books? {
        Key::Shared(key) => {
            let signer = Signer::new(presets::linear(), ours);
            let made = signer.sign(b"body").expect("a shared key signs this");
            let mac = encode::hex(&hmac(Hash::Sha256, &key, b"body"));
            assert_eq!(made["linear-signature"], mac.as_str());
        }
        Key::Public(_) => {
            let made = Signer::new(presets::discord(), ours).sign(b"body");
            assert_eq!(made, Err(SignError::Key));
        }
        Key::Private(seed) => {
            let at = Duration::from_secs(NOW);
            let made = Signer::new(presets::discord(), ours).sign_at(at, b"body");
            let made = made.expect("a private key signs this");
            let made = made["x-signature-ed25519"].to_str().ok()?;
            let signature = Signature::from_slice(&from_hex(made)?).ok()?;
            let public: VerifyingKey = SigningKey::from_bytes(&seed).verifying_key();
            assert!(public.verify_strict(b"1700000000body", &signature).is_ok());
        }
    }
    Some(())
}

/// A key in a form that exists, mostly, then changed a little.
fn text(choices: &mut Choices<'_>) -> Option<String> {
    let prefix = match choices.byte()? {
        byte @ 0..=95 => ["", " ", "whsec_", "WHSEC_"][usize::from(byte) % 4],
        96..=175 => "whsec_",
        176..=239 => "",
        byte => ["whpk_", "whsk_"][usize::from(byte) % 2],
    };
    let length = match choices.byte()? {
        byte @ 0..=127 => usize::from(byte) % 34,
        128..=199 => 32,
        _ => 64,
    };
    let mut bytes = Vec::new();
    for _ in 0..length {
        bytes.push(choices.byte().unwrap_or(0));
    }
    // The second half of a pair is seldom right by chance.
    if length == 64 && bytes[63] & 1 == 0 {
        let seed: &[u8; 32] = bytes[..32].try_into().ok()?;
        bytes = SigningKey::from_bytes(seed).to_keypair_bytes().to_vec();
    }
    let body = match choices.byte().unwrap_or(0) {
        0..=95 => encode::base64(&bytes),
        96..=191 => encode::hex(&bytes),
        192..=215 => encode::hex(&bytes).to_uppercase(),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    };
    let mut text = [prefix, &body].concat();
    while let Some(edit) = choices.byte() {
        let at = usize::from(choices.byte()?) % (text.len() + 1);
        if !text.is_char_boundary(at) {
            continue;
        }
        match edit {
            0..=63 => text.truncate(at),
            64..=191 => text.insert(
                at,
                choices.one_of(&[' ', '\n', '=', '_', '-', 'A', '9', 'é'])?,
            ),
            _ if at < text.len() => drop(text.remove(at)),
            _ => text.push('='),
        }
    }
    Some(text)
}
