//! Which scheme a delivery is signed by, of the settings.

use webhook_verify::{Encoding, Hash, KeyFormat, Part, Scheme, SchemeError, TimeUnit, presets};

use crate::config::{
    FieldName, WebhookAlgorithm, WebhookConfig, WebhookEncoding, WebhookKeyFormat,
    WebhookSchemeConfig, WebhookTimeUnit,
};

/// Those that need to know more than their name: the setting that says it, and what it is.
const NEED: &[(&str, &str, &str)] = &[
    ("custom", "scheme", SCHEME),
    (
        "http_message",
        "url",
        "the origin, such as \"https://hooks.example\"",
    ),
    #[cfg(feature = "webhook-keys")]
    (
        "paypal",
        "webhook_id",
        "the id of the webhook, as PayPal shows it",
    ),
    ("square", "url", ADDRESS),
    ("twilio", "url", ADDRESS),
    ("twilio_shared_key", "url", ADDRESS),
];

const ADDRESS: &str = "the address as the provider knows it";
const SCHEME: &str = "a table, at least { header = \"x-signature\" }";

/// All names of providers, in alphabetical order.
pub(crate) fn providers() -> Vec<&'static str> {
    let mut names: Vec<_> = presets::names()
        .chain(NEED.iter().map(|(name, ..)| *name))
        .collect();
    names.sort_unstable();
    names
}

/// The setting that a provider needs, and what it is.
pub(crate) fn need(provider: &str) -> Option<(&'static str, &'static str)> {
    let mut need = NEED.iter();
    need.find_map(|(name, field, what)| (*name == provider).then_some((*field, *what)))
}

/// The scheme; the setting that is wrong, and why.
pub(crate) fn scheme(config: &WebhookConfig) -> Result<Scheme, (&'static str, String)> {
    let url = config.url.as_deref().unwrap_or_default();
    let wrong = |field| move |error: SchemeError| (field, error.to_string());
    match (config.provider.as_str(), &config.scheme) {
        ("custom", Some(own)) => custom(own),
        ("http_message", _) => message(config, url),
        #[cfg(feature = "webhook-keys")]
        ("paypal", _) => {
            let id = config.webhook_id.as_deref().unwrap_or_default();
            presets::paypal(id).map_err(wrong("webhook_id"))
        }
        ("square", _) => Ok(presets::square(url)),
        ("twilio", _) => presets::twilio(url).map_err(wrong("url")),
        ("twilio_shared_key", _) => presets::twilio_shared_key(url).map_err(wrong("url")),
        (name, _) => {
            presets::by_name(name).ok_or_else(|| ("provider", format!("no provider {name}")))
        }
    }
}

fn message(config: &WebhookConfig, origin: &str) -> Result<Scheme, (&'static str, String)> {
    let mut message = presets::http_message(origin);
    let own = config.message.as_ref();
    for field in own.iter().flat_map(|own| &own.fields) {
        message = message.require(field.name().clone());
    }
    if let Some(tag) = own.and_then(|own| own.tag.as_deref()) {
        message = message.tag(tag);
    }
    if own.is_some_and(|own| own.nonce) {
        message = message.nonce();
    }
    if own.is_some_and(|own| own.rsa_v1_5) {
        message = message.rsa_v1_5();
    }
    message.build().map_err(|error| {
        let field = match error {
            SchemeError::Tag => "message.tag",
            _ => "url",
        };
        (field, error.to_string())
    })
}

