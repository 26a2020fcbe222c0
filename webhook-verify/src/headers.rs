//! The header policy.

use http::{HeaderMap, HeaderName, header::CONTENT_TYPE};

use crate::{
    error::Reason,
    scheme::{Scheme, single},
};

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

    pub(crate) fn check(&self, scheme: &Scheme, headers: &HeaderMap) -> Result<(), Reason> {
        for name in scheme.headers() {
            if headers.get_all(name).iter().nth(1).is_some() {
                return Err(Reason::Malformed(name.clone()));
            }
        }
        if let Some(expected) = &self.content_type {
            let value = single(headers, &CONTENT_TYPE)?
                .to_str()
                .map_err(|_| Reason::ContentType)?;
            let media_type = value.split(';').next().unwrap_or("").trim();
            if !media_type.eq_ignore_ascii_case(expected) {
                return Err(Reason::ContentType);
            }
        }
        self.required
            .iter()
            .try_for_each(|name| single(headers, name).map(drop))
    }
}
