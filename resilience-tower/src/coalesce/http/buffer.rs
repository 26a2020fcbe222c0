use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::response::Parts;
use ::http::{HeaderMap, Response};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use pin_project::pin_project;
use tower_service::Service;

use super::SharedBody;
use super::body::Whole;

/// Which bodies are read into memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Limits {
    bytes: usize,
    unknown: bool,
}

impl Default for Limits {
    /// 1 MiB; only bodies that say how long they are at most.
    fn default() -> Self {
        Self {
            bytes: 1024 * 1024,
            unknown: false,
        }
    }
}

impl Limits {
    /// Bodies of up to this many bytes; longer ones are passed on as they come.
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Also bodies that do not say how long they are (without `Content-Length`). What was read of one
    /// that turns out too long is passed on before the rest. A response that streams for ever, such as
    /// server-sent events, would be held back until the limit is reached: only for upstreams
    /// that have none.
    pub const fn unknown_lengths(mut self, read: bool) -> Self {
        self.unknown = read;
        self
    }

    /// Whether the body is worth beginning to read.
    fn may_fit(self, body: &impl Body) -> bool {
        let hint = body.size_hint();
        let limit = self.bytes as u64;
        let upper = hint.upper().map_or(self.unknown, |upper| upper <= limit);
        upper && hint.lower() <= limit
    }
}

/// A service that reads the bodies of its responses into memory, up to a limit.
#[derive(Clone, Debug)]
pub struct Buffer<S> {
    inner: S,
    limits: Limits,
}

impl<S> Buffer<S> {
    /// Reads the bodies of `inner` within `limits`.
    pub const fn new(inner: S, limits: Limits) -> Self {
        Self { inner, limits }
    }

    /// The service within.
    pub const fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, Req, B> Service<Req> for Buffer<S>
where
    S: Service<Req, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Response<SharedBody<B>>;
    type Error = S::Error;
    type Future = BufferFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        BufferFuture {
            inner: self.inner.call(request),
            reading: None,
            limits: self.limits,
        }
    }
}

/// The response of a [`Buffer`].
///
/// # Cancel safety
///
/// Dropping the future drops the inner future, or the body that is read.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct BufferFuture<F, B: Body> {
    #[pin]
    inner: F,
    reading: Option<Reading<B>>,
    limits: Limits,
}

struct Reading<B> {
    head: Parts,
    body: Pin<Box<B>>,
    read: Read,
}

/// Bytes read. One frame is kept as it is, more are copied together: they would take more room than
/// their bytes, and many small ones much more.
enum Read {
    Frame(Bytes),
    Frames(BytesMut),
}

/// Why reading stopped.
enum Stop<E> {
    End(Option<HeaderMap>),
    TooLong,
    Failed(E),
}

impl<F, B, E> Future for BufferFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<SharedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let reading = match this.reading {
            Some(reading) => reading,
            None => {
                let (head, body) = ready!(this.inner.poll(cx))?.into_parts();
                let fits = this.limits.may_fit(&body);
                let body = Box::pin(body);
                if !fits {
                    let body = SharedBody::rest(Bytes::new(), Ok(body));
                    return Poll::Ready(Ok(Response::from_parts(head, body)));
                }
                let read = Read::Frame(Bytes::new());
                this.reading.insert(Reading { head, body, read })
            }
        };
        let stop = ready!(reading.poll(cx, this.limits.bytes));
        // Polled after it was ready: there is nothing more to say.
        let Some(Reading { head, body, read }) = this.reading.take() else {
            return Poll::Pending;
        };
        let bytes = read.bytes();
        let body = match stop {
            Stop::End(trailers) => SharedBody::whole(Whole { bytes, trailers }),
            Stop::TooLong => SharedBody::rest(bytes, Ok(body)),
            Stop::Failed(error) => SharedBody::rest(bytes, Err(error)),
        };
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

impl<B: Body<Data = Bytes>> Reading<B> {
    /// Reads until the end, an error, or beyond the limit.
    fn poll(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Stop<B::Error>> {
        loop {
            let frame = match ready!(self.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Stop::End(None)),
                Some(Err(error)) => return Poll::Ready(Stop::Failed(error)),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(bytes) => {
                    self.read.add(bytes);
                    if self.read.len() > limit {
                        return Poll::Ready(Stop::TooLong);
                    }
                }
                // They are the last frame.
                Err(frame) => return Poll::Ready(Stop::End(frame.into_trailers().ok())),
            }
        }
    }
}

impl Read {
    fn len(&self) -> usize {
        match self {
            Self::Frame(bytes) => bytes.len(),
            Self::Frames(bytes) => bytes.len(),
        }
    }

    fn add(&mut self, next: Bytes) {
        match self {
            Self::Frame(first) if first.is_empty() => *first = next,
            Self::Frame(first) => {
                let mut bytes = BytesMut::with_capacity(first.len() + next.len());
                bytes.extend_from_slice(first);
                bytes.extend_from_slice(&next);
                *self = Self::Frames(bytes);
            }
            Self::Frames(bytes) => bytes.extend_from_slice(&next),
        }
    }

    fn bytes(self) -> Bytes {
        match self {
            Self::Frame(bytes) => bytes,
            Self::Frames(bytes) => bytes.freeze(),
        }
    }
}

// By hand: responses under construction say little.
impl<F, B: Body> fmt::Debug for BufferFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferFuture")
            .field("reads", &self.reading.is_some())
            .finish_non_exhaustive()
    }
}
