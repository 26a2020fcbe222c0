//! Which HTTP requests are hedged, and how.
#![cfg(all(feature = "hedge", feature = "http", feature = "timeout"))]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use resilience_core::hedge::{Config, HedgePolicy};
use resilience_core::retry::RetryBudget;
use resilience_tower::hedge::HedgeLayer;
use resilience_tower::timeout::deadline::{Deadline, HasDeadline};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn policy() -> HedgePolicy {
    let config = Config::builder().fixed_delay(10 * MS).build().unwrap();
    HedgePolicy::new(config, RetryBudget::default())
}

type Seen = Arc<Mutex<Vec<(String, Bytes)>>>;

/// Remembers path and body; the first attempt answers `status` after a second, others 200 at once.
fn upstream<B>(
    status: u16,
) -> (
    impl Service<Request<B>, Response = Response<()>, Error = Infallible, Future: Send> + Clone,
    Seen,
)
where
    B: Body<Data = Bytes, Error: std::fmt::Debug> + Send + 'static,
{
    let seen = Seen::default();
    let sees = Arc::clone(&seen);
    let service = service_fn(move |request: Request<B>| {
        let sees = Arc::clone(&sees);
        async move {
            let path = request.uri().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let first = {
                let mut seen = sees.lock().unwrap();
                seen.push((path, body));
                seen.len() == 1
            };
            let mut response = Response::new(());
            if first {
                sleep(1_000 * MS).await;
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
            }
            Ok(response)
        }
    });
    (service, seen)
}

fn request<B>(method: Method, key: bool, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = "/item?id=1".parse().unwrap();
    if key {
        request.headers_mut().insert("Idempotency-Key", 1.into());
    }
    request
}

#[tokio::test(start_paused = true)]
async fn safe_methods_and_keys_are_hedged_and_nothing_else() {
    for (method, key, hedged) in [
        (Method::GET, false, true),
        (Method::HEAD, false, true),
        (Method::OPTIONS, false, true),
        (Method::TRACE, false, true),
        // A retry sends these again, one after the other.
        (Method::PUT, false, false),
        (Method::DELETE, false, false),
        (Method::POST, false, false),
        (Method::PATCH, false, false),
        (Method::POST, true, true),
        (Method::PUT, true, true),
    ] {
        let (service, seen) = upstream(200);
        let service = HedgeLayer::http(policy()).layer(service);
        let call = request(method.clone(), key, Empty::<Bytes>::new());
        assert_eq!(service.oneshot(call).await.unwrap().status(), 200);
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1 + usize::from(hedged), "{method} {key}");
        assert!(seen.iter().all(|(path, _)| path == "/item?id=1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_once_unless_it_can_be_cloned() {
    let call = || request(Method::POST, true, Full::new(Bytes::from("pay")));
    let (service, seen) = upstream(200);
    let service = HedgeLayer::http(policy()).layer(service);
    service.oneshot(call()).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);

    let (service, seen) = upstream(200);
    let service = HedgeLayer::http_clone(policy()).layer(service);
    service.oneshot(call()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|(_, body)| body == "pay"));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_is_not_doubled_because_its_body_could_be() {
    let (service, seen) = upstream(200);
    let service = HedgeLayer::http_clone(policy()).layer(service);
    let call = request(Method::POST, false, Full::new(Bytes::from("pay")));
    service.oneshot(call).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_says_failure_is_not_the_first_answer_while_another_attempt_runs() {
    let calls = Arc::new(Mutex::new(0));
    let counts = Arc::clone(&calls);
    // The hedge fails at once, the first answers later.
    let service = service_fn(move |_: Request<_>| {
        let call = {
            let mut calls = counts.lock().unwrap();
            *calls += 1;
            *calls
        };
        async move {
            let mut response = Response::new(());
            if call == 1 {
                sleep(50 * MS).await;
            } else {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let service = HedgeLayer::http(policy()).layer(service);
    let call = request(Method::GET, false, Empty::<Bytes>::new());
    assert_eq!(service.oneshot(call).await.unwrap().status(), 200);
    assert_eq!(*calls.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_hedge_begins_after_the_deadline_in_the_extensions() {
    let (service, seen) = upstream(200);
    let service = HedgeLayer::http(policy()).layer(service);
    let mut call = request(Method::GET, false, Empty::<Bytes>::new());
    call.set_deadline(Deadline::after(5 * MS).unwrap());
    service.oneshot(call).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}
