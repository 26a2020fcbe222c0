//! The parts of the signed bytes, and what they are in one delivery.

use std::{borrow::Cow, time::Duration};

use http::{HeaderName, request::Parts};

use super::Field;

/// The unit of a timestamp.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum TimeUnit {
    /// Whole seconds since the Unix epoch, 1 to 12 digits.
    #[default]
    Seconds,
    /// Whole milliseconds since the Unix epoch, 1 to 15 digits.
    Milliseconds,
}

impl TimeUnit {
    pub(crate) const fn most_digits(self) -> usize {
        match self {
            Self::Seconds => 12,
            Self::Milliseconds => 15,
        }
    }

    /// Whole seconds in so many units.
    pub(crate) const fn seconds(self, units: u64) -> u64 {
        match self {
            Self::Seconds => units,
            Self::Milliseconds => units / 1000,
        }
    }

    /// As [`seconds`](Self::seconds), rounded up.
    pub(crate) const fn seconds_begun(self, units: u64) -> u64 {
        match self {
            Self::Seconds => units,
            Self::Milliseconds => units.div_ceil(1000),
        }
    }

    /// Whole units in `time`; saturates.
    pub(crate) fn count(self, time: Duration) -> u64 {
        match self {
            Self::Seconds => time.as_secs(),
            Self::Milliseconds => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// One part of the signed bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// The raw body.
    Body,
    /// A fixed text: a separator, a version, the receiver's own URL.
    Literal(Cow<'static, str>),
    /// The timestamp, as the text that was sent.
    Timestamp,
    /// The id header, as sent.
    Id,
    /// The request method, such as `POST`.
    Method,
    /// Path and query of the request, as received (`/hook?a=1`). The URL is a literal with
    /// scheme and host, never taken from the `Host` header, and then this part.
    ///
    /// A router that rewrites paths before the check (axum's `nest` does) changes it: sign
    /// the whole URL as a [`Literal`](Self::Literal) there.
    Target,
    /// The value of another header, which must be present once.
    Header(HeaderName),
}

impl Part {
    /// A fixed text.
    pub fn literal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Literal(text.into())
    }

    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self::Literal(Cow::Borrowed(text))
    }
}

/// What the parts of the signed bytes are in one delivery, beside the body.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) timestamp: &'a [u8],
    pub(crate) request: Option<&'a Parts>,
}

impl Inputs<'_> {
    /// Hands the bytes of each part to `sink`.
    pub(crate) fn feed(&self, parts: &[Part], mut sink: impl FnMut(&[u8])) {
        for part in parts {
            match part {
                Part::Literal(text) => sink(text.as_bytes()),
                Part::Timestamp => sink(self.timestamp),
                Part::Id => sink(self.id),
                Part::Method => sink(self.of_request(|parts| parts.method.as_str().as_bytes())),
                Part::Target => sink(self.of_request(target)),
                Part::Header(name) => {
                    sink(self.of_request(|parts| Field::of(&parts.headers, name).text()));
                }
                // A scheme holds the parts before and after it.
                Part::Body => {}
            }
        }
    }

    fn of_request<'a>(&'a self, read: impl FnOnce(&'a Parts) -> &'a [u8]) -> &'a [u8] {
        self.request.map_or(&[], read)
    }
}

fn target(parts: &Parts) -> &[u8] {
    let target = parts.uri.path_and_query();
    target.map_or(&[], |target| target.as_str().as_bytes())
}
