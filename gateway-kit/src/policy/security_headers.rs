//! Fields that tell browsers to be careful.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, Entry, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Error;
use crate::config::{FieldText, HstsConfig, SecurityHeadersConfig};

/// The fields in the form in which they are sent.
#[derive(Debug)]
pub(crate) struct SecurityHeaders {
    /// Over TLS only.
    hsts: Option<HeaderValue>,
    fields: Vec<(HeaderName, HeaderValue)>,
    replace: bool,
}

impl SecurityHeaders {
    pub(crate) fn compile(config: &SecurityHeadersConfig) -> Result<Self, Error> {
        let mut fields = Vec::new();
        for (name, text) in [
            (X_CONTENT_TYPE_OPTIONS, &config.content_type_options),
            (X_FRAME_OPTIONS, &config.frame_options),
            (CONTENT_SECURITY_POLICY, &config.content_security_policy),
            (REFERRER_POLICY, &config.referrer_policy),
            (CACHE_CONTROL, &config.cache_control),
        ] {
            if let Some(text) = text.on().map(FieldText::as_str) {
                fields.push((name, value(text)?));
            }
        }
        Ok(Self {
            hsts: config.hsts.on().map(hsts).transpose()?,
            fields,
            replace: config.replace,
        })
    }

    /// Puts the fields onto an answer; `secure` if the client came by TLS.
    pub(crate) fn decorate(&self, secure: bool, headers: &mut HeaderMap) {
        let hsts = self.hsts.as_ref().filter(|_| secure);
        let hsts = hsts.map(|value| (&STRICT_TRANSPORT_SECURITY, value));
        let fields = self.fields.iter().map(|(name, value)| (name, value));
        for (name, value) in fields.chain(hsts) {
            // What may be kept is the answer's own to say.
            let keep = !self.replace || *name == CACHE_CONTROL;
            match headers.entry(name) {
                Entry::Occupied(_) if keep => {}
                Entry::Occupied(mut entry) => {
                    entry.insert(value.clone());
                }
                Entry::Vacant(entry) => {
                    entry.insert(value.clone());
                }
            }
        }
    }
}

fn hsts(config: &HstsConfig) -> Result<HeaderValue, Error> {
    let mut text = format!("max-age={}", config.max_age.as_secs());
    if config.include_subdomains {
        text += "; includeSubDomains";
    }
    if config.preload {
        text += "; preload";
    }
    value(&text)
}

fn value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|error| Error::Settings(error.to_string()))
}
