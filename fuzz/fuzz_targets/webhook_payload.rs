//! Signed bodies under a payload policy: what passes is JSON within the limits, without a
//! repeated key, with the required fields of their types; and everything of that kind passes.
#![no_main]

use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use resilience_fuzz::{
    Choices,
    webhook::{
        Hash, encode, hmac,
        json::{Limits, field, read, write},
    },
};
use serde_json::Value;
use webhook_verify::{FieldType, PayloadPolicy, Secret, Step, Verifier, presets};

type Kind = (FieldType, fn(&Value) -> bool);

const KINDS: [Kind; 6] = [
    (FieldType::String, |value| matches!(value, Value::String(_))),
    (FieldType::Number, |value| matches!(value, Value::Number(_))),
    (FieldType::Integer, |value| {
        let Value::Number(number) = value else {
            return false;
        };
        let text = number.to_string();
        text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
    }),
    (FieldType::Bool, |value| matches!(value, Value::Bool(_))),
    (FieldType::Object, |value| matches!(value, Value::Object(_))),
    (FieldType::Array, |value| matches!(value, Value::Array(_))),
];

fuzz_target!(|data: &[u8]| {
    let _ = run(Choices::new(data));
});

fn run(mut choices: Choices<'_>) -> Option<()> {
    let limits = Limits {
        depth: choices.one_of(&[32, 0, 1, 2, 3, 100, 127])?,
        string: choices.one_of(&[65_536, 0, 1, 8])?,
        entries: choices.one_of(&[10_000, 0, 1, 3])?,
    };
    let mut policy = PayloadPolicy::json()
        .max_depth(limits.depth)
        .max_string(limits.string)
        .max_entries(limits.entries);
    let required = match choices.byte()? {
        0..=127 => None,
        _ => {
            let path = choices.one_of(&["a", "b", "a.b", "a.a", "", "é"])?;
            let kind = choices.one_of(&KINDS)?;
            policy = policy.require(path, kind.0);
            Some((path, kind.1))
        }
    };
    let chunk = choices.below(20)? + 1;
    let mut body = Vec::new();
    match choices.byte()? {
        0..=223 => drop(write(&mut choices, &mut body)),
        _ => body.extend_from_slice(choices.rest()),
    }
    let read = read(
        &body,
        Limits {
            depth: limits.depth.min(100),
            ..limits
        },
    );
    let fits = read
        .is_some_and(|value| required.is_none_or(|(path, is)| field(&value, path).is_some_and(is)));

    let verifier = Verifier::builder(presets::github())
        .secret(Secret::new("k", "key").ok()?)
        .payload(policy)
        .build()
        .ok()?;
    let mac = encode::hex(&hmac(Hash::Sha256, b"key", &body));
    let (mut parts, ()) = Request::post("/").body(()).ok()?.into_parts();
    let value = HeaderValue::try_from(format!("sha256={mac}")).ok()?;
    parts.headers.insert("x-hub-signature-256", value);
    let whole = verifier.verify(&parts, None, &body);
    assert_eq!(whole.is_ok(), fits, "{whole:?}: {}", body.escape_ascii());
    if let Err(error) = &whole {
        assert_eq!(error.step(), Step::Payload);
    }
    let streamed = verifier.begin(&parts, None).and_then(|mut session| {
        body.chunks(chunk)
            .try_for_each(|chunk| session.update(chunk))?;
        session.finish()
    });
    assert_eq!(streamed.err(), whole.err());
    Some(())
}
