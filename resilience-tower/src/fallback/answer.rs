use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};

use super::Reason;

/// Why a fallback is asked for: the reason, and the result that is replaced.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed<'a, T, E> {
    /// What the classifier made of the result.
    pub reason: Reason,
    /// What the inner service answered, or failed with.
    pub result: Result<&'a T, &'a E>,
}

impl<'a, T, E> Failed<'a, T, E> {
    pub(super) const fn new(reason: Reason, result: Result<&'a T, &'a E>) -> Self {
        Self { reason, result }
    }
}

/// What is answered in place of a failed call.
pub trait Answer<Req, T, E> {
    /// What is kept of a request until its call has ended.
    type Kept;
    /// How the fallback itself may fail.
    type Error;
    /// The answer to come.
    type Future: Future<Output = Result<T, Self::Error>>;

    /// Called once per call, before the inner service gets the request.
    fn keep(&self, request: &Req) -> Self::Kept;

    /// The call failed.
    fn answer(&self, kept: Self::Kept, failed: Failed<'_, T, E>) -> Self::Future;
}

/// Clones of one value; made by [`FallbackLayer::value`](super::FallbackLayer::value).
#[derive(Clone, Copy, Debug)]
pub struct Value<T>(pub(super) T);

impl<Req, T: Clone, E> Answer<Req, T, E> for Value<T> {
    type Kept = ();
    type Error = Infallible;
    type Future = Ready<Result<T, Infallible>>;

    fn keep(&self, _: &Req) {}

    fn answer(&self, (): (), _: Failed<'_, T, E>) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}

/// What a function answers; made by [`FallbackLayer::function`](super::FallbackLayer::function).
#[derive(Clone, Copy)]
pub struct Function<F>(pub(super) F);

impl<F, A, Req, T, E, G> Answer<Req, T, E> for Function<F>
where
    F: Fn(Reason) -> A,
    A: Future<Output = Result<T, G>>,
{
    type Kept = ();
    type Error = G;
    type Future = A;

    fn keep(&self, _: &Req) {}

    fn answer(&self, (): (), failed: Failed<'_, T, E>) -> A {
        (self.0)(failed.reason)
    }
}

/// What a function answers that is told something of the request; made by
/// [`FallbackLayer::function_of`](super::FallbackLayer::function_of).
#[derive(Clone, Copy)]
pub struct FunctionOf<K, F> {
    pub(super) keep: K,
    pub(super) function: F,
}

impl<K, F, A, Req, T, E, Kept, G> Answer<Req, T, E> for FunctionOf<K, F>
where
    K: Fn(&Req) -> Kept,
    F: Fn(Kept, Reason) -> A,
    A: Future<Output = Result<T, G>>,
{
    type Kept = Kept;
    type Error = G;
    type Future = A;

    fn keep(&self, request: &Req) -> Kept {
        (self.keep)(request)
    }

    fn answer(&self, kept: Kept, failed: Failed<'_, T, E>) -> A {
        (self.function)(kept, failed.reason)
    }
}

impl<F> fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

impl<K, F> fmt::Debug for FunctionOf<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionOf")
    }
}

/// How the reason goes along with a fallback.
pub trait Mark<T> {
    /// Tells `answer` why it is one.
    fn mark(&self, answer: &mut T, reason: Reason);
}

/// The answer does not show that it is a fallback.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmarked;

impl<T> Mark<T> for Unmarked {
    fn mark(&self, _: &mut T, _: Reason) {}
}

/// [`FellBack`](super::FellBack) goes into the extensions of the response.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default)]
pub struct InExtensions;

#[cfg(feature = "http")]
impl<B> Mark<::http::Response<B>> for InExtensions {
    fn mark(&self, answer: &mut ::http::Response<B>, reason: Reason) {
        answer.extensions_mut().insert(super::FellBack { reason });
    }
}
