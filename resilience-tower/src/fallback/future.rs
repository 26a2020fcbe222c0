use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::breaker::Classify;

use super::handle::{Begun, Fallbacks};
use super::{Answer, Error, Failed, FallbackFailed, Mark, Reason};

/// The response of a [`Fallback`](super::Fallback).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future, or the fallback that runs. A call that is dropped
/// never begins a fallback.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S, Req, T, E, A, C, M>
where
    A: Answer<Req, T, E>,
{
    #[pin]
    state: State<S, A::Future, E>,
    /// Nothing once the fallback is begun.
    kept: Option<A::Kept>,
    answer: A,
    classifier: C,
    mark: M,
    handle: Fallbacks,
}

#[pin_project(project = StateProj)]
enum State<S, F, E> {
    Calling(#[pin] S),
    FallingBack {
        #[pin]
        future: F,
        begun: Begun,
        reason: Reason,
        first: Option<E>,
    },
    Done,
}

impl<S, Req, T, E, A, C, M> ResponseFuture<S, Req, T, E, A, C, M>
where
    A: Answer<Req, T, E>,
{
    pub(super) fn new(
        inner: S,
        kept: A::Kept,
        answer: A,
        classifier: C,
        mark: M,
        handle: Fallbacks,
    ) -> Self {
        Self {
            state: State::Calling(inner),
            kept: Some(kept),
            answer,
            classifier,
            mark,
            handle,
        }
    }
}

impl<S, Req, T, E, A, C, M> Future for ResponseFuture<S, Req, T, E, A, C, M>
where
    S: Future<Output = Result<T, E>>,
    A: Answer<Req, T, E>,
    C: Classify<T, E>,
    M: Mark<T>,
{
    type Output = Result<T, Error<E, A::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = match this.state.as_mut().project() {
                StateProj::Calling(call) => ready!(call.poll(cx)),
                StateProj::FallingBack {
                    future,
                    begun,
                    reason,
                    first,
                } => {
                    let result = ready!(future.poll(cx));
                    begun.end(result.is_err());
                    let (reason, first) = (*reason, first.take());
                    let result = match result {
                        Ok(mut answer) => {
                            this.mark.mark(&mut answer, reason);
                            Ok(answer)
                        }
                        Err(error) => Err(Error::Fallback(FallbackFailed {
                            error,
                            reason,
                            first,
                        })),
                    };
                    this.state.set(State::Done);
                    return Poll::Ready(result);
                }
                // Polled after it was ready: there is nothing more to say.
                StateProj::Done => return Poll::Pending,
            };
            let outcome = this.classifier.classify(result.as_ref());
            let reason = Reason::of(outcome);
            let (Some(reason), Some(kept)) = (reason, this.kept.take()) else {
                this.state.set(State::Done);
                return Poll::Ready(result.map_err(Error::Inner));
            };
            // The inner future goes here: what it held is free for the fallback.
            this.state.set(State::Done);
            let failed = Failed::new(reason, result.as_ref());
            let future = this.answer.answer(kept, failed);
            let begun = this.handle.begin(reason);
            this.state.set(State::FallingBack {
                future,
                begun,
                reason,
                first: result.err(),
            });
        }
    }
}

impl<S, Req, T, E, A, C, M> fmt::Debug for ResponseFuture<S, Req, T, E, A, C, M>
where
    A: Answer<Req, T, E>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Calling(_) => "calling",
            State::FallingBack { .. } => "falling back",
            State::Done => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
