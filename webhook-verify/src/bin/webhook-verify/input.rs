//! What is read from outside: the secret, the body, the headers.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// Where the secret is. Not an argument: other users of the machine see those, and the
/// shell writes them into its history. In the form in which the provider shows it, or a key or
/// certificate in PEM.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SecretArgs {
    /// Environment variable that holds the secret, as the provider shows it, or a key or
    /// certificate in PEM.
    #[arg(long, value_name = "VARIABLE")]
    secret_env: Option<String>,
    /// File that holds the secret; one line feed at its end is not part of it.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The secret itself. Visible to others in the list of processes and in the history of
    /// the shell: for made-up secrets only.
    #[arg(long, value_name = "SECRET")]
    insecure_secret: Option<String>,
}

/// What cannot be read. Never repeats a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("the variable {0} is not set, or is not text")]
    Variable(String),
    #[error("{}: {error}", path.display())]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("the secret is not text")]
    SecretNotText,
    #[error("the body is larger than {} MiB", MOST_BYTES >> 20)]
    TooLarge,
    #[error("`{0}` is not a header of the form `Name: value`")]
    Header(String),
}

const MOST_BYTES: u64 = 64 << 20;

impl SecretArgs {
    pub(crate) fn read(&self) -> Result<Zeroizing<String>, InputError> {
        if let Some(name) = &self.secret_env {
            let value = std::env::var(name);
            return value
                .map(Zeroizing::new)
                .map_err(|_| InputError::Variable(name.clone()));
        }
        if let Some(path) = &self.secret_file {
            let bytes = Zeroizing::new(read(path)?);
            let text = std::str::from_utf8(&bytes).map_err(|_| InputError::SecretNotText)?;
            let line = text.strip_suffix('\n').unwrap_or(text);
            return Ok(Zeroizing::new(
                line.strip_suffix('\r').unwrap_or(line).to_owned(),
            ));
        }
        // clap wants one of the three.
        Ok(Zeroizing::new(
            self.insecure_secret.clone().unwrap_or_default(),
        ))
    }
}

/// The bytes as they are, a line feed at the end included.
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, InputError> {
        match path {
            Some(path) if path != Path::new("-") => read(path).map(Self),
            _ => read_all(std::io::stdin().lock(), Path::new("standard input")).map(Self),
        }
    }
}

/// Headers of arguments, then of a file.
pub(crate) fn headers(arguments: &[String], file: Option<&Path>) -> Result<HeaderMap, InputError> {
    let text = file.map(read).transpose()?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| !line.is_empty());
    let mut headers = HeaderMap::new();
    for line in arguments.iter().map(String::as_str).chain(lines) {
        let (name, value) = parse(line).ok_or_else(|| InputError::Header(line.to_owned()))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn parse(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    Some((name.parse().ok()?, value.trim().parse().ok()?))
}

fn read(path: &Path) -> Result<Vec<u8>, InputError> {
    let file = File::open(path).map_err(|error| InputError::File {
        path: path.to_owned(),
        error,
    })?;
    read_all(file, path)
}

fn read_all(from: impl Read, path: &Path) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    let read = from.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| InputError::File {
        path: path.to_owned(),
        error,
    })?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(InputError::TooLarge);
    }
    Ok(bytes)
}
