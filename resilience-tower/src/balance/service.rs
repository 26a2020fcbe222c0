use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use resilience_core::balance::{Balancer, EndpointId, PassedOver, Pick};
use resilience_core::breaker::ResultClassifier;
use tower_service::Service;

use super::waiting::Waiting;
use super::{Any, CriteriaOf, Error, ResponseFuture, Unavailable};
use crate::breaker::{Judge, JudgeCall, OnResult};

/// A service that sends each call to one of several endpoints, each of which is a service.
///
/// Clones share the endpoints. `poll_ready` is always ready; see the [module](super) for why.
#[derive(Clone)]
pub struct Balance<S, J = OnResult<ResultClassifier>, C = Any> {
    balancer: Balancer<S>,
    waiting: Arc<Waiting>,
    judge: J,
    criteria: C,
}

/// What became of a search for an endpoint that is ready.
pub(super) enum Sought<S: Service<Req>, Req, J> {
    Called(S::Future, Pick<S>, J),
    Failed(Error<S::Error>),
    Waits(Req, Vec<Candidate<S>>),
}

/// An endpoint that is not ready, and the clone of it that was asked.
pub(super) struct Candidate<S> {
    pub(super) endpoint: PassedOver<S>,
    pub(super) service: S,
}

/// Calls that wait at once, unless said otherwise: few enough not to matter.
const WAITING: usize = 1_024;

impl<S: Send + Sync + 'static> Balance<S> {
    /// Calls go to the endpoints of `balancer`, which is the handle to add, remove, weigh and drain
    /// them while calls run. `Ok` is a success, `Err` a failure.
    pub fn new(balancer: Balancer<S>) -> Self {
        Self {
            waiting: Arc::new(Waiting::new(&balancer, WAITING)),
            balancer,
            judge: OnResult(ResultClassifier),
            criteria: Any,
        }
    }
}

impl<S: Send + Sync + 'static, J, C> Balance<S, J, C> {
    /// How many calls may wait while no endpoint is ready, 1024 unless said otherwise; 0 refuses
    /// them at once. It holds for this service and clones made of it from now on.
    #[must_use]
    pub fn max_waiting(self, calls: usize) -> Self {
        Self {
            waiting: Arc::new(Waiting::new(&self.balancer, calls)),
            ..self
        }
    }
}

impl<S, J, C> Balance<S, J, C> {
    /// Judges calls by `classifier`, which may be the breaker's, when their response is there. It is
    /// cloned once per call.
    pub fn classify<D>(self, classifier: D) -> Balance<S, OnResult<D>, C> {
        self.judge(OnResult(classifier))
    }

    /// Judges calls by `judge`: at their head, at the end of their body, or as their request says;
    /// see [`Judge`].
    pub fn judge<K>(self, judge: K) -> Balance<S, K, C> {
        Balance {
            balancer: self.balancer,
            waiting: self.waiting,
            judge,
            criteria: self.criteria,
        }
    }

    /// Calls go by what `criteria` finds in the request: a `Fn(&Request) -> u64` that tells a key,
    /// or any [`CriteriaOf`].
    pub fn criteria<D>(self, criteria: D) -> Balance<S, J, D> {
        Balance {
            balancer: self.balancer,
            waiting: self.waiting,
            judge: self.judge,
            criteria,
        }
    }

    /// The endpoints, for changing them or reading their figures.
    pub fn handle(&self) -> &Balancer<S> {
        &self.balancer
    }

    /// Calls that wait, as no endpoint is ready.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn judge_of<Req>(&self, request: &Req) -> J::Call
    where
        J: Judge<Req>,
    {
        self.judge.begin(request)
    }

