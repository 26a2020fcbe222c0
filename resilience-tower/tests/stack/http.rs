//! Stacks for HTTP and gRPC.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use resilience_core::breaker::{Mode, State};
use resilience_tower::admission::{Admission, Decision, Policy};
use resilience_tower::retry::http::ReplayBody;
use resilience_tower::stack::http::{InExtensions, problem, status};
use resilience_tower::stack::{self, Error, Quota, Stack};
use resilience_tower::timeout::deadline::http::{ENVOY_TIMEOUT_MS, GRPC_TIMEOUT, Headers};
use resilience_tower::timeout::deadline::{Deadline, HasDeadline};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{MS, SECOND, clock};

type Body = Full<Bytes>;
type Sent = Request<ReplayBody<Body>>;

fn get() -> Request<Body> {
    Request::new(Full::from("hello"))
}

fn post() -> Request<Body> {
    let mut request = get();
    *request.method_mut() = Method::POST;
    request
}

/// Answers by these status codes, one after the other, the last for ever; and what was sent.
fn answering(
    codes: &'static [u16],
) -> (
    impl Service<Sent, Response = Response<Body>, Error = Infallible, Future: Send> + Clone,
    Arc<Mutex<Vec<String>>>,
) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sent);
    let service = service_fn(move |request: Sent| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut seen = seen.lock().unwrap();
            seen.push(String::from_utf8(body.to_vec()).unwrap());
            let code = codes[(seen.len() - 1).min(codes.len() - 1)];
            let response = Response::builder().status(code);
            Ok(response.body(Full::from("hello")).unwrap())
        }
    });
    (service, sent)
}

