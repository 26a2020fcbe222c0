use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Ask, Endpoint, ResponseFuture, Verdict};
use crate::{
    read_write::{Cluster, Error},
    retry::Replay,
};

/// A service that sends each request to the node of a cluster that is right for it.
///
/// Clones share the cluster. `poll_ready` is always ready; see the [module](super) for why.
pub struct ReadWrite<N: Endpoint, R> {
    cluster: Cluster<N>,
    rules: R,
}

impl<N: Endpoint, R> ReadWrite<N, R> {
    /// Requests go to the nodes of `cluster`, by what `rules` say, which is cloned once per call.
    pub const fn new(cluster: Cluster<N>, rules: R) -> Self {
        Self { cluster, rules }
    }

    /// The cluster: its nodes, its figures.
    pub const fn cluster(&self) -> &Cluster<N> {
        &self.cluster
    }
}

/// What the services of nodes are given.
pub(super) type Sent<N, R, Req> =
    <<R as Ask<Req, <N as crate::read_write::Node>::Position>>::Replay as Replay<Req>>::Request;

/// What is kept of a request.
pub(super) type Kept<N, R, Req> =
    <<R as Ask<Req, <N as crate::read_write::Node>::Position>>::Replay as Replay<Req>>::Kept;

impl<N, R, Req> Service<Req> for ReadWrite<N, R>
where
    N: Endpoint,
    R: Ask<Req, N::Position> + Clone,
    N::Service: Service<Sent<N, R, Req>>,
    R: Verdict<
            N::Position,
            <N::Service as Service<Sent<N, R, Req>>>::Response,
            <N::Service as Service<Sent<N, R, Req>>>::Error,
        >,
{
    type Response = <R as Verdict<
        N::Position,
        <N::Service as Service<Sent<N, R, Req>>>::Response,
        <N::Service as Service<Sent<N, R, Req>>>::Error,
    >>::Response;
    type Error = Error<<N::Service as Service<Sent<N, R, Req>>>::Error>;
    type Future = ResponseFuture<N, R, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        ResponseFuture::new(self.cluster.clone(), self.rules.clone(), req)
    }
}

// By hand: a node need not be `Clone`.
impl<N: Endpoint, R: Clone> Clone for ReadWrite<N, R> {
    fn clone(&self) -> Self {
        Self::new(self.cluster.clone(), self.rules.clone())
    }
}

// By hand: rules need not have `Debug`.
impl<N: Endpoint, R> fmt::Debug for ReadWrite<N, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadWrite")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}
