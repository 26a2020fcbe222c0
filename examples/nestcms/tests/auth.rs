//! Login and tokens.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{ConnectInfo, FromRef},
    http::{Request, Response, StatusCode, header},
    routing::get,
};
use http_body_util::BodyExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nestcms::{
    auth::{self, AuthService, CurrentUser},
    metrics::Metrics,
    settings::Settings,
};
use resilience_core::clock::SharedClock;
use serde_json::{Value, json};
use sqlx::sqlite::SqlitePoolOptions;
use tower::ServiceExt;
use webhook_verify::clock::ManualWallClock;

const NOW: u64 = 1_767_323_045;
const EMAIL: &str = "demo@nestcms.test";
const PASSWORD: &str = "demo-password";

#[derive(Clone)]
struct State(AuthService);

impl FromRef<State> for AuthService {
    fn from_ref(state: &State) -> Self {
        state.0.clone()
    }
}

struct Server {
    router: Router,
    clock: ManualWallClock,
    metrics: Metrics,
    settings: Settings,
}

async fn server() -> Server {
    let mut settings = Settings::demo();
    settings.auth.bcrypt_cost = 4;
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect("sqlite::memory:")
        .await
        .expect("a database in memory");
    sqlx::migrate!().run(&pool).await.expect("migrations");
    let clock = ManualWallClock::new(NOW);
    let metrics = Metrics::new("test", SharedClock::std());
    let auth = AuthService::new(&settings, pool, Arc::new(clock.clone()), metrics.clone())
        .await
        .expect("starts");
    let router = Router::new()
        .route(
            "/me",
            get(async |user: CurrentUser| format!("{} {}", user.id, user.role)),
        )
        .merge(auth::routes())
        .with_state(State(auth));
    Server {
        router,
        clock,
        metrics,
        settings,
    }
}

impl Server {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible")
    }

    async fn login_from(&self, ip: &str, email: &str, password: &str) -> (StatusCode, Value) {
        let peer: SocketAddr = format!("{ip}:40000").parse().expect("an address");
        let router = self.router.clone().layer(Extension(ConnectInfo(peer)));
        let body = json!({ "email": email, "password": password }).to_string();
        let request = post(body);
        let response = router.oneshot(request).await.expect("infallible");
        let status = response.status();
        (status, body_of(response).await)
    }

    async fn login(&self, email: &str, password: &str) -> (StatusCode, Value) {
        self.login_from("192.0.2.1", email, password).await
    }

    async fn me(&self, authorization: Option<&str>) -> Response<Body> {
        let mut request = Request::get("/me");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        self.send(request.body(Body::empty()).expect("a request"))
            .await
    }

    async fn refuses(&self, token: &str, why: &str) {
        let response = self.me(Some(&format!("Bearer {token}"))).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{why}");
        let body = body_of(response).await;
        assert_eq!(body["message"], "a valid access token is needed", "{why}");
    }

    /// A token that is valid but for what `change` does to it.
    fn token(&self, key: &[u8], algorithm: Algorithm, change: impl FnOnce(&mut Value)) -> String {
        let auth = &self.settings.auth;
        let mut claims = json!({
            "sub": "demo", "role": "user", "iss": auth.issuer, "aud": auth.audience,
            "iat": NOW, "exp": NOW + 900, "jti": "1",
        });
        change(&mut claims);
        encode(
            &Header::new(algorithm),
            &claims,
            &EncodingKey::from_secret(key),
        )
        .expect("signs")
    }

    fn key(&self) -> &[u8] {
        self.settings.auth.jwt_secret.expose().as_bytes()
    }
}

fn post(body: String) -> Request<Body> {
    Request::post("/api/v1/auth/login")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .expect("a request")
}

async fn body_of(response: Response<Body>) -> Value {
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

/// Unpadded base64url, enough for a forged header.
fn base64url(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let mut word = [0_u8; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for index in 0..=chunk.len() {
            out.push(DIGITS[(bits >> (18 - 6 * index)) as usize & 63] as char);
        }
    }
    out
}

#[tokio::test]
async fn the_right_password_gives_a_token_that_opens_the_door_for_fifteen_minutes() {
    let server = server().await;
    let (status, body) = server.login("Demo@NestCMS.test", PASSWORD).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("Bearer"), &json!(900))
    );
    assert_eq!(body["user"]["role"], "user");
    let token = format!("Bearer {}", body["access_token"].as_str().expect("a token"));
    assert_eq!(server.me(Some(&token)).await.status(), StatusCode::OK);
    server.clock.advance(Duration::from_secs(899));
    assert_eq!(server.me(Some(&token)).await.status(), StatusCode::OK);
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(
        server.me(Some(&token)).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

/// E1.c2 (the time: both ways compute one hash of the same cost, see `AuthService`).
#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let server = server().await;
    let wrong = server.login(EMAIL, "not-the-password").await;
    let unknown = server.login("nobody@nestcms.test", PASSWORD).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong, unknown);
}

