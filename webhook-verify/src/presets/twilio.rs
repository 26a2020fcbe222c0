//! Twilio.

use std::sync::Arc;

use super::Scheme;
use crate::{document::twilio::Twilio, mac::Hash, scheme::SchemeError, secret::KeyFormat};

/// [Twilio](https://www.twilio.com/docs/usage/security), for the public `url`.
///
/// `url` is the whole URL that Twilio was given (`https://example.com/sms?x=1`), or an origin
/// without a slash behind it (`https://example.com`), which leaves path and query to the
/// request. Neither `Host` nor `X-Forwarded-*` is read: a sender could choose them. Prefer the
/// whole URL; see below. Then the path of the request does not matter, so that a proxy may
/// rewrite it; its query must be the configured one, `bodySHA256` and for GET further
/// parameters apart, each spelt as Twilio sends it (`'`, `@` and `:` are not escaped). With an
/// origin the request must arrive with the path and query, byte for byte, that Twilio sent.
///
/// - Header: `x-twilio-signature`, 28 characters of base64. `content-type` says whether the
///   body is a form, and may be there once.
/// - Signed, by HMAC-SHA1: the URL with its query, and of a form (any method but GET and HEAD)
///   each field, name and value decoded and without anything between, sorted by name, then
///   value, as bytes. The same field twice counts once.
/// - Bodies that are no form must be covered by `bodySHA256` in the query, once, the SHA-256 of
///   the body in lower-case hex, which is compared in constant time. It is compared whenever
///   it is there, for forms too. A body that neither covers is refused, and so is none at all
///   unless the method is GET or HEAD.
/// - The URL's spelling: Twilio is not consistent about ports, so the signature may be over the
///   URL with its port (443 or 80 if it has none) or without. A user in the URL is left out, as
///   Twilio documents; its libraries keep it, so that is accepted too. A slash
///   may follow `wss` URLs of requests without fields. All of that is the same delivery, and
///   so is the request with that slash in its target, for a replay store.
/// - Key: the primary auth token, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no timestamp.
/// - Rotation: the secondary token signs from its promotion on: accept both around that.
/// - Replay key: the signed bytes. `i-twilio-idempotency-token` is not signed. Two steps of one
///   call may ask for the same URL with the same fields, and a replay store would answer the
///   second without its TwiML: use one for status callbacks and messages.
///
/// Accepted methods are those of the builder, POST alone unless
/// [`methods`](crate::Builder::methods) says otherwise.
///
/// Not protected: the method, the time, the other headers; the order of fields, and of the
/// values of one name. And borders: the format has no mark between the URL, names and values,
/// so who recorded a delivery can move them. With a whole URL that is left to names and values
/// of one form (`A=bc` becomes `Ab=c`). With an origin the first fields can become the end of
/// the query as well.
///
/// # Errors
/// [`SchemeError::Url`] when the URL is none of the above, has a fragment or `bodySHA256`.
///
/// # Examples
/// ```
/// use webhook_verify::{Verifier, presets};
///
/// let scheme = presets::twilio("https://example.com/sms")?;
/// let token = scheme.secret("primary", "12345")?;
/// let verifier = Verifier::builder(scheme).secret(token).build()?;
/// # drop(verifier);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn twilio(url: &str) -> Result<Scheme, SchemeError> {
    of("twilio", url, Hash::Sha1)
}

/// Twilio's [shared keys](https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys), for
/// the public `url`.
///
/// As [`twilio`], by HMAC-SHA256 (44 characters of base64) under a shared key, as text. Twilio
/// names key and algorithm in `x-twilio-webhooks-signature-settings`, which is not signed and
/// not read here: what was configured counts. [`Signer`](crate::Signer) writes it, with the id
/// of its secret.
///
/// # Errors
/// As [`twilio`].
pub fn twilio_shared_key(url: &str) -> Result<Scheme, SchemeError> {
    of("twilio_shared_key", url, Hash::Sha256)
}

fn of(name: &'static str, url: &str, hash: Hash) -> Result<Scheme, SchemeError> {
    let document = Arc::new(Twilio::new(url, hash)?);
    Ok(Scheme::of_document(name, document, KeyFormat::Text))
}
