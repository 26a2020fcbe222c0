//! Outcomes that are known only when the body ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use resilience_core::breaker::{Classify, Outcome, OwnedPermit};

use crate::breaker::unwind::DropOnUnwind;
use crate::breaker::{BreakerLayer, Judge, JudgeCall, Record};

/// Decides what a response says about the upstream: at its head, or when its body ends.
///
/// A call without a response is judged by the same type's [`Classify`].
pub trait ClassifyBody<B: Body> {
    /// The outcome at the head of the response; `None` waits for the end of the body.
    fn head(&self, response: &Response<B>) -> Option<Outcome>;

    /// The outcome of a body that ended as it should, with the trailers if it had any.
    fn end(&self, trailers: Option<&HeaderMap>) -> Outcome;

    /// The outcome of a body that broke off; a failure unless said otherwise.
    fn broken(&self, error: &B::Error) -> Outcome {
        let _ = error;
        Outcome::Failure
    }
}

/// Judges an HTTP call when the body of its response ends, by a [`ClassifyBody`].
///
/// The permit travels in the body: see [`JudgedBody`]. The classifier is cloned once per call,
/// and once more for the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnBodyEnd<C>(pub C);

impl<C: Clone, Req> Judge<Req> for OnBodyEnd<C> {
    type Call = Self;

    fn begin(&self, _: &Req) -> Self {
        self.clone()
    }
}

impl<C, B, E, P> JudgeCall<Response<B>, E, P> for OnBodyEnd<C>
where
    C: ClassifyBody<B> + Classify<Response<B>, E> + Clone,
    B: Body,
    P: Record,
{
    type Response = Response<JudgedBody<B, C, P>>;

    fn end(
        &self,
        mut permit: Option<P>,
        result: Result<Response<B>, E>,
    ) -> Result<Self::Response, E> {
        let Self(classifier) = self;
        // Should the classifier panic, the unwinding drops the permit: a failure.
        let known = permit.as_ref().and_then(|_| match &result {
            Err(_) => Some(classifier.classify(result.as_ref())),
            Ok(response) => classifier.head(response).or_else(|| {
                // Nobody polls a body that has ended: servers look here first.
                let ended = response.body().is_end_stream();
                ended.then(|| classifier.end(None))
            }),
        });
        if let Some(outcome) = known
            && let Some(permit) = permit.take()
        {
            permit.record(outcome);
        }
        result.map(|response| {
            response.map(|inner| JudgedBody {
                inner,
                permit,
                classifier: classifier.clone(),
            })
        })
    }
}

impl<J, P> BreakerLayer<J, P> {
    /// Judges each call when the body of its response ends; see [`OnBodyEnd`].
    ///
    /// The permit is held until then: a slow-call threshold counts the whole body, and a
    /// half-open probe is out until the body ends, is dropped, or outlives its lease.
    pub fn classify_body<C>(self, classifier: C) -> BreakerLayer<OnBodyEnd<C>, P> {
        self.judge(OnBodyEnd(classifier))
    }
}

/// A response body that carries the permit of its call until the outcome is known.
///
/// | the body | is recorded as |
/// |---|---|
/// | was decided at the head | recorded before; this is the bare body |
/// | ends, or its trailers come | what [`ClassifyBody::end`] says |
/// | breaks off with an error | what [`ClassifyBody::broken`] says |
/// | panics while it is polled | failure |
/// | is dropped before | abandoned: the breaker's `on_cancel` decides |
///
/// Frames, trailers, `is_end_stream` and `size_hint` pass untouched. A body that says after a
/// frame that it has ended is taken at its word, as its reader need not poll it again.
#[pin_project]
#[derive(Debug)]
pub struct JudgedBody<B, C, P = OwnedPermit> {
    #[pin]
    inner: B,
    // `None` once the outcome is recorded.
    permit: Option<P>,
    classifier: C,
}

impl<B: Body, C: ClassifyBody<B>, P: Record> Body for JudgedBody<B, C, P> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let armed = DropOnUnwind(this.permit);
        let polled = this.inner.as_mut().poll_frame(cx);
        if armed.0.is_none() {
            return polled;
        }
        let outcome = match &polled {
            Poll::Pending => None,
            Poll::Ready(None) => Some(this.classifier.end(None)),
            Poll::Ready(Some(Err(error))) => Some(this.classifier.broken(error)),
            Poll::Ready(Some(Ok(frame))) => {
                let trailers = frame.trailers_ref();
                let ended = trailers.is_some() || this.inner.is_end_stream();
                ended.then(|| this.classifier.end(trailers))
            }
        };
        armed.disarm();
        if let Some(outcome) = outcome
            && let Some(permit) = this.permit.take()
        {
            permit.record(outcome);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
