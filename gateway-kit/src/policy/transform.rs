//! Changes of requests on their way to the service and of answers on their way back.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    IF_RANGE, RANGE, TRAILER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::body::{Body, BoxError};
use crate::config::{EditConfig, TransformConfig};
use crate::guard::Checked;
use crate::headers::{self, list, weaken};
use crate::policy::identity::Identity;
use crate::policy::rename::{RenameError, Renames};
use crate::policy::size_limits::TooLarge;
use crate::problem::Problem;
use crate::server::SlowClient;

/// Changes requests and answers of a route, for programs that embed the gateway; see
/// [`Builder::transform`](crate::Builder::transform).
///
/// Both run on the request's task and must not block. A panic costs its request.
pub trait Transform: Send + Sync + 'static {
    /// Changes what the service gets, after what the configuration changes.
    ///
    /// # Errors
    /// The request is refused and goes nowhere.
    fn request(&self, head: &RequestHead<'_>, fields: &mut Fields<'_>) -> Result<(), Refusal> {
        let _ = (head, fields);
        Ok(())
    }

    /// Changes what the client gets, after what the configuration changes; of answers of the
    /// service, also of those out of the cache, and not of the gateway's own refusals.
    fn response(&self, status: StatusCode, fields: &mut Fields<'_>) {
        let _ = (status, fields);
    }
}

/// What a [`Transform`] is told of a request, beside its fields.
#[derive(Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The canonical path, before it is rewritten.
    pub path: &'a str,
    /// The query as the client sent it.
    pub query: Option<&'a str>,
}

/// The header fields of a message, as far as a [`Transform`] may change them: not those of the
/// connection and the framing, `Host`, and those that the gateway vouches for (`X-Forwarded-*`,
/// `Forwarded`, `X-Real-IP`, `X-Correlation-Id`, and those that tell who the client is).
#[derive(Debug)]
pub struct Fields<'a> {
    fields: &'a mut HeaderMap,
    identity: &'a Identity,
}

/// The field is not one that a [`Transform`] may change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the header field {0} is not for a transform to change")]
pub struct Reserved(pub HeaderName);

impl Fields<'_> {
    /// All fields, to read.
    pub fn all(&self) -> &HeaderMap {
        self.fields
    }

    /// The first value of a field.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.get(name)
    }

    /// Puts a value in place of all that the field has.
    ///
    /// # Errors
    /// See [`Reserved`]; nothing is changed then.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Reserved> {
        let name = self.free(name)?;
        self.fields.insert(name, value);
        Ok(())
    }

    /// Adds a value to what the field has.
    ///
    /// # Errors
    /// See [`Reserved`]; nothing is changed then.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Reserved> {
        let name = self.free(name)?;
        self.fields.append(name, value);
        Ok(())
    }

    /// Removes a field; whether it was there.
    ///
    /// # Errors
    /// See [`Reserved`]; nothing is changed then.
    pub fn remove(&mut self, name: HeaderName) -> Result<bool, Reserved> {
        let name = self.free(name)?;
        Ok(self.fields.remove(name).is_some())
    }

    fn free(&self, name: HeaderName) -> Result<HeaderName, Reserved> {
        match headers::is_fixed(&name) || self.identity.is_one(&name) {
            false => Ok(name),
            true => Err(Reserved(name)),
        }
    }
}

/// Why a [`Transform`] lets a request go nowhere. The client is told the status, the code and the
/// detail, as `application/problem+json`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Refusal {
    /// A refusal with a stable code for programs. A status that is not an error is 403.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let is_error = status.is_client_error() || status.is_server_error();
        let status = if is_error {
            status
        } else {
            StatusCode::FORBIDDEN
        };
        Self {
            status,
            code,
            detail: detail.into(),
        }
    }

    fn problem(self) -> Problem {
        Problem::new(self.status, self.code, "Refused", self.detail)
    }
}

/// The changes of one route.
pub(crate) struct Transforms {
    request: Arc<Edit>,
    response: Arc<Edit>,
    max_body: usize,
    hooks: Vec<Arc<dyn Transform>>,
}

