//! Payment providers.

use std::time::Duration;

use super::{Encoding, Layout, Part, ReplayBasis, Scheme, SignatureField, Timestamp, body_only};

/// The server-to-server callback of PayTabs.
///
/// - Header: `signature`, 64 lower-case hex digits.
/// - Signed: the raw body and nothing else, by HMAC-SHA256.
/// - Key: the server key of the profile, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no timestamp.
/// - Rotation: one server key per profile; the receiver takes both for a while.
/// - Replay key: the signature, so a repeated body is a repeated delivery.
///
/// Not protected: the time of the delivery, the headers, the path.
///
/// The same key signs the [return URL](super::paytabs_return()), which the payer carries: what is
/// signed there is also a callback, with a form as its body. Read the body as JSON and nothing
/// else; a [`PayloadPolicy`](crate::PayloadPolicy) makes sure of it.
#[must_use]
pub fn paytabs_callback() -> Scheme {
    body_only("paytabs_callback", "signature", Encoding::Hex)
}

/// [Stripe](https://docs.stripe.com/webhooks/signature).
///
/// - Header: `stripe-signature`, `t=` Unix seconds and `v1=` 64 lower-case hex digits in a
///   list with commas, at most 16 signatures; other versions (`v0=` of test mode) are
///   skipped.
/// - Signed: `timestamp "." body`, by HMAC-SHA256.
/// - Key: the signing secret of the endpoint as text, `whsec_` included: it is not base64
///   here ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: 300 s in both directions. Stripe's libraries look at the past only.
/// - Rotation: for up to 24 hours Stripe signs with both secrets, one `v1=` each.
/// - Replay key: the content (timestamp and body): of several signatures one could be cut.
///   A retry is signed anew with its own time; recognise it by the event's `id`.
///
/// Not protected: the other headers, the path. A secret belongs to one endpoint and mode,
/// so deliveries of another endpoint or of test mode fail under it.
#[must_use]
pub fn stripe() -> Scheme {
    let layout = Layout {
        signature: SignatureField {
            separator: Some(b','),
            ..SignatureField::one("stripe-signature", "v1=", Encoding::Hex)
        },
        timestamp: Some(Timestamp::seconds_after("t=")),
        before: [Part::Timestamp, Part::fixed(".")].into(),
        replay: ReplayBasis::Content,
        ..Layout::body_only("stripe-signature", Encoding::Hex)
    };
    Scheme::of_layout("stripe", layout)
}

/// [Paddle](https://developer.paddle.com/webhooks/signature-verification) (Billing).
///
/// - Header: `paddle-signature`, `ts=` Unix seconds and `h1=` 64 lower-case hex digits in a
///   list with semicolons, at most 16 signatures; other names are skipped.
/// - Signed: `timestamp ":" body`, by HMAC-SHA256.
/// - Key: the secret of the notification destination as text, `pdl_ntf_` included
///   ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: 5 s in both directions, as in Paddle's libraries. Clocks that are not kept
///   in step need more.
/// - Rotation: any of several `h1=` may match. Paddle sends one today and announces one for
///   each active secret.
/// - Replay key: the content (timestamp and body): of several signatures one could be cut.
///   A retry is signed anew; recognise it by `event_id` in the body.
///
/// Not protected: the other headers, the path.
#[must_use]
pub fn paddle() -> Scheme {
    let layout = Layout {
        signature: SignatureField {
            separator: Some(b';'),
            ..SignatureField::one("paddle-signature", "h1=", Encoding::Hex)
        },
        timestamp: Some(Timestamp::seconds_after("ts=")),
        before: [Part::Timestamp, Part::fixed(":")].into(),
        replay: ReplayBasis::Content,
        ..Layout::body_only("paddle-signature", Encoding::Hex)
    };
    Scheme {
        tolerance: (Duration::from_secs(5), Duration::from_secs(5)),
        ..Scheme::of_layout("paddle", layout)
    }
}

/// [Lemon Squeezy](https://docs.lemonsqueezy.com/help/webhooks/signing-requests).
///
/// - Header: `x-signature`, 64 lower-case hex digits.
/// - Signed: the raw body, by HMAC-SHA256.
/// - Key: the signing secret of the webhook, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no timestamp.
/// - Rotation: one secret per webhook; the receiver takes both for a while.
/// - Replay key: the signature.
///
/// Not protected: the time of the delivery and all other headers; `x-event-name` is one of
/// them, so take the event's name from the body (`meta.event_name`).
#[must_use]
pub fn lemon_squeezy() -> Scheme {
    body_only("lemon_squeezy", "x-signature", Encoding::Hex)
}

/// [Razorpay](https://razorpay.com/docs/webhooks/validate-test/).
///
/// - Header: `x-razorpay-signature`, 64 lower-case hex digits.
/// - Signed: the raw body, by HMAC-SHA256.
/// - Key: the webhook secret, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none. `created_at` in the body is signed, and left to the application.
/// - Rotation: a retry after a change of the secret is still signed with the old one: keep
///   that for as long as retries come.
/// - Replay key: the signature.
///
/// Not protected: the time of the delivery and all other headers; `x-razorpay-event-id` is
/// one of them.
#[must_use]
pub fn razorpay() -> Scheme {
    body_only("razorpay", "x-razorpay-signature", Encoding::Hex)
}

/// [Square](https://developer.squareup.com/docs/webhooks/step3validate), for the
/// subscription whose notification URL is `url`.
///
/// - Header: `x-square-hmacsha256-signature`, 44 characters of base64.
/// - Signed: `url body`, without anything between them, by HMAC-SHA256. The URL must be,
///   byte for byte, the one of the subscription: it is configured here and never taken from
///   the request, which a sender could choose.
/// - Key: the signature key of the subscription, as text
///   ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none. `created_at` in the body is signed, and left to the application.
/// - Rotation: one signature key per subscription; the receiver takes both for a while.
/// - Replay key: the signature.
///
/// Not protected: the time of the delivery and all other headers. Nothing stands between
/// URL and body, which is harmless while the URL is a fixed one.
#[must_use]
pub fn square(url: &str) -> Scheme {
    let layout = Layout {
        before: [Part::literal(url.to_owned())].into(),
        ..Layout::body_only("x-square-hmacsha256-signature", Encoding::Base64)
    };
    Scheme::of_layout("square", layout)
}
