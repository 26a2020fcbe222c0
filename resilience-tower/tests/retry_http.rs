//! Which HTTP requests are sent again, and what of them.
#![cfg(all(feature = "retry", feature = "http"))]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use parking_lot::Mutex;
use proptest::prelude::*;
use resilience_core::retry::{Backoff, BudgetConfig, Config, RetryBudget, RetryPolicy};
use resilience_tower::retry::http::{HttpReplay, ReplayBody};
use resilience_tower::retry::{Replay, RetryLayer};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{ServiceBuilder, ServiceExt, service_fn};

fn policy() -> RetryPolicy {
    let backoff = Backoff::new(Duration::ZERO, Duration::ZERO).unwrap();
    let config = Config::builder().max_attempts(3).backoff(backoff).build();
    let budget = BudgetConfig::new(0.0, 0).unwrap().burst(1000).unwrap();
    RetryPolicy::new(config.unwrap(), RetryBudget::new(budget))
}

/// The bodies that an upstream got, which answers `status`.
async fn sent<B>(request: Request<B>, status: StatusCode, read: bool) -> Vec<Vec<u8>>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let upstream = service_fn(move |request: Request<ReplayBody<B>>| {
        let sink = Arc::clone(&sink);
        async move {
            let body = request.into_body();
            let bytes = if read {
                body.collect().await.unwrap().to_bytes().to_vec()
            } else {
                Vec::new()
            };
            sink.lock().push(bytes);
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        }
    });
    let layer = RetryLayer::new(policy()).http();
    let service = ServiceBuilder::new().layer(layer).service(upstream);
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), status);
    std::mem::take(&mut *seen.lock())
}

fn request(method: Method, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Request::builder().method(method).body(body).unwrap()
}

const BROKEN: StatusCode = StatusCode::BAD_GATEWAY;