fn custom(config: &WebhookSchemeConfig) -> Result<Scheme, (&'static str, String)> {
    let name = |name: &FieldName| name.name().as_str().to_owned();
    let label = config.label.clone();
    let mut scheme = Scheme::custom("custom").signature_header(&name(&config.header));
    scheme = match config.algorithm {
        WebhookAlgorithm::HmacSha256 => scheme.hmac(Hash::Sha256, label),
        WebhookAlgorithm::HmacSha512 => scheme.hmac(Hash::Sha512, label),
        WebhookAlgorithm::HmacSha1 => scheme.hmac(Hash::Sha1, label),
        #[cfg(feature = "webhook-keys")]
        WebhookAlgorithm::Ed25519 => scheme.ed25519(label),
        #[cfg(not(feature = "webhook-keys"))]
        WebhookAlgorithm::Ed25519 => {
            let why = "this program is built without the feature \"webhook-keys\"";
            return Err(("scheme.algorithm", why.to_owned()));
        }
    };
    scheme = scheme.encoding(match config.encoding {
        WebhookEncoding::Hex => Encoding::Hex,
        WebhookEncoding::Base64 => Encoding::Base64,
    });
    scheme = scheme.key_format(match config.key_format {
        WebhookKeyFormat::Text => KeyFormat::Text,
        WebhookKeyFormat::Base64 => KeyFormat::Base64,
        WebhookKeyFormat::Hex => KeyFormat::Hex,
        WebhookKeyFormat::Ed25519Hex => KeyFormat::Ed25519Hex,
    });
    if let Some(separator) = config.separator {
        scheme = scheme.list(separator);
    }
    let time = config.timestamp.as_ref();
    if let Some(time) = time {
        scheme = match (&time.header, &time.label) {
            (Some(header), None) => scheme.timestamp_header(&name(header)),
            (None, Some(label)) => scheme.timestamp_in_signature(label.clone()),
            _ => {
                let why = "needs either header, a header field, or label";
                return Err(("scheme.timestamp", why.to_owned()));
            }
        };
        scheme = scheme.timestamp_unit(match time.unit {
            WebhookTimeUnit::Seconds => TimeUnit::Seconds,
            WebhookTimeUnit::Milliseconds => TimeUnit::Milliseconds,
        });
        if let Some(digits) = time.digits {
            scheme = scheme.timestamp_digits(digits);
        }
    }
    if let Some(header) = &config.id_header {
        scheme = scheme.id_header(&name(header));
    }
    let parts = parts(&config.signs).map_err(|why| ("scheme.signs", why))?;
    if time.is_some_and(|time| time.digits.is_none()) && touches_time(&parts) {
        let why =
            "has nothing between {timestamp} and another part; then timestamp.digits is needed";
        return Err(("scheme.signs", why.to_owned()));
    }
    scheme.signs(parts).build().map_err(misfit)
}

/// `{timestamp}.{body}`: names in braces, and what stands around them.
fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('{') {
            let (name, after) = inside
                .split_once('}')
                .ok_or("has a \"{\" without a \"}\"")?;
            parts.push(part(name)?);
            rest = after;
            continue;
        }
        let (literal, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        parts.push(Part::literal(literal.to_owned()));
        rest = after;
    }
    Ok(parts)
}

fn part(name: &str) -> Result<Part, String> {
    let part = match name {
        "body" => Some(Part::Body),
        "timestamp" => Some(Part::Timestamp),
        "id" => Some(Part::Id),
        "method" => Some(Part::Method),
        "target" => Some(Part::Target),
        _ => name
            .strip_prefix("header:")
            .and_then(|name| name.parse().ok())
            .map(Part::Header),
    };
    part.ok_or_else(|| {
        format!(
            "has {{{name}}}; there are {{body}}, {{timestamp}}, {{id}}, {{method}}, {{target}} and {{header:NAME}}"
        )
    })
}

/// Whether the time stands beside a part of free length, so that a digit could be of either.
fn touches_time(parts: &[Part]) -> bool {
    let is_free = |part: &Part| !matches!(part, Part::Literal(_));
    let mut pairs = parts.windows(2);
    pairs.any(|pair| pair.contains(&Part::Timestamp) && pair.iter().all(is_free))
}

/// The setting that `error` is about.
fn misfit(error: SchemeError) -> (&'static str, String) {
    let field = match &error {
        SchemeError::Separator(_) => "scheme.separator",
        SchemeError::Label(_) | SchemeError::LabelsOverlap(_) => "scheme.label",
        SchemeError::TimestampNeedsList => "scheme.timestamp.label",
        SchemeError::TimestampDigits(_) => "scheme.timestamp.digits",
        SchemeError::Body | SchemeError::NotSigned(_) | SchemeError::NotSent(_) => "scheme.signs",
        _ => "scheme.header",
    };
    (field, error.to_string())
}
