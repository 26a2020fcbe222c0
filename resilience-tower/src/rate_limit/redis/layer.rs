use tower_layer::Layer;

use super::Remote;
use crate::rate_limit::{AsError, RateLimitLayer};

/// Puts a [`Remote`] around a service; made by [`RateLimitLayer::remote`].
///
/// All services made by one layer, and by its clones, draw on one limit.
#[derive(Clone, Debug)]
#[must_use]
pub struct RemoteLayer<L, A = AsError> {
    limit: L,
    answer: A,
}

impl<L, A> RateLimitLayer<L, A> {
    /// Lets calls wait for the decision of a [`RemoteLimit`](super::RemoteLimit), a
    /// [`RedisLimiter`](super::RedisLimiter) for one. To be called last.
    pub fn remote(self) -> RemoteLayer<L, A> {
        let (limit, answer) = self.into_parts();
        RemoteLayer { limit, answer }
    }
}

impl<L, A> RemoteLayer<L, A> {
    /// The limit, for its figures or to change its quota.
    pub fn limit(&self) -> &L {
        &self.limit
    }
}

impl<S, L: Clone, A: Clone> Layer<S> for RemoteLayer<L, A> {
    type Service = Remote<S, L, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Remote::with_answer(inner, self.limit.clone(), self.answer.clone())
    }
}