#[tokio::test(start_paused = true)]
async fn idempotent_methods_are_sent_again_and_others_are_not() {
    for (method, times) in [
        (Method::GET, 3),
        (Method::HEAD, 3),
        (Method::OPTIONS, 3),
        (Method::TRACE, 3),
        (Method::PUT, 3),
        (Method::DELETE, 3),
        (Method::POST, 1),
        (Method::PATCH, 1),
        (Method::CONNECT, 1),
    ] {
        let bodies = sent(request(method.clone(), "x"), BROKEN, true).await;
        assert_eq!(bodies, vec![b"x".to_vec(); times], "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_lets_any_request_be_sent_again() {
    let mut post = request(Method::POST, "pay");
    post.headers_mut()
        .insert("Idempotency-Key", "1".parse().unwrap());
    assert_eq!(sent(post, BROKEN, true).await, vec![b"pay".to_vec(); 3]);
}

#[tokio::test(start_paused = true)]
async fn only_an_upstream_in_trouble_is_asked_again() {
    for (status, times) in [(200, 1), (404, 1), (500, 3), (503, 3), (429, 3)] {
        let status = StatusCode::from_u16(status).unwrap();
        let bodies = sent(request(Method::GET, ""), status, true).await;
        assert_eq!(bodies.len(), times, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_read_is_sent_whole_the_next_time() {
    assert_eq!(
        sent(request(Method::PUT, "x"), BROKEN, false).await.len(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_says_that_it_is_too_long_is_sent_once() {
    let limit = 64 * 1024;
    for (length, times) in [(limit, 3), (limit + 1, 1)] {
        let body = "x".repeat(length);
        let bodies = sent(request(Method::PUT, &body), BROKEN, true).await;
        assert_eq!(bodies, vec![body.into_bytes(); times]);
    }
}

fn streamed(
    frames: Vec<Result<Frame<Bytes>, &'static str>>,
) -> impl Body<Data = Bytes, Error = &'static str> + Send {
    StreamBody::new(futures_util::stream::iter(frames))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// The first attempt of a PUT, and what is kept of it.
#[allow(clippy::type_complexity)] // Said once.
fn kept<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
) -> (ReplayBody<B>, impl FnMut() -> Option<ReplayBody<B>>) {
    let replay = HttpReplay::default().body_limit(limit);
    let (first, kept) = replay.first(Request::put("/").body(body).unwrap(), true);
    let mut kept = kept.expect("it is kept");
    let again = move || replay.again(&mut kept).map(Request::into_body);
    (first.into_body(), again)
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_passes_on_and_is_not_sent_again() {
    let long = "x".repeat(40).leak() as &'static str;
    let (first, mut again) = kept(streamed(vec![data(long), data(long), data(long)]), 100);
    let bytes = first.collect().await.unwrap().to_bytes();
    assert_eq!(bytes.len(), 120);
    assert!(again().is_none());
}

#[tokio::test]
async fn many_small_frames_have_an_end() {
    let frames = (0..1000).map(|_| data("x")).collect();
    let (first, mut again) = kept(streamed(frames), 2000);
    assert_eq!(first.collect().await.unwrap().to_bytes().len(), 1000);
    assert!(again().is_none());
}

#[tokio::test]
async fn an_attempt_that_stopped_in_the_middle_leaves_all_to_the_next() {
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "1".parse().unwrap());
    let end = Ok(Frame::trailers(trailers.clone()));
    let (mut first, mut again) = kept(streamed(vec![data("ab"), data("cd"), data("ef"), end]), 999);
    assert!(again().is_none(), "the first attempt has it");
    for part in ["ab", "cd"] {
        let frame = first.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), part);
    }
    drop(first);
    // As often as it takes, whole or not.
    for _ in 0..2 {
        let mut next = again().unwrap();
        assert_eq!(
            next.frame().await.unwrap().unwrap().into_data().unwrap(),
            "ab"
        );
        drop(next);
        let whole = again().unwrap().collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "abcdef");
    }
}

#[tokio::test]
async fn a_body_that_is_sent_again_says_what_is_left_of_it() {
    let (mut body, mut again) = kept(Full::new(Bytes::from_static(b"four")), 999);
    for _ in 0..2 {
        assert_eq!(
            (body.size_hint().exact(), body.is_end_stream()),
            (Some(4), false)
        );
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "four"
        );
        assert_eq!(
            (body.size_hint().exact(), body.is_end_stream()),
            (Some(0), true)
        );
        assert!(body.frame().await.is_none());
        drop(body);
        body = again().unwrap();
    }
}

#[test]
fn nothing_is_kept_of_a_request_that_is_tried_only_once() {
    let request = Request::put("/").body(Full::<Bytes>::default()).unwrap();
    assert!(HttpReplay::default().first(request, false).1.is_none());
}

#[tokio::test]
async fn a_body_that_broke_off_is_not_sent_again() {
    let (first, mut again) = kept(streamed(vec![data("ab"), Err("gone")]), 999);
    assert_eq!(first.collect().await.unwrap_err(), "gone");
    assert!(again().is_none());
}

#[tokio::test]
async fn an_empty_body_is_kept_with_no_room_at_all() {
    let (first, mut again) = kept(Empty::<Bytes>::new(), 0);
    assert!(first.is_end_stream());
    drop(first);
    assert!(again().unwrap().is_end_stream());
}

#[tokio::test]
async fn a_body_that_waits_wakes_its_attempt() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let (first, mut again) = kept(StreamBody::new(frames), 999);
    let mut first = task::spawn(first.collect());
    assert_pending!(first.poll());
    sender.send(data("ab")).await.unwrap();
    assert!(first.is_woken());
    assert_pending!(first.poll());
    drop(first);
    drop(sender);
    let mut next = task::spawn(again().unwrap().collect());
    assert_eq!(assert_ready!(next.poll()).unwrap().to_bytes(), "ab");
}

proptest! {
    /// However each attempt was cut, the next one says and sends the whole body.
    #[test]
    fn every_attempt_sends_the_same_body(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..12),
        cuts in prop::collection::vec(0..14_usize, 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let frames: Vec<Result<Frame<Bytes>, Infallible>> =
            parts.iter().map(|part| Ok(Frame::data(Bytes::from(part.clone())))).collect();
        let whole = parts.concat();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let (first, mut again) = kept(body, 10_000);
        let mut attempt = Some(first);
        for cut in cuts {
            let mut body = attempt.take().unwrap();
            let mut sent = Vec::new();
            runtime.block_on(async {
                for _ in 0..cut {
                    let Some(frame) = body.frame().await else { break };
                    sent.extend(frame.unwrap().into_data().unwrap());
                }
            });
            prop_assert!(whole.starts_with(&sent));
            drop(body);
            attempt = again();
            prop_assert!(attempt.is_some());
        }
        let last = attempt.unwrap();
        let hint = last.size_hint();
        prop_assert!(hint.lower() <= whole.len() as u64);
        prop_assert!(hint.upper().is_none_or(|upper| upper >= whole.len() as u64));
        let sent = runtime.block_on(last.collect()).unwrap().to_bytes();
        prop_assert_eq!(sent, whole);
    }
}
