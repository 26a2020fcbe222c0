//! How a call ended.

use std::time::Duration;

/// How a call ended, after classification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The upstream works.
    Success,
    /// The upstream does not work.
    Failure,
    /// Says nothing about the upstream; a half-open permit comes back.
    Ignored,
    /// A failure of an upstream that said how long to stay away.
    Overloaded {
        /// What the upstream asked for; at most one day is honoured. If the breaker opens in the
        /// period (generation) that admitted the call, it stays open for so long from this outcome
        /// on, whichever outcome opens it.
        retry_after: Option<Duration>,
    },
}

/// Decides what a call's result says about the upstream.
pub trait Classify<T, E> {
    /// The outcome of `result`.
    fn classify(&self, result: Result<&T, &E>) -> Outcome;
}

/// `Ok` is a success, `Err` a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResultClassifier;

impl<T, E> Classify<T, E> for ResultClassifier {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }
}

/// A classifier from a closure.
pub fn classify_fn<T, E, F>(classify: F) -> ClassifyFn<F>
where
    F: Fn(Result<&T, &E>) -> Outcome,
{
    ClassifyFn(classify)
}

/// A closure as a classifier; made by [`classify_fn`].
#[derive(Clone, Copy)]
pub struct ClassifyFn<F>(F);

impl<F> std::fmt::Debug for ClassifyFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClassifyFn")
    }
}

impl<T, E, F> Classify<T, E> for ClassifyFn<F>
where
    F: Fn(Result<&T, &E>) -> Outcome,
{
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        (self.0)(result)
    }
}