fn outbound() -> Stack<stack::http::Http> {
    stack::outbound("payments").clock(clock()).http()
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_tried_again_with_the_whole_body_if_it_may_be() {
    for (request, sent, code) in [(get(), 2, 200), (post(), 1, 503)] {
        let (service, seen) = answering(&[503, 200]);
        let response = outbound().layer(service).oneshot(request).await.unwrap();
        assert_eq!(response.status(), code);
        assert_eq!(*seen.lock().unwrap(), vec!["hello"; sent]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_admitted_call_carries_its_record_when_asked_to() {
    let (service, _) = answering(&[503, 200]);
    let stack = outbound().record_admitted();
    let response = stack.layer(service).oneshot(get()).await.unwrap();
    let admission: &Admission = response.extensions().get().expect("it was asked for");
    assert_eq!(admission.decision(), Decision::Admitted);
    assert_eq!(
        (admission.name(), admission.policy()),
        (Some("payments"), None)
    );
    assert_eq!((admission.reason(), admission.attempts()), ("admitted", 2));

    let (service, _) = answering(&[200]);
    let response = outbound().layer(service).oneshot(get()).await.unwrap();
    assert!(response.extensions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_made_a_response_carries_its_record() {
    let stack = outbound();
    stack.handle().breaker().unwrap().set_mode(Mode::ForcedOpen);
    let (service, _) = answering(&[200]);
    let service = stack.into_response().layer(service);
    let response: Result<_, Infallible> = service.oneshot(get()).await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "30");
    let admission: &Admission = response.extensions().get().unwrap();
    assert_eq!(admission.policy(), Some(Policy::Breaker));
    assert_eq!(
        (admission.name(), admission.attempts()),
        (Some("payments"), 1)
    );
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "stack": "payments", "policy": "breaker", "reason": "forced_open", "status": 503,
            "title": "Service Unavailable", "retry_after": 30,
        })
    );
}

#[tokio::test(start_paused = true)]
async fn each_policy_has_its_status_and_its_grpc_code() {
    let hangs = || {
        service_fn(|_: Request<ReplayBody<Body>>| {
            std::future::pending::<Result<Response<Body>, Infallible>>()
        })
    };
    let quota = Quota {
        permits: 1,
        per: SECOND,
        burst: None,
    };
    let limited = stack::inbound("orders").configure(|stack| {
        stack.order.insert(0, Policy::RateLimit);
        stack.rate_limit = Some(quota);
    });
    let full = stack::inbound("orders").configure(|stack| {
        stack.bulkhead = Some(resilience_core::bulkhead::Config::builder().limit(1));
    });
    for (stack, calls, code, grpc, wait) in [
        (limited.unwrap(), 2, 429, "8", true),
        (full.unwrap(), 2, 503, "14", false),
        (stack::inbound("orders"), 1, 504, "4", false),
    ] {
        let mut service = stack.clock(clock()).http().layer(hangs());
        let others: Vec<_> = (1..calls).map(|_| service.call(get())).collect();
        let error = service.oneshot(get()).await.unwrap_err();
        drop(others);
        let refused = error.admission().unwrap();
        let response = problem(refused);
        assert_eq!(response.status(), code);
        assert_eq!(response.headers().contains_key("retry-after"), wait);
        let response = status(refused);
        assert_eq!(response.headers()["grpc-status"], grpc);
        assert_eq!(
            response.headers().contains_key("grpc-retry-pushback-ms"),
            wait
        );
    }
}

/// Answers with the time that the request tells.
fn telling()
-> impl Service<Sent, Response = Response<HeaderMap>, Error = Infallible, Future: Send> + Clone {
    service_fn(|request: Sent| {
        let left = request.deadline().map(Deadline::left);
        let mut response = Response::new(request.headers().clone());
        if let Some(left) = left {
            response.extensions_mut().insert(left);
        }
        std::future::ready(Ok(response))
    })
}

#[tokio::test(start_paused = true)]
async fn each_attempt_tells_its_own_time_in_the_headers() {
    let headers = Headers::new().write_grpc().write_millis(ENVOY_TIMEOUT_MS);
    let stack = outbound().propagate(InExtensions::new(headers));
    let response = stack.layer(telling()).oneshot(get()).await.unwrap();
    assert_eq!(response.body()[GRPC_TIMEOUT], "1000000u");
    assert_eq!(response.body()[ENVOY_TIMEOUT_MS], "1000");

    // What the caller leaves is less than an attempt may take.
    let mut request = get();
    request.set_deadline(Deadline::after(300 * MS).unwrap());
    let response = stack.layer(telling()).oneshot(request).await.unwrap();
    assert_eq!(response.body()[ENVOY_TIMEOUT_MS], "300");
    let mut request = get();
    let headers = request.headers_mut();
    headers.insert(GRPC_TIMEOUT, "200m".parse().unwrap());
    let response = stack.layer(telling()).oneshot(request).await.unwrap();
    assert_eq!(response.body()[ENVOY_TIMEOUT_MS], "200");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_is_refused_before_anything_is_done() {
    let (service, seen) = answering(&[200]);
    let mut request = get();
    request.set_deadline(Deadline::after(Duration::ZERO).unwrap());
    let error = outbound()
        .layer(service)
        .oneshot(request)
        .await
        .unwrap_err();
    let admission = error.admission().unwrap();
    assert_eq!(admission.policy(), Some(Policy::Deadline));
    assert_eq!((admission.reason(), admission.attempts()), ("refused", 0));
    assert_eq!(admission.decision(), Decision::Refused);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_left_the_deadline_when_it_asks_for_it() {
    let stack = stack::inbound("orders").clock(clock()).http();
    let response = stack.layer(telling()).oneshot(get()).await.unwrap();
    assert!(response.extensions().is_empty());

    let leaving = InExtensions::new(Headers::new().read_grpc()).leave_deadline();
    let mut request = get();
    let headers = request.headers_mut();
    headers.insert(GRPC_TIMEOUT, "2S".parse().unwrap());
    let service = stack.propagate(leaving).layer(telling());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&(2 * SECOND)));
    assert_eq!(response.body()[GRPC_TIMEOUT], "2S");
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_overtake_the_deadline_in_the_extensions() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |_: Sent| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            sleep(99 * MS).await;
            let response = Response::builder().status(503).header("retry-after", "1");
            Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).unwrap())
        }
    });
    let mut request = get();
    request.set_deadline(Deadline::after(SECOND).unwrap());
    let response = outbound().layer(service).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stack_judges_at_the_end_of_the_body() {
    let stack = stack::outbound("payments")
        .configure(|stack| stack.breaker = super::hasty(30 * SECOND))
        .unwrap()
        .clock(clock())
        .grpc();
    // HTTP 200 and a body without trailers: no gRPC status at all.
    let service = service_fn(|request: Request<Body>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(request.into_body())))
    });
    let response = stack.layer(service).oneshot(post()).await.unwrap();
    let breaker = stack.handle().breaker().unwrap().clone();
    assert_eq!(breaker.state(), State::Closed);
    assert!(response.into_body().collect().await.is_ok());
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_error_says_what_the_service_within_said() {
    let failing = service_fn(|_: Sent| {
        std::future::ready(Err::<Response<Body>, _>(std::io::Error::other("cut")))
    });
    let error = outbound().layer(failing).oneshot(post()).await.unwrap_err();
    assert_eq!(error.to_string(), "cut");
    assert!(matches!(error, Error::Inner(_)));
}
