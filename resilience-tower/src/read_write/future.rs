use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Checkout, Cluster, Error, Lease, Node};

/// The response of a [`Cluster`] as a service: a lease.
///
/// It is boxed, as what an adapter does to connect has no name; [`Cluster::lease`] does without.
///
/// # Cancel safety
///
/// As that of [`Cluster::lease`].
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<N: Node>(Boxed<N>);

type Boxed<N> = Pin<Box<dyn Future<Output = Result<Lease<N>, Error<<N as Node>::Error>>> + Send>>;

impl<N: Node> Future for ResponseFuture<N> {
    type Output = Result<Lease<N>, Error<N::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// Always ready: which node a call needs is known only with the call.
impl<N: Node> Service<Checkout<N::Position>> for Cluster<N> {
    type Response = Lease<N>;
    type Error = Error<N::Error>;
    type Future = ResponseFuture<N>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, checkout: Checkout<N::Position>) -> Self::Future {
        let cluster = self.clone();
        ResponseFuture(Box::pin(async move { cluster.lease(&checkout).await }))
    }
}

impl<N: Node> fmt::Debug for ResponseFuture<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
