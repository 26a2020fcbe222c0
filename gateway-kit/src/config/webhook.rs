//! `[route.webhook]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{Bounds, DAY, Place, TIME, bounds};
use super::{ByteSize, FieldName, MethodName, Network, Switch, WebhookSchemeConfig};

/// `[route.webhook]`: requests of the route are deliveries of a service that signs them; only
/// genuine ones, in time and each once, go on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookConfig {
    /// Who signs, by the name of a preset of webhook-verify (`"stripe"`, `"github"`,
    /// `"paytabs_callback"`, …), or `"custom"`, which needs `scheme`.
    pub provider: String,
    /// What is signed, and where the signature stands; of `custom` only.
    pub scheme: Option<WebhookSchemeConfig>,
    /// The address that the provider knows and signs; of `square` and `twilio` only. Of
    /// `http_message` the origin, `https://hooks.example`.
    pub url: Option<String>,
    /// The id of the webhook, as the provider shows it; of `paypal` only.
    pub webhook_id: Option<String>,
    /// What signatures have to cover; of `http_message` only.
    pub message: Option<WebhookMessageConfig>,
    /// The keys; a delivery under any of them is good. Of `http_message` the id is the `keyid`.
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
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookSecretConfig {
    /// What logs call it.
    pub id: String,
    /// The environment variable that holds it; or `file`, or `public_key`.
    pub env: Option<String>,
    /// The file that holds it, without white space at its end; read at the start and at each
    /// reload.
    pub file: Option<PathBuf>,
    /// A public key itself, as the provider shows it or in PEM. Secrets are refused here.
    pub public_key: Option<String>,
    /// When it ends, in seconds since 1970, for a key that is being replaced; default never.
    pub until: Option<u64>,
}

/// `[route.webhook.message]`: HTTP message signatures (RFC 9421).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WebhookMessageConfig {
    /// Header fields that have to be signed besides method, target and body; default none.
    pub fields: Vec<FieldName>,
    /// The `tag` that signatures have; default any.
    pub tag: Option<String>,
    /// Whether each delivery has a `nonce`, by which it is remembered; default false.
    pub nonce: bool,
    /// Whether RSA keys are for `rsa-v1_5-sha256`; default `rsa-pss-sha512`.
    pub rsa_v1_5: bool,
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
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ReplayConfig {
    /// Most deliveries remembered in memory, 1 to 10 000 000, 56 bytes each; default 100 000. A full
    /// memory refuses with 503 rather than forget one.
    pub max_deliveries: usize,
    /// Where they are remembered for several gateways together; default in the memory of this one.
    pub redis: Option<ReplayRedisConfig>,
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
            redis: None,
            lifetime: None,
            lease: Duration::from_secs(60),
        }
    }
}

/// `[route.webhook.replay.redis]`: deliveries are remembered in Redis (feature `webhook-redis`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ReplayRedisConfig {
    /// `redis://host[:port][/db]`, without a password; or `env`, or `file`.
    pub url: Option<String>,
    /// The environment variable that holds the address, as with a password:
    /// `redis://[user]:password@host[:port][/db]`.
    pub env: Option<String>,
    /// The file that holds it.
    pub file: Option<PathBuf>,
    /// What names there begin with; gateways that share deliveries have the same, and the same
    /// `name` of the route. Default `gateway:webhook:`.
    pub prefix: String,
    /// Longest wait for an answer; default 500 ms.
    #[serde(with = "super::Human")]
    pub timeout: Duration,
    /// Whether deliveries pass while Redis does not answer, so that one may be handled twice;
    /// default false: 503.
    pub insecure_accept_on_outage: bool,
}

