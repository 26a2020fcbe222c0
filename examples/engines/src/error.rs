//! What can go wrong, each with the end of the log that tells why.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why an operation on a cluster failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not installed.
    #[error("{program} is not installed (Debian package {package}; `make deps` installs it)")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package it is in.
        package: &'static str,
    },
    /// A file, a directory or a process could not be made, read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A program that was run to its end failed.
    #[error("{what}: {status}{}", tail(.output))]
    Failed {
        /// What was tried.
        what: String,
        /// How the program ended.
        status: String,
        /// What it wrote last.
        output: String,
    },
    /// A server ended while it was waited for.
    #[error("{what}: the server ended ({status}){}", tail(.log))]
    Ended {
        /// What was waited for.
        what: String,
        /// How the server ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A condition did not come about in time.
    #[error("{what}: not within {bound:?}{}", tail(.log))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        bound: Duration,
        /// The end of the log of the server concerned.
        log: String,
    },
    /// The operation makes no sense for a server in its present state.
    #[error("{0}")]
    State(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// That `path` could not be used.
    pub(crate) fn path(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = PathBuf::from(path);
        move |source| Self::Io {
            what: format!("{verb} {}", path.display()),
            source,
        }
    }
}

fn tail(log: &str) -> String {
    if log.trim().is_empty() {
        return String::new();
    }
    format!("; it wrote last:\n{}", log.trim_end())
}

/// The last lines of a log.
pub(crate) fn tail_of(path: &Path) -> String {
    const LINES: usize = 25;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
