//! The admin API and its page: what runs, and changes to it while it runs.
//!
//! It is a thin layer over [`Handle`](crate::Handle): whatever is done here a program can do by its
//! handle. `api` is the one table of operations, from which requests are answered and the OpenAPI
//! document is made.

mod access;
mod api;
mod change;
mod operations;
mod page;
mod samples;
mod types;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};

pub(crate) use self::access::Access;
use self::api::{Asked, Operation, Parameters};
pub(crate) use self::change::State;
use crate::body::Body;
use crate::config::ServerConfig;
use crate::handle::Handle;
use crate::headers::{self, CORRELATION_ID};
use crate::problem::Problem;
use crate::server::{Downstream, Inner};

/// What all paths here begin with.
pub(crate) const PREFIX: &str = "/admin";

/// The largest body of a request.
const MOST_BYTES: usize = 64 * 1024;

/// The most connections of the admin address at once.
pub(crate) const MOST_CONNECTIONS: usize = 64;

/// Which revision a change was meant for, and which one is in force.
pub(crate) const IF_REVISION: HeaderName = HeaderName::from_static("if-revision");
pub(crate) const REVISION: HeaderName = HeaderName::from_static("revision");

/// The limits of the admin address: people and scripts, not the public.
pub(crate) fn server_config() -> ServerConfig {
    ServerConfig {
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(30),
        max_headers: 64,
        max_head_bytes: 16 * 1024,
        max_concurrent_streams: 16,
        ..ServerConfig::default()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    pub(crate) address: IpAddr,
    /// Known by a token, not by the address alone.
    pub(crate) token: bool,
}

impl Inner {
    /// Answers a request that came to the admin address.
    pub(crate) async fn admin(
        self: &Arc<Self>,
        request: Request<Body>,
        downstream: Downstream,
    ) -> Response<Body> {
        let id = headers::correlation_id(request.headers()).cloned();
        let id = id.unwrap_or_else(|| self.shared.new_id());
        let snapshot = self.snapshot.load_full();
        let (mut parts, body) = request.into_parts();
        let response = match snapshot.guard.check(&mut parts) {
            Ok(checked) => {
                let peer = downstream.peer.ip().to_canonical();
                self.administer(parts, body, &checked.path, peer).await
            }
            Err(refused) => Err(Problem::guarded(refused, || snapshot.guard.allow())),
        }
        .unwrap_or_else(|problem| problem.into_response(id.to_str().unwrap_or_default()));
        let mut response = secured(response);
        response.headers_mut().insert(CORRELATION_ID, id);
        response
    }

    /// The same on the public address, if it is to be had there and `path` is of it.
    pub(crate) fn is_public_admin(&self, path: &str) -> bool {
        let snapshot = self.snapshot.load();
        let public = snapshot
            .admin
            .as_ref()
            .is_some_and(|admin| admin.is_public());
        public
            && path
                .strip_prefix(PREFIX)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Answers a request that the guard has seen; `client` is where it comes from.
    pub(crate) async fn administer(
        self: &Arc<Self>,
        parts: Parts,
        body: Body,
        path: &str,
        client: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let snapshot = self.snapshot.load_full();
        let access = snapshot.admin.as_ref().ok_or_else(access::off)?;
        access.check_origin(&parts, client)?;
        if let Some(page) = page::find(path) {
            return match parts.method {
                Method::GET | Method::HEAD => Ok(page),
                _ => Err(Problem::method_not_allowed(HeaderValue::from_static(
                    "GET, HEAD",
                ))),
            };
        }
        let state = &self.shared.admin;
        let actor = access.admit(&parts.headers, client, state).inspect_err(|problem| {
            self.shared.metrics.admin_refused.increment(1);
            tracing::warn!(target: "gateway_kit::admin", actor = %client, code = problem.code, "refused");
        })?;
        access.check_fetch(&parts.headers)?;
        let (operation, parameters) = find(&parts.method, path)?;
        let body = if operation.body.is_some() {
            read(&parts, body).await?
        } else {
            bytes::Bytes::new()
        };
        let asked = Asked {
            handle: Handle::new(Arc::clone(self)),
            parameters,
            body,
            revision: revision(&parts)?,
            actor,
        };
        if !operation.writes() {
            return asked.run(operation);
        }
        // Changes wait for each other, and a reload, which is one, reads files.
        let run = tokio::task::spawn_blocking(move || asked.run(operation));
        run.await.unwrap_or_else(|_| Err(Problem::internal()))
    }
}

/// The operation of a method and path, with the values of the path.
fn find(method: &Method, path: &str) -> Result<(&'static Operation, Parameters), Problem> {
    let mut allowed = Vec::new();
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    for operation in operations::all() {
        let Some(parameters) = operation.matches(path) else {
            continue;
        };
        if operation.method == *method {
            return Ok((operation, parameters));
        }
        allowed.push(operation.method.as_str());
        if operation.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "Not found",
            "there is nothing at this path; see /admin/openapi.json",
        ));
    }
    let allow = HeaderValue::from_str(&allowed.join(", "));
    // Methods are tokens.
    Err(Problem::method_not_allowed(
        allow.unwrap_or_else(|_| HeaderValue::from_static("GET")),
    ))
}

/// A body of JSON, whole.
async fn read(parts: &Parts, body: Body) -> Result<bytes::Bytes, Problem> {
    let mut types = parts.headers.get_all(CONTENT_TYPE).iter();
    let is_json = types.next().is_some_and(|value| {
        let value = value.to_str().unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    });
    if !is_json || types.next().is_some() {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "Unsupported media type",
            "the body must be application/json",
        ));
    }
    let body = Limited::new(body, MOST_BYTES).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| {
        if error
            .downcast_ref::<http_body_util::LengthLimitError>()
            .is_some()
        {
            return Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "Content too large",
                "the body must be at most 65536 bytes",
            );
        }
        Problem::bad_request("bad_body", "the body ended early or came too slowly")
    })
}

/// The revision that the request is meant for, if it says so.
fn revision(parts: &Parts) -> Result<Option<u64>, Problem> {
    let Some(value) = parts.headers.get(IF_REVISION) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.then(|| text.parse().ok()).flatten();
    number.map(Some).ok_or_else(|| {
        api::invalid("if-revision", "the header is no revision").fault(
            "if-revision",
            text.into(),
            "a number from 0 to 18446744073709551615",
        )
    })
}

/// What every answer says to browsers.
pub(crate) fn secured(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    response
}
