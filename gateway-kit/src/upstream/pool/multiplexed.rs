//! HTTP/2 connections: one carries many calls at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::poll_fn;
use http::header::{CONNECTION, HOST, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use resilience_core::clock::{Clock, SharedClock};

use super::connect::{ConnectError, Driver, Stream};
use super::{Pool, SendError, Settings};
use crate::upstream::upload::Upload;

/// The connections of one endpoint that take further calls, oldest first.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Vec<Arc<Connection>>>,
    /// Only one caller at a time opens a connection; the others find room on it.
    opening: tokio::sync::Mutex<()>,
    /// Openings that failed: who waited for one does not try the same again.
    failed: AtomicUsize,
}

/// One connection; closed once it is no longer offered and the last call on it has ended.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http2::SendRequest<Upload>,
    streams: AtomicUsize,
    /// Most calls that the other side takes at once, as far as it has said so.
    room: Arc<AtomicUsize>,
    /// When it became idle, in milliseconds of the pool's clock.
    idle_since: Mutex<Duration>,
    born: Duration,
    _driver: Driver,
}

/// One call on a connection. Dropped before the answer has ended, its stream is reset by hyper.
#[derive(Debug)]
pub(crate) struct StreamLease {
    connection: Arc<Connection>,
    clock: SharedClock,
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        *self.connection.idle_since.lock() = self.clock.now();
        // ORDERING: Release pairs with the Acquire of `is_stale`, which then sees the time.
        self.connection.streams.fetch_sub(1, Ordering::Release);
    }
}

/// Flow control: what one answer, and all answers of a connection, may have under way unread. A
/// connection has room for 64 answers that nobody reads before it holds up the others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;
/// A connection with calls on it is asked for a sign of life this often, and has this long for it.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// As for HTTP/1: the longest head.
const HEADER_LIST: u32 = 64 * 1024;

impl Connection {
    pub(super) async fn handshake(stream: Stream, now: Duration) -> Result<Self, hyper::Error> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await?;
        let room = Arc::new(AtomicUsize::new(usize::MAX));
        let seen = Arc::clone(&room);
        let driver = Driver::spawn(async move {
            poll_fn(|cx| {
                let ended = std::pin::Pin::new(&mut connection).poll(cx);
                // ORDERING: Relaxed; h2 itself keeps the limit, this only spreads calls.
                seen.store(connection.current_max_send_streams(), Ordering::Relaxed);
                ended.map(|_| ())
            })
            .await;
        });
        Ok(Self {
            sender,
            streams: AtomicUsize::new(0),
            room,
            idle_since: Mutex::new(now),
            born: now,
            _driver: driver,
        })
    }

    fn takes_one_more(&self, settings: &Settings) -> bool {
        let most = settings.max_streams.min(self.room.load(Ordering::Relaxed));
        // Only under the lock of the list does the number grow.
        self.streams.load(Ordering::Relaxed) < most
    }

    /// Whether it is to be offered no more.
    fn is_stale(&self, settings: &Settings, now: Duration) -> bool {
        let idle = self.streams.load(Ordering::Acquire) == 0
            && now.saturating_sub(*self.idle_since.lock()) >= settings.idle_timeout;
        self.sender.is_closed() || idle || settings.is_too_old(self.born, now)
    }
}

impl Connections {
    /// A place on a connection with room.
    fn take(&self, settings: &Settings, clock: &SharedClock) -> Option<StreamLease> {
        let now = clock.now();
        let mut open = self.open.lock();
        let stale: Vec<_> = open
            .extract_if(.., |connection| connection.is_stale(settings, now))
            .collect();
        let mut offered = open.iter();
        let found = offered.find(|connection| connection.takes_one_more(settings));
        let lease = found.map(|connection| {
            connection.streams.fetch_add(1, Ordering::Relaxed);
            StreamLease {
                connection: Arc::clone(connection),
                clock: clock.clone(),
            }
        });
        drop(open);
        drop(stale);
        lease
    }

    /// Offers a connection to all.
    pub(super) fn add(&self, connection: Connection) {
        self.open.lock().push(Arc::new(connection));
    }

