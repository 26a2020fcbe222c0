use std::fmt;
use std::time::Duration;

/// Where an answer came from.
///
/// HTTP responses carry it in their extensions. As text ([`Display`](fmt::Display)) it is the
/// parameters of a `Cache-Status` field (RFC 9211): the name of the cache, `; `, and this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CacheStatus {
    /// What the cache did.
    pub source: Source,
    /// For how long the answer was fresh from then on; `None` when it was not (any more).
    pub fresh_for: Option<Duration>,
}

/// What a cache did for an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// It had a fresh entry.
    Hit,
    /// It had a stale entry, and has it renewed.
    Stale,
    /// It had a stale entry, and the upstream failed.
    StaleIfError,
    /// It had an entry that was too old, and the upstream gave another.
    Revalidated,
    /// It had an entry that says that there is no answer.
    Negative,
    /// It had nothing; the answer is the upstream's.
    Miss,
    /// The request has no key.
    Bypass,
}

impl Source {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::StaleIfError => "stale_if_error",
            Self::Revalidated => "revalidated",
            Self::Negative => "negative",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl CacheStatus {
    pub(super) const fn of(source: Source) -> Self {
        Self {
            source,
            fresh_for: None,
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Hit => "hit",
            Source::Stale => "hit; detail=stale-while-revalidate",
            Source::StaleIfError => "hit; detail=stale-if-error",
            Source::Negative => "hit; detail=negative",
            Source::Revalidated => "fwd=stale",
            Source::Miss => "fwd=miss",
            Source::Bypass => "fwd=bypass",
        })?;
        match self.fresh_for {
            Some(time) => write!(f, "; ttl={}", time.as_secs()),
            None => Ok(()),
        }
    }
}