#[derive(Debug, Default)]
struct Edit {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    rename: Option<Renames>,
}

impl Edit {
    fn new(config: &EditConfig) -> Self {
        let field = |(name, value): (&String, &String)| {
            // The configuration was checked.
            Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
        };
        Self {
            remove: config
                .remove
                .iter()
                .map(|name| name.name().clone())
                .collect(),
            set: config.set.iter().filter_map(field).collect(),
            add: config.add.iter().filter_map(field).collect(),
            rename: Renames::new(&config.rename),
        }
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

impl Transforms {
    /// What the settings and the program's own transforms of a route change; `None` for nothing.
    pub(crate) fn new(
        config: Option<&TransformConfig>,
        hooks: Vec<Arc<dyn Transform>>,
    ) -> Option<Self> {
        if config.is_none() && hooks.is_empty() {
            return None;
        }
        let default = TransformConfig::default();
        let config = config.unwrap_or(&default);
        Some(Self {
            request: Arc::new(Edit::new(&config.request)),
            response: Arc::new(Edit::new(&config.response)),
            // Checked to be at most 64 MiB.
            max_body: config.max_body.bytes() as usize,
            hooks,
        })
    }

    /// The changes of all routes, with those that the program has for one of them.
    pub(crate) fn with(
        all: Option<&Arc<Self>>,
        hooks: Vec<Arc<dyn Transform>>,
    ) -> Option<Arc<Self>> {
        let Some(all) = all else {
            return Self::new(None, hooks).map(Arc::new);
        };
        if hooks.is_empty() {
            return Some(Arc::clone(all));
        }
        Some(Arc::new(Self {
            request: Arc::clone(&all.request),
            response: Arc::clone(&all.response),
            max_body: all.max_body,
            hooks,
        }))
    }

    /// Changes the request.
    pub(crate) async fn request(
        &self,
        mut request: Request<Body>,
        identity: &Identity,
        checked: &mut Checked,
    ) -> Result<Request<Body>, Problem> {
        if self.response.rename.is_some() {
            // A part, or what only the client can decode, cannot be read.
            for name in [ACCEPT_ENCODING, RANGE, IF_RANGE] {
                request.headers_mut().remove(name);
            }
        }
        if let Some(renames) = &self.request.rename
            && is_json(request.headers())
            && !request.body().is_end_stream()
        {
            request = self.renamed(renames, request, checked).await?;
        }
        self.request.apply(request.headers_mut());
        if !self.hooks.is_empty() {
            let (mut parts, body) = request.into_parts();
            let head = RequestHead {
                method: &parts.method,
                path: &checked.path,
                query: parts.uri.query(),
            };
            let mut fields = Fields {
                fields: &mut parts.headers,
                identity,
            };
            for hook in &self.hooks {
                hook.request(&head, &mut fields).map_err(Refusal::problem)?;
            }
            request = Request::from_parts(parts, body);
        }
        Ok(request)
    }

    async fn renamed(
        &self,
        renames: &Renames,
        request: Request<Body>,
        checked: &mut Checked,
    ) -> Result<Request<Body>, Problem> {
        if is_encoded(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "encoded_body",
                "Unsupported media type",
                "the body must come without a content coding",
            ));
        }
        let (mut parts, body) = request.into_parts();
        let text = match collect(body, self.max_body).await {
            Ok(text) => text,
            Err(Unread::TooLarge) => return Err(too_large()),
            Err(Unread::Slow) => return Err(late()),
            Err(Unread::Broken) => {
                let detail = "the body ends before its end";
                return Err(Problem::bad_request("body_broken", detail));
            }
        };
        let text = renames.apply(&text).map_err(|error| {
            let (status, code) = match error {
                RenameError::NotJson => (StatusCode::BAD_REQUEST, "bad_json"),
                RenameError::Taken => (StatusCode::UNPROCESSABLE_ENTITY, "field_taken"),
            };
            Problem::new(status, code, "Bad body", error.to_string())
        })?;
        for name in DEPEND_ON_BYTES {
            parts.headers.remove(name);
        }
        parts.headers.insert(CONTENT_LENGTH, text.len().into());
        // What was read whole has a length.
        checked.chunked = false;
        Ok(Request::from_parts(parts, Body::from(Bytes::from(text))))
    }

