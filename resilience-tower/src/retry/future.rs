use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use resilience_core::breaker::{Classify, Outcome};
use resilience_core::clock::Clock;
use resilience_core::retry::Attempts;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::Replay;

/// The response of a [`Retry`](super::Retry): that of the last attempt.
///
/// # Panics
///
/// Polled outside of a tokio runtime with its time driver enabled, when an attempt failed and a
/// wait begins.
///
/// # Cancel safety
///
/// Dropping the future drops the attempt that runs, or the wait. A retry that was paid for and
/// not begun stays paid.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    #[pin]
    state: State<S::Future>,
    /// `None` when the request cannot be sent again.
    again: Option<Again<S, R::Kept, R::Request>>,
    attempts: Attempts,
    deadline: Option<Instant>,
    classifier: C,
    replay: R,
}

/// What is needed for another attempt.
pub(super) struct Again<S, K, Req> {
    service: S,
    kept: K,
    /// While it waits for its time.
    next: Option<Req>,
}

impl<S, K, Req> Again<S, K, Req> {
    pub(super) const fn new(service: S, kept: K) -> Self {
        Self {
            service,
            kept,
            next: None,
        }
    }
}

#[pin_project(project = StateProj)]
enum State<F> {
    Calling(#[pin] F),
    Waiting(#[pin] Sleep),
    /// The wait is over; the service is asked whether it is ready.
    Ready,
}

impl<S, Req, C, R> ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    #[inline]
    pub(super) fn new(
        first: S::Future,
        again: Option<Again<S, R::Kept, R::Request>>,
        attempts: Attempts,
        deadline: Option<Instant>,
        classifier: C,
        replay: R,
    ) -> Self {
        Self {
            state: State::Calling(first),
            again,
            attempts,
            deadline,
            classifier,
            replay,
        }
    }

    /// Attempts that have begun, or wait for their time; 1 or more.
    pub fn attempts(&self) -> u32 {
        self.attempts.made()
    }
}

impl<S, Req, C, R> Future for ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling(call) => {
                    let result = ready!(call.poll(cx));
                    let asked = match this.classifier.classify(result.as_ref()) {
                        Outcome::Failure => None,
                        Outcome::Overloaded { retry_after } => retry_after,
                        _ => return Poll::Ready(result),
                    };
                    let Some(again) = this.again else {
                        return Poll::Ready(result);
                    };
                    // Before the budget is asked: what cannot be sent again costs nothing.
                    let Some(next) = this.replay.again(&mut again.kept) else {
                        return Poll::Ready(result);
                    };
                    let deadline = this.deadline.map(|end| by_clock_of(this.attempts, end));
                    let Ok(wait) = this.attempts.retry(asked, deadline) else {
                        return Poll::Ready(result);
                    };
                    again.next = Some(next);
                    this.state.set(State::Waiting(sleep(wait)));
                }
                StateProj::Waiting(wait) => {
                    ready!(wait.poll(cx));
                    this.state.set(State::Ready);
                }
                StateProj::Ready => {
                    // Both always there: only this state takes the request, and leaves.
                    let Some(again) = this.again else {
                        return Poll::Pending;
                    };
                    ready!(again.service.poll_ready(cx))?;
                    let Some(next) = again.next.take() else {
                        return Poll::Pending;
                    };
                    let call = again.service.call(next);
                    this.state.set(State::Calling(call));
                }
            }
        }
    }
}

/// The same time from now, by the clock of the policy.
fn by_clock_of(attempts: &Attempts, end: Instant) -> Duration {
    let left = end.saturating_duration_since(Instant::now());
    attempts.clock().now().saturating_add(left)
}

impl<S, Req, C, R> fmt::Debug for ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("attempts", &self.attempts.made())
            .finish_non_exhaustive()
    }
}