impl Default for ReplayRedisConfig {
    fn default() -> Self {
        Self {
            url: None,
            env: None,
            file: None,
            prefix: "gateway:webhook:".to_owned(),
            timeout: Duration::from_millis(500),
            insecure_accept_on_outage: false,
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
    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        self.check_provider(place);
        if self.secrets.is_empty() {
            place.at("secrets").refuse(
                "needs at least one key, { id = \"…\", env = \"…\" }, or with file or public_key",
            );
        }
        for (index, secret) in self.secrets.iter().enumerate() {
            let mut place = place.at(format_args!("secrets[{index}]"));
            place.bounds(secret);
            let mut before = self.secrets[..index].iter();
            if secret.id.is_empty() || before.any(|other| other.id == secret.id) {
                place
                    .at("id")
                    .refuse("must be a name that no other key of the list has");
            }
            let places = [
                secret.env.is_some(),
                secret.file.is_some(),
                secret.public_key.is_some(),
            ];
            if places.into_iter().filter(|there| *there).count() != 1 {
                place
                    .at("env")
                    .refuse("needs either env, the name of a variable, or file, or public_key");
            }
        }
        if self.methods.is_empty() {
            place.at("methods").refuse("needs at least one method");
        }
        if let Some(replay) = self.replay.on() {
            let mut place = place.at("replay");
            place.bounds(replay);
            if let Some(redis) = &replay.redis {
                redis.check(&mut place.at("redis"));
            }
        }
    }

    /// What the provider needs, and keys that are written here.
    fn check_provider(&self, place: &mut Place<'_>) {
        let named = crate::policy::webhook::providers();
        if !named.contains(&self.provider.as_str()) {
            let known = named.join(", ");
            place
                .at("provider")
                .refuse(format!("must be one of: {known}"));
            return;
        }
        let need = crate::policy::webhook::need(&self.provider);
        for (name, is_set) in [
            ("scheme", self.scheme.is_some()),
            ("url", self.url.is_some()),
            ("webhook_id", self.webhook_id.is_some()),
        ] {
            let what = need.and_then(|(field, what)| (field == name).then_some(what));
            match what {
                Some(what) if !is_set => {
                    // The rest is of what is missing.
                    return place.at(name).refuse(format!("is missing; {what}"));
                }
                None if is_set => place
                    .at(name)
                    .refuse("is of no use here: this provider does not need it"),
                _ => {}
            }
        }
        if self.message.is_some() && self.provider != "http_message" {
            place.at("message").refuse("is of http_message only");
        }
        if let Some(time) = self.scheme.as_ref().and_then(|one| one.timestamp.as_ref()) {
            place.at("scheme.timestamp").bounds(time);
        }
        let scheme = match crate::policy::webhook::scheme(self) {
            Ok(scheme) => scheme,
            Err((name, why)) => return place.at(name).refuse(why),
        };
        if self.tolerance.is_some() && scheme.tolerance().is_none() {
            place
                .at("tolerance")
                .refuse("is of no use here: no time is signed");
        }
        for (index, secret) in self.secrets.iter().enumerate() {
            let key = secret.public_key.as_ref();
            let read = key.map(|key| crate::policy::webhook::public(&scheme, &secret.id, key));
            if let Some(Err(why)) = read {
                // The table, which is not shown: what stands there by mistake may be a secret.
                place
                    .at(format_args!("secrets[{index}]"))
                    .refuse(format!("public_key {why}"));
            }
        }
    }
}

impl ReplayRedisConfig {
    fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        let places = [self.url.is_some(), self.env.is_some(), self.file.is_some()];
        if cfg!(not(feature = "webhook-redis")) {
            place.refuse("needs a program that is built with the feature \"webhook-redis\"");
        } else if places.into_iter().filter(|there| *there).count() != 1 {
            place.refuse("needs either url, or env, the name of a variable, or file");
        } else if self.url.as_ref().is_some_and(|url| url.contains('@')) {
            // The table, which is not shown.
            place.refuse(
                "url must not have a password, which belongs into a variable (env) or file",
            );
        }
    }
}

bounds! {
    WebhookConfig {
        tolerance: Bounds::time(Duration::ZERO, YEAR),
        max_body: Bounds::bytes(1, 64 << 20),
        read_timeout: TIME,
    }
}

bounds! {
    WebhookSecretConfig {
        // The end of the year 9999.
        until: Bounds::whole(0, 253_402_300_799),
    }
}

bounds! {
    ReplayConfig {
        max_deliveries: Bounds::whole(1, 10_000_000),
        lifetime: Bounds::time(Duration::from_secs(1), YEAR),
        lease: TIME,
    }
}

bounds! {
    ReplayRedisConfig {
        timeout: TIME,
    }
}

/// Longer than any service repeats a delivery.
const YEAR: Duration = DAY.saturating_mul(365);
