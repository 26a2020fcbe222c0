use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::deadline::{Deadlines, Time, TimeUp};
use tokio::time::Instant;

use super::Error;
use crate::timeout::alarm::Alarm;

/// The response of a [`WithDeadline`](super::WithDeadline).
///
/// # Panics
///
/// Polled outside of a tokio runtime with its time driver enabled, if the call has a limit and the
/// inner service is not ready at once.
///
/// # Cancel safety
///
/// Dropping the future drops the inner future and its timer; nothing is counted.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F> {
    #[pin]
    kind: Kind<F>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F> {
    Called {
        #[pin]
        inner: F,
        #[pin]
        alarm: Alarm,
        time: Time,
        deadlines: Deadlines,
    },
    // `Copy`, so that polling again cannot panic, nor count again.
    TimeUp(TimeUp),
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(super) fn called(inner: F, end: Option<Instant>, time: Time, deadlines: Deadlines) -> Self {
        Self {
            kind: Kind::Called {
                inner,
                alarm: Alarm::new(end),
                time,
                deadlines,
            },
        }
    }

    pub(super) const fn refused(refused: TimeUp) -> Self {
        Self {
            kind: Kind::TimeUp(refused),
        }
    }

    /// The inner future; `None` when there was no call, or its time is up.
    #[cfg(feature = "stack")]
    pub(crate) const fn inner(&self) -> Option<&F> {
        match &self.kind {
            Kind::Called { inner, .. } => Some(inner),
            Kind::TimeUp(_) => None,
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        let up = match kind.as_mut().project() {
            KindProj::Called {
                inner,
                alarm,
                time,
                deadlines,
            } => {
                if let Poll::Ready(result) = inner.poll(cx) {
                    return Poll::Ready(result.map_err(Error::Inner));
                }
                ready!(alarm.poll(cx));
                deadlines.time_up(*time)
            }
            KindProj::TimeUp(up) => *up,
        };
        // The inner future goes here, and not when somebody drops this one.
        kind.set(Kind::TimeUp(up));
        Poll::Ready(Err(Error::TimeUp(up)))
    }
}
