//! The return URL of PayTabs.

use std::sync::Arc;

use crate::{document::paytabs_return::PayTabsReturn, scheme::Scheme, secret::KeyFormat};

/// The return URL of
/// [PayTabs](https://support.paytabs.com/en/support/solutions/articles/60000718961): the
/// payer's browser brings the outcome back as a form.
///
/// - Fields: `signature`, 64 lower-case hex digits, exactly once, beside those that it signs:
///   in the body of a POST, whose `content-type` must be `application/x-www-form-urlencoded`,
///   or in the query of a GET (`return_using_get`). A verifier accepts POST only, unless
///   [`methods`](crate::Builder::methods) says otherwise.
/// - Signed: all fields but `signature` and those with an empty value (`"0"` is a value),
///   sorted by the bytes of their names, written as PHP's `http_build_query` does (blank `+`,
///   `~` as `%7E`, `*` as `%2A`) and joined by `&`, by HMAC-SHA256.
/// - Key: the server key of the profile, as text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: none, since there is no timestamp.
/// - Rotation: one server key per profile; the receiver takes both for a while.
/// - Replay key: the signed bytes, so the same outcome in another order of fields is the same
///   delivery. A payer who loads the page again is a duplicate.
///
/// Not protected: the time of the delivery, the headers, the path. **A field with an empty
/// value**: anybody can add or take away one, so read it as one that is absent. The query of a
/// POST, where the parameters of the return URL itself stand: read the fields from the body,
/// never from a map that mixes both.
///
/// Of a repeated field the last value is signed, as PHP reads it; read it in the same way. The
/// fields that PayTabs documents may not be repeated: a payer could put `respStatus=A` before a
/// signed `respStatus=D`, for a receiver that takes the first. Names are letters, digits, `_`
/// and `-` and begin with no digit; PHP reads others otherwise than they are written.
///
/// The server key signs [callbacks](super::paytabs_callback) as well, which are JSON: what is
/// signed here would be a callback with a form as its body. A receiver of callbacks must read
/// JSON and nothing else (a [`PayloadPolicy`](crate::PayloadPolicy) makes sure of it).
/// PayTabs itself advises to settle a payment by callback or query, not by this page alone.
///
/// A [`Signer`](crate::Signer) takes the form without `signature` as the body; for a GET the
/// body that comes back is the query.
#[must_use]
pub fn paytabs_return() -> Scheme {
    paytabs_return_with_query(&[])
}

/// As [`paytabs_return`], for a return URL that has query parameters of its own and gets the
/// fields of PayTabs by GET, in the same query.
///
/// `own` are the names of those parameters, decoded. They are not signed: anybody can change
/// them. A name that PayTabs uses itself (`cartId`, `respStatus`, `tranRef`, ...) is not taken
/// as one's own. With a POST they have no effect, as the query is not read.
#[must_use]
pub fn paytabs_return_with_query(own: &[&str]) -> Scheme {
    let document = Arc::new(PayTabsReturn::new(own));
    Scheme::of_document("paytabs_return", document, KeyFormat::Text)
}