    /// Changes an answer of the service.
    pub(crate) async fn response(
        &self,
        mut response: Response<Body>,
        identity: &Identity,
        head: bool,
    ) -> Result<Response<Body>, Problem> {
        response = match &self.response.rename {
            // What the client knows by a weak tag, as the bytes were changed.
            Some(_) if response.status() == StatusCode::NOT_MODIFIED => {
                weaken(response.headers_mut());
                response
            }
            Some(renames) if is_json(response.headers()) => {
                self.answer_renamed(renames, response, head).await?
            }
            _ => response,
        };
        self.response.apply(response.headers_mut());
        let status = response.status();
        let mut fields = Fields {
            fields: response.headers_mut(),
            identity,
        };
        for hook in &self.hooks {
            hook.response(status, &mut fields);
        }
        Ok(response)
    }

    async fn answer_renamed(
        &self,
        renames: &Renames,
        response: Response<Body>,
        head: bool,
    ) -> Result<Response<Body>, Problem> {
        let (mut parts, body) = response.into_parts();
        let none = head || parts.status == StatusCode::NO_CONTENT;
        if is_encoded(&parts.headers) || parts.headers.contains_key(CONTENT_RANGE) {
            tracing::warn!("an answer whose fields are to be renamed is encoded, or a part");
            return Err(untransformed());
        }
        if !none
            && parts
                .headers
                .get(CONTENT_LENGTH)
                .is_none_or(|length| length != "0")
        {
            let text = match collect(body, self.max_body).await {
                Ok(text) => renames.apply(&text),
                Err(unread) => {
                    tracing::warn!(?unread, "an answer whose fields are to be renamed");
                    return Err(untransformed());
                }
            };
            let text = text.map_err(|error| {
                tracing::warn!(%error, "an answer whose fields are to be renamed");
                untransformed()
            })?;
            changed(&mut parts.headers);
            parts.headers.insert(CONTENT_LENGTH, text.len().into());
            return Ok(Response::from_parts(parts, Body::from(Bytes::from(text))));
        }
        if head {
            changed(&mut parts.headers);
            parts.headers.remove(CONTENT_LENGTH);
        }
        Ok(Response::from_parts(parts, body))
    }
}

/// What is said of bytes that are no longer the same.
fn changed(headers: &mut HeaderMap) {
    for name in DEPEND_ON_BYTES {
        headers.remove(name);
    }
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
}

const DEPEND_ON_BYTES: [HeaderName; 5] = [
    TRAILER,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// `application/json`, or another kind on it.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| {
        let kind = kind.trim().to_ascii_lowercase();
        kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
    })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    list(headers, &CONTENT_ENCODING).any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// Why a body could not be read whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unread {
    TooLarge,
    Slow,
    Broken,
}

impl Unread {
    pub(crate) fn of(error: &BoxError) -> Self {
        if error.is::<SlowClient>() {
            Self::Slow
        } else if error.is::<TooLarge>() {
            Self::TooLarge
        } else {
            Self::Broken
        }
    }
}

/// Reads a body of at most `most` bytes; trailers are left out.
pub(crate) async fn collect(mut body: Body, most: usize) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooLarge);
    }
    let mut all = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unread::of(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > most - all.len() - first.len() {
            return Err(Unread::TooLarge);
        }
        // As most are: one piece, and no copy.
        if all.is_empty() && first.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

pub(crate) fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "Content too large",
        "the body is larger than this route takes",
    )
}

pub(crate) fn late() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "request_timeout",
        "Request timeout",
        "the client did not send its body in time",
    )
}

fn untransformed() -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "upstream_bad_answer",
        "Bad gateway",
        "the service's answer is not allowed",
    )
}

impl fmt::Debug for Transforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transforms")
            .field("request", &self.request)
            .field("response", &self.response)
            .field("hooks", &self.hooks.len())
            .finish_non_exhaustive()
    }
}
