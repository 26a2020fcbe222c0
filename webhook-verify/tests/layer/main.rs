//! Behaviour of the tower layer.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use webhook_verify::{
    IpRules, Secret, Signer, Step, Verified, Verifier,
    clock::ManualWallClock,
    layer::{Event, PeerAddr, VerifiedBody, WebhookLayer},
    presets,
    replay::MemoryReplayStore,
};

const NOW: u64 = 1_700_000_000;
const BODY: &[u8] = b"{\"a\":1}";

fn secret() -> Secret {
    Secret::new("k1", "key").unwrap()
}

fn verifier(clock: &ManualWallClock) -> Verifier {
    Verifier::builder(presets::timestamped())
        .secret(secret())
        .clock(clock.clone())
        .replay(MemoryReplayStore::new(64))
        .body_limit(1024)
        .build()
        .unwrap()
}

fn headers(body: &[u8]) -> HeaderMap {
    let signer = Signer::new(presets::timestamped(), secret());
    signer.sign_at(Duration::from_secs(NOW), body).unwrap()
}

fn request<B>(headers: HeaderMap, body: B) -> Request<B> {
    let mut request = Request::post("/hook").body(body).unwrap();
    *request.headers_mut() = headers;
    request
}

fn good() -> Request<Full<Bytes>> {
    request(headers(BODY), Full::from(BODY))
}

/// Frames from a list; what follows is `Pending` for ever, the end, or an endless repeat.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Hang,
    End,
    Repeat,
    Fail,
}

struct Frames {
    chunk: &'static [u8],
    left: usize,
    then: Then,
    polls: Arc<AtomicUsize>,
}

fn frames(chunk: &'static [u8], left: usize, then: Then) -> Frames {
    Frames {
        chunk,
        left,
        then,
        polls: Arc::default(),
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if self.left == 0 && self.then != Then::Repeat {
            return match self.then {
                Then::Hang => Poll::Pending,
                Then::Fail => Poll::Ready(Some(Err("broken"))),
                _ => Poll::Ready(None),
            };
        }
        self.left = self.left.saturating_sub(1);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.chunk)))))
    }
}

/// Echoes the body with the status that `status` holds, and counts its calls.
#[derive(Clone)]
struct Inner {
    status: Arc<Mutex<u16>>,
    calls: Arc<AtomicUsize>,
}

fn inner() -> Inner {
    Inner {
        status: Arc::new(Mutex::new(200)),
        calls: Arc::default(),
    }
}

impl Service<Request<VerifiedBody>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert_eq!(
            request.extensions().get::<Verified>().unwrap().key_id(),
            "k1"
        );
        let status = *self.status.lock().unwrap();
        assert_ne!(status, 0, "panic asked for");
        let mut response = Response::new(Full::new(request.into_body().into_bytes()));
        *response.status_mut() = status.try_into().unwrap();
        std::future::ready(Ok(response))
    }
}

async fn status<B>(layer: &WebhookLayer, inner: &Inner, request: Request<B>) -> u16
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let service = layer.layer(inner.clone());
    service.oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_inner_service_gets_the_bytes_as_received() {
    let layer = WebhookLayer::new(verifier(&ManualWallClock::new(NOW)));
    let response = layer.layer(inner()).oneshot(good()).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        BODY
    );
    let chunked = request(headers(b"aaaaaaaaaa"), frames(b"a", 10, Then::End));
    let response = layer.layer(inner()).oneshot(chunked).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "aaaaaaaaaa"
    );
}

#[tokio::test]
async fn a_replayed_delivery_is_acknowledged_without_effect() {
    // D.c3
    let (clock, inner) = (ManualWallClock::new(NOW), inner());
    let layer = WebhookLayer::new(verifier(&clock));
    assert_eq!(status(&layer, &inner, good()).await, 200);
    clock.advance(Duration::from_secs(10));
    assert_eq!(status(&layer, &inner, good()).await, 200);
    assert_eq!(
        inner.calls.load(Ordering::Relaxed),
        1,
        "the replay must have no effect"
    );
    clock.advance(Duration::from_secs(291));
    assert_eq!(status(&layer, &inner, good()).await, 401);
}

