use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use resilience_core::{balance::EndpointId, breaker::Outcome};
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::{
    Ask, Endpoint, Verdict, Went,
    seek::{Found, Seek, Seeking, as_error},
    service::{Kept, Sent},
};
use crate::{
    breaker::unwind::DropOnUnwind,
    read_write::{
        Cluster, Disposition, Error, Failure, Reason, Refusal,
        lease::{Guard, Place},
        shared::Running,
    },
    retry::Replay,
};

/// The response of a [`ReadWrite`](super::ReadWrite): that of the last node it was sent to.
///
/// # Panics
///
/// Polled outside of a tokio runtime with its time driver enabled, when there is a deadline, or no
/// node will do at once.
///
/// # Cancel safety
///
/// Dropping the future drops the node's, and says nothing about the node. Whether a write ran is then
/// unknown.
///
/// If the node's future panics, the call is a failure, also when the panic is caught and the future
/// dropped later.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<N, R, Req>
where
    N: Endpoint,
    R: Ask<Req, N::Position>,
    N::Service: Service<Sent<N, R, Req>>,
{
    #[pin]
    state: State<N, Called<N, R, Req>>,
    call: Call<N, R, Req>,
    /// The end of the call, if it has one.
    #[pin]
    timer: Option<Sleep>,
}

