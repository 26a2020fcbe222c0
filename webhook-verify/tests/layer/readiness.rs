//! The service that was polled ready is the one that is called.

use std::{
    future::Ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit};
use webhook_verify::layer::{VerifiedBody, WebhookLayer};

use super::support::{
    BODY, Then, frames, good, headers, inner, is_pending, layer, request, timestamped, within,
};

fn forged() -> Request<Full<Bytes>> {
    request(headers(b"other"), Full::from(BODY))
}

/// A layer without a store, so that one delivery can be sent again.
fn memoryless() -> WebhookLayer {
    WebhookLayer::new(timestamped().build().unwrap())
}

/// Waits until the service is ready, and calls it.
async fn start<S, B>(service: &mut S, request: Request<B>) -> S::Future
where
    S: Service<Request<B>, Error: std::fmt::Debug>,
{
    within(service.ready()).await.unwrap().call(request)
}

/// Panics when called without having been polled ready, as `ConcurrencyLimit` does; a clone
/// starts unready.
#[derive(Default)]
struct Strict {
    ready: bool,
    clones: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            ready: false,
            clones: Arc::clone(&self.clones),
        }
    }
}

impl Service<Request<VerifiedBody>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<VerifiedBody>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn a_clone_that_was_not_polled_ready_is_never_called() {
    let mut service = memoryless().layer(Strict::default());
    for request in [good(), forged(), good(), good()] {
        start(&mut service, request).await.await.unwrap();
    }
    // Two at once on one service: each takes the readiness that was there.
    let first = start(&mut service, good()).await;
    let second = start(&mut service, good()).await;
    let clone = service.clone();
    for answer in [
        second.await,
        first.await,
        within(clone.oneshot(good())).await,
    ] {
        assert_eq!(answer.unwrap().status(), 200);
    }
}

#[tokio::test]
#[should_panic(expected = "called without being ready")]
async fn the_strict_service_would_notice() {
    let _ = memoryless().layer(Strict::default()).call(good()).await;
}

#[tokio::test]
async fn the_inner_services_error_of_readiness_is_passed_on() {
    #[derive(Clone)]
    struct Broken;
    impl Service<Request<VerifiedBody>> for Broken {
        type Response = Response<Full<Bytes>>;
        type Error = &'static str;
        type Future = Ready<Result<Self::Response, &'static str>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Err("broken"))
        }
        fn call(&mut self, _: Request<VerifiedBody>) -> Self::Future {
            unreachable!("never ready")
        }
    }
    let service = memoryless().layer(Broken);
    assert_eq!(within(service.oneshot(good())).await.unwrap_err(), "broken");
}

#[tokio::test]
async fn one_permit_serves_all_deliveries_and_refusals_give_it_back() {
    let mut service = memoryless().layer(ConcurrencyLimit::new(inner(), 1));
    for (request, expected) in [
        (good(), 200),
        (forged(), 401),
        (forged(), 401),
        (good(), 200),
    ] {
        let answer = start(&mut service, request).await.await.unwrap();
        assert_eq!(answer.status(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_holds_the_permit_until_the_read_deadline_and_a_drop_frees_it() {
    let layer = memoryless().read_deadline(Duration::from_secs(2));
    let mut service = layer.layer(ConcurrencyLimit::new(inner(), 1));
    let slow = || request(headers(BODY), frames(b"a", 3, Then::Hang));
    let mut reading = Box::pin(start(&mut service, slow()).await);
    assert!(is_pending(&mut reading).await);
    let mut waits = Box::pin(service.clone().oneshot(slow()));
    assert!(is_pending(&mut waits).await, "the permit is taken");
    let began = tokio::time::Instant::now();
    assert_eq!(reading.await.unwrap().status(), 408);
    assert_eq!(within(waits).await.unwrap().status(), 408);
    assert_eq!(
        (tokio::time::Instant::now() - began).as_secs(),
        4,
        "one after the other"
    );
    drop(start(&mut service, slow()).await);
    let answer = start(&mut service, good()).await.await;
    assert_eq!(answer.unwrap().status(), 200, "a drop gives it back");
}

#[tokio::test]
async fn readiness_is_kept_behind_concurrency_limit_and_buffer() {
    let limited = ServiceBuilder::new()
        .layer(layer())
        .concurrency_limit(1)
        .service(inner());
    assert_eq!(within(limited.oneshot(good())).await.unwrap().status(), 200);
    let buffered = ServiceBuilder::new()
        .layer(layer())
        .buffer(1)
        .concurrency_limit(1)
        .service(inner());
    let again = buffered.clone();
    assert_eq!(
        within(buffered.oneshot(good())).await.unwrap().status(),
        200
    );
    assert_eq!(within(again.oneshot(good())).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_layer_itself_can_stand_behind_them() {
    let service = ServiceBuilder::new()
        .buffer(2)
        .concurrency_limit(1)
        .layer(memoryless())
        .buffer(1)
        .concurrency_limit(1)
        .service(Strict::default());
    let tasks: Vec<_> = (0..32)
        .map(|index| {
            let request = if index % 3 == 0 { forged() } else { good() };
            (index, tokio::spawn(service.clone().oneshot(request)))
        })
        .collect();
    for (index, task) in tasks {
        let expected = if index % 3 == 0 { 401 } else { 200 };
        assert_eq!(within(task).await.unwrap().unwrap().status(), expected);
    }
}
