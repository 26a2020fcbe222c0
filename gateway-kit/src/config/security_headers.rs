//! `security_headers`.

use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::Switch;
use super::check::{Bounds, DAY, Place, bounds};

/// `security_headers`: fields of every answer, refusals included, that tell browsers to be careful.
/// Each may be `false`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SecurityHeadersConfig {
    /// `Strict-Transport-Security`; only where the client came by TLS. Default for one year.
    pub hsts: Switch<HstsConfig>,
    /// `X-Content-Type-Options`; default `nosniff`.
    pub content_type_options: Switch<FieldText>,
    /// `X-Frame-Options`; default `DENY`.
    pub frame_options: Switch<FieldText>,
    /// `Content-Security-Policy`; default `base-uri 'self'; frame-ancestors 'none'; object-src 'none'`,
    /// which few pages need more than. Most can bear far less.
    pub content_security_policy: Switch<FieldText>,
    /// `Referrer-Policy`; default `strict-origin-when-cross-origin`.
    pub referrer_policy: Switch<FieldText>,
    /// `Cache-Control`, for answers without; default false.
    pub cache_control: Switch<FieldText>,
    /// Whether these stand in place of what the upstream says; default false: its own stay.
    pub replace: bool,
}

/// `hsts`: browsers are to come by TLS only.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HstsConfig {
    /// For how long; default one year. 0 takes it back.
    #[serde(with = "super::Human")]
    pub max_age: Duration,
    /// To all names below as well; default false.
    pub include_subdomains: bool,
    /// Asks to be put into the lists of browsers; default false. Hard to take back.
    pub preload: bool,
}

/// The value of a header field, in visible ASCII.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct FieldText(String);

impl FieldText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FieldText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let good =
            !text.trim().is_empty() && text.trim() == text && HeaderValue::from_str(&text).is_ok();
        let allowed = "must be the value of a header field: visible ASCII, not empty; or false";
        good.then_some(Self(text)).ok_or(allowed)
    }
}

impl Default for HstsConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(365 * 86_400),
            include_subdomains: false,
            preload: false,
        }
    }
}

impl Default for SecurityHeadersConfig {
    fn default() -> Self {
        let text = |text: &str| Switch::On(FieldText(text.to_owned()));
        Self {
            hsts: Switch::default(),
            content_type_options: text("nosniff"),
            frame_options: text("DENY"),
            content_security_policy: text(
                "base-uri 'self'; frame-ancestors 'none'; object-src 'none'",
            ),
            referrer_policy: text("strict-origin-when-cross-origin"),
            cache_control: Switch::Off,
            replace: false,
        }
    }
}

impl SecurityHeadersConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        let Some(hsts) = self.hsts.on() else {
            return;
        };
        let mut place = place.at("security_headers.hsts");
        place.bounds(hsts);
        // What the lists of browsers ask for.
        let listed = hsts.include_subdomains && hsts.max_age >= DAY.saturating_mul(365);
        if hsts.preload && !listed {
            place
                .at("preload")
                .refuse("needs include_subdomains = true and a max_age of a year");
        }
    }
}

bounds! {
    HstsConfig {
        // Ten years.
        max_age: Bounds::time(Duration::ZERO, Duration::from_secs(315_576_000)),
    }
}
