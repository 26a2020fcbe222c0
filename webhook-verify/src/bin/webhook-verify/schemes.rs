//! The schemes by name, also those that need to know more than a name.

use std::fmt;

use clap::Args;
use http::Uri;
use webhook_verify::{KeyFormat, Scheme, SchemeError, presets};

/// What a scheme needs to know beside the secret.
#[derive(Args)]
pub(crate) struct SchemeArgs {
    /// The scheme; `webhook-verify schemes` lists them.
    #[arg(long = "scheme", value_name = "NAME", value_parser = known)]
    name: String,
    /// The URL of the receiver, as the provider was given it: schemes that sign it need the
    /// whole of it, for others a path will do.
    #[arg(long, default_value = "/")]
    pub(crate) url: String,
    /// The id of the webhook, as PayPal shows it (paypal).
    #[arg(long, value_name = "ID")]
    webhook_id: Option<String>,
    /// A merchant account whose items are accepted; any without it (adyen). Repeatable.
    #[arg(long, value_name = "CODE")]
    account: Vec<String>,
    /// A parameter of the return URL itself, which is not signed (paytabs_return with GET).
    /// Repeatable.
    #[arg(long, value_name = "NAME")]
    own_parameter: Vec<String>,
    /// The id of the key, for schemes that send it (http_message, twilio_shared_key).
    #[arg(long, value_name = "ID", default_value = "cli")]
    pub(crate) key_id: String,
}

/// What is not in the arguments, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemeTrouble {
    #[error("{0} needs {1}")]
    Needs(&'static str, Need),
    #[error("the scheme cannot be used: {0}")]
    Scheme(#[from] SchemeError),
}

/// The argument that a scheme needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    Url,
    WebhookId,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url => "--url, with the whole URL",
            Self::WebhookId => "--webhook-id",
        })
    }
}

/// Those that are not found by their name alone.
const OTHERS: [(&str, Need); 5] = [
    ("http_message", Need::Url),
    ("paypal", Need::WebhookId),
    ("square", Need::Url),
    ("twilio", Need::Url),
    ("twilio_shared_key", Need::Url),
];

/// The names of all schemes, in alphabetical order.
fn names() -> Vec<&'static str> {
    let others = OTHERS.iter().map(|(name, _)| *name);
    let mut all: Vec<_> = presets::names().chain(others).collect();
    all.sort_unstable();
    all
}

fn known(name: &str) -> Result<String, String> {
    let all = names();
    if all.contains(&name) {
        Ok(name.to_owned())
    } else {
        Err(format!("the schemes are {}", all.join(", ")))
    }
}

impl SchemeArgs {
    pub(crate) fn scheme(&self) -> Result<Scheme, SchemeTrouble> {
        let need = OTHERS.iter().find(|(name, _)| *name == self.name);
        let scheme = match (self.name.as_str(), need) {
            ("adyen", _) if !self.account.is_empty() => {
                let accounts = self.account.iter();
                let all = accounts.fold(presets::Adyen::new(), |all, code| all.account(code));
                all.scheme()
            }
            ("paytabs_return", _) if !self.own_parameter.is_empty() => {
                let own: Vec<_> = self.own_parameter.iter().map(String::as_str).collect();
                presets::paytabs_return_with_query(&own)
            }
            (name, None) => presets::by_name(name).ok_or(SchemeError::NoName)?,
            (_, Some((name, Need::WebhookId))) => match &self.webhook_id {
                Some(id) => presets::paypal(id)?,
                None => return Err(SchemeTrouble::Needs(name, Need::WebhookId)),
            },
            (_, Some((name, Need::Url))) => {
                let origin = origin(&self.url);
                let origin = origin.ok_or(SchemeTrouble::Needs(name, Need::Url))?;
                match *name {
                    "http_message" => presets::http_message(&origin).build()?,
                    "square" => presets::square(&self.url),
                    "twilio" => presets::twilio(&self.url)?,
                    _ => presets::twilio_shared_key(&self.url)?,
                }
            }
        };
        Ok(scheme)
    }
}

/// `https://host:port` of a whole URL.
fn origin(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    Some(format!("{}://{}", url.scheme()?, url.authority()?))
}

/// A line for each scheme: its name, the form of its key, and what else it needs.
pub(crate) fn list() -> String {
    let mut all = String::new();
    for name in names() {
        let need = OTHERS.iter().find(|(other, _)| *other == name);
        let scheme = presets::by_name(name).or_else(|| example(name));
        let Some(scheme) = scheme else {
            continue;
        };
        let key = match scheme.key_format() {
            KeyFormat::Text => "text",
            KeyFormat::Base64 => "base64",
            KeyFormat::Hex => "hex",
            KeyFormat::StandardWebhooks => "whsec_, whpk_ or whsk_ and base64",
            KeyFormat::Ed25519Hex => "hex of an Ed25519 public key, or a key in PEM",
            KeyFormat::Spki => "base64 of a public key, or a key in PEM",
            KeyFormat::Pem => "PEM of a public key or certificate",
            _ => "see the documentation",
        };
        let need = need.map_or_else(String::new, |(_, need)| format!("; needs {need}"));
        let id = if scheme.has_id() { "; has an id" } else { "" };
        all += &format!("{name:22} key: {key}{need}{id}\n");
    }
    all
}

/// One of those that need more than a name.
fn example(name: &str) -> Option<Scheme> {
    let args = SchemeArgs {
        name: name.to_owned(),
        url: "https://example.com/hook".to_owned(),
        webhook_id: Some("0".to_owned()),
        account: Vec::new(),
        own_parameter: Vec::new(),
        key_id: String::new(),
    };
    args.scheme().ok()
}
