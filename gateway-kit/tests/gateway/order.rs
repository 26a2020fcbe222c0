//! The order in which a request passes, one test per arrow: a request that two steps would refuse
//! is refused by the first, and the second has not happened.

use std::sync::Arc;

use gateway_kit::Body;
use http::{Request, Response};
use http_body_util::Full;
use parking_lot::Mutex;
use resilience_core::clock::ManualClock;
use tower::{Layer, Service};

use crate::perimeter::{code, config, head};
use crate::support::{Answer, Running, Upstream};

/// Every step on; each test breaks two.
const TOP: &str = "ip_filter = { deny = [\"127.0.0.2\"] }\n\
    cors = { origins = [\"https://shop.test\"] }\n\
    security_headers = {}\n\
    size_limits = { path = 20, body = 10 }\n\
    csrf = {}\n";

const PREFLIGHT: &str = "origin: https://shop.test\r\naccess-control-request-method: PUT\r\n";
const FOREIGN: &str = "sec-fetch-site: cross-site\r\ncookie: a=b\r\n";
/// Longer than `size_limits.path`.
const LONG: &str = "/nowhere/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn limit(requests: u32, more: &str) -> String {
    format!("rate_limit = {{ requests = {requests}, window = \"1h\" {more} }}\n")
}

#[cfg(feature = "jwt")]
const JWT: &str = "jwt = { algorithms = [\"HS256\"], keys = [{ kty = \"oct\", \
    k = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\" }] }\n";

async fn start(upstream: &Upstream, top: &str) -> Running {
    let text = config(
        upstream.addr,
        top,
        &[("/a", ""), ("/off", "enabled = false")],
    );
    Running::start_with_clock(&text, ManualClock::new()).await
}

/// A refusal of a later step has what the earlier ones add.
fn assert_decorated(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let origin = answer.header("access-control-allow-origin");
    assert_eq!(origin, Some("https://shop.test"));
    assert!(answer.json()["correlation_id"].is_string());
    assert!(answer.header("x-correlation-id").is_some());
}

#[tokio::test]
async fn guard_before_built_in_endpoints() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, TOP).await;
    let request = "GET /health/live HTTP/1.1\r\nhost: u@h\r\nconnection: close\r\n\r\n";
    assert_eq!(
        code(&gateway.raw(request).await),
        (400, "bad_host".to_owned())
    );
}

#[tokio::test]
async fn built_in_endpoints_before_ip_filter() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, TOP).await;
    let answer = gateway
        .raw_from("127.0.0.2", &head("GET /health/live", ""))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn ip_filter_before_cors() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, TOP).await;
    let answer = gateway
        .raw_from("127.0.0.2", &head("OPTIONS /a", PREFLIGHT))
        .await;
    assert_eq!(code(&answer), (403, "address_refused".to_owned()));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn cors_before_size_limits() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, TOP).await;
    let long = gateway
        .raw(&head(&format!("OPTIONS {LONG}"), PREFLIGHT))
        .await;
    assert_eq!(long.status, 204);
    assert_eq!(long.header("x-content-type-options"), Some("nosniff"));
    let refused = gateway.raw(&head(&format!("GET {LONG}"), PREFLIGHT)).await;
    assert_eq!(code(&refused), (414, "uri_too_long".to_owned()));
    assert_decorated(&refused);
}

#[tokio::test]
async fn size_limits_before_rate_limit_by_address() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &(TOP.to_owned() + &limit(1, ""))).await;
    for _ in 0..3 {
        let answer = gateway.raw(&head(&format!("GET {LONG}"), "")).await;
        assert_eq!(answer.status, 414);
    }
    // The bucket is as it was.
    assert_eq!(gateway.get("/a").await.status, 200);
    let answer = gateway
        .raw(&head("GET /a", "origin: https://shop.test\r\n"))
        .await;
    assert_eq!(code(&answer), (429, "rate_limited".to_owned()));
    assert_decorated(&answer);
}

#[tokio::test]
async fn preflight_requests_cost_no_bucket_anything() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &(TOP.to_owned() + &limit(1, ""))).await;
    for _ in 0..3 {
        assert_eq!(
            gateway.raw(&head("OPTIONS /a", PREFLIGHT)).await.status,
            204
        );
    }
    assert_eq!(gateway.get("/a").await.status, 200);
}

#[tokio::test]
async fn rate_limit_by_address_before_route() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &(TOP.to_owned() + &limit(2, ""))).await;
    for (path, status) in [
        ("/nowhere", 404),
        ("/off", 404),
        ("/nowhere", 429),
        ("/off", 429),
    ] {
        let fields = "origin: https://shop.test\r\n";
        let answer = gateway.raw(&head(&format!("GET {path}"), fields)).await;
        assert_eq!(answer.status, status, "{path}");
        assert_decorated(&answer);
    }
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn route_before_authentication() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &(TOP.to_owned() + JWT)).await;
    for (path, wanted) in [("/nowhere", "route_not_found"), ("/off", "route_disabled")] {
        let answer = gateway.raw(&head(&format!("POST {path}"), FOREIGN)).await;
        assert_eq!(code(&answer), (404, wanted.to_owned()));
    }
    assert!(!gateway.handle.metrics().contains("auth_failures_total{"));
    let answer = gateway
        .raw(&head("GET /a", "origin: https://shop.test\r\n"))
        .await;
    assert_eq!(code(&answer), (401, "unauthenticated".to_owned()));
    assert_decorated(&answer);
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn csrf_before_tokens() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &(TOP.to_owned() + JWT)).await;
    let answer = gateway.raw(&head("POST /a", FOREIGN)).await;
    assert_eq!(code(&answer), (403, "cross_origin".to_owned()));
    let metrics = gateway.handle.metrics();
    let counted = "auth_failures_total{route=\"/a\",reason=\"cross_origin\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(!metrics.contains("reason=\"missing\""), "{metrics}");
}