#[tokio::test]
async fn a_delivery_in_flight_is_refused_with_retry_after() {
    let layer = WebhookLayer::new(verifier(&ManualWallClock::new(NOW)));
    let never = service_fn(|_: Request<VerifiedBody>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let mut first = Box::pin(layer.layer(never).oneshot(good()));
    assert!(futures_poll(&mut first).await);
    let second = layer.layer(inner()).oneshot(good()).await.unwrap();
    assert_eq!(
        (second.status().as_u16(), &second.headers()["retry-after"]),
        (409, &"60".parse().unwrap())
    );
    drop(first);
    assert_eq!(
        status(&layer, &inner(), good()).await,
        200,
        "a drop gives the delivery back"
    );
}

/// Polls once; true while pending.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

#[tokio::test]
async fn a_failed_or_panicked_handler_gives_the_delivery_back() {
    let (layer, inner) = (
        WebhookLayer::new(verifier(&ManualWallClock::new(NOW))),
        inner(),
    );
    *inner.status.lock().unwrap() = 500;
    assert_eq!(status(&layer, &inner, good()).await, 500);
    *inner.status.lock().unwrap() = 0;
    let (task_layer, task_inner) = (layer.clone(), inner.clone());
    let task = tokio::spawn(async move { status(&task_layer, &task_inner, good()).await });
    assert!(task.await.unwrap_err().is_panic());
    *inner
        .status
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner()) = 200;
    inner.status.clear_poison();
    assert_eq!(status(&layer, &inner, good()).await, 200);
    assert_eq!(inner.calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn slow_endless_failing_and_empty_bodies_end_in_a_bounded_answer() {
    let (layer, inner) = (
        WebhookLayer::new(verifier(&ManualWallClock::new(NOW))),
        inner(),
    );
    for (body, expected) in [
        (frames(b"a", 3, Then::Hang), 408),
        (frames(b"a", 0, Then::Repeat), 413),
        (frames(b"", 0, Then::Repeat), 400),
        (frames(b"a", 3, Then::Fail), 400),
        (frames(b"a", 3, Then::End), 401),
    ] {
        assert_eq!(
            status(&layer, &inner, request(headers(BODY), body)).await,
            expected
        );
    }
    assert_eq!(inner.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn nothing_of_the_body_is_polled_when_an_earlier_step_failed() {
    let clock = ManualWallClock::new(NOW);
    let denied = Verifier::builder(presets::timestamped())
        .secret(secret())
        .clock(clock.clone())
        .source(IpRules::allow(["192.0.2.1"]).unwrap())
        .build()
        .unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let layer = WebhookLayer::new(denied).on_event(move |event| {
        if let Event::Rejected { error, remote_ip } = event {
            seen.lock().unwrap().push((error.step(), *remote_ip));
        }
    });
    let body = frames(b"a", 3, Then::End);
    let polls = Arc::clone(&body.polls);
    let mut from = request(headers(b"aaa"), body);
    from.extensions_mut()
        .insert(PeerAddr("198.51.100.1:9".parse().unwrap()));
    assert_eq!(status(&layer, &inner(), from).await, 403);
    assert_eq!(
        *events.lock().unwrap(),
        [(Step::Source, "198.51.100.1".parse().ok())]
    );

    let layer = WebhookLayer::new(verifier(&clock));
    let large = frames(b"a", 3, Then::End);
    let large_polls = Arc::clone(&large.polls);
    let mut large = request(headers(b"aaa"), large);
    large
        .headers_mut()
        .insert("content-length", "70368744177664".parse().unwrap());
    assert_eq!(status(&layer, &inner(), large).await, 413);
    assert_eq!(
        (
            polls.load(Ordering::Relaxed),
            large_polls.load(Ordering::Relaxed)
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn a_refusal_after_the_source_step_reports_the_forwarded_sender() {
    let clock = ManualWallClock::new(NOW + 301);
    let rules = IpRules::allow(["192.0.2.0/24"]).unwrap();
    let behind_proxy = Verifier::builder(presets::timestamped())
        .secret(secret())
        .clock(clock.clone())
        .source(rules.trust_proxies(["10.0.0.0/8"]).unwrap())
        .build()
        .unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let layer = WebhookLayer::new(behind_proxy).on_event(move |event| {
        if let Event::Rejected { error, remote_ip } = event {
            seen.lock().unwrap().push((error.step(), *remote_ip));
        }
    });
    for forwarded in ["192.0.2.7", "203.0.113.9"] {
        let mut late = good();
        late.extensions_mut()
            .insert(PeerAddr("[::ffff:10.0.0.1]:9".parse().unwrap()));
        late.headers_mut()
            .insert("x-forwarded-for", forwarded.parse().unwrap());
        status(&layer, &inner(), late).await;
    }
    assert_eq!(
        *events.lock().unwrap(),
        [
            (Step::Timestamp, "192.0.2.7".parse().ok()),
            (Step::Source, "203.0.113.9".parse().ok())
        ]
    );
}

#[tokio::test]
async fn readiness_is_kept_behind_concurrency_limit_and_buffer() {
    let layer = WebhookLayer::new(verifier(&ManualWallClock::new(NOW)));
    let limited = ServiceBuilder::new()
        .layer(layer.clone())
        .concurrency_limit(1)
        .service(inner());
    assert_eq!(limited.oneshot(good()).await.unwrap().status(), 200);
    let buffered = ServiceBuilder::new()
        .layer(layer)
        .buffer(1)
        .service(inner());
    let again = buffered.clone();
    assert_eq!(buffered.oneshot(good()).await.unwrap().status(), 200);
    assert_eq!(again.oneshot(good()).await.unwrap().status(), 200);
}
