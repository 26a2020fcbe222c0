//! What is wrong with a configuration, and where.

use std::fmt::{self, Write};
use std::path::PathBuf;

/// Why a configuration was refused: the place, the field, its value and what is allowed.
///
/// One line, `gateway.toml:3: route[0].prefix = "api": a path that starts with "/" …`.
#[derive(Clone, Debug, Default, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub struct ConfigError {
    /// The file, when the text came from one.
    pub file: Option<PathBuf>,
    /// The line, counted from 1, when it is known.
    pub line: Option<usize>,
    /// The field, `upstream.shop.endpoints[0]`, or the name of an environment variable.
    pub field: String,
    /// The refused value as written, shortened to 80 characters; `None` when a field is missing.
    pub value: Option<String>,
    /// What is allowed, or why the value is not.
    pub reason: String,
}

impl ConfigError {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
            ..Self::default()
        }
    }

    pub(crate) fn value(mut self, value: &str) -> Self {
        const LONGEST: usize = 80;
        let mut short: String = value.chars().take(LONGEST).collect();
        if short.len() < value.len() {
            short.push('…');
        }
        self.value = Some(short);
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if let Some(file) = &self.file {
            write!(text, "{}:", file.display())?;
        }
        match (self.line, &self.file) {
            (Some(line), Some(_)) => write!(text, "{line}: ")?,
            (Some(line), None) => write!(text, "line {line}: ")?,
            (None, Some(_)) => text.push(' '),
            (None, None) => {}
        }
        text.push_str(&self.field);
        if let Some(value) = &self.value {
            write!(text, " = {value}")?;
        }
        write!(text, ": {}", self.reason)?;
        // Names and values in quotation marks may hold line ends.
        f.write_str(&text.replace(char::is_control, " "))
    }
}
