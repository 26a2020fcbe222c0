//! The connections to one server, for use without a gateway.
//!
//! ```
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use gateway_kit::Body;
//! use gateway_kit::pool::Pool;
//! use http::Request;
//!
//! let pool = Pool::new("http://127.0.0.1:9080".parse()?);
//! let request = Request::get("/products").body(Body::empty())?;
//! let response = pool.send(request).await?;
//! println!("{}, {} idle", response.status(), pool.idle());
//! # Ok(()) }
//! ```

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use resilience_core::clock::SharedClock;

use crate::body::Body;
use crate::config::{EndpointUrl, Protocol, UpstreamTlsConfig};
use crate::upstream::forward::check_answer;
use crate::upstream::pool::{self, ConnectError, SendError, Settings, Target};
use crate::upstream::upload::Upload;

/// What connections are made of. Defaults: HTTP/1.1, 1 s to connect, 30 s idle, no age, 32 idle
/// connections, 100 calls at once on one of HTTP/2.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    target: Target,
    settings: Settings,
}

impl Builder {
    /// Longest wait for a connection.
    pub const fn connect_timeout(mut self, longest: Duration) -> Self {
        self.settings.connect_timeout = longest;
        self
    }

    /// An idle connection is not used after this time.
    pub const fn idle_timeout(mut self, longest: Duration) -> Self {
        self.settings.idle_timeout = longest;
        self
    }

    /// A connection takes no further request after this time.
    pub fn max_age(mut self, most: impl Into<Option<Duration>>) -> Self {
        self.settings.max_age = most.into();
        self
    }

    /// Most idle connections kept, HTTP/1.1.
    pub const fn max_idle(mut self, most: usize) -> Self {
        self.settings.max_idle = most;
        self
    }

    /// What is spoken; HTTP/2 needs the feature `http2`.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.settings.set_protocol(protocol);
        self
    }

    /// How an `https` server is verified; needs the feature `tls`.
    pub fn tls(mut self, tls: &UpstreamTlsConfig) -> Self {
        self.settings.set_tls(tls);
        self
    }

    /// A pool without connections. Nothing is checked here: files that cannot be read, and features
    /// that are missing, show when a connection is made.
    pub fn build(self) -> Pool {
        let pool = pool::Pool::new(self.target, self.settings, SharedClock::std());
        Pool(Arc::new(pool))
    }
}

/// Connections to one server; clones share them. Those that are idle too long are closed when
/// the next request looks for one, or by [`sweep`](Self::sweep).
#[derive(Clone, Debug)]
pub struct Pool(Arc<pool::Pool>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing was sent: the request is whole and may go elsewhere, whatever its method.
    #[error("no connection to the server")]
    #[non_exhaustive]
    Unsent {
        /// The request.
        request: Box<Request<Body>>,
        /// The wait for a connection was too long.
        timed_out: bool,
    },
    /// The connection broke; whether the server acted on the request is not known.
    #[error("the server broke off before it answered")]
    #[non_exhaustive]
    Broken {
        /// Bytes of an answer came.
        started: bool,
        /// The server said that it has not acted on the request (HTTP/2).
        refused: bool,
    },
    /// The answer could be read in more than one way. The connection is closed.
    #[error("the server sent an answer that is not allowed")]
    BadAnswer,
}

impl Pool {
    /// A pool with the defaults of [`Builder`].
    pub fn new(server: EndpointUrl) -> Self {
        Self::builder(server).build()
    }

    /// Settings, from the defaults on.
    pub fn builder(server: EndpointUrl) -> Builder {
        let address = server.authority().to_owned();
        Builder {
            target: Target {
                authority: address.clone(),
                address,
                tls: server.is_tls(),
            },
            settings: Settings::default(),
        }
    }

    /// Sends a request, in the form of HTTP/1.1 with a path for a target, on an open connection or
    /// a new one. Without a `Host` the server's own is set. An upgrade cannot be asked for. There
    /// is no time limit but that for the connection.
    ///
    /// # Errors
    /// No connection, none that lasted until the answer's head, or an answer that is not allowed.
    ///
    /// # Cancel safety
    /// Dropping the future, or the body of the answer before its end, closes the connection
    /// (HTTP/1.1) or resets the stream (HTTP/2).
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        if !request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(self.0.authority())
        {
            request.headers_mut().insert(HOST, host);
        }
        let mut slot = Some(request.map(Upload::new));
        let sent = self.0.send(&mut slot).await;
        let (mut response, lease) = sent.map_err(|error| Error::of(error, slot))?;
        check_answer(response.status(), response.headers_mut(), None)
            .map_err(|_| Error::BadAnswer)?;
        Ok(response.map(|body| Body::from(body).leased(lease)))
    }

    /// Connections without a call on them.
    pub fn idle(&self) -> usize {
        self.0.idle()
    }

    /// Closes connections that have been idle too long, or are too old.
    pub fn sweep(&self) {
        self.0.sweep();
    }

    /// Closes idle connections now, and those in use when their calls have ended.
    pub fn retire(&self) {
        self.0.retire();
    }
}

impl Error {
    /// `slot` has the request if nothing of it was sent.
    fn of(error: SendError, slot: Option<Request<Upload>>) -> Self {
        match (error, slot) {
            (SendError::Unsent(source), Some(request)) => Self::Unsent {
                request: Box::new(request.map(Upload::into_inner)),
                timed_out: matches!(source, Some(ConnectError::TimedOut)),
            },
            (
                SendError::Broken {
                    started, refused, ..
                },
                _,
            ) => Self::Broken { started, refused },
            (SendError::BadAnswer(_) | SendError::Unsent(_), _) => Self::BadAnswer,
        }
    }
}
