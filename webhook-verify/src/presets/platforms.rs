//! Platforms of developers, shops and conversations.

#[cfg(feature = "ed25519")]
use std::borrow::Cow;

#[cfg(feature = "ed25519")]
use super::KeyFormat;
use super::{Encoding, Layout, Part, Scheme, SignatureField, Timestamp, body_only};

/// [GitHub](https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries).
///
/// - Header: `x-hub-signature-256`, `sha256=` and 64 lower-case hex digits. The older
///   `x-hub-signature` with SHA-1 is never read.
/// - Signed: the raw body, by HMAC-SHA256.
/// - Key: the secret of the webhook, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no timestamp.
/// - Rotation: one secret per webhook; the receiver takes both for a while.
/// - Replay key: the signature; a redelivery by hand is the same delivery.
///
/// Not protected: the time of the delivery and all other headers. `x-github-delivery` and
/// `x-github-event` are among them: anybody who saw a delivery can send its body again under
/// another id, or as another kind of event, so tell the kind from the body.
#[must_use]
pub fn github() -> Scheme {
    let layout = Layout {
        signature: SignatureField::one("x-hub-signature-256", "sha256=", Encoding::Hex),
        ..Layout::body_only("x-hub-signature-256", Encoding::Hex)
    };
    Scheme::of_layout("github", layout)
}

/// [Slack](https://docs.slack.dev/authentication/verifying-requests-from-slack).
///
/// - Headers: `x-slack-signature` (`v0=` and 64 lower-case hex digits),
///   `x-slack-request-timestamp` (Unix seconds).
/// - Signed: `"v0:" timestamp ":" body`, by HMAC-SHA256.
/// - Key: the signing secret of the app, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: 300 s in both directions.
/// - Rotation: one signing secret per app; the receiver takes both for a while.
/// - Replay key: the signature. A retry (`x-slack-retry-num`, not signed) is signed anew.
///
/// Not protected: the other headers, the path. The secret belongs to the app, not to a
/// workspace: look at `team_id`.
#[must_use]
pub fn slack() -> Scheme {
    versioned_0("slack", "x-slack-signature", "x-slack-request-timestamp")
}

/// [Zoom](https://developers.zoom.us/docs/api/webhooks/#verify-webhook-events).
///
/// - Headers: `x-zm-signature` (`v0=` and 64 lower-case hex digits),
///   `x-zm-request-timestamp` (Unix seconds).
/// - Signed: `"v0:" timestamp ":" body`, by HMAC-SHA256.
/// - Key: the secret token of the app, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: 300 s in both directions. Zoom documents none; this is Slack's, whose
///   scheme it is.
/// - Rotation: one token per app; the receiver takes both for a while.
/// - Replay key: the signature.
///
/// Not protected: the other headers, the path. The `endpoint.url_validation` event is signed
/// like any other. Its answer is an HMAC, under the same token, of a text from the event:
/// answer only when verified, and never a text that begins with `v0:`.
#[must_use]
pub fn zoom() -> Scheme {
    versioned_0("zoom", "x-zm-signature", "x-zm-request-timestamp")
}

fn versioned_0(name: &'static str, signature: &'static str, time: &'static str) -> Scheme {
    let layout = Layout {
        signature: SignatureField::one(signature, "v0=", Encoding::Hex),
        timestamp: Some(Timestamp::seconds_in(time)),
        before: [Part::fixed("v0:"), Part::Timestamp, Part::fixed(":")].into(),
        ..Layout::body_only(signature, Encoding::Hex)
    };
    Scheme::of_layout(name, layout)
}

/// [Shopify](https://shopify.dev/docs/apps/build/webhooks/subscribe/https).
///
/// - Header: `x-shopify-hmac-sha256`, 44 characters of base64. Deliveries of Shopify's
///   "Events", which call it `shopify-hmac-sha256`, need a scheme of one's own.
/// - Signed: the raw body, by HMAC-SHA256.
/// - Key: the client secret of the app, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no signed timestamp.
/// - Rotation: after a change of the client secret, deliveries may be signed with the old
///   one for up to an hour: keep both.
/// - Replay key: the signature.
///
/// Not protected: the time of the delivery and all other headers. `x-shopify-topic`,
/// `x-shopify-shop-domain` and `x-shopify-webhook-id` are among them: the body of one shop
/// can be sent again in the name of another that uses the same app.
#[must_use]
pub fn shopify() -> Scheme {
    body_only("shopify", "x-shopify-hmac-sha256", Encoding::Base64)
}

/// [Linear](https://linear.app/developers/webhooks).
///
/// - Header: `linear-signature`, 64 lower-case hex digits.
/// - Signed: the raw body, by HMAC-SHA256.
/// - Key: the signing secret of the webhook, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none here. `webhookTimestamp` in the body (milliseconds, signed) is left to
///   the application; Linear advises one minute.
/// - Rotation: one secret per webhook; the receiver takes both for a while.
/// - Replay key: the signature.
///
/// Not protected: all other headers; `linear-delivery`, `linear-event` and
/// `linear-timestamp` are among them.
#[must_use]
pub fn linear() -> Scheme {
    body_only("linear", "linear-signature", Encoding::Hex)
}

/// [Dropbox](https://www.dropbox.com/developers/reference/webhooks).
///
/// - Header: `x-dropbox-signature`, 64 lower-case hex digits.
/// - Signed: the raw body, by HMAC-SHA256.
/// - Key: the app secret, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no timestamp.
/// - Rotation: one secret per app; the receiver takes both for a while.
/// - Replay key: the signature. Two true notifications of the same accounts have the same
///   bytes: with a replay store the second one is a duplicate for its lifetime, so use none
///   or a short one (to ask Dropbox for changes once more does no harm).
///
/// Not protected: the time of the delivery and all other headers. The GET request with
/// `challenge`, by which Dropbox checks an endpoint, is not signed.
#[must_use]
pub fn dropbox() -> Scheme {
    body_only("dropbox", "x-dropbox-signature", Encoding::Hex)
}

/// [Discord](https://discord.com/developers/docs/events/webhook-events), interactions and
/// webhook events.
///
/// - Headers: `x-signature-ed25519` (128 lower-case hex digits), `x-signature-timestamp`
///   (Unix seconds, exactly ten digits).
/// - Signed: `timestamp body`, without anything between them, by Ed25519.
/// - Key: the public key of the app in hex
///   ([`Secret::ed25519_hex`](crate::Secret::ed25519_hex)).
/// - Tolerance: 300 s in both directions. Discord documents none.
/// - Rotation: one key pair per app, chosen by Discord; the receiver may hold both.
/// - Replay key: the signature (hashed), which is checked strictly: nobody can make a second
///   one of it.
///
/// Not protected: the other headers, the path. Nothing stands between time and body; a digit
/// cannot move from one to the other because the time has ten.
///
/// Discord sends wrong signatures on purpose and expects 401 for them.
#[cfg(feature = "ed25519")]
#[must_use]
pub fn discord() -> Scheme {
    let layout = Layout {
        signature: SignatureField {
            hmac: None,
            ed25519: Some(Cow::Borrowed("")),
            ..SignatureField::one("x-signature-ed25519", "", Encoding::Hex)
        },
        timestamp: Some(Timestamp {
            digits: Some(10),
            ..Timestamp::seconds_in("x-signature-timestamp")
        }),
        before: [Part::Timestamp].into(),
        ..Layout::body_only("x-signature-ed25519", Encoding::Hex)
    };
    Scheme {
        key_format: KeyFormat::Ed25519Hex,
        ..Scheme::of_layout("discord", layout)
    }
}
