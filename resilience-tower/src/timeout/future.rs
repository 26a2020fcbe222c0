use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::Instant;

use super::alarm::Alarm;
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
    #[pin]
    alarm: Alarm,
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, after: Duration) -> Self {
        Self {
            inner,
            after,
            alarm: Alarm::new(Instant::now().checked_add(after)),
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result.map_err(Error::Inner));
        }
        ready!(this.alarm.poll(cx));
        let after = *this.after;
        Poll::Ready(Err(Error::Elapsed(Elapsed { after })))
    }
}
