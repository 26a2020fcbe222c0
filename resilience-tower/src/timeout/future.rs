use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Elapsed, Error};

/// The response of a [`Timeout`](super::Timeout).
///
/// # Panics
///
/// Polled outside of a tokio runtime with its time driver enabled, if the inner service is
/// not ready at once.
///
/// # Cancel safety
///
/// Dropping the future drops the inner future and its timer.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F> {
    #[pin]
    inner: F,
    after: Duration,
    // `None` when beyond what the clock can count: no limit.
    deadline: Option<Instant>,
    // Made at the first poll that is pending: most calls that answer from memory, and
    // all that are refused below, never touch the runtime's timer.
    #[pin]
    timer: Option<Sleep>,
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, after: Duration) -> Self {
        Self {
            inner,
            after,
            deadline: Instant::now().checked_add(after),
            timer: None,
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result.map_err(Error::Inner));
        }
        let Some(deadline) = *this.deadline else {
            return Poll::Pending;
        };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(deadline)));
        }
        let rang = this
            .timer
            .as_pin_mut()
            .is_some_and(|timer| timer.poll(cx).is_ready());
        // The clock is asked too: an inner future that uses up tokio's cooperative budget
        // at every poll would keep the timer from ever being looked at.
        if rang || Instant::now() >= deadline {
            let after = *this.after;
            return Poll::Ready(Err(Error::Elapsed(Elapsed { after })));
        }
        Poll::Pending
    }
}
