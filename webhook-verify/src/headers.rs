//! The header policy.

use http::{HeaderMap, HeaderName, header::CONTENT_TYPE};

use crate::{error::Reason, scheme::Field};

/// What the headers must be, beside the scheme's own fields (which may never be repeated).
#[derive(Clone, Debug, Default)]
pub struct HeaderPolicy {
    content_type: Option<String>,
    required: Vec<HeaderName>,
}

impl HeaderPolicy {
    /// A policy that asks for nothing more.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The media type the body must have, such as `application/json`; parameters
    /// (`; charset=utf-8`) are ignored and case does not matter.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(media_type.to_owned());
        self
    }

    /// A header that must be present exactly once.
    #[must_use]
    pub fn require(mut self, name: HeaderName) -> Self {
        self.required.push(name);
        self
    }

    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Reason> {
        let single = |name| Field::of(headers, name).get(name);
        if let Some(expected) = &self.content_type {
            let value =
                std::str::from_utf8(single(&CONTENT_TYPE)?).map_err(|_| Reason::ContentType)?;
            let media_type = value.split(';').next().unwrap_or("").trim();
            if !media_type.eq_ignore_ascii_case(expected) {
                return Err(Reason::ContentType);
            }
        }
        self.required
            .iter()
            .try_for_each(|name| single(name).map(drop))
    }
}
