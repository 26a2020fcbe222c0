//! From a text to a checked [`Config`].

use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, balance, route, sections, trace};

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and field.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let deserializer = toml::Deserializer::parse(text).map_err(|error| {
            let mut refused = ConfigError::new("(syntax)", error.message());
            refused.line = error.span().map(|span| line_of(text, span.start));
            refused
        })?;
        let config: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|error| locate_serde(text, &error))?;
        config.check().map_err(|error| locate(text, error))?;
        Ok(config)
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or the first thing that is wrong in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let read = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new("(file)", format!("cannot be read: {error}")));
        read.and_then(|text| Self::from_toml(&text))
            .map_err(|mut error| {
                error.file = Some(path.to_owned());
                error
            })
    }

    /// What one field alone cannot know.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        route::check(self)?;
        for (name, upstream) in &self.upstreams {
            let field = |field: &str| format!("upstream.{name}.{field}");
            if name.is_empty() || !name.bytes().all(is_name_byte) {
                return Err(ConfigError::new(
                    format!("upstream.{name}"),
                    "the name must be letters, digits, \"-\" and \"_\"",
                ));
            }
            if let Some(discovery) = &upstream.discovery {
                discovery.check(|name| field(&format!("discovery.{name}")))?;
            } else if upstream.endpoints.is_empty() {
                return Err(ConfigError::new(
                    field("endpoints"),
                    "needs at least one endpoint, or discovery",
                ));
            }
            balance::check(upstream, field)?;
            if let Some(health) = &upstream.health {
                health.check(|name| field(&format!("health.{name}")))?;
            }
            upstream.check_speech(name)?;
            for (index, status) in upstream.ignored_statuses.iter().enumerate() {
                check_range(
                    &field(&format!("ignored_statuses[{index}]")),
                    usize::from(*status),
                    500..=599,
                )?;
            }
        }
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        sections::check(self)?;
        self.server.check()?;
        if let Some(trace) = self.trace.on() {
            trace::check_share("trace.sample", trace.sample)?;
        }
        #[cfg(feature = "otel")]
        super::otel::check(self)?;
        if let Some(log) = self.access_log.on() {
            trace::check_share("access_log.sample", log.sample)?;
        }
        if let Some(reload) = self.reload.on() {
            check_duration("reload.interval", reload.interval)?;
        }
        #[cfg(feature = "admin")]
        super::admin::check(self)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        let longest = Duration::from_secs(3600);
        for (field, value) in [
            ("shutdown.delay", self.shutdown.delay),
            ("shutdown.timeout", self.shutdown.timeout),
        ] {
            if value > longest {
                return Err(ConfigError::new(field, "must be at most \"1h\""));
            }
        }
        Ok(())
    }
}

pub(super) fn check_duration(field: impl Into<String>, value: Duration) -> Result<(), ConfigError> {
    if (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(field, "must be from \"1ms\" to \"1day\""))
}

pub(super) fn check_range(
    field: &str,
    value: usize,
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (low, high) = allowed.into_inner();
    Err(ConfigError::new(
        field,
        format!("must be from {low} to {high}"),
    ))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Adds line and value to an error of the deserializer.
fn locate_serde(text: &str, error: &serde_path_to_error::Error<toml::de::Error>) -> ConfigError {
    let path = error.path().to_string();
    let message = error.inner().message();
    let expected = message
        .strip_prefix("invalid ")
        .filter(|_| is_hidden(&path));
    let refused = match expected.and_then(|told| told.split_once(", expected")) {
        // What stands between is the value.
        Some((_, expected)) => ConfigError::new(&*path, format!("invalid, expected{expected}")),
        None => ConfigError::new(&*path, message),
    };
    if path != "." {
        let located = locate(text, refused.clone());
        if located.line.is_some() {
            return located;
        }
    }
    let mut refused = refused;
    if path == "." {
        "(top level)".clone_into(&mut refused.field);
    }
    refused.line = error.inner().span().map(|span| line_of(text, span.start));
    refused
}

/// Looks a field up in the text, for its line and value.
fn locate(text: &str, mut error: ConfigError) -> ConfigError {
    let Ok(root) = DeTable::parse(text) else {
        return error;
    };
    let mut found: Option<&Spanned<DeValue<'_>>> = None;
    for segment in error.field.split(['.', '[']) {
        let next = match (segment.strip_suffix(']'), found.map(Spanned::get_ref)) {
            (Some(index), Some(DeValue::Array(array))) => {
                let index = index.parse::<usize>().ok();
                index.and_then(|index| array.get(index))
            }
            (None, None) => root.get_ref().get(segment),
            (None, Some(DeValue::Table(table))) => table.get(segment),
            _ => None,
        };
        // The rest of the path is a default: report the nearest thing that was written.
        let Some(next) = next else { break };
        found = Some(next);
    }
    if let Some(found) = found {
        error.line = Some(line_of(text, found.span().start));
        let shown = !matches!(found.get_ref(), DeValue::Table(_)) && !is_hidden(&error.field);
        if let Some(value) = text.get(found.span()).filter(|_| shown) {
            return error.value(value);
        }
    }
    error
}

/// Whether a secret may stand there, be it by mistake.
fn is_hidden(field: &str) -> bool {
    let mut parts = field.split(['.', '[']);
    parts.any(|part| part.starts_with("secret") || part == "keys")
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}
