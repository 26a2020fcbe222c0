//! Where the providers' own libraries are looser than their documentation, or unsafe, by
//! measurement: what is refused here all the same. Each delivery carries a genuine signature of
//! what the library would sign.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue, Request};
use sha2::Sha256;
use webhook_verify::{Reason, Scheme, Secret, Verifier, clock::ManualWallClock, presets};

mod paddle;
mod standard_webhooks;
mod stripe;
mod versioned;
mod without_time;

const NOW: u64 = 1_700_000_000;
const TIME: &str = "1700000000";
const BODY: &[u8] = br#"{"a": 1}"#;

type Fields<'a> = &'a [(&'a str, &'a [u8])];

/// The answer to a delivery at [`NOW`], of a receiver with one key.
fn answer(scheme: &Scheme, key: &str, fields: Fields<'_>, body: &[u8]) -> Result<(), Reason> {
    let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        parts
            .headers
            .append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let verifier = Verifier::builder(scheme.clone())
        .secret(scheme.secret("k", key).unwrap())
        .clock(ManualWallClock::new(NOW))
        .build()
        .unwrap();
    let verified = verifier.verify(&parts, None, body);
    verified.map(drop).map_err(|error| error.reason().clone())
}

fn malformed(name: &'static str) -> Result<(), Reason> {
    Err(Reason::Malformed(HeaderName::from_static(name)))
}

fn missing(name: &'static str) -> Result<(), Reason> {
    Err(Reason::Missing(HeaderName::from_static(name)))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Spellings of [`TIME`] that `float()`, `int()`, `parseInt()` or `Number()` read as that
/// time, and those that they read as no number.
const LOOSE_TIMES: [&str; 14] = [
    "1700000000.9",
    " 1700000000",
    "1700000000 ",
    "\t1700000000",
    "+1700000000",
    "01700000000",
    "1_700_000_000",
    "1700000000abc",
    "1700000000,1",
    "1.7e9",
    "0x6553f100",
    "abc",
    "NaN",
    "",
];

/// The libraries differ about keys of nothing or of white space; some hash under them.
#[test]
fn a_key_of_nothing_or_white_space_is_refused() {
    for key in ["", " ", "\n", "key\n", " key"] {
        for scheme in [
            presets::stripe(),
            presets::slack(),
            presets::square("https://e.example/"),
        ] {
            assert!(scheme.secret("k", key).is_err(), "{key:?}");
        }
    }
}
