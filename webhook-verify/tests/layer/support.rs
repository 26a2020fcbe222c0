//! Deliveries, bodies, handlers and stores for the tests of the layer.

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
use tower::{Layer, Service, ServiceExt};
use webhook_verify::{
    Builder, Scheme, Secret, Signer, Verified, Verifier,
    clock::ManualWallClock,
    layer::{VerifiedBody, WebhookLayer},
    presets,
    replay::{
        MemoryReplayStore, ReplayKey, ReplayStore, Reserve, StoreError, StoreFuture, Times, Token,
    },
};

pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const BODY: &[u8] = b"{\"a\":1}";

pub(crate) fn secret() -> Secret {
    Secret::new("k1", "key").unwrap()
}

/// A verifier at `NOW` without a store.
pub(crate) fn builder(scheme: Scheme) -> Builder {
    Verifier::builder(scheme)
        .secret(secret())
        .clock(ManualWallClock::new(NOW))
}

pub(crate) fn timestamped() -> Builder {
    builder(presets::timestamped())
}

/// A verifier with a store and a limit of 1 KiB.
pub(crate) fn verifier(clock: &ManualWallClock) -> Verifier {
    timestamped()
        .clock(clock.clone())
        .replay(MemoryReplayStore::new(64))
        .body_limit(1024)
        .build()
        .unwrap()
}

pub(crate) fn layer() -> WebhookLayer {
    WebhookLayer::new(verifier(&ManualWallClock::new(NOW)))
}

pub(crate) fn signed_at(at: u64, body: &[u8]) -> HeaderMap {
    let signer = Signer::new(presets::timestamped(), secret());
    signer.sign_at(Duration::from_secs(at), body).unwrap()
}

pub(crate) fn headers(body: &[u8]) -> HeaderMap {
    signed_at(NOW, body)
}

pub(crate) fn request<B>(headers: HeaderMap, body: B) -> Request<B> {
    let mut request = Request::post("/hook").body(body).unwrap();
    *request.headers_mut() = headers;
    request
}

pub(crate) fn good() -> Request<Full<Bytes>> {
    request(headers(BODY), Full::from(BODY))
}

/// What follows the frames of [`Frames`].
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Then {
    Hang,
    End,
    Repeat,
    Fail,
}

/// Frames from a list; what follows is `Pending` for ever, the end, or an endless repeat.
pub(crate) struct Frames {
    chunk: &'static [u8],
    left: usize,
    then: Then,
    pub(crate) polls: Arc<AtomicUsize>,
}

pub(crate) fn frames(chunk: &'static [u8], left: usize, then: Then) -> Frames {
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
        let polls = self.polls.fetch_add(1, Ordering::Relaxed);
        let read = polls * self.chunk.len().max(16);
        assert!(read < 1 << 28, "whoever reads this never stops");
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

/// A body of what is there.
pub(crate) struct List(std::vec::IntoIter<Frame<Bytes>>);

impl List {
    pub(crate) fn of(chunks: impl Iterator<Item = Bytes>) -> Self {
        Self::of_frames(chunks.map(Frame::data).collect())
    }

    pub(crate) fn of_frames(frames: Vec<Frame<Bytes>>) -> Self {
        Self(frames.into_iter())
    }
}

impl Body for List {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

/// Echoes the body with the status that `status` holds, and counts its calls.
#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) status: Arc<Mutex<u16>>,
    pub(crate) calls: Arc<AtomicUsize>,
}

/// In place of a status: the handler panics, or fails.
pub(crate) const PANIC: u16 = 0;
pub(crate) const ERROR: u16 = 1;

pub(crate) fn inner() -> Inner {
    Inner {
        status: Arc::new(Mutex::new(200)),
        calls: Arc::default(),
    }
}

impl Inner {
    pub(crate) fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Service<Request<VerifiedBody>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Self::Response, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let verified = request.extensions().get::<Verified>().unwrap();
        assert_eq!(verified.key_id(), "k1");
        let status = *self.status.lock().unwrap();
        assert_ne!(status, PANIC, "panic asked for");
        std::future::ready(if status == ERROR {
            Err("error asked for")
        } else {
            let mut response = Response::new(Full::new(request.into_body().into_bytes()));
            *response.status_mut() = status.try_into().unwrap();
            Ok(response)
        })
    }
}

/// A handler that never answers.
pub(crate) fn never() -> impl Service<
    Request<VerifiedBody>,
    Response = Response<Full<Bytes>>,
    Error = &'static str,
    Future: Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(|_| std::future::pending())
}

/// Status, headers and body of the answer.
pub(crate) async fn answer<B>(
    layer: &WebhookLayer,
    inner: &Inner,
    request: Request<B>,
) -> (u16, HeaderMap, Bytes)
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let service = layer.layer(inner.clone());
    let (parts, body) = within(service.oneshot(request)).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, body)
}

pub(crate) async fn status<B>(layer: &WebhookLayer, inner: &Inner, request: Request<B>) -> u16
where
    B: Body<Data = Bytes> + Send + 'static,
{
    answer(layer, inner, request).await.0
}

/// Nothing may hang: under a paused clock this fails at once, else in the end.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, future)
        .await
        .expect("nothing may hang")
}

/// Polls once; true while pending.
pub(crate) async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

/// A store that does as it is told and counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) full: bool,
    pub(crate) out_of_order: bool,
    pub(crate) forgets: bool,
    /// Whether a reservation is ever answered.
    pub(crate) hangs: bool,
    pub(crate) reserved: Arc<AtomicUsize>,
    pub(crate) committed: Arc<AtomicUsize>,
    pub(crate) released: Arc<AtomicUsize>,
}

impl Store {
    /// Reserved, committed, released.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [&self.reserved, &self.committed, &self.released].map(|one| one.load(Ordering::Relaxed))
    }
}

impl ReplayStore for Store {
    fn reserve(&self, _: ReplayKey, _: Times) -> StoreFuture<'_, Reserve> {
        self.reserved.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            return StoreFuture::waiting(std::future::pending());
        }
        StoreFuture::ready(match (self.full, self.out_of_order) {
            (true, _) => Err(StoreError::Full),
            (_, true) => Err(StoreError::Outage),
            _ => Ok(Reserve::Reserved(Token(1))),
        })
    }

    fn commit(&self, _: ReplayKey, _: Token, _: Times) -> StoreFuture<'_, ()> {
        self.committed.fetch_add(1, Ordering::Relaxed);
        StoreFuture::ready(if self.forgets {
            Err(StoreError::Outage)
        } else {
            Ok(())
        })
    }

    fn release(&self, _: ReplayKey, _: Token) {
        self.released.fetch_add(1, Ordering::Relaxed);
    }
}

/// Never an error.
pub(crate) fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
