//! `cors` and `csrf`: what pages of other origins may do.

use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

use super::{ConfigError, FieldName, MethodName, OriginPattern};

/// `cors`: pages of which origins may read answers. Preflight requests are answered by the gateway,
/// and what an upstream says of this is replaced.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CorsConfig {
    /// The origins.
    pub origins: Vec<OriginPattern>,
    /// The methods that pages may use; default GET, HEAD, POST, PUT, PATCH and DELETE.
    #[serde(default = "default_methods")]
    pub methods: Vec<MethodName>,
    /// The header fields that pages may send; default `authorization` and `content-type`.
    #[serde(default = "default_headers")]
    pub headers: Vec<FieldName>,
    /// The header fields of answers that pages may read, besides those that all may; default none.
    #[serde(default)]
    pub expose: Vec<FieldName>,
    /// Whether pages may send cookies; default false. Not with `*`.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember this; default 10 min.
    #[serde(default = "super::seconds::<600>", with = "super::Human")]
    pub max_age: Duration,
}

/// `csrf`: refuses with 403 what pages of other origins do in a user's name: requests that change
/// something, and WebSockets. Told by `Sec-Fetch-Site`, and by `Origin` where a browser does not send
/// it. Requests without both are from no browser of this decade; those with a bearer token and
/// without cookies are in nobody's name but their own.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CsrfConfig {
    /// Origins that may, besides the one that a request is for; default none.
    pub origins: Vec<OriginPattern>,
}

impl CorsConfig {
    pub(super) fn check(&self, field: impl Fn(&str) -> String) -> Result<(), ConfigError> {
        if self.origins.is_empty() {
            return Err(ConfigError::new(
                field("cors.origins"),
                "needs at least one origin",
            ));
        }
        let star = |list: &[FieldName]| list.iter().any(|name| name.name() == "*");
        let any = self.origins.iter().any(OriginPattern::is_any);
        for (name, open) in [
            ("cors.origins", any),
            ("cors.headers", star(&self.headers)),
            ("cors.expose", star(&self.expose)),
        ] {
            if self.credentials && open {
                return Err(ConfigError::new(
                    field(name),
                    "must not have \"*\" together with credentials = true",
                ));
            }
        }
        if self.max_age > Duration::from_secs(86_400) {
            return Err(ConfigError::new(
                field("cors.max_age"),
                "must be at most \"1day\"",
            ));
        }
        Ok(())
    }
}

impl CsrfConfig {
    pub(super) fn check(&self, field: impl Fn(&str) -> String) -> Result<(), ConfigError> {
        if self.origins.iter().any(OriginPattern::is_any) {
            return Err(ConfigError::new(
                field("csrf.origins"),
                "must not have \"*\"; csrf = false switches the check off",
            ));
        }
        Ok(())
    }
}

fn default_methods() -> Vec<MethodName> {
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    methods.map(MethodName::known).into()
}

fn default_headers() -> Vec<FieldName> {
    let names = [http::header::AUTHORIZATION, http::header::CONTENT_TYPE];
    names.map(FieldName::from).into()
}
