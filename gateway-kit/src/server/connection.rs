//! One connection of a client, from its first byte to its last.

use std::convert::Infallible;
use std::io;
use std::iter;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;

use crate::alarm::Timer;
use crate::body::Body;
use crate::config::ServerConfig;
use crate::server::answer::Answered;
use crate::server::bare::Refuse;
use crate::server::client_body::ClientBody;
use crate::server::framing::Framing;
use crate::server::interim::{Interim, Interims};
use crate::server::limits::Slot;
use crate::server::stream::{Start, Watched};
use crate::server::{Downstream, Inner};

/// Counts the connection of a request as open, for as long as a clone is kept.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSlot {
    _slot: Arc<Slot>,
}

/// What a connection needs to be served.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) inner: Arc<Inner>,
    pub(super) downstream: Downstream,
    pub(super) server: Arc<ServerConfig>,
    pub(super) slot: ConnectionSlot,
    /// True once the gateway stops.
    pub(super) stop: watch::Receiver<bool>,
}

impl ConnectionSlot {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            _slot: Arc::new(slot),
        }
    }
}

/// What hyper says of a connection that ended.
type Ended = Result<(), hyper::Error>;

impl Serving {
    /// Serves a connection without TLS, in the protocol that its first bytes tell.
    pub(super) async fn plain<S>(self, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if !cfg!(feature = "http2") || !self.server.http2 {
            return self.http1(stream, Start::default()).await;
        }
        let first = tokio::time::timeout(self.server.header_timeout, first_bytes(&mut stream));
        match first.await {
            Ok(Ok(start)) if start.bytes == *PREFACE => self.http2(stream, start).await,
            Ok(Ok(start)) => self.http1(stream, start).await,
            Ok(Err(_)) | Err(_) => {}
        }
    }

    pub(super) async fn http1<S>(self, stream: S, start: Start)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut serving = self.clone();
        serving.downstream.alarm = Some(Arc::default());
        let framing = Arc::<Framing>::default();
        let stream = Watched::new(
            stream,
            start,
            Arc::clone(&framing),
            self.server.write_timeout,
            Refuse::new(&self.inner),
        );
        let interims = self.server.interim_answers.then(Arc::<Interims>::default);
        let stream = stream.with_interims(interims.clone());
        let shared = Arc::new((serving, Arc::clone(&framing)));
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            let number = shared.1.next_request(request.extensions_mut());
            let is_head = request.method() == Method::HEAD;
            // RFC 9110, section 15.2: HTTP/1.0 knows none.
            let interims = interims.as_ref();
            let interims = interims.filter(|_| request.version() == Version::HTTP_11);
            let interim = interims.map(|interims| Interim::begin(interims, number));
            if let Some(interim) = &interim {
                request.extensions_mut().insert(interim.clone());
            }
            async move {
                let (serving, framing) = &*shared;
                let mut response = serving.answer(request).await;
                if let Some(interim) = interim {
                    interim.answered().await;
                }
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    framing.leave();
                } else if serving.is_last(number) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                let framing = Arc::clone(framing);
                Ok::<_, Infallible>(response.map(|body| Answered::new(body, framing, is_head)))
            }
        });
        let mut builder = http1::Builder::new();
        // hyper's own number has its place on the stack; another is cleared for each head.
        if self.server.max_headers != MOST_HEADERS {
            builder.max_headers(self.server.max_headers);
        }
        let connection = builder
            .timer(Timer::default())
            .header_read_timeout(self.server.header_timeout)
            // The buffer alone is no bound: it is looked at only while a head is not complete.
            .max_header_size(self.server.max_head_bytes)
            .max_buf_size(self.server.max_head_bytes)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut stop = self.stop.clone();
        // Looked at when it is woken, and not whenever the connection is.
        let mut stopping: FuturesUnordered<_> = iter::once(stopped(&mut stop)).collect();
        let ended: Ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            _ = stopping.next() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // A refused head was counted with its answer.
        if !framing.is_refused() {
            self.ended(ended);
        }
    }

    /// The request as the pipeline takes it, and its answer.
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, incoming) = request.into_parts();
        let body = if http_body::Body::is_end_stream(&incoming) {
            Body::empty()
        } else {
            let body = ClientBody::new(incoming, parts.version, &parts.headers, &self.server);
            Body::from(body)
        };
        // A tunnel outlives its request.
        if parts.headers.contains_key(UPGRADE) || parts.method == Method::CONNECT {
            parts.extensions.insert(self.slot.clone());
        }
        let request = Request::from_parts(parts, body);
        self.inner.handle(request, self.downstream.clone()).await
    }

    /// Whether the connection has had as many requests as it may.
    fn is_last(&self, number: u64) -> bool {
        let most = self.server.max_requests_per_connection;
        most.is_some_and(|most| number >= most.get())
    }

    fn ended(&self, ended: Ended) {
        let Err(error) = ended else { return };
        tracing::debug!(peer = %self.downstream.peer, %error, "connection ended");
        // hyper has answered such a request itself; it is counted all the same.
        if error.is_parse() {
            let status = if error.is_parse_too_large() {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            } else {
                StatusCode::BAD_REQUEST
            };
            self.inner.shared.metrics.malformed(status);
        }
    }
}

