use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::Error;

/// The response of a [`Chaos`](super::Chaos).
///
/// # Panics
///
/// Polled outside of a tokio runtime with its time driver enabled, if the call takes longer on
/// purpose.
///
/// # Cancel safety
///
/// Dropping the future drops the inner future, or its answer that is kept back.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F, T, E> {
    #[pin]
    kind: Kind<F, T, E>,
}

#[pin_project(project = KindProj)]
enum Kind<F, T, E> {
    Called {
        #[pin]
        inner: F,
        latency: Option<Duration>,
    },
    /// No timer is asked for before the first poll.
    Fault {
        until: Option<Instant>,
        answer: Option<Result<T, Error<E>>>,
    },
    Waiting {
        #[pin]
        timer: Sleep,
        answer: Option<Result<T, Error<E>>>,
    },
    /// Never answers, or has answered.
    Silent,
}

impl<F, T, E> ResponseFuture<F, T, E> {
    #[inline]
    pub(super) const fn called(inner: F, latency: Option<Duration>) -> Self {
        Self {
            kind: Kind::Called { inner, latency },
        }
    }

    pub(super) fn fault(answer: Result<T, Error<E>>, latency: Option<Duration>) -> Self {
        Self {
            kind: Kind::Fault {
                until: latency.map(|latency| Instant::now() + latency),
                answer: Some(answer),
            },
        }
    }

    pub(super) const fn silent() -> Self {
        Self { kind: Kind::Silent }
    }
}

impl<F, T, E> Future for ResponseFuture<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        loop {
            let answer = match kind.as_mut().project() {
                KindProj::Called { inner, latency } => {
                    let result = ready!(inner.poll(cx)).map_err(Error::Inner);
                    let Some(latency) = *latency else {
                        return Poll::Ready(result);
                    };
                    // The inner future goes here; what it held is free while the answer waits.
                    kind.set(Kind::Waiting {
                        timer: sleep(latency),
                        answer: Some(result),
                    });
                    continue;
                }
                KindProj::Fault {
                    until: Some(until),
                    answer,
                } => {
                    let timer = sleep_until(*until);
                    let answer = answer.take();
                    kind.set(Kind::Waiting { timer, answer });
                    continue;
                }
                KindProj::Fault { answer, .. } => answer.take(),
                KindProj::Waiting { timer, answer } => {
                    ready!(timer.poll(cx));
                    answer.take()
                }
                KindProj::Silent => return Poll::Pending,
            };
            kind.set(Kind::Silent);
            return answer.map_or(Poll::Pending, Poll::Ready);
        }
    }
}

impl<F, T, E> fmt::Debug for ResponseFuture<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Called { .. } => "called",
            Kind::Fault { .. } => "fault",
            Kind::Waiting { .. } => "waiting",
            Kind::Silent => "silent",
        };
        f.debug_tuple("ResponseFuture").field(&kind).finish()
    }
}
