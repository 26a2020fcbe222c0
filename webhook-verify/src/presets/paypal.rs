//! PayPal.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

use super::Scheme;
use crate::{
    document::paypal::PayPal,
    scheme::{Field, SchemeError},
    secret::KeyFormat,
};

/// [PayPal](https://developer.paypal.com/api/rest/webhooks/rest/), verified without asking
/// PayPal. Needs the feature `rsa`.
///
/// - Headers: `paypal-transmission-sig` (base64), `paypal-transmission-id` (1 to 50 letters,
///   digits, `-`, `_`), `paypal-transmission-time` (RFC 3339 in UTC), `paypal-auth-algo`, which
///   must be `SHA256withRSA`: no other algorithm is ever used, whatever it says.
///   `paypal-cert-url` is not read here: see below.
/// - Signed: `id "|" time "|" webhook id "|" checksum`, by RSASSA-PKCS1-v1_5 with SHA-256. The
///   checksum is the CRC-32 of the raw body in decimal. The webhook id is that of the endpoint,
///   which PayPal shows; it is not sent, and keeps deliveries of other endpoints out.
/// - Key: the public key of PayPal in PEM, or the certificate that holds it
///   ([`Secret::pem`](crate::Secret::pem)), chosen by the application and never by the
///   delivery.
/// - Tolerance: 4 days in the past, since PayPal tries again for 3 days and does not say
///   whether the time is then a new one; 300 s in the future.
/// - Rotation: PayPal changes its certificate without notice; the receiver holds several.
/// - Replay key: the transmission id.
/// - Signing: the crate makes no RSA signatures, so a [`Signer`](crate::Signer) of this scheme
///   always fails; only PayPal has the key anyway.
///
/// **Not protected: the body, against somebody who has seen a delivery.** A CRC-32 is no hash:
/// four bytes at a place of one's choice give a body of any content the checksum that was
/// signed. So the signature proves that PayPal sent *a* delivery with this id and time to this
/// endpoint. Use a replay store, which takes each id once (a forged body then only helps who is
/// there before the true one); do not let deliveries be seen (TLS up to the verifier, no bodies
/// and headers in logs together); and before money moves ask PayPal for the event or resource
/// by its id, or have PayPal check the delivery (`verify-webhook-signature`). Not protected
/// either: all other headers, the path.
///
/// # Certificates
/// A delivery names its certificate in `paypal-cert-url`, which anybody can set: who fetches it
/// unchecked lets a stranger make requests from within, and who trusts what comes back lets him
/// sign. This crate has no HTTP client. To keep the keys up to date:
///
/// 1. begin with the certificate of one checked delivery in a [`KeySet`](crate::KeySet);
/// 2. when a delivery is refused for its signature (401: PayPal sends it again), take the
///    address by [`paypal_certificate_url`]; if it is a new one, fetch it in the background,
///    over TLS, without redirects, at most some KiB, and not more often than once a minute;
/// 3. have a TLS library check the chain to its public roots, the dates, and that the subject's
///    common name is `messageverificationcerts.paypal.com` (sandbox:
///    `messageverificationcerts.sandbox.paypal.com`);
/// 4. put it into the set with its end (`notAfter`) as the end time of the secret. The URL is a
///    good id.
///
/// # Errors
/// [`SchemeError::WebhookId`] when the id is not 1 to 50 letters, digits, `-` or `_`.
pub fn paypal(webhook_id: &str) -> Result<Scheme, SchemeError> {
    let document = PayPal::new(webhook_id).ok_or(SchemeError::WebhookId)?;
    Ok(Scheme {
        tolerance: (Duration::from_secs(4 * 24 * 60 * 60), super::FIVE_MINUTES),
        ..Scheme::of_document("paypal", Arc::new(document), KeyFormat::Pem)
    })
}

/// Which PayPal signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PayPalSite {
    /// The one with money.
    Live,
    /// The one for tests, where everybody can have deliveries signed.
    Sandbox,
}

/// The address of the certificate that a delivery names, if it may be fetched: exactly
/// `https://`, the host of the site (`api.paypal.com` or `api.sandbox.paypal.com`, in lower
/// case, without user or port), `/v1/notifications/certs/`, and one name of 1 to 100 letters,
/// digits and `-`; no query, no fragment, nothing escaped. `None` for every other address, and
/// when the header is absent or repeated.
///
/// That an address passes says nothing about the delivery, nor about what is found there: see
/// [`paypal`] for the checks that are left.
#[must_use]
pub fn paypal_certificate_url(headers: &HeaderMap, site: PayPalSite) -> Option<&str> {
    let Field::Once(url) = Field::of(headers, &CERTIFICATE_URL) else {
        return None;
    };
    let url = str::from_utf8(url).ok()?;
    let name = url.strip_prefix(match site {
        PayPalSite::Live => "https://api.paypal.com/v1/notifications/certs/",
        PayPalSite::Sandbox => "https://api.sandbox.paypal.com/v1/notifications/certs/",
    })?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    ((1..=100).contains(&name.len()) && name.bytes().all(fits)).then_some(url)
}

const CERTIFICATE_URL: http::HeaderName = http::HeaderName::from_static("paypal-cert-url");
