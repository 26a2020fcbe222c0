use super::{Admission, Error, Refusal};

/// What becomes of calls: how a refusal is told, and what an admitted call's response is told.
///
/// `Res` and `E` are what the inner service answers.
pub trait Answer<Res, E> {
    /// What is kept of an admission until the inner service has answered.
    type Note: Copy;
    /// The response of the limited service.
    type Response;
    /// Its error.
    type Error;

    /// What to keep of `admission`.
    fn note(&self, admission: &Admission) -> Self::Note;

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
    fn refused(&self, refusal: &Refusal) -> Result<Self::Response, Self::Error>;

    /// The error of an inner service that failed when asked whether it is ready.
    fn not_ready(&self, error: E) -> Self::Error;
}

/// Tells a refusal as an [`Error`]; the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsError;

impl<Res, E> Answer<Res, E> for AsError {
    type Note = ();
    type Response = Res;
    type Error = Error<E>;

    #[inline]
    fn note(&self, _: &Admission) {}

    #[inline]
    fn admitted(&self, (): (), result: Result<Res, E>) -> Result<Res, Error<E>> {
        result.map_err(Error::Inner)
    }

    #[inline]
    fn refused(&self, refusal: &Refusal) -> Result<Res, Error<E>> {
        Err((*refusal).into())
    }

    #[inline]
    fn not_ready(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }
}