    fn forget(&self, connection: &Arc<Connection>) {
        self.open
            .lock()
            .retain(|open| !Arc::ptr_eq(open, connection));
    }

    /// Closes connections that are to be used no more; those with calls on them when these end.
    pub(super) fn sweep(&self, settings: &Settings, now: Duration) {
        let mut open = self.open.lock();
        let stale: Vec<_> = open
            .extract_if(.., |connection| connection.is_stale(settings, now))
            .collect();
        drop(open);
        drop(stale);
    }

    pub(super) fn retire(&self) {
        let retired = std::mem::take(&mut *self.open.lock());
        drop(retired);
    }

    pub(super) fn idle(&self) -> usize {
        let open = self.open.lock();
        let idle = |connection: &&Arc<Connection>| connection.streams.load(Ordering::Acquire) == 0;
        open.iter().filter(idle).count()
    }
}

impl Pool {
    /// Sends on a connection with room; `Unsent` when there is none.
    pub(super) async fn send_on_shared(
        &self,
        slot: &mut Option<Request<Upload>>,
    ) -> Result<(Response<Incoming>, StreamLease), SendError> {
        // A connection that hands a request back is forgotten, so this ends.
        while let Some(lease) = self.shared.take(&self.settings, &self.clock)
            && let Some(mut request) = slot.take()
        {
            let connection = Arc::clone(&lease.connection);
            into_http2(&mut request, self.target.tls);
            let mut sender = connection.sender.clone();
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(error) => error,
            };
            let Some(mut unsent) = error.take_message() else {
                return Err(broken(error.into_error()));
            };
            self.shared.forget(&connection);
            into_http1(&mut unsent);
            *slot = Some(unsent);
        }
        Err(SendError::Unsent(None))
    }

    /// Opens a connection, or waits for whoever does.
    pub(super) async fn open_shared(&self) -> Result<Option<super::connect::Http1>, ConnectError> {
        let failed = self.shared.failed.load(Ordering::Acquire);
        let wait = tokio::time::timeout(self.settings.connect_timeout, self.shared.opening.lock());
        let _opening = wait.await.map_err(|_| ConnectError::TimedOut)?;
        if self.has_room() {
            return Ok(None);
        }
        if self.shared.failed.load(Ordering::Acquire) != failed {
            return Err(ConnectError::TimedOut);
        }
        match self.connect().await {
            Ok(super::connect::Connected::Http1(connection)) => Ok(Some(connection)),
            Ok(super::connect::Connected::Http2(connection)) => {
                self.shared.add(connection);
                Ok(None)
            }
            Err(error) => {
                self.shared.failed.fetch_add(1, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    fn has_room(&self) -> bool {
        let now = self.clock.now();
        let open = self.shared.open.lock();
        open.iter().any(|connection| {
            !connection.is_stale(&self.settings, now) && connection.takes_one_more(&self.settings)
        })
    }
}

/// HTTP/2 names the host in the target, and frames bodies itself.
fn into_http2(request: &mut Request<Upload>, tls: bool) {
    let host = request.headers_mut().remove(HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = host.and_then(|host| host.as_bytes().try_into().ok());
    // A target without an authority is passed on as it is, and refused by hyper.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request.headers_mut().remove(TRANSFER_ENCODING);
    // It names `TE`, which hyper would then take out as well; gRPC needs it.
    request.headers_mut().remove(CONNECTION);
    *request.version_mut() = Version::HTTP_2;
}

/// The way back: the next connection may speak HTTP/1.
fn into_http1(request: &mut Request<Upload>) {
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = parts.authority
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(path) = parts.path_and_query {
        *request.uri_mut() = Uri::from(path);
    }
    if request.headers().contains_key(TE) {
        let te = HeaderValue::from_static("te");
        request.headers_mut().insert(CONNECTION, te);
    }
    *request.version_mut() = Version::HTTP_11;
}

/// What a failed call means: an upstream that refused the stream has not looked at it (RFC 9113,
/// section 8.7).
fn broken(error: hyper::Error) -> SendError {
    let refused = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote()
                && (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
                    || error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
        });
    SendError::Broken {
        started: false,
        refused,
        source: error,
    }
}