#[tokio::test]
async fn authentication_before_rate_limit_by_consumer() {
    let upstream = Upstream::start().await;
    let limit = limit(1, ", key = { header = \"x-key\" }");
    let gateway = start(&upstream, &(TOP.to_owned() + &limit)).await;
    let key = "x-key: ada\r\n";
    for _ in 0..3 {
        let answer = gateway
            .raw(&head("POST /a", &format!("{FOREIGN}{key}")))
            .await;
        assert_eq!(answer.status, 403);
    }
    assert_eq!(gateway.raw(&head("POST /a", key)).await.status, 200);
    let answer = gateway
        .raw(&head("POST /a", &format!("{FOREIGN}{key}")))
        .await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn rate_limit_by_consumer_before_the_call() {
    let upstream = Upstream::start().await;
    let limit = limit(1, ", key = { header = \"x-key\" }");
    let gateway = start(&upstream, &(TOP.to_owned() + &limit)).await;
    let fields = "x-key: ada\r\norigin: https://shop.test\r\n";
    assert_eq!(gateway.raw(&head("GET /a", fields)).await.status, 200);
    let answer = gateway.raw(&head("GET /a", fields)).await;
    assert_eq!(code(&answer), (429, "rate_limited".to_owned()));
    assert_decorated(&answer);
    assert_eq!(
        (
            upstream.calls(),
            upstream
                .connections
                .load(std::sync::atomic::Ordering::SeqCst)
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn breaker_before_the_attempt() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, TOP).await;
    let breaker = gateway.handle.breaker("shop", 0).unwrap();
    breaker.set_mode(resilience_core::breaker::Mode::ForcedOpen);
    let answer = gateway
        .raw(&head("GET /a", "origin: https://shop.test\r\n"))
        .await;
    assert_eq!(code(&answer), (503, "circuit_open".to_owned()));
    assert_decorated(&answer);
    assert_eq!(
        upstream
            .connections
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

type Trace = Arc<Mutex<Vec<&'static str>>>;

/// A layer of the application that notes when it is passed.
#[derive(Clone)]
struct Probe(Trace, &'static str);

#[derive(Clone)]
struct Probed<S>(S, Probe);

impl<S> Layer<S> for Probe {
    type Service = Probed<S>;

    fn layer(&self, inner: S) -> Probed<S> {
        Probed(inner, self.clone())
    }
}

impl<S> Service<Request<Body>> for Probed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let Probe(trace, name) = &self.1;
        trace.lock().push(name);
        self.0.call(request)
    }
}

#[tokio::test]
async fn a_request_passes_the_places_in_order_and_a_refusal_no_later_one() {
    // I3.c4, K.c1
    let trace = Trace::default();
    let seen = Arc::clone(&trace);
    let upstream = Upstream::answering(move |_| {
        seen.lock().push("service");
        Response::new(Full::from("ok"))
    })
    .await;
    let limit = "rate_limit = [{ name = \"own\", requests = 1, window = \"1h\", key = { header = \"x-key\" } }]\n";
    let text = config(upstream.addr, &(TOP.to_owned() + limit), &[("/a", "")]);
    let probe = |name| Probe(Arc::clone(&trace), name);
    let gateway = Running::start_with(&text, |builder| {
        let builder = builder.clock(ManualClock::new());
        builder
            .edge(probe("edge"))
            .route(probe("route"))
            .upstream(probe("upstream"))
    })
    .await;
    let passed = || std::mem::take(&mut *trace.lock());
    let key = "x-key: ada\r\n";
    for (line, fields, status, wanted) in [
        (
            "GET /a",
            key,
            200,
            &["edge", "route", "upstream", "service"][..],
        ),
        ("GET /%00", "", 400, &[]),
        ("GET /health/live", "", 200, &[]),
        ("OPTIONS /a", PREFLIGHT, 204, &["edge"]),
        ("GET /nowhere/xxxxxxxxxxxxxxxxxxx", "", 414, &["edge"]),
        ("GET /nowhere", "", 404, &["edge"]),
        ("POST /a", FOREIGN, 403, &["edge", "route"]),
        ("GET /a", key, 429, &["edge", "route"]),
    ] {
        let answer = gateway.raw(&head(line, fields)).await;
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(passed(), wanted, "{line}");
    }
    let breaker = gateway.handle.breaker("shop", 0).unwrap();
    breaker.set_mode(resilience_core::breaker::Mode::ForcedOpen);
    assert_eq!(gateway.raw(&head("GET /a", "")).await.status, 503);
    assert_eq!(passed(), ["edge", "route", "upstream"]);
}
