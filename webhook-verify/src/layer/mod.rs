//! A tower layer that lets only verified deliveries through.
//!
//! Place it behind the perimeter (rate limit, load shed) and before user authentication,
//! which webhooks do not pass. It reads the body, so nothing before it may have changed
//! it: no decompression, no parser. Clones share the verifier, its keys and its replay store.
//!
//! The inner service gets the bytes as received ([`VerifiedBody`]) and a
//! [`Verified`](crate::Verified) extension. Trailers, which no scheme signs, are dropped; of
//! headers, path and query only what the scheme signs is verified (see its preset). A 2xx
//! answer commits the delivery in the replay store; any other answer, redirections
//! included, an error, a panic or a dropped future gives it back, so that the sender's
//! retry is handled. That is decided by the head of the answer: its body may still fail.
//!
//! | refusal | status |
//! |---|---|
//! | duplicate | 200 |
//! | in flight | 409 and `Retry-After` (until the lease ends) |
//! | signature, timestamp | 401 |
//! | source | 403 |
//! | header; a body that breaks off, or is not as long as `Content-Length` says | 400 |
//! | method | 405 and `Allow` |
//! | body later than the read deadline | 408 |
//! | size | 413 |
//! | payload | 422 |
//! | replay store full or out of order | 503 and `Retry-After` |
//!
//! Every refusal has an empty body, and two refusals of one status differ in nothing but
//! `Retry-After`: whether a key is unknown, a time too old or a signature wrong does not
//! show. The step and reason go to `tracing` and to the observer only. A 401 has no
//! `WWW-Authenticate`: there is no scheme registered that a sender could be asked for.
//!
//! # What a sender can cost
//!
//! Nothing of the body is asked for when an earlier step failed: with hyper, a sender that
//! waits for `100 Continue` is refused without it. Memory grows with what has arrived, up to
//! the verifier's body limit, never with what was announced. A body that never ends is left
//! at the limit or at the read deadline. The inner service was ready when the request came
//! and stays reserved while its body arrives, at the longest for the read deadline: where
//! that is a `ConcurrencyLimit`, slow senders occupy its permits, so keep the deadline short
//! or the limit of connections low.
//!
//! # Events
//!
//! [`WebhookLayer::on_event`] is told of every decision:
//!
//! | [`Event`] | name | `tracing` | means |
//! |---|---|---|---|
//! | `Validated` | `webhook.validated` | debug | the inner service is called next |
//! | `Rejected` | `webhook.rejected` | warn | a step failed: `step`, `reason`, `remote_ip` |
//! | `Repeated` | `webhook.repeated` | info | verified, but a duplicate or in flight |
//! | `Unguarded` | `webhook.unguarded` | warn | the replay store is out of order, and deliveries are accepted all the same; `Validated` comes next |
//! | `NotRemembered` | `webhook.not_remembered` | error | handled; the replay store failed to keep it |
//!
//! # The sender's address
//!
//! The address of the peer is taken from a [`PeerAddr`] extension, or from whatever
//! [`WebhookLayer::peer`] reads, such as axum's `ConnectInfo`. Without it, a verifier with an
//! IP policy refuses everything.

mod body;
mod event;
mod service;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, request::Parts};

pub use self::{
    body::{ResponseBody, VerifiedBody},
    event::Event,
    service::{ResponseFuture, Webhook, default_response},
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

    /// How long the whole body may take to arrive. Zero accepts only bodies that are there
    /// already; a time too long to be reckoned with is about 30 years.
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

    /// Replaces the answers to refusals; [`default_response`] gives the usual one. What
    /// differs between reasons tells an attacker how far a forgery came.
    #[must_use]
    pub fn respond(
        mut self,
        respond: impl Fn(&Error) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.edit().respond = Arc::new(respond);
        self
    }

    /// An observer of every decision; see [`Event`]. It runs on the request's task: it must
    /// not block. There is one; another call replaces it.
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
