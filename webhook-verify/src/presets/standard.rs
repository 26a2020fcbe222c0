//! Standard Webhooks and the family it comes from.

use std::borrow::Cow;

use http::HeaderName;

use super::{Encoding, KeyFormat, Layout, Part, ReplayBasis, Scheme, SignatureField, Timestamp};
use crate::mac::Hash;

/// [Standard Webhooks](https://www.standardwebhooks.com), symmetric (`v1`) and asymmetric
/// (`v1a`) signatures.
///
/// - Headers: `webhook-id` (1 to 256 visible ASCII characters without `.`),
///   `webhook-timestamp` (Unix seconds), `webhook-signature` (`v1,` or `v1a,` and base64,
///   several separated by blanks, at most 16; other versions are skipped).
/// - Signed: `id "." timestamp "." body`, by HMAC-SHA256 (`v1`) or Ed25519 (`v1a`).
/// - Key: `whsec_` and base64 ([`Secret::whsec`](crate::Secret::whsec)) for `v1`; with the
///   feature `ed25519`, `whpk_` (verifies) and `whsk_` (signs) for `v1a`. The kind of key
///   chooses the version that is tried, never the sender.
/// - Tolerance: 300 s in both directions.
/// - Rotation: the sender signs with both keys for a while, in one header; the receiver may
///   hold both as well.
/// - Replay key: the id, which a sender keeps when it tries again.
///
/// Not protected: the other headers, the path, the content type. Fields of the `svix-`
/// family are never read in place of `webhook-` ones.
#[must_use]
pub fn standard_webhooks() -> Scheme {
    family(
        "standard_webhooks",
        ["webhook-id", "webhook-timestamp", "webhook-signature"],
    )
}

/// [Svix](https://docs.svix.com/receiving/verifying-payloads/how-manual), under its own
/// header names.
///
/// - Headers: `svix-id`, `svix-timestamp`, `svix-signature`.
/// - All else: as [`standard_webhooks`], whose `webhook-` fields are never read in place of
///   these. The libraries of Svix do read them; a service that gets both needs a
///   [`Verifier`](crate::Verifier) for each.
#[must_use]
pub fn svix() -> Scheme {
    family("svix", ["svix-id", "svix-timestamp", "svix-signature"])
}

fn family(name: &'static str, [id, time, signature]: [&'static str; 3]) -> Scheme {
    let layout = Layout {
        signature: SignatureField {
            header: HeaderName::from_static(signature),
            separator: Some(b' '),
            encoding: Encoding::Base64,
            hmac: Some((Hash::Sha256, Cow::Borrowed("v1,"))),
            ed25519: Some(Cow::Borrowed("v1a,")),
            ecdsa: None,
        },
        timestamp: Some(Timestamp::seconds_in(time)),
        id: Some(HeaderName::from_static(id)),
        before: [
            Part::Id,
            Part::fixed("."),
            Part::Timestamp,
            Part::fixed("."),
        ]
        .into(),
        replay: ReplayBasis::Id,
        ..Layout::body_only(signature, Encoding::Base64)
    };
    Scheme {
        key_format: KeyFormat::StandardWebhooks,
        ..Scheme::of_layout(name, layout)
    }
}
