//! The gateway without its listener: a service inside another program.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Extensions, Request, Response};
use http_body::Body as HttpBody;

use crate::body::{Body, BoxError};
use crate::handle::Handle;
use crate::problem::Problem;
use crate::server::{Downstream, Inner};

/// Tells the other end of the connection from what the program's server put into a request.
type PeerOf = Arc<dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync>;

/// The gateway as a [`tower_service::Service`]: always ready, never an error. Clones share
/// everything.
///
/// Two checks need the bytes of the connection and are the work of the server in front:
/// a `Content-Length` beside a `Transfer-Encoding`, and the limits of the listening side.
#[derive(Clone)]
pub struct GatewayService {
    inner: Arc<Inner>,
    peer: PeerOf,
    tls: bool,
}

impl GatewayService {
    pub(crate) fn new(
        inner: Arc<Inner>,
        peer: impl Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            peer: Arc::new(peer),
            tls: false,
        }
    }

    /// The program's server speaks TLS: services behind the gateway are told `https`. What a
    /// request says of its own scheme is not believed.
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// A handle on the running state: breakers, upstreams, metrics, reloads.
    pub fn control(&self) -> Handle {
        Handle::new(Arc::clone(&self.inner))
    }

    /// Answers one request with any body; 500 if it does not tell its peer.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        match (self.peer)(request.extensions()) {
            Some(peer) => {
                let downstream = Downstream::new(peer, self.tls);
                self.inner.handle(request, downstream).await
            }
            // Without the peer, limits and forwarding fields would be of nobody.
            None => {
                tracing::error!("a request does not tell the address of its client");
                Problem::internal().into_response("")
            }
        }
    }
}

impl fmt::Debug for GatewayService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayService").finish_non_exhaustive()
    }
}

impl<B> tower_service::Service<Request<B>> for GatewayService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request.map(Body::new)).await) })
    }
}
