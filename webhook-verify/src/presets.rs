//! The schemes of providers.

use std::time::Duration;

use http::HeaderName;

use crate::scheme::{Part, ReplayBasis, Scheme, Syntax};

/// The server-to-server callback of PayTabs.
///
/// - Header: `signature`, 64 lower-case hex digits.
/// - Signed: the raw body and nothing else.
/// - Key: the server key of the profile, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no timestamp.
/// - Replay key: the MAC, so a repeated body is a repeated delivery. It is remembered for
///   24 hours unless the builder says otherwise.
///
/// Not protected: the time of the delivery, the headers, the path. A recorded callback
/// stays valid for as long as the key; after the replay lifetime only the application
/// (state of the payment) stops it.
#[must_use]
pub fn paytabs_callback() -> Scheme {
    body_only("paytabs_callback", HeaderName::from_static("signature"))
}

/// [Standard Webhooks](https://www.standardwebhooks.com), symmetric signatures (`v1`).
///
/// - Headers: `webhook-id` (1 to 256 visible ASCII characters without `.`),
///   `webhook-timestamp` (Unix seconds), `webhook-signature` (`v1,` and base64, several
///   separated by blanks, at most 16; other versions are skipped).
/// - Signed: `id "." timestamp "." body`.
/// - Key: `whsec_` and base64 ([`Secret::whsec`](crate::Secret::whsec)).
/// - Tolerance: 300 s in both directions.
/// - Replay key: the id, which a sender keeps when it tries again.
///
/// Not protected: the other headers, the path, the content type. Fields of the `svix-`
/// family are never read in place of `webhook-` ones.
#[must_use]
pub fn standard_webhooks() -> Scheme {
    Scheme {
        name: "standard_webhooks",
        signature: HeaderName::from_static("webhook-signature"),
        timestamp: Some(HeaderName::from_static("webhook-timestamp")),
        id: Some(HeaderName::from_static("webhook-id")),
        syntax: Syntax::VersionedBase64,
        prefix: &[Part::Id, Part::Dot, Part::Timestamp, Part::Dot],
        tolerance: (Duration::from_secs(300), Duration::from_secs(300)),
        replay: ReplayBasis::Id,
        replay_lifetime: Duration::from_secs(601),
    }
}

/// A timestamped signature over the body.
///
/// - Headers: `x-webhook-signature` (64 lower-case hex digits), `x-webhook-timestamp`
///   (Unix seconds).
/// - Signed: `timestamp "." body`.
/// - Key: bytes or text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: 300 s in the past, 60 s in the future.
/// - Replay key: the MAC. A retry that is signed anew, with another timestamp, is another
///   delivery; the application must recognise it by its content.
///
/// Not protected: the other headers, the path, the content type.
#[must_use]
pub fn timestamped() -> Scheme {
    Scheme {
        name: "timestamped",
        timestamp: Some(HeaderName::from_static("x-webhook-timestamp")),
        prefix: &[Part::Timestamp, Part::Dot],
        replay_lifetime: Duration::from_secs(361),
        ..body_only("", HeaderName::from_static("x-webhook-signature"))
    }
}

/// The body-only mode of [`timestamped`], for senders that sign the body alone.
///
/// Header `x-webhook-signature` only; a timestamp header is ignored, since it would not be
/// signed. Signed bytes, replay key and what is not protected: as [`paytabs_callback`].
#[must_use]
pub fn timestamped_body_only() -> Scheme {
    body_only(
        "timestamped_body_only",
        HeaderName::from_static("x-webhook-signature"),
    )
}

fn body_only(name: &'static str, signature: HeaderName) -> Scheme {
    Scheme {
        name,
        signature,
        timestamp: None,
        id: None,
        syntax: Syntax::Hex,
        prefix: &[],
        tolerance: (Duration::from_secs(300), Duration::from_secs(60)),
        replay: ReplayBasis::Mac,
        replay_lifetime: Duration::from_secs(24 * 60 * 60),
    }
}