#[cfg(not(feature = "http2"))]
impl Serving {
    pub(super) async fn http2<S>(self, stream: S, start: Start)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.http1(stream, start).await;
    }
}

/// How many fields of a head hyper takes when it is not told a number.
const MOST_HEADERS: usize = 100;

/// Done once the gateway stops, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is known whether the connection begins with the preface.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Start> {
    let mut start = Start::default();
    while start.len < PREFACE.len() && PREFACE.starts_with(&start.bytes[..start.len]) {
        let read = stream.read(&mut start.bytes[start.len..]).await?;
        if read == 0 {
            break;
        }
        start.len += read;
    }
    Ok(start)
}

#[cfg(feature = "http2")]
mod h2 {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use http_body::{Body as HttpBody, Frame, SizeHint};
    use hyper::server::conn::http2;
    use hyper_util::rt::TokioTimer;
    use tokio::sync::Notify;

    use super::*;
    use crate::body::BoxError;
    use crate::server::stall::{self, Streams};

    impl Serving {
        pub(in crate::server) async fn http2<S>(self, stream: S, start: Start)
        where
            S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        {
            let framing = Arc::<Framing>::default();
            framing.leave();
            let refuse = Refuse::new(&self.inner);
            let stream = Watched::new(stream, start, framing, self.server.write_timeout, refuse);
            let longest = self.server.write_timeout;
            let load = Arc::<Load>::default();
            let (serving, counted) = (Arc::new(self.clone()), Arc::clone(&load));
            let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                let stream = Stream::begin(&counted);
                if request.method() == Method::CONNECT {
                    request.extensions_mut().insert(Tunnel::begin(&counted));
                }
                let serving = Arc::clone(&serving);
                async move {
                    let response = serving.answer(request).await;
                    Ok::<_, Infallible>(response.map(|body| Counted {
                        body,
                        rest: Bytes::new(),
                        stream,
                    }))
                }
            });
            let connection = http2::Builder::new(Streams { longest })
                .timer(TokioTimer::new())
                .enable_connect_protocol()
                .max_concurrent_streams(self.server.max_concurrent_streams)
                .max_header_list_size(u32::try_from(self.server.max_head_bytes).unwrap_or(u32::MAX))
                .max_pending_accept_reset_streams(MOST_PENDING_RESETS)
                .max_local_error_reset_streams(MOST_LOCAL_RESETS)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PING)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let mut stop = self.stop.clone();
            let mut idle = pin!(load.idle(self.server.header_timeout));
            let mut closing = false;
            let ended: Ended = loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    () = stopped(&mut stop), if !closing => closing = true,
                    () = load.last(&self), if !closing => closing = true,
                    () = load.flooded.notified() => {
                        tracing::warn!(peer = %self.downstream.peer, "a flood of resets: closing");
                        return;
                    }
                    () = idle.as_mut() => {
                        // Said goodbye a while ago, and the client is still there.
                        if closing {
                            return;
                        }
                        closing = true;
                    }
                }
                if closing {
                    connection.as_mut().graceful_shutdown();
                    idle.set(load.idle(self.server.header_timeout));
                }
            };
            self.ended(ended);
        }
    }

    /// Streams that were reset before we took them: above this the connection ends
    /// (CVE-2023-44487). hyper's own default, said so that it stays.
    const MOST_PENDING_RESETS: usize = 20;
    /// Streams that we reset for errors of the client (CVE-2025-8671).
    const MOST_LOCAL_RESETS: usize = 256;
    /// How often a silent connection is asked whether it lives, and how long it may think.
    const PING: Duration = Duration::from_secs(30);
    /// Streams that were taken and reset before their answer ended, above which a connection
    /// that resets more than it lets finish is closed.
    const MOST_CANCELLED: u64 = 200;

    /// The streams of a connection.
    // ORDERING: Relaxed throughout; counts that publish nothing else.
    #[derive(Debug, Default)]
    struct Load {
        active: AtomicUsize,
        begun: AtomicU64,
        cancelled: AtomicU64,
        began: Notify,
        flooded: Notify,
    }

    impl Load {
        /// Done when there was no stream for `time`.
        async fn idle(&self, time: Duration) {
            let mut seen = None;
            loop {
                let begun = self.begun.load(Ordering::Relaxed);
                if self.active.load(Ordering::Relaxed) == 0 && seen == Some(begun) {
                    return;
                }
                seen = Some(begun);
                tokio::time::sleep(time).await;
            }
        }

        /// Done when the connection has had its last request.
        async fn last(&self, serving: &Serving) {
            while !serving.is_last(self.begun.load(Ordering::Relaxed)) {
                self.began.notified().await;
            }
        }
    }

    /// One stream, counted from its request to the end of its answer.
    #[derive(Debug)]
    struct Stream {
        load: Arc<Load>,
        complete: bool,
    }

    impl Stream {
        fn begin(load: &Arc<Load>) -> Self {
            load.active.fetch_add(1, Ordering::Relaxed);
            load.begun.fetch_add(1, Ordering::Relaxed);
            load.began.notify_one();
            Self {
                load: Arc::clone(load),
                complete: false,
            }
        }
    }

    impl Drop for Stream {
        fn drop(&mut self) {
            let load = &self.load;
            load.active.fetch_sub(1, Ordering::Relaxed);
            if self.complete {
                return;
            }
            let cancelled = load.cancelled.fetch_add(1, Ordering::Relaxed) + 1;
            let begun = load.begun.load(Ordering::Relaxed);
            if cancelled > MOST_CANCELLED && cancelled.saturating_mul(2) > begun {
                load.flooded.notify_one();
            }
        }
    }

    /// What a stream that may become a tunnel is counted by for as long as a clone is kept.
    #[derive(Clone, Debug)]
    struct Tunnel {
        _busy: Arc<Busy>,
    }

    #[derive(Debug)]
    struct Busy(Arc<Load>);

    impl Tunnel {
        fn begin(load: &Arc<Load>) -> Self {
            load.active.fetch_add(1, Ordering::Relaxed);
            let busy = Busy(Arc::clone(load));
            Self {
                _busy: Arc::new(busy),
            }
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.active.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The body of an answer, which knows its stream.
    #[derive(Debug)]
    struct Counted {
        body: Body,
        /// What is left of the last frame.
        rest: Bytes,
        stream: Stream,
    }

    impl HttpBody for Counted {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let frame = self.poll_piece(cx);
            stall::note(&frame);
            let frame = std::task::ready!(frame);
            // What fails here is not the client's doing.
            let over = !matches!(frame, Some(Ok(_))) || self.is_end_stream();
            self.stream.complete |= over;
            Poll::Ready(frame)
        }

        fn is_end_stream(&self) -> bool {
            self.rest.is_empty() && self.body.is_end_stream()
        }

        fn size_hint(&self) -> SizeHint {
            // A length in memory fits in 64 bits.
            let rest = self.rest.len() as u64;
            let body = self.body.size_hint();
            let mut hint = SizeHint::new();
            hint.set_lower(body.lower().saturating_add(rest));
            if let Some(upper) = body.upper() {
                hint.set_upper(upper.saturating_add(rest));
            }
            hint
        }
    }

    impl Counted {
        /// The next frame, or a piece of it if it is long.
        fn poll_piece(
            &mut self,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if self.rest.is_empty() {
                let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
                match frame.map(|frame| frame.map(Frame::into_data)) {
                    Some(Ok(Ok(data))) => self.rest = data,
                    Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            }
            let piece = self.rest.len().min(stall::PIECE);
            Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
        }
    }
}
