//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a configuration was refused: all that was found wrong, at least one thing.
///
/// One line for each, in the order of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// Never empty.
    problems: Vec<ConfigProblem>,
}

/// One thing that is wrong with a configuration: the place, the field, its value and what is
/// allowed.
///
/// One line, `gateway.toml:3: route[0].prefix = "api": a path that starts with "/" …`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ConfigProblem {
    /// The file, when the text came from one.
    pub file: Option<PathBuf>,
    /// The line, counted from 1, when it is known.
    pub line: Option<usize>,
    /// The field, `upstream.shop.endpoints[0]`, or the name of an environment variable.
    pub field: String,
    /// The refused value as written, shortened to 80 characters; `None` when a field is missing, or
    /// its value may be a secret.
    pub value: Option<String>,
    /// What is allowed, or why the value is not.
    pub reason: String,
}

impl ConfigError {
    /// `Ok` if nothing was found.
    pub(crate) fn of(mut problems: Vec<ConfigProblem>) -> Result<(), Self> {
        // What is known of no line is said last; else as it was found.
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }

    /// All that is wrong; at least one thing.
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }

    /// The same in a file.
    pub(crate) fn in_file(mut self, file: Option<&Path>) -> Self {
        for problem in &mut self.problems {
            problem.file = file.map(Path::to_owned);
        }
        self
    }
}

impl From<ConfigProblem> for ConfigError {
    fn from(problem: ConfigProblem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}{problem}")?;
        }
        Ok(())
    }
}

impl ConfigProblem {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
            ..Self::default()
        }
    }

    pub(crate) fn unreadable(error: std::io::Error) -> Self {
        Self::new("(file)", format!("cannot be read: {error}"))
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

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        if let Some(file) = &self.file {
            line += &format!("{}:", file.display());
        }
        match (self.line, &self.file) {
            (Some(number), Some(_)) => line += &format!("{number}: "),
            (Some(number), None) => line += &format!("line {number}: "),
            (None, Some(_)) => line.push(' '),
            (None, None) => {}
        }
        line += &self.field;
        if let Some(value) = &self.value {
            line += &format!(" = {value}");
        }
        line += &format!(": {}", self.reason);
        // One line, whatever names and values hold.
        f.write_str(&line.replace(char::is_control, " "))
    }
}
