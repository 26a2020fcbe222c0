//! Connections to one endpoint, kept and used again.

mod connect;
#[cfg(feature = "http2")]
mod multiplexed;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use metrics::Histogram;
use parking_lot::Mutex;
use resilience_core::clock::{Clock, SharedClock};

pub(crate) use self::connect::ConnectError;
use self::connect::{Connected, Http1};
#[cfg(feature = "tls")]
pub(crate) use self::tls::check as check_tls;
use crate::config::{Protocol, UpstreamConfig, UpstreamTlsConfig};
use crate::metrics::Wait;
use crate::upstream::upload::Upload;

/// The connections of one endpoint. Those of HTTP/1 carry one call at a time; of the idle ones
/// the most recently used is first, so that surplus ones grow old and are closed. Those of HTTP/2
/// carry many.
#[derive(Debug)]
pub(crate) struct Pool {
    target: Target,
    settings: Settings,
    clock: SharedClock,
    /// Of requests that find no open connection.
    waits: Histogram,
    kept: Mutex<Kept>,
    #[cfg(feature = "http2")]
    shared: multiplexed::Connections,
}

/// Whom a pool connects to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// Where to connect, `host:port`.
    pub(crate) address: String,
    /// The name for `Host` and TLS, `host:port`.
    pub(crate) authority: String,
    pub(crate) tls: bool,
}

/// All that connections depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_idle: usize,
    protocol: Protocol,
    #[cfg(feature = "http2")]
    max_streams: usize,
    #[cfg(feature = "tls")]
    tls: tls::Client,
}

impl Settings {
    pub(crate) fn of(config: &UpstreamConfig) -> Self {
        Self {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            max_age: config.max_age,
            max_idle: config.max_idle,
            protocol: config.protocol,
            #[cfg(feature = "http2")]
            max_streams: config.max_streams,
            #[cfg(feature = "tls")]
            tls: tls::Client::new(&config.tls, config.protocol),
        }
    }

    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        #[cfg(feature = "tls")]
        self.tls.set_protocol(protocol);
    }

    /// Nothing without the feature: then no connection over TLS is made at all.
    pub(crate) fn set_tls(&mut self, config: &UpstreamTlsConfig) {
        #[cfg(feature = "tls")]
        {
            self.tls = tls::Client::new(config, self.protocol);
        }
        #[cfg(not(feature = "tls"))]
        let _ = config;
    }

    fn is_too_old(&self, born: Duration, now: Duration) -> bool {
        let age = now.saturating_sub(born);
        self.max_age.is_some_and(|most| age >= most)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(30),
            max_age: None,
            max_idle: 32,
            protocol: Protocol::Http1,
            #[cfg(feature = "http2")]
            max_streams: 100,
            #[cfg(feature = "tls")]
            tls: tls::Client::new(&UpstreamTlsConfig::default(), Protocol::Http1),
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    idle: Vec<Idle>,
    /// Set once the endpoint is no longer in the configuration.
    retired: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    born: Duration,
    since: Duration,
}

/// A connection in use. Dropped before the answer has ended, the connection (HTTP/1) or the stream
/// (HTTP/2) ends: its remaining bytes belong to nobody.
#[derive(Debug)]
pub(crate) struct Lease(Held);

#[derive(Debug)]
enum Held {
    Http1 {
        pool: Arc<Pool>,
        connection: Http1,
        born: Duration,
    },
    #[cfg(feature = "http2")]
    Http2 { _stream: multiplexed::StreamLease },
}

