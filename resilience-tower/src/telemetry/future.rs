use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::{pin_project, pinned_drop};

use super::Judge;
use super::outcome::End;
use super::record::Record;

/// The response of a [`Telemetry`](super::Telemetry).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future, within the span of the call, and tells the call as
/// cancelled.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F, J> {
    // `None` once it has answered.
    #[pin]
    inner: Option<F>,
    record: Record,
    judge: J,
}

impl<F, J> ResponseFuture<F, J> {
    #[inline]
    pub(super) fn new(inner: F, record: Record, judge: J) -> Self {
        Self {
            inner: Some(inner),
            record,
            judge,
        }
    }
}

impl<F, J, T, E> Future for ResponseFuture<F, J>
where
    F: Future<Output = Result<T, E>>,
    J: Judge<T, E>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            // Polled after it was ready: there is nothing more to say.
            return Poll::Pending;
        };
        let Poll::Ready(result) = this.record.within(|| inner.poll(cx)) else {
            return Poll::Pending;
        };
        this.record.within(|| this.inner.set(None));
        let ended = this.judge.judge(result.as_ref());
        this.record.end(End::Judged(ended));
        Poll::Ready(result)
    }
}

#[pinned_drop]
impl<F, J> PinnedDrop for ResponseFuture<F, J> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.inner.is_some() {
            this.record.within(|| this.inner.set(None));
        }
    }
}

impl<F: fmt::Debug, J> fmt::Debug for ResponseFuture<F, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
