//! A tower layer that lets only verified deliveries through.
//!
//! Place it behind the perimeter (rate limit, load shed) and before user authentication,
//! which webhooks do not pass. It reads the body, so nothing before it may have changed
//! it. Clones share the verifier, its keys and its replay store.
//!
//! The inner service gets the bytes as received ([`VerifiedBody`]) and a
//! [`Verified`](crate::Verified) extension. A 2xx answer commits the delivery in the replay
//! store; any other answer, an error, a panic or a dropped future gives it back, so that
//! the sender's retry is handled.
//!
//! | refusal | status |
//! |---|---|
//! | duplicate | 200, empty |
//! | in flight | 409 and `Retry-After` |
//! | signature, timestamp | 401 |
//! | source | 403 |
//! | header, body that breaks off | 400 |
//! | method | 405 |
//! | body later than the read deadline | 408 |
//! | size | 413 |
//! | payload | 422 |
//! | replay store full or out of order | 503 and `Retry-After` |
//!
//! Every refusal has an empty body. The step and reason go to `tracing` and to the
//! observer only.
//!
//! The address of the peer is taken from a [`PeerAddr`] extension, or from whatever
//! [`WebhookLayer::peer`] reads, such as axum's `ConnectInfo`.

mod body;
mod event;
mod service;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, request::Parts};

pub use self::{
    body::{ResponseBody, VerifiedBody},
    event::Event,
    service::{ResponseFuture, Webhook},
};
use crate::{Error, Verifier};

/// The address of the peer, as a request extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerAddr(pub SocketAddr);

/// Makes [`Webhook`] services.
#[derive(Clone)]
pub struct WebhookLayer {
    config: Arc<Config>,
}

#[derive(Clone)]
struct Config {
    verifier: Verifier,
    read_deadline: Duration,
    peer: Arc<PeerFn>,
    respond: Arc<RespondFn>,
    on_event: Arc<ObserverFn>,
}

type PeerFn = dyn Fn(&Parts) -> Option<SocketAddr> + Send + Sync;
type RespondFn = dyn Fn(&Error) -> Response<Bytes> + Send + Sync;
type ObserverFn = dyn Fn(&Event<'_>) + Send + Sync;

impl WebhookLayer {
    /// A layer with a read deadline of 10 s, the mapping above and no observer.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        let config = Config {
            verifier,
            read_deadline: Duration::from_secs(10),
            peer: Arc::new(|parts| parts.extensions.get::<PeerAddr>().map(|peer| peer.0)),
            respond: Arc::new(service::default_response),
            on_event: Arc::new(|_| {}),
        };
        Self {
            config: Arc::new(config),
        }
    }

    /// How long the whole body may take to arrive.
    #[must_use]
    pub fn read_deadline(mut self, deadline: Duration) -> Self {
        self.edit().read_deadline = deadline;
        self
    }

    /// Where the address of the peer is found.
    #[must_use]
    pub fn peer(
        mut self,
        peer: impl Fn(&Parts) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        self.edit().peer = Arc::new(peer);
        self
    }

    /// Replaces the answers to refusals. What differs between reasons tells an attacker
    /// how far a forgery came.
    #[must_use]
    pub fn respond(
        mut self,
        respond: impl Fn(&Error) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.edit().respond = Arc::new(respond);
        self
    }

    /// An observer of every decision. It runs on the request's task: it must not block.
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.edit().on_event = Arc::new(observer);
        self
    }

    fn edit(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl<S> tower_layer::Layer<S> for WebhookLayer {
    type Service = Webhook<S>;

    fn layer(&self, inner: S) -> Webhook<S> {
        Webhook::new(inner, Arc::clone(&self.config))
    }
}

impl std::fmt::Debug for WebhookLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookLayer")
            .field("verifier", &self.config.verifier)
            .field("read_deadline", &self.config.read_deadline)
            .finish_non_exhaustive()
    }
}
