//! Where a configuration comes from, so that it can be read again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Config, ConfigError, ConfigProblem, files};

type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A file, and variables that override it; clones read the same.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use gateway_kit::Gateway;
/// use gateway_kit::config::Source;
///
/// let source = Source::file("gateway.toml").variables(|name| std::env::var(name).ok());
/// let gateway = Gateway::builder(source.load()?).source(source).bind().await?;
/// // Follows changes of the file.
/// gateway.serve(std::future::pending()).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Source {
    file: Option<PathBuf>,
    variables: Option<Variables>,
}

impl Source {
    /// A file in TOML.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            file: Some(path.into()),
            variables: None,
        }
    }

    /// No file: what [`Config::from_env`] makes of the variables.
    pub const fn without_file() -> Self {
        Self {
            file: None,
            variables: None,
        }
    }

    /// What [`Config::apply_env`] takes its variables from; default nothing.
    pub fn variables(
        mut self,
        get: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.variables = Some(Arc::new(get));
        self
    }

    /// The file.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it, or in variables.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.read().and_then(|text| self.parse(&text))
    }

    pub(crate) fn read(&self) -> Result<String, ConfigError> {
        let Some(file) = &self.file else {
            return Ok(String::new());
        };
        let read = std::fs::read_to_string(file);
        read.map_err(|error| self.named(ConfigProblem::unreadable(error)))
    }

    /// The same once the gateway runs: a pipe has no end that could be waited for.
    pub(crate) fn read_again(&self) -> Result<String, ConfigError> {
        let Some(file) = &self.file else {
            return Ok(String::new());
        };
        let read = files::read_text(file, files::MOST);
        read.map_err(|error| self.named(ConfigProblem::unreadable(error)))
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        let get = |name: &str| self.variables.as_ref().and_then(|get| get(name));
        if self.file.is_none() {
            return Config::from_env(get);
        }
        // A good configuration by itself, but one that is being written is like that as well.
        if text.trim().is_empty() {
            return Err(self.named(ConfigProblem::new("(file)", "is empty")));
        }
        let mut config = Config::from_toml(text).map_err(|error| self.named(error))?;
        config.apply_env(get)?;
        Ok(config)
    }

    fn named(&self, error: impl Into<ConfigError>) -> ConfigError {
        error.into().in_file(self.path())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
