//! What the handler gets, and what bodies may cost.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};
use webhook_verify::layer::{VerifiedBody, WebhookLayer};

use super::support::{
    BODY, List, Then, answer, frames, good, headers, infallible, inner, is_pending, layer, request,
    status, timestamped,
};

/// What a handler sees of a delivery in these frames: all at once, and frame by frame.
fn handled(body: &[u8], frames: Vec<Frame<Bytes>>) -> [Bytes; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let handler = service_fn(|request: Request<VerifiedBody>| async move {
        let body = request.into_body();
        assert_eq!(
            body.size_hint().exact(),
            Some(body.clone().into_bytes().len() as u64)
        );
        let whole = body.clone().into_bytes();
        let collected = infallible(body.collect().await);
        assert!(collected.trailers().is_none(), "trailers are not signed");
        let parts = Full::new(collected.to_bytes());
        let mut response = Response::new(parts);
        response.extensions_mut().insert(whole);
        Ok::<_, std::convert::Infallible>(response)
    });
    let layer = WebhookLayer::new(timestamped().build().unwrap());
    runtime.block_on(async {
        let response = layer
            .layer(handler)
            .oneshot(request(headers(body), List::of_frames(frames)));
        let response = infallible(response.await);
        assert_eq!(response.status(), 200);
        let whole = response.extensions().get::<Bytes>().unwrap().clone();
        [
            whole,
            infallible(response.into_body().collect().await).to_bytes(),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_handler_gets_the_bytes_as_received_however_they_are_cut(
        chunks in prop::collection::vec((any::<u8>(), 0_usize..9000), 0..12),
        trailers: bool,
    ) {
        let chunks: Vec<_> = chunks.iter().map(|(byte, len)| vec![*byte; *len]).collect();
        let body = chunks.concat();
        let mut frames: Vec<_> = chunks.into_iter().map(|one| Frame::data(one.into())).collect();
        if trailers {
            let mut map = HeaderMap::new();
            map.insert("x-webhook-signature", "forged".parse().unwrap());
            frames.push(Frame::trailers(map));
        }
        let [whole, parts] = handled(&body, frames);
        prop_assert_eq!(&whole, &body);
        prop_assert_eq!(&parts, &body);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_endless_failing_and_empty_bodies_end_in_a_bounded_answer() {
    let (layer, inner) = (layer(), inner());
    for (body, expected, polls) in [
        (frames(b"a", 3, Then::Hang), 408, 3..=6),
        (frames(b"a", 0, Then::Repeat), 413, 1025..=1025),
        (frames(b"", 0, Then::Repeat), 400, 1..=100),
        (frames(b"a", 3, Then::Fail), 400, 4..=4),
        (frames(b"a", 3, Then::End), 401, 4..=4),
    ] {
        let counted = Arc::clone(&body.polls);
        assert_eq!(
            status(&layer, &inner, request(headers(BODY), body)).await,
            expected
        );
        let counted = counted.load(Ordering::Relaxed);
        assert!(polls.contains(&counted), "{expected}: {counted} polls");
    }
    assert_eq!(inner.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_read_deadline_is_for_the_whole_body_and_not_for_a_frame() {
    /// A byte every second.
    struct Drip(Pin<Box<tokio::time::Sleep>>);
    impl Body for Drip {
        type Data = Bytes;
        type Error = &'static str;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            std::task::ready!(self.0.as_mut().poll(cx));
            let next = tokio::time::Instant::now() + Duration::from_secs(1);
            self.0.as_mut().reset(next);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a")))))
        }
    }
    let drip = || Drip(Box::pin(tokio::time::sleep(Duration::from_secs(1))));
    for (deadline, seconds) in [(None, 10), (Some(Duration::from_secs(3)), 3)] {
        let layer = deadline.map_or_else(layer, |deadline| layer().read_deadline(deadline));
        let began = tokio::time::Instant::now();
        assert_eq!(
            status(&layer, &inner(), request(headers(BODY), drip())).await,
            408
        );
        assert_eq!((tokio::time::Instant::now() - began).as_secs(), seconds);
    }
    let short = timestamped().body_limit(30).build().unwrap();
    let unhurried = WebhookLayer::new(short).read_deadline(Duration::MAX);
    assert_eq!(
        status(&unhurried, &inner(), request(headers(BODY), drip())).await,
        413
    );
    let at_once = layer().read_deadline(Duration::ZERO);
    assert_eq!(status(&at_once, &inner(), good()).await, 200);
    assert_eq!(
        status(&at_once, &inner(), request(headers(BODY), drip())).await,
        408
    );
}

/// Real time: what is always ready leaves a paused clock no chance to move.
#[tokio::test]
async fn a_body_that_is_always_ready_ends_at_the_deadline_where_there_is_no_limit() {
    let boundless = timestamped().body_limit(usize::MAX).build().unwrap();
    let layer = WebhookLayer::new(boundless).read_deadline(Duration::from_millis(20));
    let endless = request(headers(BODY), frames(b"a", 0, Then::Repeat));
    assert_eq!(status(&layer, &inner(), endless).await, 408);
}

#[tokio::test]
async fn a_body_that_waits_is_polled_only_when_woken() {
    let body = frames(b"a", 3, Then::Hang);
    let polls = Arc::clone(&body.polls);
    let service = layer().layer(inner());
    let mut waiting = Box::pin(service.oneshot(request(headers(BODY), body)));
    let flag = Arc::new(Woken::default());
    let waker = std::task::Waker::from(Arc::clone(&flag));
    assert!(
        waiting
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert_eq!(polls.load(Ordering::Relaxed), 4);
    assert_eq!(
        flag.0.load(Ordering::Relaxed),
        0,
        "nobody asks for another poll"
    );
    assert!(is_pending(&mut waiting).await);
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_refused() {
    for length in ["6", "8", "0", "007"] {
        let mut lying = good();
        lying
            .headers_mut()
            .insert("content-length", length.parse().unwrap());
        // Leading zeros are digits and change nothing.
        let expected = if length == "007" { 200 } else { 400 };
        assert_eq!(
            status(&layer(), &inner(), lying).await,
            expected,
            "{length}"
        );
    }
    let mut twice = good();
    twice
        .headers_mut()
        .append("content-length", "7".parse().unwrap());
    twice
        .headers_mut()
        .append("content-length", "6".parse().unwrap());
    assert_eq!(status(&layer(), &inner(), twice).await, 400);
}

#[tokio::test]
async fn the_limit_itself_passes_and_one_byte_more_does_not() {
    // D.c6
    let body: &'static [u8] = &[b'a'; 1024];
    let exact = request(headers(body), frames(body, 1, Then::End));
    let (code, _, echoed) = answer(&layer(), &inner(), exact).await;
    assert_eq!((code, echoed.as_ref()), (200, body));
    let body: &'static [u8] = &[b'a'; 1025];
    let more = request(headers(body), frames(body, 1, Then::End));
    assert_eq!(status(&layer(), &inner(), more).await, 413);
}

/// The most bytes that were taken at a time while the request was answered.
fn memory<B>(layer: WebhookLayer, request: Request<B>) -> (u16, u64)
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let service = layer.layer(inner());
    let mut code = 0;
    let used = allocation_counter::measure(|| {
        code = runtime
            .block_on(service.oneshot(request))
            .unwrap()
            .status()
            .as_u16();
    });
    (code, used.bytes_max)
}

#[test]
fn what_is_announced_takes_no_memory() {
    const FEW: u64 = 64 * 1024;
    for (limit, length, expected) in [
        (1 << 20, "70368744177664", 413),
        (usize::MAX, "70368744177664", 400),
        (1 << 40, "1099511627776", 400),
    ] {
        let layer = WebhookLayer::new(timestamped().body_limit(limit).build().unwrap());
        let mut announced = good();
        announced
            .headers_mut()
            .insert("content-length", length.parse().unwrap());
        let (code, used) = memory(layer, announced);
        assert_eq!(code, expected, "{limit}");
        assert!(used < FEW, "{used} bytes for {}", BODY.len());
    }
}

#[test]
fn memory_follows_what_has_arrived() {
    /// Nothing beyond the limit is kept, whatever the size of the frames.
    const LIMIT: usize = 256 * 1024;
    for chunk in [
        b"a".as_slice(),
        &[b'a'; 4095],
        &[b'a'; 4096],
        &[b'a'; 65_536],
    ] {
        let layer = WebhookLayer::new(timestamped().body_limit(LIMIT).build().unwrap());
        let endless = request(headers(BODY), frames(chunk, 0, Then::Repeat));
        let (code, used) = memory(layer, endless);
        assert_eq!(code, 413);
        assert!(
            used < 4 * LIMIT as u64,
            "{used} bytes for frames of {}",
            chunk.len()
        );
    }
}

/// More headers than a map holds cannot come; a full one must not cost more than a look.
#[tokio::test]
async fn a_full_header_map_is_answered() {
    const MOST: usize = 24_576;
    for (name, expected) in [
        ("x-other", 200),
        ("x-webhook-signature", 400),
        ("x-webhook-timestamp", 400),
        ("x-forwarded-for", 200),
        ("content-length", 413),
    ] {
        let mut full = good();
        let headers = full.headers_mut();
        for index in 0..MOST {
            let value = index.to_string().parse().unwrap();
            headers.try_append(name, value).unwrap();
        }
        for index in 0.. {
            let name = http::HeaderName::try_from(format!("x-{index}")).unwrap();
            if headers.try_append(name, "1".parse().unwrap()).is_err() {
                break;
            }
        }
        assert!(headers.len() > 32_000, "{}", headers.len());
        assert_eq!(status(&layer(), &inner(), full).await, expected, "{name}");
    }
}

#[test]
fn an_empty_body_has_no_frames() {
    assert!(VerifiedBody::default().is_end_stream());
    assert_eq!(VerifiedBody::default().size_hint().exact(), Some(0));
    assert_eq!(SizeHint::with_exact(0).exact(), Some(0));
    let [whole, parts] = handled(b"", vec![]);
    assert!(whole.is_empty() && parts.is_empty());
}
