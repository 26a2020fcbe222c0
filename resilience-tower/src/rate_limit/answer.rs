use std::convert::Infallible;

use super::{Admission, Error, Refusal};

/// What is kept of a decision in a response future, until it is polled.
pub trait Keep {
    /// What is kept of an admission until the inner service has answered.
    type Note: Copy;
    /// What is kept of a refusal until it is told, once per poll.
    type Kept: Copy;

    /// Whether the limit is to tell its quota.
    const QUOTA: bool;

    /// What to keep of `admission`.
    fn note(&self, admission: &Admission) -> Self::Note;

    /// What to keep of `refusal`.
    fn keep(&self, refusal: &Refusal) -> Self::Kept;
}

/// What becomes of calls: how a refusal is told, and what an admitted call's response is told.
///
/// `Res` and `E` are what the inner service answers.
pub trait Answer<Res, E>: Keep {
    /// The response of the limited service.
    type Response;
    /// Its error.
    type Error;

    /// The answer to an admitted call.
    ///
    /// # Errors
    ///
    /// That of the inner service.
    fn admitted(
        &self,
        note: Self::Note,
        result: Result<Res, E>,
    ) -> Result<Self::Response, Self::Error>;

    /// The answer to a refused call.
    ///
    /// # Errors
    ///
    /// The refusal, if it is told as an error.
    fn refused(&self, kept: &Self::Kept) -> Result<Self::Response, Self::Error>;

    /// The error of an inner service that failed when asked whether it is ready.
    fn not_ready(&self, error: E) -> Self::Error;
}

/// Tells a refusal as an [`Error`]; the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsError;

impl Keep for AsError {
    type Note = ();
    // Not the whole refusal: what an error does not tell need not be found out.
    type Kept = Error<Infallible>;

    const QUOTA: bool = false;

    #[inline]
    fn note(&self, _: &Admission) {}

    #[inline]
    fn keep(&self, refusal: &Refusal) -> Error<Infallible> {
        (*refusal).into()
    }
}

impl<Res, E> Answer<Res, E> for AsError {
    type Response = Res;
    type Error = Error<E>;

    #[inline]
    fn admitted(&self, (): (), result: Result<Res, E>) -> Result<Res, Error<E>> {
        result.map_err(Error::Inner)
    }

    #[inline]
    fn refused(&self, kept: &Error<Infallible>) -> Result<Res, Error<E>> {
        Err(match *kept {
            Error::Inner(never) => match never {},
            Error::Limited(limited) => Error::Limited(limited),
            Error::NoKey(no_key) => Error::NoKey(no_key),
            Error::Wait(refused) => Error::Wait(refused),
            Error::Outage(outage) => Error::Outage(outage),
        })
    }

    #[inline]
    fn not_ready(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }
}