#[pin_project(project = StateProj)]
enum State<N: Endpoint, F> {
    Begin,
    Seeking(Seeking<N>),
    /// The service of the node is asked whether it is ready; whether it was not at first.
    Asking(N::Service, bool),
    Calling(#[pin] F),
}

/// What outlives an attempt.
struct Call<N, R, Req>
where
    N: Endpoint,
    R: Ask<Req, N::Position>,
    N::Service: Service<Sent<N, R, Req>>,
{
    rules: R,
    replay: R::Replay,
    /// What is sent next. `None` once it is.
    request: Option<Sent<N, R, Req>>,
    /// `None` when the request cannot be sent again.
    kept: Option<Kept<N, R, Req>>,
    /// `None` while the search has it.
    seek: Option<Seek<N>>,
    /// What is held of the node, and where that is.
    guard: Option<Guard<N>>,
    place: Option<Place>,
    went: Option<Went>,
    /// The failed attempt before, as long as there is none after it.
    before: Option<Before<N, R, Req>>,
    /// Where a write may have run, in an attempt that is over, and what went wrong there.
    ran: Option<Ran<ServiceError<N, R, Req>>>,
}

type Called<N, R, Req> = <<N as Endpoint>::Service as Service<Sent<N, R, Req>>>::Future;
type Response<N, R, Req> = <<N as Endpoint>::Service as Service<Sent<N, R, Req>>>::Response;
type ServiceError<N, R, Req> = <<N as Endpoint>::Service as Service<Sent<N, R, Req>>>::Error;

type Ran<E> = (Arc<str>, Option<E>);
type Before<N, R, Req> = Failed<Response<N, R, Req>, ServiceError<N, R, Req>>;

/// An attempt that failed by the node's fault, or may have.
struct Failed<T, E> {
    result: Result<T, E>,
    failure: Failure,
    went: Went,
}

impl<N, R, Req> ResponseFuture<N, R, Req>
where
    N: Endpoint,
    R: Ask<Req, N::Position>,
    N::Service: Service<Sent<N, R, Req>>,
{
    pub(super) fn new(cluster: Cluster<N>, rules: R, request: Req) -> Self {
        let checkout = rules.checkout(&request);
        let replay = rules.replay().clone();
        let again = cluster.shared().max_attempts > 1;
        let (request, kept) = replay.first(request, again);
        Self {
            state: State::Begin,
            call: Call {
                rules,
                replay,
                request: Some(request),
                kept,
                seek: Some(Seek::new(cluster, checkout)),
                guard: None,
                place: None,
                went: None,
                before: None,
                ran: None,
            },
            timer: None,
        }
    }
}

/// What the state of a call becomes.
enum Next<N: Endpoint, T, E> {
    State(Seeking<N>),
    Over(Result<T, Error<E>>),
}

impl<N, R, Req> Call<N, R, Req>
where
    N: Endpoint,
    R: Ask<Req, N::Position>,
    N::Service: Service<Sent<N, R, Req>>,
    R: Verdict<N::Position, Response<N, R, Req>, ServiceError<N, R, Req>>,
{
    /// A node was found: its service.
    fn found(&mut self, (guard, place): Found<N>) -> N::Service {
        self.went_by();
        let member = guard.member();
        let service = member.node.service().clone();
        if let Some(seek) = &self.seek {
            self.went = Some(Went {
                node: Arc::clone(&member.name),
                why: place.why(),
                attempts: seek.attempts,
                cluster: seek.cluster_id(),
            });
        }
        (self.guard, self.place) = (Some(guard), Some(place));
        service
    }

    /// The failed attempt before is not what the call ends with.
    fn went_by(&mut self) {
        if let Some(Failed {
            result: Err(error),
            failure: Failure::Lost,
            ..
        }) = self.before.take()
            && let Some((_, source)) = &mut self.ran
        {
            *source = Some(error);
        }
    }

    /// The search for another node, if this one is not what it was before the wait for it.
    fn outdated(&mut self, waited: bool) -> Option<Seeking<N>> {
        let place = self.place.filter(|_| waited)?;
        let seek = self.seek.take_if(|seek| !seek.is_current(place))?;
        let guard = self.guard.take()?;
        let id = guard.id();
        Some(seek.elsewhere(id, guard.pass_over()))
    }

    /// An attempt is over.
    fn ended(
        &mut self,
        result: Result<Response<N, R, Req>, ServiceError<N, R, Req>>,
        failure: Option<Failure>,
    ) -> Next<N, R::Response, ServiceError<N, R, Req>> {
        let (Some(guard), Some(went)) = (self.guard.take(), self.went.take()) else {
            // An attempt has both.
            return Next::Over(Err(Error::Deadline));
        };
        let Some(failure) = failure else {
            guard.end(Outcome::Success);
            let result = result.map(|response| self.rules.answer(response, went));
            return Next::Over(result.map_err(Error::Inner));
        };
        let id = guard.id();
        let running = guard.fail(failure);
        if failure == Failure::Lost && self.seek.as_ref().is_some_and(Seek::writes) {
            self.ran = Some((Arc::clone(&went.node), None));
        }
        let failed = Failed {
            result,
            failure,
            went,
        };
        match self.again(id, failure, running) {
            Some(seeking) => {
                self.before = Some(failed);
                Next::State(seeking)
            }
            None => Next::Over(self.give(failed)),
        }
    }

    /// The search for another node, if the call may go there.
    fn again(
        &mut self,
        id: EndpointId,
        failure: Failure,
        running: Running<N>,
    ) -> Option<Seeking<N>> {
        let mut seek = self.seek.take()?;
        let next = match seek.disposition(failure) {
            Disposition::RetryElsewhere => {
                // Before the budget is asked: what cannot be sent again costs nothing.
                let request = self.request.take().or_else(|| {
                    let kept = self.kept.as_mut()?;
                    self.replay.again(kept)
                });
                request.and_then(|request| {
                    let start = seek.go_on(id, failure, running)?;
                    self.request = Some(request);
                    Some(start)
                })
            }
            _ => None,
        };
        match next {
            Some(start) => Some(seek.later(start)),
            None => {
                self.seek = Some(seek);
                None
            }
        }
    }

    /// A failed attempt is all there is.
    fn give(
        &mut self,
        failed: Before<N, R, Req>,
    ) -> Result<R::Response, Error<ServiceError<N, R, Req>>> {
        let Failed {
            result,
            failure,
            went,
        } = failed;
        let error = match result {
            Ok(response) => return Ok(self.rules.answer(response, went)),
            Err(error) => error,
        };
        let disposition = self.seek.as_ref().map(|seek| seek.disposition(failure));
        Err(match disposition {
            Some(Disposition::Never) => Error::Inner(error),
            _ => self.failed(Error::Unreachable {
                node: went.node,
                failure,
                source: Some(error),
            }),
        })
    }

    /// The call ends by `error`. One that says that it did not run is true of the last attempt alone.
    fn failed(&mut self, error: Error<ServiceError<N, R, Req>>) -> Error<ServiceError<N, R, Req>> {
        let (Some(seek), Some((node, source))) = (&self.seek, self.ran.take()) else {
            return error;
        };
        seek.unknown();
        let source = match error {
            Error::Unreachable {
                failure: Failure::Lost,
                source,
                ..
            } => source,
            _ => source,
        };
        Error::OutcomeUnknown { node, source }
    }

    /// No node was found.
    fn refused(&mut self, refusal: Refusal) -> Result<R::Response, Error<ServiceError<N, R, Req>>> {
        // A response is better than none, and an error of a node than that no other is left.
        let given = self
            .before
            .take_if(|failed| failed.result.is_ok() || is_exhausted(&refusal));
        if let Some(failed) = given {
            return self.give(failed);
        }
        self.went_by();
        Err(self.failed(as_error(refusal)))
    }

    /// The time of the call is up. `sent`: the node has the request.
    fn late<T>(&mut self, sent: bool) -> Result<T, Error<ServiceError<N, R, Req>>> {
        let guard = self.guard.take();
        if !sent {
            drop(guard.map(Guard::pass_over));
        } else if self.seek.as_ref().is_some_and(Seek::writes) {
            self.ran = self.went.take().map(|went| (went.node, None));
        }
        Err(self.failed(Error::Deadline))
    }
}

fn is_exhausted(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason(),
        Some(Reason::NoNode | Reason::Behind | Reason::SpillSpent)
    ) || matches!(refusal, Refusal::Breaker(_))
}

