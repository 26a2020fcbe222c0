//! `[route.webhook]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::load::{check_duration, check_range};
use super::{ByteSize, ConfigError, MethodName, Network, Switch};

/// `[route.webhook]`: requests of the route are deliveries of a service that signs them; only
/// genuine ones, in time and each once, go on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookConfig {
    /// Who signs, by the name of a preset of webhook-verify (`"stripe"`, `"github"`,
    /// `"paytabs_callback"`, …), or `"square"` and `"twilio"`, which need `url`.
    pub provider: String,
    /// The address that the provider knows and signs; of `square` and `twilio` only.
    pub url: Option<String>,
    /// The keys; a delivery under any of them is good.
    pub secrets: Vec<WebhookSecretConfig>,
    /// How old, and how far ahead, a signed time may be; default the preset's. Not for schemes
    /// without a signed time.
    #[serde(default, with = "super::Human")]
    pub tolerance: Option<Duration>,
    /// Most bytes of a body, 1 to 64 MiB; default 256 KiB. It is read before anything goes on.
    #[serde(default = "default_max_body")]
    pub max_body: ByteSize,
    /// Longest time for the whole body; default 10 s.
    #[serde(default = "default_read_timeout", with = "super::Human")]
    pub read_timeout: Duration,
    /// Who may send; default anybody.
    #[serde(default)]
    pub allow: Vec<Network>,
    /// The content type that a delivery must have; default any.
    pub content_type: Option<String>,
    /// The methods of deliveries; default POST.
    #[serde(default = "default_methods")]
    pub methods: Vec<MethodName>,
    /// What is checked first; default what costs least.
    #[serde(default)]
    pub order: WebhookOrder,
    /// How deliveries are remembered, so that each is handled once; `false`: they are not.
    #[serde(default)]
    pub replay: Switch<ReplayConfig>,
}

/// One key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookSecretConfig {
    /// What logs call it.
    pub id: String,
    /// The environment variable that holds it; or `file`.
    pub env: Option<String>,
    /// The file that holds it, without white space at its end; read at the start and at each
    /// reload.
    pub file: Option<PathBuf>,
    /// When it ends, in seconds since 1970, for a key that is being replaced; default never.
    pub until: Option<u64>,
}

/// The order of the checks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookOrder {
    /// Sender, header fields, time, signature.
    #[default]
    CheapFirst,
    /// Signature, time, sender, header fields.
    SignatureFirst,
}

/// `[route.webhook.replay]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ReplayConfig {
    /// Most deliveries remembered, 1 to 10 000 000, 56 bytes each; default 100 000. A full memory
    /// refuses with 503 rather than forget one.
    pub max_deliveries: usize,
    /// How long a delivery is remembered; default as long as it could pass the time check, and a
    /// day without a signed time.
    #[serde(with = "super::Human")]
    pub lifetime: Option<Duration>,
    /// How long the service may take for a delivery before the same one is let through again;
    /// default 60 s.
    #[serde(with = "super::Human")]
    pub lease: Duration,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            max_deliveries: 100_000,
            lifetime: None,
            lease: Duration::from_secs(60),
        }
    }
}

fn default_methods() -> Vec<MethodName> {
    MethodName::try_from("POST".to_owned())
        .into_iter()
        .collect()
}

const fn default_max_body() -> ByteSize {
    ByteSize::new(256 * 1024)
}

const fn default_read_timeout() -> Duration {
    Duration::from_secs(10)
}

impl WebhookConfig {
    pub(super) fn check(&self, field: impl Fn(&str) -> String) -> Result<(), ConfigError> {
        let named = crate::policy::webhook::providers();
        if !named.contains(&self.provider.as_str()) {
            let known = named.join(", ");
            return Err(ConfigError::new(
                field("provider"),
                format!("must be one of: {known}"),
            ));
        }
        let wants_url = crate::policy::webhook::signs_url(&self.provider);
        match &self.url {
            None if wants_url => {
                return Err(ConfigError::new(
                    field("url"),
                    "is missing; the address as the provider knows it",
                ));
            }
            Some(_) if !wants_url => {
                return Err(ConfigError::new(
                    field("url"),
                    "is of no use here: this provider does not sign it",
                ));
            }
            _ => {}
        }
        if self.secrets.is_empty() {
            return Err(ConfigError::new(
                field("secrets"),
                "needs at least one key, { id = \"…\", env = \"…\" } or { id = \"…\", file = \"…\" }",
            ));
        }
        for (index, secret) in self.secrets.iter().enumerate() {
            let place = |name: &str| field(&format!("secrets[{index}].{name}"));
            let mut before = self.secrets[..index].iter();
            if secret.id.is_empty() || before.any(|other| other.id == secret.id) {
                return Err(ConfigError::new(
                    place("id"),
                    "must be a name that no other key of the list has",
                ));
            }
            if secret.env.is_some() == secret.file.is_some() {
                return Err(ConfigError::new(
                    place("env"),
                    "needs either env, the name of a variable, or file",
                ));
            }
        }
        let most = usize::try_from(self.max_body.bytes()).unwrap_or(usize::MAX);
        check_range(&field("max_body"), most, 1..=64 << 20)?;
        check_duration(field("read_timeout"), self.read_timeout)?;
        if self.methods.is_empty() {
            return Err(ConfigError::new(
                field("methods"),
                "needs at least one method",
            ));
        }
        if let Some(replay) = self.replay.on() {
            check_range(
                &field("replay.max_deliveries"),
                replay.max_deliveries,
                1..=10_000_000,
            )?;
            check_duration(field("replay.lease"), replay.lease)?;
        }
        Ok(())
    }
}
