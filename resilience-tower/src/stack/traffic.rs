//! What kind of requests goes through a stack.

use resilience_core::breaker::ResultClassifier;

use crate::admission::Admission;
use crate::breaker::OnResult;
use crate::retry::Replay;
use crate::timeout::deadline::InProcess;

/// How the calls of a stack are judged (`J`), sent again (`R`), told their time (`P`), and sent twice
/// at once (`H`).
///
/// | | plain | [`http`](super::Stack::http) | [`grpc`](super::Stack::grpc) |
/// |---|---|---|---|
/// | judged | `Err` is a failure | by status, at the head | by `grpc-status`, at the end of the body |
/// | sent again | nothing | idempotent methods, or with an `Idempotency-Key` | nothing |
/// | sent twice at once | nothing | nothing, unless [`hedges`](super::Stack::hedges) says so | nothing |
/// | time from the caller | not read | `Deadline` in the extensions; headers on request | and `grpc-timeout` |
/// | time to the upstream | not told | headers on request | `grpc-timeout` |
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic<J = OnResult<ResultClassifier>, R = Once, P = InProcess, H = Once> {
    pub(super) judge: J,
    pub(super) replay: R,
    pub(super) propagate: P,
    pub(super) beside: H,
}

/// Sends nothing again: what a repeated request does is known only to who makes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Once;

impl<Req> Replay<Req> for Once {
    type Request = Req;
    type Kept = std::convert::Infallible;

    fn first(&self, request: Req, _: bool) -> (Req, Option<Self::Kept>) {
        (request, None)
    }

    fn again(&self, kept: &mut Self::Kept) -> Option<Req> {
        match *kept {}
    }
}

/// How an answer is told what was decided on its call.
pub trait Tell<Res> {
    /// Told once per admitted call, if the stack was told to.
    fn tell(&self, response: &mut Res, admission: Admission);
}

impl<Res> Tell<Res> for InProcess {
    /// There is no place for it.
    fn tell(&self, _: &mut Res, _: Admission) {}
}
