//! `cors` and `csrf`: what pages of other origins may do.

use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

use super::check::{Bounds, DAY, Place, bounds};
use super::{FieldName, MethodName, OriginPattern};

/// `cors`: pages of which origins may read answers. Preflight requests are answered by the gateway,
/// and what an upstream says of this is replaced.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
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
    pub(super) fn check(&self, place: &mut Place<'_>) {
        let mut place = place.at("cors");
        place.bounds(self);
        if self.origins.is_empty() {
            place.at("origins").refuse("needs at least one origin");
        }
        let star = |list: &[FieldName]| list.iter().any(|name| name.name() == "*");
        let any = self.origins.iter().any(OriginPattern::is_any);
        for (name, open) in [
            ("origins", any),
            ("headers", star(&self.headers)),
            ("expose", star(&self.expose)),
        ] {
            if self.credentials && open {
                place
                    .at(name)
                    .refuse("must not have \"*\" together with credentials = true");
            }
        }
    }
}

bounds! {
    CorsConfig {
        max_age: Bounds::time(Duration::ZERO, DAY),
    }
}

impl CsrfConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        if self.origins.iter().any(OriginPattern::is_any) {
            place
                .at("csrf.origins")
                .refuse("must not have \"*\"; csrf = false switches the check off");
        }
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
