//! Three places for layers of the user's own: at the edge, around a route, around the upstream.
//!
//! A layer there is any tower layer over requests and answers with a [`Body`]. Where there is
//! none, nothing is paid.

use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::{mpsc, oneshot};
use tower::util::{BoxCloneSyncService, ServiceExt};
use tower_layer::Layer;
use tower_service::Service;

use crate::body::{Body, BoxError};
use crate::problem::Problem;

/// What a user's layer goes around: the rest of the gateway's own steps.
///
/// A layer may call it once, several times after each other, or not at all; it must leave the
/// request's extensions in place. Calls of one request at the same time wait for each other.
///
/// # Cancel safety
/// Dropping the future ends what it started: a call to the upstream is closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Next;

/// What brings a call of [`Next`] back to the task of its request.
#[derive(Clone, Debug)]
struct Hop(mpsc::Sender<Call>);

type Call = (Request<Body>, oneshot::Sender<Response<Body>>);

impl Service<Request<Body>> for Next {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let hop = request.extensions_mut().remove::<Hop>();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let sent = match hop {
                Some(Hop(calls)) => calls.send((request, reply)).await.is_ok(),
                None => false,
            };
            let answered = if sent { answer.await.ok() } else { None };
            Ok(answered.unwrap_or_else(|| {
                tracing::error!("a layer called on without the extensions of its request");
                Problem::internal().into_response("")
            }))
        })
    }
}

/// The layers of one place, around [`Next`].
#[derive(Clone)]
pub(crate) struct Layered(BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>);

impl fmt::Debug for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").finish_non_exhaustive()
    }
}

/// The user's layers by place.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) edge: Option<Layered>,
    pub(crate) route: Option<Layered>,
    pub(crate) upstream: Option<Layered>,
}

impl Layered {
    pub(crate) fn new<L>(layer: L) -> Self
    where
        L: Layer<Next>,
        L::Service:
            Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<Body>>>::Future: Send,
    {
        let service = layer.layer(Next).map_err(Into::into);
        Self(BoxCloneSyncService::new(service))
    }

    /// Sends `request` into the layers.
    pub(crate) fn visit(&self, mut request: Request<Body>) -> Visit {
        let (hop, calls) = mpsc::channel(1);
        request.extensions_mut().insert(Hop(hop));
        Visit {
            layered: Box::pin(self.0.clone().oneshot(request)),
            calls,
            reply: None,
        }
    }
}

/// One request on its way through layers. What they go around runs in the task of the request,
/// so that it may borrow.
pub(crate) struct Visit {
    layered: BoxFuture<'static, Result<Response<Body>, BoxError>>,
    calls: mpsc::Receiver<Call>,
    reply: Option<oneshot::Sender<Response<Body>>>,
}

/// What layers do next.
pub(crate) enum Step {
    /// They want [`Next`] to answer this.
    Inner(Request<Body>),
    /// They have answered.
    Answer(Result<Response<Body>, Problem>),
}

impl Visit {
    pub(crate) async fn next(&mut self) -> Step {
        tokio::select! {
            biased;
            answer = &mut self.layered => Step::Answer(answer.map_err(failed)),
            Some((request, reply)) = self.calls.recv() => {
                self.reply = Some(reply);
                Step::Inner(request)
            }
        }
    }

    /// Runs what was called, unless the layers answer first or give their call up.
    pub(crate) async fn run(
        &mut self,
        inner: impl Future<Output = Response<Body>>,
    ) -> Option<Result<Response<Body>, Problem>> {
        let mut reply = self.reply.take()?;
        tokio::select! {
            biased;
            answer = &mut self.layered => return Some(answer.map_err(failed)),
            answer = inner => {
                let _ = reply.send(answer);
            }
            () = reply.closed() => {}
        }
        None
    }
}

/// Goes through the layers of one place, around `$inner`, an answer to `$request`.
macro_rules! through {
    ($layers:expr, $request:ident, $inner:expr) => {{
        let mut visit = $layers.visit($request);
        loop {
            match visit.next().await {
                $crate::layers::Step::Answer(answer) => break answer,
                $crate::layers::Step::Inner($request) => {
                    if let Some(answer) = visit.run(async { $inner }).await {
                        break answer;
                    }
                }
            }
        }
    }};
}
pub(crate) use through;

fn failed(error: BoxError) -> Problem {
    tracing::warn!(%error, "a layer of the application failed");
    Problem::internal()
}
