use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use resilience_core::breaker::{Classify, Outcome};
use resilience_core::hedge::{Attempt, Call, Grant};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use crate::retry::Replay;

/// The response of a [`Hedge`](super::Hedge): the first answer of its attempts.
///
/// # Panics
///
/// Polled outside of a tokio runtime with its time driver enabled, when the first attempt is pending
/// and may be hedged.
///
/// # Cancel safety
///
/// Dropping the future drops all attempts. A hedge that was paid for and not begun is given back to
/// the budget.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    /// `None` once it has ended.
    #[pin]
    first: Option<S::Future>,
    /// `None` for a call that is not measured.
    measured: Option<Attempt>,
    hedges: Vec<Running<S::Future>>,
    /// `None` when there will be no more hedges.
    plan: Option<Plan<S, R::Kept, R::Request>>,
    /// When the next hedge is due; made when it is first waited for.
    #[pin]
    timer: Option<Sleep>,
    classifier: C,
    replay: R,
}

/// A hedge under way.
struct Running<F> {
    // Boxed, so that the many calls that are answered in time carry no room for it.
    future: Pin<Box<F>>,
    attempt: Attempt,
}

/// What is needed for the next hedge.
pub(super) struct Plan<S, K, Req> {
    pub(super) service: S,
    pub(super) kept: K,
    pub(super) call: Call,
    pub(super) delay: Duration,
    pub(super) due: Instant,
    pub(super) deadline: Option<Instant>,
    /// Paid for, while the service is not ready.
    pub(super) granted: Option<(Grant, Req)>,
}

impl<S, Req, C, R> ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    #[inline]
    pub(super) fn new(
        first: S::Future,
        measured: Option<Attempt>,
        plan: Option<Plan<S, R::Kept, R::Request>>,
        classifier: C,
        replay: R,
    ) -> Self {
        Self {
            first: Some(first),
            measured,
            hedges: Vec::new(),
            plan,
            timer: None,
            classifier,
            replay,
        }
    }
}

/// What the end of an attempt means for its call.
enum Ended {
    /// It is the answer.
    Answer,
    /// It is the answer if no other attempt runs.
    Failed,
    /// The same, and the upstream asked for less, not more.
    Overloaded,
}

impl Ended {
    fn of<T, E>(
        classifier: &impl Classify<T, E>,
        result: Result<&T, &E>,
        attempt: Attempt,
    ) -> Self {
        match (classifier.classify(result), result) {
            (Outcome::Success, _) => {
                attempt.answered();
                Self::Answer
            }
            (Outcome::Overloaded { .. }, _) => Self::Overloaded,
            (Outcome::Failure, _) | (_, Err(_)) => Self::Failed,
            // What is ignored says nothing about how long attempts take.
            (_, Ok(_)) => Self::Answer,
        }
    }
}

impl<S, Req, C, R> Future for ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(result) = self.as_mut().poll_attempts(cx) {
                // The losers go here, and not when somebody drops this future.
                let this = self.project();
                this.hedges.clear();
                *this.plan = None;
                set_none(this.first);
                set_none(this.timer);
                *this.measured = None;
                return Poll::Ready(result);
            }
            // A new hedge is polled at once.
            ready!(self.as_mut().poll_plan(cx));
        }
    }
}

impl<S, Req, C, R> ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    /// The answer of the call, if there is one: the first success, or the last failure.
    fn poll_attempts(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Option<Result<S::Response, S::Error>> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(result) = first.poll(cx)
        {
            let Some(attempt) = this.measured.take() else {
                return Some(result);
            };
            let ended = Ended::of(this.classifier, result.as_ref(), attempt);
            set_none(this.first.as_mut());
            if matches!(ended, Ended::Answer) || this.hedges.is_empty() {
                return Some(result);
            }
            if matches!(ended, Ended::Overloaded) {
                *this.plan = None;
            }
        }
        let mut at = 0;
        while let Some(hedge) = this.hedges.get_mut(at) {
            let Poll::Ready(result) = hedge.future.as_mut().poll(cx) else {
                at += 1;
                continue;
            };
            let Running { attempt, .. } = this.hedges.remove(at);
            let ended = Ended::of(this.classifier, result.as_ref(), attempt);
            let alone = this.hedges.is_empty() && this.first.is_none();
            if matches!(ended, Ended::Answer) || alone {
                return Some(result);
            }
            if matches!(ended, Ended::Overloaded) {
                *this.plan = None;
            }
        }
        None
    }

    /// Ready when a hedge has begun.
    fn poll_plan(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(plan) = this.plan else {
            return Poll::Pending;
        };
        if plan.granted.is_none() {
            if this.timer.is_none() {
                this.timer.set(Some(sleep_until(plan.due)));
            }
            let timer = this.timer.as_mut().as_pin_mut();
            let rang = timer.is_some_and(|timer| timer.poll(cx).is_ready());
            // The clock is asked too: an attempt that uses up tokio's cooperative budget at every
            // poll would keep the timer from ever being looked at.
            if !rang && Instant::now() < plan.due {
                return Poll::Pending;
            }
            // Before the budget is asked: what cannot be sent again costs nothing.
            let request = this.replay.again(&mut plan.kept);
            let now = Instant::now();
            let left = plan.deadline.map(|end| end.saturating_duration_since(now));
            let granted = request.and_then(|request| {
                let grant = plan.call.hedge(left).ok()?;
                Some((grant, request))
            });
            plan.granted = granted;
        }
        let ready = match plan.granted {
            // The attempts that run go on; this one is given back.
            Some(_) => ready!(plan.service.poll_ready(cx)).is_ok(),
            None => false,
        };
        let Some((grant, request)) = plan.granted.take().filter(|_| ready) else {
            *this.plan = None;
            set_none(this.timer);
            return Poll::Pending;
        };
        let attempt = grant.begin();
        let future = Box::pin(plan.service.call(request));
        this.hedges.push(Running { future, attempt });
        set_none(this.timer);
        match Instant::now().checked_add(plan.delay) {
            Some(due) => plan.due = due,
            None => *this.plan = None,
        }
        Poll::Ready(())
    }
}

fn set_none<T>(mut place: Pin<&mut Option<T>>) {
    if place.is_some() {
        place.set(None);
    }
}

impl<S, Req, C, R> fmt::Debug for ResponseFuture<S, Req, C, R>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("first", &self.first.is_some())
            .field("hedges", &self.hedges.len())
            .finish_non_exhaustive()
    }
}
