//! From a call's result to the outcome that the breaker counts.

use std::fmt;

use resilience_core::breaker::{Classify, Outcome, OwnedPermit};

/// How the calls of a [`Breaker`](super::Breaker) are judged: what is remembered of the
/// request, and who judges the result.
///
/// | implementation | judges | response |
/// |---|---|---|
/// | [`OnResult`] | the result of the response future, by a [`Classify`] | as it is |
/// | [`OnBodyEnd`](super::http::OnBodyEnd) | HTTP head, then the end of the body or its trailers | its body is wrapped |
/// | [`ByRequest`] | as a function of the request says | as its judge says |
pub trait Judge<Req> {
    /// Judges one call.
    type Call;

    /// Called once per admitted call, before the inner service gets the request.
    fn begin(&self, request: &Req) -> Self::Call;
}

/// Judges one call, for which `P` was given: a breaker's permit, or what another policy keeps.
pub trait JudgeCall<T, E, P = OwnedPermit> {
    /// What becomes of the inner service's response.
    type Response;

    /// Ends `permit` by an outcome, or keeps it in the response until the outcome is known.
    ///
    /// `None` means that the call is not counted: no breaker guarded it, or its outcome is
    /// recorded already. A permit that is dropped counts as a cancelled call, or as a failure
    /// while the thread panics.
    ///
    /// # Errors
    ///
    /// The error of `result`.
    fn end(&self, permit: Option<P>, result: Result<T, E>) -> Result<Self::Response, E>;
}

/// What a call ends by an outcome: a breaker's permit, or a balancer's pick.
pub trait Record {
    /// Books how the call ended.
    fn record(self, outcome: Outcome);
}

impl Record for OwnedPermit {
    #[inline]
    fn record(self, outcome: Outcome) {
        Self::record(self, outcome);
    }
}

/// Judges a call when its response future completes, by a classifier.
///
/// The classifier is cloned once per call.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnResult<C>(pub C);

impl<C: Clone, Req> Judge<Req> for OnResult<C> {
    type Call = Self;

    #[inline]
    fn begin(&self, _: &Req) -> Self {
        self.clone()
    }
}

impl<C: Classify<T, E>, T, E, P: Record> JudgeCall<T, E, P> for OnResult<C> {
    type Response = T;

    #[inline]
    fn end(&self, permit: Option<P>, result: Result<T, E>) -> Result<T, E> {
        if let Some(permit) = permit {
            let outcome = self.0.classify(result.as_ref());
            permit.record(outcome);
        }
        result
    }
}

/// Judges a call as a function of its request says.
///
/// The function gets the request before the inner service does, and returns the [`JudgeCall`]:
/// an [`OnResult`] or an [`OnBodyEnd`](super::http::OnBodyEnd) that holds what the decision
/// needs of the request (method, route, deadline).
#[derive(Clone, Copy)]
pub struct ByRequest<F>(pub F);

impl<F> fmt::Debug for ByRequest<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByRequest")
    }
}

impl<F, Req, J> Judge<Req> for ByRequest<F>
where
    F: Fn(&Req) -> J,
{
    type Call = J;

    #[inline]
    fn begin(&self, request: &Req) -> J {
        (self.0)(request)
    }
}