impl<N, R, Req> Future for ResponseFuture<N, R, Req>
where
    N: Endpoint,
    R: Ask<Req, N::Position>,
    N::Service: Service<Sent<N, R, Req>>,
    R: Verdict<N::Position, Response<N, R, Req>, ServiceError<N, R, Req>>,
{
    type Output = Result<R::Response, Error<ServiceError<N, R, Req>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let call = this.call;
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Begin => {
                    let Some(mut seek) = call.seek.take() else {
                        return Poll::Pending;
                    };
                    if let Some(until) = seek.until() {
                        this.timer.set(Some(sleep_until(until)));
                    }
                    match seek.at_once() {
                        Ok(found) => {
                            call.seek = Some(seek);
                            State::Asking(call.found(found), false)
                        }
                        Err(start) => State::Seeking(seek.later(start)),
                    }
                }
                StateProj::Seeking(seeking) => {
                    let (seek, found) = ready!(seeking.as_mut().poll(cx));
                    call.seek = Some(seek);
                    match found {
                        Ok(found) => State::Asking(call.found(found), false),
                        Err(refusal) => return Poll::Ready(call.refused(refusal)),
                    }
                }
                StateProj::Asking(service, waited) => match service.poll_ready(cx) {
                    Poll::Pending => {
                        *waited = true;
                        ready!(time_is_up(this.timer.as_mut(), cx));
                        return Poll::Ready(call.late(false));
                    }
                    Poll::Ready(Ok(())) => {
                        if let Some(seeking) = call.outdated(*waited) {
                            State::Seeking(seeking)
                        } else if let Some(request) = call.request.take() {
                            State::Calling(service.call(request))
                        } else {
                            return Poll::Pending;
                        }
                    }
                    Poll::Ready(Err(error)) => {
                        match call.ended(Err(error), Some(Failure::NotSent)) {
                            Next::State(seeking) => State::Seeking(seeking),
                            Next::Over(result) => return Poll::Ready(result),
                        }
                    }
                },
                StateProj::Calling(called) => {
                    let armed = DropOnUnwind(&mut call.guard);
                    let polled = called.poll(cx);
                    armed.disarm();
                    let Poll::Ready(result) = polled else {
                        ready!(time_is_up(this.timer.as_mut(), cx));
                        return Poll::Ready(call.late(true));
                    };
                    // Should the verdict panic, the unwinding drops the guard: a failure.
                    let failure = call.rules.failure(result.as_ref());
                    match call.ended(result, failure) {
                        Next::State(seeking) => State::Seeking(seeking),
                        Next::Over(result) => return Poll::Ready(result),
                    }
                }
            };
            this.state.set(next);
        }
    }
}

fn time_is_up(timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    match timer.as_pin_mut() {
        Some(timer) => timer.poll(cx),
        None => Poll::Pending,
    }
}

impl<N, R, Req> fmt::Debug for ResponseFuture<N, R, Req>
where
    N: Endpoint,
    R: Ask<Req, N::Position>,
    N::Service: Service<Sent<N, R, Req>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Begin => "begin",
            State::Seeking(_) => "seeking",
            State::Asking(..) => "asking",
            State::Calling(_) => "calling",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