/// Why no response head came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nothing was sent: the request is back in its slot and may go elsewhere.
    #[error("no connection to the upstream")]
    Unsent(#[source] Option<ConnectError>),
    /// Something was sent; whether the upstream acted on it is not known.
    #[error("the upstream broke off before it answered")]
    Broken {
        /// Bytes of the answer came.
        started: bool,
        /// The upstream said that it has not acted on the request.
        refused: bool,
        source: hyper::Error,
    },
    /// What came is no answer that can be passed on.
    #[error("the upstream sent an answer that is not allowed")]
    BadAnswer(#[source] hyper::Error),
}

type Sent = Result<(Response<Incoming>, Lease), SendError>;

impl Pool {
    pub(crate) fn new(target: Target, settings: Settings, clock: SharedClock) -> Self {
        Self {
            target,
            settings,
            clock,
            waits: Histogram::noop(),
            kept: Mutex::default(),
            #[cfg(feature = "http2")]
            shared: multiplexed::Connections::default(),
        }
    }

    /// Records how long requests wait for a connection.
    pub(crate) fn measured(mut self, waits: Histogram) -> Self {
        self.waits = waits;
        self
    }

    /// The name of the server, `host:port`.
    pub(crate) fn authority(&self) -> &str {
        &self.target.authority
    }

    /// Whether its connections are what these would make.
    pub(crate) fn is_for(&self, target: &Target, settings: &Settings) -> bool {
        self.target == *target && self.settings == *settings
    }

    /// Sends the request in `slot` on an open connection, else on a new one, and puts it back if
    /// nothing of it was sent. It is in the form of HTTP/1.1, whatever the upstream speaks.
    ///
    /// A request is sent again only when the connection handed it back untouched, so that none
    /// is ever doubled, a `POST` included.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection in use (HTTP/1) or resets the stream (HTTP/2).
    pub(crate) async fn send(self: &Arc<Self>, slot: &mut Option<Request<Upload>>) -> Sent {
        // Each turn uses an idle connection up, so this ends.
        while let Some(idle) = self.take_idle() {
            match self.send_on(idle.connection, idle.born, slot).await {
                Err(SendError::Unsent(_)) => {}
                sent => return sent,
            }
        }
        // Boxed, so that the calls that find a connection do not carry the size of those that
        // make one.
        Box::pin(self.send_on_other(slot)).await
    }

    /// Sends on a connection that is shared, or new.
    async fn send_on_other(self: &Arc<Self>, slot: &mut Option<Request<Upload>>) -> Sent {
        #[cfg(feature = "http2")]
        if self.may_be_http2() {
            return self.send_shared(slot).await;
        }
        let wait = Wait::begin(&self.waits, &self.clock);
        let connected = self.connect().await;
        drop(wait);
        match connected {
            Ok(Connected::Http1(connection)) => {
                self.send_on(connection, self.clock.now(), slot).await
            }
            #[cfg(feature = "http2")]
            Ok(Connected::Http2(connection)) => {
                self.shared.add(connection);
                self.send_shared(slot).await
            }
            Err(error) => Err(SendError::Unsent(Some(error))),
        }
    }

    /// Without TLS there is no ALPN to ask by.
    #[cfg(feature = "http2")]
    fn may_be_http2(&self) -> bool {
        match self.settings.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.target.tls,
        }
    }

    /// The same where HTTP/2 is spoken, or may be.
    #[cfg(feature = "http2")]
    async fn send_shared(self: &Arc<Self>, slot: &mut Option<Request<Upload>>) -> Sent {
        loop {
            match self.send_on_shared(slot).await {
                Err(SendError::Unsent(_)) => {}
                sent => {
                    return sent
                        .map(|(response, _stream)| (response, Lease(Held::Http2 { _stream })));
                }
            }
            let wait = Wait::begin(&self.waits, &self.clock);
            let opened = self.open_shared().await;
            drop(wait);
            match opened {
                Ok(None) => {}
                Ok(Some(connection)) => {
                    return self.send_on(connection, self.clock.now(), slot).await;
                }
                Err(error) => return Err(SendError::Unsent(Some(error))),
            }
        }
    }

    async fn send_on(
        self: &Arc<Self>,
        mut connection: Http1,
        born: Duration,
        slot: &mut Option<Request<Upload>>,
    ) -> Sent {
        // The slot is filled whenever something is to be sent.
        let Some(mut request) = slot.take() else {
            return Err(SendError::Unsent(None));
        };
        set_framing(&mut request);
        connection.wire.arm(*request.method() == Method::HEAD);
        let mut error = match connection.sender.try_send_request(request).await {
            Ok(response) => {
                let pool = Arc::clone(self);
                let held = Held::Http1 {
                    pool,
                    connection,
                    born,
                };
                return Ok((response, Lease(held)));
            }
            Err(error) => error,
        };
        *slot = error.take_message();
        if slot.is_some() {
            return Err(SendError::Unsent(None));
        }
        let source = error.into_error();
        if connection.wire.is_bad() || source.is_parse() {
            return Err(SendError::BadAnswer(source));
        }
        Err(SendError::Broken {
            started: connection.wire.started(),
            refused: false,
            source,
        })
    }

    /// Closes connections that have been idle too long, or are too old.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        // The closed ones are dropped outside the lock.
        let stale: Vec<Idle> = {
            let mut kept = self.kept.lock();
            kept.idle
                .extract_if(.., |idle| !self.is_fresh(idle, now))
                .collect()
        };
        drop(stale);
        #[cfg(feature = "http2")]
        self.shared.sweep(&self.settings, now);
    }

    /// Closes idle connections now, and those in use when their calls have ended. Calls that
    /// still come open a connection each.
    pub(crate) fn retire(&self) {
        let idle = {
            let mut kept = self.kept.lock();
            kept.retired = true;
            std::mem::take(&mut kept.idle)
        };
        drop(idle);
        #[cfg(feature = "http2")]
        self.shared.retire();
    }

    /// Connections without a call on them.
    pub(crate) fn idle(&self) -> usize {
        let idle = self.kept.lock().idle.len();
        #[cfg(feature = "http2")]
        let idle = idle + self.shared.idle();
        idle
    }

    fn is_fresh(&self, idle: &Idle, now: Duration) -> bool {
        now.saturating_sub(idle.since) < self.settings.idle_timeout
            && !self.settings.is_too_old(idle.born, now)
            && !idle.connection.sender.is_closed()
    }

    fn take_idle(&self) -> Option<Idle> {
        let now = self.clock.now();
        loop {
            let newest = self.kept.lock().idle.pop()?;
            if self.is_fresh(&newest, now) && newest.connection.sender.is_ready() {
                return Some(newest);
            }
        }
    }

    async fn connect(&self) -> Result<Connected, ConnectError> {
        connect::connect(&self.target, &self.settings, &self.clock).await
    }

    fn put(&self, connection: Http1, born: Duration) {
        let since = self.clock.now();
        let mut kept = self.kept.lock();
        let wanted = !kept.retired && kept.idle.len() < self.settings.max_idle;
        if wanted && !connection.sender.is_closed() {
            kept.idle.push(Idle {
                connection,
                born,
                since,
            });
            return;
        }
        drop(kept);
        drop(connection);
    }
}

/// hyper gives a GET of unknown length no body at all; saying `chunked` keeps it.
fn set_framing(request: &mut Request<Upload>) {
    let unknown =
        !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH);
    if unknown {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
}

impl Lease {
    /// The answer has ended: keeps the connection for the next request.
    pub(crate) fn give_back(self) {
        let (pool, mut connection, born) = match self.0 {
            Held::Http1 {
                pool,
                connection,
                born,
            } => (pool, connection, born),
            #[cfg(feature = "http2")]
            Held::Http2 { .. } => return,
        };
        connection.wire.rest();
        if connection.sender.is_ready() {
            pool.put(connection, born);
            return;
        }
        // The driver has not yet noticed the end, or still sends a request body whose answer
        // came early. The first takes a moment, the second is not worth waiting for.
        tokio::spawn(async move {
            let ready = tokio::time::timeout(SETTLE, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.put(connection, born);
            }
        });
    }
}

/// Longest wait for a connection to be ready again after its answer ended.
const SETTLE: Duration = Duration::from_millis(500);
