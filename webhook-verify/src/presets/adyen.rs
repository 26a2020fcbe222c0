//! Adyen.

use std::sync::Arc;

use http::HeaderName;

use super::{Encoding, Layout, Scheme};
use crate::{
    document::adyen::{self, MOST_ITEMS},
    secret::KeyFormat,
};

/// [Adyen's payment webhooks](https://docs.adyen.com/development-resources/webhooks/verify-hmac-signatures):
/// any merchant account, up to 1000 items. [`Adyen`] has settings.
///
/// - Header: none but `content-type`, which must say JSON, once: Adyen sends forms as well,
///   whose fields could be hidden in what is not signed here. Each item of
///   `notificationItems` has its own signature in `additionalData.hmacSignature`, 44
///   characters of base64. Every item must be signed, all
///   of them by one key; a batch without items is refused.
/// - Signed: `pspReference ":" originalReference ":" merchantAccountCode ":"
///   merchantReference ":" amount.value ":" amount.currency ":" eventCode ":" success` of the
///   item, by HMAC-SHA256. An `originalReference` that is absent or `null` is empty, the value
///   is an integer, `success` the text `true` or `false`.
/// - Key: 64 hex digits of either case ([`Secret::hex`](crate::Secret::hex)).
/// - Tolerance: none. `eventDate` is not signed.
/// - Rotation: one key per webhook. After a change events in the queue still carry the old
///   signature: keep both keys for a while.
/// - Replay key: the signed texts of the items.
///
/// Nothing is escaped, so a colon could move the border between two fields. It is accepted in
/// `merchantReference` alone, of which there is only one: whatever else holds one is refused,
/// and no signature fits two items. A key that differs from one of the above by case alone is
/// refused beside it: many JSON parsers take both for the same.
///
/// Not protected: `live`, `eventDate`, `reason`, `paymentMethod`, `operations`, all other
/// `additionalData`, the headers, the path; and which items stand in one delivery, in which
/// order. Who recorded several deliveries can put their items together anew, which no replay
/// store can see: recognise events that were handled by `pspReference`, `eventCode` and
/// `success`, or allow one item only ([`Adyen::max_items`]). The same item twice is refused.
///
/// Signing ([`Signer`](crate::Signer)) puts the signatures into the body and leaves every
/// other byte as it is.
#[must_use]
pub fn adyen() -> Scheme {
    Adyen::new().scheme()
}

/// Settings of [`adyen`].
///
/// # Examples
/// ```
/// use webhook_verify::presets::Adyen;
///
/// let scheme = Adyen::new().account("AcmeNL").account("AcmeDE").max_items(1).scheme();
/// assert_eq!(scheme.name(), "adyen");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Adyen {
    accounts: Vec<Box<str>>,
    most: usize,
}

impl Adyen {
    /// Any merchant account, up to 1000 items.
    pub const fn new() -> Self {
        Self {
            accounts: Vec::new(),
            most: MOST_ITEMS,
        }
    }

    /// One more merchant account whose items are accepted, instead of any. The key of a
    /// webhook of the company account signs items of all its merchant accounts.
    pub fn account(mut self, code: &str) -> Self {
        self.accounts.push(code.into());
        self
    }

    /// The most items of one delivery, 1 to 1000; other numbers are taken for the nearest one.
    /// Take 1 where Adyen sends one at a time: then a replay store sees every item.
    pub fn max_items(mut self, most: usize) -> Self {
        self.most = most.clamp(1, MOST_ITEMS);
        self
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(self) -> Scheme {
        let document = adyen::Adyen {
            accounts: self.accounts,
            most: self.most,
        };
        Scheme::of_document("adyen", Arc::new(document), KeyFormat::Hex)
    }
}

impl Default for Adyen {
    fn default() -> Self {
        Self::new()
    }
}

/// Adyen's webhooks of the balance platform and of the Management API, which sign the body.
///
/// - Headers: `hmacsignature`, 44 characters of base64. `protocol` may be absent, or is
///   `HmacSHA256`.
/// - Signed: the raw body and nothing else, by HMAC-SHA256.
/// - Key: 64 hex digits of either case ([`Secret::hex`](crate::Secret::hex)).
/// - Tolerance: none. `timestamp` in the body is signed, and left to the application.
/// - Rotation: one key per webhook. After a change events in the queue still carry the old
///   signature: keep both keys for a while.
/// - Replay key: the signature.
///
/// Not protected: the time of the delivery, the other headers, the path.
///
/// Adyen's libraries check the signature and do not name the headers; their names are those
/// that receivers of others read.
#[must_use]
pub fn adyen_platform() -> Scheme {
    let layout = Layout {
        fixed: Some((HeaderName::from_static("protocol"), "HmacSHA256")),
        ..Layout::body_only("hmacsignature", Encoding::Base64)
    };
    Scheme {
        key_format: KeyFormat::Hex,
        ..Scheme::of_layout("adyen_platform", layout)
    }
}
