//! The schemes of providers.
//!
//! Each says which headers it reads, which bytes are signed, how the key is written
//! ([`Scheme::secret`] reads that form), what its default tolerance is, what rotation looks
//! like, what names a delivery in a replay store, and what the scheme does not protect.
//! Common to all: header values are read strictly (one header of a name; lower-case hex or
//! canonical base64 of the exact length; the prefix exactly as documented), and of all the
//! rest of the request nothing is protected, the path and the other headers included,
//! unless a preset says so.
//!
//! A tolerance is how far a timestamp may lie in the past and in the future. Where a scheme
//! has no signed timestamp, a recorded delivery stays valid for as long as the key: it is
//! remembered for 24 hours by a replay store unless the builder says otherwise, and after
//! that only the application (state of the payment, of the repository) stops it.
//!
//! "Replay key: the signature" means that the same bytes are the same delivery. A retry that
//! is signed anew, with another timestamp, is another one: the application must recognise
//! it by its content.

use std::time::Duration;

use crate::{
    scheme::{Encoding, Layout, Part, ReplayBasis, Scheme, SignatureField, Timestamp},
    secret::KeyFormat,
};

#[cfg(feature = "rsa")]
pub use self::paypal::*;
#[cfg(feature = "ecdsa")]
pub use self::sendgrid::*;
pub use self::{
    adyen::*, mailgun::*, message::*, own::*, payments::*, paytabs_return::*, platforms::*,
    standard::*, twilio::*,
};

mod adyen;
mod mailgun;
mod message;
mod own;
mod payments;
#[cfg(feature = "rsa")]
mod paypal;
mod paytabs_return;
mod platforms;
#[cfg(feature = "ecdsa")]
mod sendgrid;
mod standard;
mod twilio;

/// The preset of this name, such as `stripe`; for settings and command lines.
///
/// Those that need a URL or an id are not among them: [`square`], [`twilio`], and the ones of
/// PayPal and of HTTP message signatures.
#[must_use]
pub fn by_name(name: &str) -> Option<Scheme> {
    let preset = NAMED.iter().find(|(known, _)| *known == name);
    preset.map(|(_, scheme)| scheme())
}

/// The names that [`by_name`] knows, in alphabetical order.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name)
}

type Preset = fn() -> Scheme;

const NAMED: &[(&str, Preset)] = &[
    ("adyen", adyen),
    ("adyen_platform", adyen_platform),
    #[cfg(feature = "ed25519")]
    ("discord", discord),
    ("dropbox", dropbox),
    ("github", github),
    ("lemon_squeezy", lemon_squeezy),
    ("linear", linear),
    ("mailgun", mailgun),
    ("mailgun_parent", mailgun_parent),
    ("paddle", paddle),
    ("paytabs_callback", paytabs_callback),
    ("paytabs_return", paytabs_return),
    ("razorpay", razorpay),
    #[cfg(feature = "ecdsa")]
    ("sendgrid", sendgrid),
    ("shopify", shopify),
    ("slack", slack),
    ("standard_webhooks", standard_webhooks),
    ("stripe", stripe),
    ("svix", svix),
    ("timestamped", timestamped),
    ("timestamped_body_only", timestamped_body_only),
    ("zoom", zoom),
];

/// One HMAC-SHA256 value over the body, under a key in text.
fn body_only(name: &'static str, header: &'static str, encoding: Encoding) -> Scheme {
    Scheme::of_layout(name, Layout::body_only(header, encoding))
}

const FIVE_MINUTES: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_keeps_the_rules_of_schemes() {
        let square = square("https://example.com/hook");
        let others = [
            Some(square),
            #[cfg(feature = "rsa")]
            paypal("WEBHOOK_ID").ok(),
        ];
        let others = others.into_iter().flatten();
        for scheme in names().filter_map(by_name).chain(others) {
            assert_eq!(scheme.check(), Ok(()), "{}", scheme.name());
        }
    }

    #[test]
    fn every_name_is_that_of_its_scheme_and_they_are_in_order() {
        let all: Vec<_> = names().collect();
        assert!(all.is_sorted());
        for name in all {
            assert_eq!(by_name(name).unwrap().name(), name);
        }
        assert!(by_name("Stripe").is_none());
    }
}
