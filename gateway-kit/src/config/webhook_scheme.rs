//! `[route.webhook.scheme]`.

use serde::{Deserialize, Serialize};

use super::FieldName;
use super::check::{Bounds, bounds};

/// `[route.webhook.scheme]`: what `provider = "custom"` signs, and where its signature stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookSchemeConfig {
    /// The header field of the signature.
    pub header: FieldName,
    /// How it is made; default `hmac_sha256`.
    #[serde(default)]
    pub algorithm: WebhookAlgorithm,
    /// How it is written; default `hex`.
    #[serde(default)]
    pub encoding: WebhookEncoding,
    /// What stands before a signature, such as `sha256=` or `v1=`; default nothing, which a list
    /// does not allow.
    #[serde(default)]
    pub label: String,
    /// What stands between the values of a list: a blank, `,`, `;`, `|` or `&`; default the field is
    /// one value. Values of another label are passed over.
    pub separator: Option<char>,
    /// What is signed: `{body}`, once, and around it `{timestamp}`, `{id}`, `{method}`, `{target}`
    /// (path and query as they came) and `{header:NAME}`; all else as it is written. Default
    /// `{body}`. Parts side by side with nothing between them can be taken one for the other.
    #[serde(default = "body")]
    pub signs: String,
    /// Where the time stands, which has to be signed; default there is none, and a delivery that
    /// somebody has recorded is good as long as its key.
    pub timestamp: Option<WebhookTimestampConfig>,
    /// The header field of the delivery's id, which has to be signed; default none.
    pub id_header: Option<FieldName>,
    /// How keys are written; default `text`.
    #[serde(default)]
    pub key_format: WebhookKeyFormat,
}

/// Where the time of a delivery stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookTimestampConfig {
    /// The header field that has it; or `label`.
    pub header: Option<FieldName>,
    /// What stands before it in the list that the field of the signature is, such as `t=`.
    pub label: Option<String>,
    /// Its unit since 1970; default `seconds`.
    #[serde(default)]
    pub unit: WebhookTimeUnit,
    /// How many digits it has, 1 to 12, or 15 in milliseconds; default any. Needed where `signs` has
    /// nothing between it and another part: a digit could be taken for the other part's.
    pub digits: Option<usize>,
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    HmacSha256,
    /// HMAC with SHA-512.
    HmacSha512,
    /// HMAC with SHA-1, for services that have nothing better.
    HmacSha1,
    /// Ed25519 (feature `webhook-keys`).
    Ed25519,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookEncoding {
    /// In lower case.
    #[default]
    Hex,
    /// Of the standard alphabet, padded.
    Base64,
}

/// The unit of a time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum WebhookTimeUnit {
    #[default]
    Seconds,
    Milliseconds,
}

/// How a key is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookKeyFormat {
    /// The text is the key.
    #[default]
    Text,
    /// Of the standard alphabet, padded.
    Base64,
    /// Of either case.
    Hex,
    /// A public key of Ed25519 in hex; PEM is read as well.
    Ed25519Hex,
}

bounds! {
    WebhookTimestampConfig {
        digits: Bounds::whole(1, 15),
    }
}

fn body() -> String {
    "{body}".to_owned()
}
