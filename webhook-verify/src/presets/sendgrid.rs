//! SendGrid.

use std::borrow::Cow;

use super::{Encoding, KeyFormat, Part, Scheme, SignatureField};
use crate::scheme::{Layout, ReplayBasis, Timestamp};

/// [SendGrid](https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features),
/// the event webhook with signature verification. Needs the feature `ecdsa`.
///
/// - Headers: `x-twilio-email-event-webhook-signature` (base64 of the DER form of an ECDSA
///   signature), `x-twilio-email-event-webhook-timestamp` (Unix seconds, exactly ten digits).
/// - Signed: `timestamp body`, without anything between them, by ECDSA over P-256 with
///   SHA-256. The body is the raw one: it ends with CR LF, which a JSON parser takes away.
/// - Key: the verification key as SendGrid shows it, base64 on one line
///   ([`Secret::spki`](crate::Secret::spki)).
/// - Tolerance: 300 s in both directions. SendGrid documents none and its libraries check none;
///   the time is that of the sending.
/// - Rotation: one key pair per webhook, made anew by switching the verification off and on;
///   the receiver takes both for a while.
/// - Replay key: the content (the hash that was signed), never the signature: of each ECDSA
///   signature anybody can make a second one for the same bytes, and SendGrid sends either
///   form. A retry with another time is another delivery: the events in it have a
///   `sg_event_id`.
///
/// Not protected: the other headers, the path. Nothing stands between time and body; a digit
/// cannot move from one to the other because the time has ten.
#[must_use]
pub fn sendgrid() -> Scheme {
    const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
    let layout = Layout {
        signature: SignatureField {
            hmac: None,
            ecdsa: Some(Cow::Borrowed("")),
            ..SignatureField::one(SIGNATURE, "", Encoding::Base64)
        },
        timestamp: Some(Timestamp {
            digits: Some(10),
            ..Timestamp::seconds_in("x-twilio-email-event-webhook-timestamp")
        }),
        before: [Part::Timestamp].into(),
        replay: ReplayBasis::Content,
        ..Layout::body_only(SIGNATURE, Encoding::Base64)
    };
    Scheme {
        key_format: KeyFormat::Spki,
        ..Scheme::of_layout("sendgrid", layout)
    }
}
