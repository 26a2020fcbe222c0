//! Mailgun.

use std::{sync::Arc, time::Duration};

use super::FIVE_MINUTES;
use crate::{document::mailgun::Mailgun, scheme::Scheme, secret::KeyFormat};

/// [Mailgun](https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks),
/// **which does not sign the event**.
///
/// - Fields: `timestamp` (Unix seconds, ten digits), `token` (50 visible ASCII characters) and
///   `signature` (64 lower-case hex digits): in the object `signature` of a JSON body
///   (webhooks), or in a form (routes, and webhooks of the older kind). The `content-type` must
///   be `application/json` or `application/x-www-form-urlencoded`, and the body be of that
///   kind. Forms with files come as `multipart/form-data` and are refused: let the route store
///   the message, or forward it without attachments.
/// - Signed: `timestamp token`, without anything between them, by HMAC-SHA256. Both have one
///   length, so that no digit can move from one to the other.
/// - Key: the HTTP webhook signing key of the account, as text
///   ([`Secret::new`](crate::Secret::new)); not the API key.
/// - Tolerance: 900 s in the past, as in Mailgun's library, and 300 s in the future. Mailgun
///   names no figure and warns that deliveries can be late: a late one is refused.
/// - Rotation: one signing key per account; the receiver takes both for a while.
/// - Replay key: the token, which is there for that.
///
/// Not protected: **everything but time and token**. Whoever sees one delivery can send any
/// event under its signature for as long as the timestamp is tolerated. So the signature only
/// says that the sender has seen a delivery. What is left to a receiver: a replay store
/// ([`Builder::replay`](crate::Builder::replay)), which lets each token in once, so that a
/// forger must be faster than Mailgun; HTTPS all the way; and to ask Mailgun's API before an
/// event decides anything.
///
/// A [`Signer`](crate::Signer) takes the token as the id and the body without the signature:
/// an object of JSON or a form, by the content type of the request or else by its first byte.
#[must_use]
pub fn mailgun() -> Scheme {
    signed_in("mailgun", "signature")
}

/// [`mailgun`], by the signature of the parent account: events of a subaccount have a field
/// `parent-signature` beside `signature`, made under the signing key of the primary account.
///
/// A delivery without that field is refused, and `signature` is not looked at. The signer
/// writes that field only.
#[must_use]
pub fn mailgun_parent() -> Scheme {
    signed_in("mailgun_parent", "parent-signature")
}

fn signed_in(name: &'static str, signature: &'static str) -> Scheme {
    let document = Arc::new(Mailgun { signature });
    Scheme {
        tolerance: (Duration::from_secs(900), FIVE_MINUTES),
        ..Scheme::of_document(name, document, KeyFormat::Text)
    }
}