    /// Asks endpoints one after the other whether they are ready, and calls the first that is.
    #[inline]
    pub(super) fn seek<Req>(&self, request: Req, cx: &mut Context<'_>) -> Sought<S, Req, J::Call>
    where
        S: Service<Req> + Clone,
        J: Judge<Req>,
        C: CriteriaOf<Req>,
    {
        let criteria = self.criteria.criteria_of(&request);
        let pick = match self.balancer.pick_by(criteria) {
            Ok(pick) => pick,
            Err(nobody) => return Sought::Failed(Unavailable::from(nobody).into()),
        };
        // Should anything panic from here on, the unwinding drops the pick: a failure.
        let mut service = pick.value().clone();
        match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                let judge = self.judge.begin(&request);
                Sought::Called(service.call(request), pick, judge)
            }
            asked => self.seek_further(request, cx, pick, service, asked),
        }
    }

    /// The first endpoint was not ready: as [`seek`](Self::seek), with the others.
    #[cold]
    fn seek_further<Req>(
        &self,
        request: Req,
        cx: &mut Context<'_>,
        mut pick: Pick<S>,
        mut service: S,
        mut asked: Poll<Result<(), S::Error>>,
    ) -> Sought<S, Req, J::Call>
    where
        S: Service<Req> + Clone,
        J: Judge<Req>,
        C: CriteriaOf<Req>,
    {
        let criteria = self.criteria.criteria_of(&request);
        let mut excluded = criteria.excluded().to_vec();
        let mut seen: Vec<EndpointId> = Vec::new();
        let mut candidates = Vec::new();
        let mut failed = None;
        loop {
            seen.push(pick.id());
            excluded.push(pick.id());
            match asked {
                Poll::Ready(Ok(())) => {
                    let judge = self.judge.begin(&request);
                    return Sought::Called(service.call(request), pick, judge);
                }
                Poll::Ready(Err(error)) => {
                    pick.failure();
                    failed = Some(error);
                }
                Poll::Pending => candidates.push(Candidate {
                    endpoint: pick.pass_over(),
                    service,
                }),
            }
            // Those that the request was tried at come last, but they come.
            let further = [&excluded, &seen].into_iter().find_map(|excluded| {
                let pick = self.balancer.pick_by(criteria.excluding(excluded)).ok()?;
                match seen.contains(&pick.id()) {
                    true => {
                        pick.pass_over();
                        None
                    }
                    false => Some(pick),
                }
            });
            let Some(next) = further else {
                break;
            };
            pick = next;
            service = pick.value().clone();
            asked = service.poll_ready(cx);
        }
        match failed {
            Some(error) if candidates.is_empty() => Sought::Failed(Error::Inner(error)),
            _ => Sought::Waits(request, candidates),
        }
    }
}

impl<S, J, C, Req> Service<Req> for Balance<S, J, C>
where
    S: Service<Req> + Clone,
    J: Judge<Req> + Clone,
    J::Call: JudgeCall<S::Response, S::Error, Pick<S>>,
    C: CriteriaOf<Req> + Clone,
{
    type Response = <J::Call as JudgeCall<S::Response, S::Error, Pick<S>>>::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, Req, J, C>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        // Before the look: what changes during it is not overlooked by a call that waits.
        let changes = self.waiting.changes();
        // Nobody is woken by this look. Endpoints that are not ready are asked again by the first
        // poll, before the call waits for them.
        match self.seek(req, &mut Context::from_waker(Waker::noop())) {
            Sought::Called(call, pick, judge) => ResponseFuture::called(call, pick, judge),
            Sought::Failed(error) => ResponseFuture::failed(error),
            Sought::Waits(req, candidates) => match self.waiting.seat(changes) {
                Some(seat) => ResponseFuture::waiting(self.clone(), req, candidates, seat),
                None => {
                    let unavailable = Unavailable::not_ready(self.balancer.len());
                    ResponseFuture::failed(unavailable.into())
                }
            },
        }
    }
}

// By hand: closures have no `Debug`.
impl<S, J, C> fmt::Debug for Balance<S, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("balancer", &self.balancer)
            .finish_non_exhaustive()
    }
}
