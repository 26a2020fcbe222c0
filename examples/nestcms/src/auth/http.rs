//! The login route and the extractor of the signed-in user.

use std::net::{IpAddr, SocketAddr};

use ::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use axum::{
    Json, Router,
    extract::{
        ConnectInfo, DefaultBodyLimit, Extension, FromRef, FromRequestParts, State,
        rejection::{ExtensionRejection, JsonRejection},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};

use super::{AuthService, LoginError, Role, TokenError, client_ip};
use crate::adapters::http::problem::Problem;

/// `POST /api/v1/auth/login`.
///
/// Serve with connect info (`into_make_service_with_connect_info::<SocketAddr>()`), or
/// failures are counted per account only.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    AuthService: FromRef<S>,
{
    Router::new()
        .route("/api/v1/auth/login", post(login))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// The signed-in user of a request. Answers 401 when there is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CurrentUser {
    /// The user's id.
    pub id: String,
    /// What the user may do.
    pub role: Role,
}

/// No valid access token: 401 with `www-authenticate`, and one neutral text for all reasons.
#[derive(Clone, Copy, Debug)]
pub struct Unauthenticated;

impl IntoResponse for Unauthenticated {
    fn into_response(self) -> Response {
        let (status, text) = (StatusCode::UNAUTHORIZED, "a valid access token is needed");
        let mut response = Problem::new(status, "unauthenticated", text).into_response();
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

impl<S> FromRequestParts<S> for CurrentUser
where
    S: Send + Sync,
    AuthService: FromRef<S>,
{
    type Rejection = Unauthenticated;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let claims = AuthService::from_ref(state)
            .check_token(bearer(&parts.headers))
            .map_err(|error: TokenError| {
                tracing::debug!(reason = error.as_str(), "access token refused");
                Unauthenticated
            })?;
        Ok(Self {
            id: claims.sub,
            role: claims.role,
        })
    }
}

// Without `Debug`: it holds a password.
#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

#[derive(Serialize)]
struct LoginReply {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    user: UserReply,
}

#[derive(Serialize)]
struct UserReply {
    id: String,
    email: String,
    role: Role,
}

async fn login(
    State(auth): State<AuthService>,
    headers: HeaderMap,
    peer: Result<Extension<ConnectInfo<SocketAddr>>, ExtensionRejection>,
    body: Result<Json<Credentials>, JsonRejection>,
) -> Response {
    let Json(credentials) = match body {
        Ok(body) => body,
        Err(rejection) => return bad_body(&rejection).into_response(),
    };
    let address: Option<IpAddr> = peer
        .ok()
        .map(|Extension(ConnectInfo(peer))| client_ip(&headers, peer.ip(), auth.trusted_proxies()));
    match auth
        .login(&credentials.email, credentials.password, address)
        .await
    {
        Ok(login) => {
            let reply = LoginReply {
                access_token: login.access_token,
                token_type: "Bearer",
                expires_in: login.expires_in.as_secs(),
                user: UserReply {
                    id: login.user.id,
                    email: login.user.email,
                    role: login.user.role,
                },
            };
            let no_store = [(header::CACHE_CONTROL, "no-store")];
            (no_store, Json(reply)).into_response()
        }
        Err(error) => refusal(&error).into_response(),
    }
}

fn refusal(error: &LoginError) -> Problem {
    match error {
        LoginError::Credentials => Problem::new(
            StatusCode::UNAUTHORIZED,
            "bad_credentials",
            "e-mail or password is wrong",
        ),
        LoginError::TooMany { retry_after } => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let text = "too many failed logins, try again later";
            Problem::new(status, "too_many_failures", text).retry_after(*retry_after)
        }
        LoginError::Store(_) | LoginError::Internal(_) => {
            tracing::error!(%error, "login failed");
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "login is not available, try again later",
            )
        }
    }
}

/// axum's own text may quote the body, and with it a password.
fn bad_body(rejection: &JsonRejection) -> Problem {
    let (status, message) = match rejection {
        JsonRejection::JsonDataError(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the body must hold the texts `email` and `password`",
        ),
        JsonRejection::JsonSyntaxError(_) => (StatusCode::BAD_REQUEST, "the body is not JSON"),
        JsonRejection::MissingJsonContentType(_) => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type must be application/json",
        ),
        other => (other.status(), "the body cannot be read"),
    };
    Problem::new(status, "bad_request", message)
}

/// The token of `authorization: Bearer …`; the scheme's name in any case (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Longest login body in bytes; e-mail and password are far shorter.
const MAX_BODY: usize = 4096;
