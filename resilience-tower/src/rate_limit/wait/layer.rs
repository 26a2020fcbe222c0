use std::fmt;
use std::time::Duration;

use resilience_core::rate_limit::{RateLimiter, wait::WaitQueue};
use tower_layer::Layer;

use super::{Terms, Wait};
use crate::rate_limit::{AsError, RateLimitLayer};

/// Puts a [`Wait`] around a service; made by [`RateLimitLayer::wait`].
///
/// All services made by one layer, and by its clones, stand in one line.
#[derive(Clone)]
#[must_use]
pub struct WaitLayer<T = Terms, A = AsError> {
    queue: WaitQueue,
    terms: T,
    answer: A,
}

impl<A> RateLimitLayer<RateLimiter, A> {
    /// Lets calls above the quota wait for their turn, at most `max` of them (in all lines of this
    /// limiter); see [`wait`](super). 0 refuses at once, as without a line.
    ///
    /// How refusals are answered (`into_response` …) is said before this, what a call costs
    /// after it, by [`terms`](WaitLayer::terms). For a plain [`RateLimiter`]: a line for each key,
    /// or before several limits, would be one that others can overtake.
    pub fn wait(self, max: usize) -> WaitLayer<Terms, A> {
        let (limiter, answer) = self.into_parts();
        WaitLayer {
            queue: limiter.wait_queue(max),
            terms: Terms::default(),
            answer,
        }
    }
}

impl<A> WaitLayer<Terms, A> {
    /// No call waits longer than `wait`; one that would have to is refused at once. By default
    /// only the places in the line bound the wait.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.terms = self.terms.max_wait(wait);
        self
    }
}

impl<T, A> WaitLayer<T, A> {
    /// Cost and longest wait of each call are what `terms`, a `Fn(&Request) -> Terms`, finds in the
    /// request.
    pub fn terms<U>(self, terms: U) -> WaitLayer<U, A> {
        WaitLayer {
            queue: self.queue,
            terms,
            answer: self.answer,
        }
    }

    /// The line and, with [`limiter`](WaitQueue::limiter), the limit.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl<S, T: Clone, A: Clone> Layer<S> for WaitLayer<T, A> {
    type Service = Wait<S, T, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Wait::new(
            inner,
            self.queue.clone(),
            self.terms.clone(),
            self.answer.clone(),
        )
    }
}

// By hand: closures have no `Debug`.
impl<T, A> fmt::Debug for WaitLayer<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitLayer")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
