//! Which pages of other origins may read answers (the Fetch standard, section 3.3).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::Error;
use crate::body::Body;
use crate::config::{CorsConfig, FieldName, MethodName, OriginPattern};

/// The settings, with the lists in the form in which they are sent.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<OriginPattern>,
    /// All origins, told by `*`.
    any: bool,
    credentials: bool,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

/// What a request may be told.
#[derive(Debug)]
pub(crate) struct Told {
    /// `None`: the request is of no page, or of one that may not read the answer.
    origin: Option<HeaderValue>,
}

/// The method that a preflight request asks about.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

impl Cors {
    pub(crate) fn compile(config: &CorsConfig) -> Result<Self, Error> {
        let methods = config.methods.iter().map(MethodName::method);
        let headers = |names: &[FieldName]| {
            let names = names.iter().map(|name| name.name().as_str());
            list(names).transpose()
        };
        let any = config.origins.iter().any(OriginPattern::is_any);
        Ok(Self {
            origins: config.origins.clone(),
            // Never together: the check of the configuration refuses it, and this would not do it.
            any: any && !config.credentials,
            credentials: config.credentials,
            methods: list(methods.map(Method::as_str))
                .unwrap_or_else(|| Ok(HeaderValue::from_static("")))?,
            headers: headers(&config.headers)?,
            expose: headers(&config.expose)?,
            max_age: config.max_age.as_secs().into(),
        })
    }

    /// What the answer to a request is to say.
    pub(crate) fn tell(&self, headers: &HeaderMap) -> Told {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (Some(origin), None) => Some(origin),
            _ => None,
        };
        if self.any {
            return Told {
                origin: origin.map(|_| HeaderValue::from_static("*")),
            };
        }
        let is_known = |origin: &&HeaderValue| {
            let mut known = self.origins.iter();
            known.any(|one| !one.is_any() && one.matches(origin.as_bytes()))
        };
        Told {
            origin: origin.filter(is_known).cloned(),
        }
    }

    /// The answer to a preflight request, without what [`decorate`](Self::decorate) adds.
    pub(crate) fn answer(&self, told: &Told) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if told.origin.is_some() {
            let fields = response.headers_mut();
            fields.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            fields.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            if let Some(headers) = &self.headers {
                fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
            }
        }
        response
    }

    /// Replaces what an upstream says of this by what is told.
    pub(crate) fn decorate(&self, told: Told, preflight: bool, fields: &mut HeaderMap) {
        if !preflight {
            remove_all(fields);
        }
        // A cache must not give one page the answer for another.
        if !self.any {
            vary_by_origin(fields);
        }
        let Some(origin) = told.origin else { return };
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(expose) = self.expose.as_ref().filter(|_| !preflight) {
            fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

/// All fields of CORS, those not yet invented included.
fn remove_all(fields: &mut HeaderMap) {
    let is_ours = |name: &HeaderName| name.as_str().starts_with("access-control-");
    while let Some(name) = fields.keys().find(|name| is_ours(name)).cloned() {
        fields.remove(name);
    }
}

fn vary_by_origin(fields: &mut HeaderMap) {
    let names = fields.get_all(VARY).iter();
    let mut names = names.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let said = names.any(|name| {
        let name = name.trim_ascii();
        name.eq_ignore_ascii_case(b"origin") || name == b"*"
    });
    if !said {
        fields.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Names as one value; `None` for no name.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> Option<Result<HeaderValue, Error>> {
    let names: Vec<&str> = names.collect();
    let value = HeaderValue::try_from(names.join(", "));
    let value = value.map_err(|error| Error::Settings(error.to_string()));
    (!names.is_empty()).then_some(value)
}