/// E1.c3
#[tokio::test]
async fn five_failures_of_one_account_lock_it_until_the_window_has_passed() {
    let server = server().await;
    for n in 0..5 {
        let ip = format!("192.0.2.{n}");
        assert_eq!(
            server.login_from(&ip, EMAIL, "wrong").await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    let metrics = server.metrics.render();
    assert!(
        metrics.contains(r#"auth_failures_total{reason="credentials"} 5"#),
        "{metrics}"
    );
    let (status, body) = server.login_from("192.0.2.77", EMAIL, PASSWORD).await;
    assert_eq!(
        status,
        StatusCode::TOO_MANY_REQUESTS,
        "even with the right password"
    );
    assert_eq!(body["code"], "too_many_failures");
    server.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(
        server.login_from("192.0.2.77", EMAIL, PASSWORD).await.0,
        StatusCode::OK
    );
}

/// E1.c3
#[tokio::test]
async fn five_failures_of_one_address_lock_that_address_only() {
    let server = server().await;
    for n in 0..5 {
        let email = format!("user-{n}@nestcms.test");
        assert_eq!(
            server.login(&email, "wrong").await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(
        server.login(EMAIL, PASSWORD).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(
        server.login_from("192.0.2.2", EMAIL, PASSWORD).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn guesses_in_parallel_do_not_pass_the_limit_together() {
    let server = server().await;
    let tries = (0..20).map(|_| server.login(EMAIL, "wrong"));
    let answers = futures_util::future::join_all(tries).await;
    let tried = answers
        .iter()
        .filter(|a| a.0 == StatusCode::UNAUTHORIZED)
        .count();
    assert_eq!(tried, 5);
}

#[tokio::test]
async fn a_refusal_for_too_many_failures_tells_when_to_come_back() {
    let server = server().await;
    for _ in 0..5 {
        server.login(EMAIL, "wrong").await;
    }
    server.clock.advance(Duration::from_secs(60));
    let body = json!({ "email": EMAIL, "password": "wrong" }).to_string();
    let response = server.send(post(body)).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "840");
}

/// E3.c1
#[tokio::test]
async fn a_forged_or_stale_token_is_refused() {
    let server = server().await;
    let good = server.token(server.key(), Algorithm::HS256, |_| {});
    assert_eq!(
        server.me(Some(&format!("bearer {good}"))).await.status(),
        StatusCode::OK
    );

    let parts: Vec<_> = good.split('.').collect();
    let none = base64url(r#"{"alg":"none","typ":"JWT"}"#);
    server
        .refuses(&format!("{none}.{}.", parts[1]), "alg none, no signature")
        .await;
    server
        .refuses(&format!("{none}.{}.{}", parts[1], parts[2]), "alg none")
        .await;
    let other = server.token(server.key(), Algorithm::HS512, |_| {});
    server
        .refuses(&other, "another algorithm, the right key")
        .await;
    let swapped = base64url(r#"{"alg":"RS256","typ":"JWT"}"#);
    server
        .refuses(&format!("{swapped}.{}.{}", parts[1], parts[2]), "alg RS256")
        .await;
    let foreign = server.token(
        b"another key of thirty-two bytes!",
        Algorithm::HS256,
        |_| {},
    );
    server.refuses(&foreign, "wrong key").await;
    let altered = server.token(server.key(), Algorithm::HS256, |c| {
        c["role"] = json!("admin")
    });
    let mixed = format!(
        "{}.{}.{}",
        parts[0],
        altered.split('.').nth(1).unwrap_or(""),
        parts[2]
    );
    server.refuses(&mixed, "altered claims").await;
    for (claim, value) in [
        ("exp", json!(NOW)),
        ("exp", json!("never")),
        ("exp", Value::Null),
        ("aud", json!("another-api")),
        ("iss", json!("another-issuer")),
        ("sub", Value::Null),
        ("role", json!("emperor")),
    ] {
        let why = format!("{claim} = {value}");
        let token = server.token(server.key(), Algorithm::HS256, |claims| {
            if value.is_null() {
                claims.as_object_mut().expect("an object").remove(claim);
            } else {
                claims[claim] = value;
            }
        });
        server.refuses(&token, &why).await;
    }
    server.refuses("not.a.token", "nonsense").await;
    server.refuses("", "nothing").await;
}

#[tokio::test]
async fn no_token_is_401_with_a_challenge_in_the_common_form() {
    let server = server().await;
    for header_value in [None, Some("Basic ZGVtbzpkZW1v"), Some("Bearer")] {
        let response = server.me(header_value).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let body = body_of(response).await;
        assert_eq!(body["code"], "unauthenticated");
        assert!(body["correlation_id"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn a_bad_login_body_is_refused_without_being_quoted() {
    let server = server().await;
    for (body, status) in [
        ("{", StatusCode::BAD_REQUEST),
        (r#"{"email": "a@b"}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (
            r#"{"email": "a@b", "password": 424242}"#,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        let response = server.send(post(body.to_owned())).await;
        assert_eq!(response.status(), status, "{body}");
        let text = body_of(response).await.to_string();
        assert!(!text.contains("424242"), "{text}");
    }
    let long = json!({ "email": EMAIL, "password": "x".repeat(5000) }).to_string();
    assert_eq!(
        server.send(post(long)).await.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let beyond_bcrypt = format!("{PASSWORD}{}", "x".repeat(100));
    assert_eq!(
        server.login(EMAIL, &beyond_bcrypt).await.0,
        StatusCode::UNAUTHORIZED
    );
}
