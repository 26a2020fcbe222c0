use std::fmt;
use std::hash::Hash;

/// How the result of one call becomes that of others.
pub trait Share<T, E> {
    /// What is kept of a result.
    type Kept;

    /// What others get of `result`; `None` if it is for one alone. Those who waited then make a call
    /// of their own each.
    fn keep(&self, result: Result<&T, &E>) -> Option<Self::Kept>;

    /// The result once more.
    ///
    /// # Errors
    ///
    /// The error of the result, if it was one.
    fn give(&self, kept: &Self::Kept) -> Result<T, E>;
}

/// Answers and errors are cloned for all that waited.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShareAll;

impl<T: Clone, E: Clone> Share<T, E> for ShareAll {
    type Kept = Result<T, E>;

    fn keep(&self, result: Result<&T, &E>) -> Option<Self::Kept> {
        Some(result.cloned().map_err(E::clone))
    }

    fn give(&self, kept: &Self::Kept) -> Result<T, E> {
        kept.clone()
    }
}

/// Answers are cloned for all that waited; an error is that of one call, and the others that waited
/// make their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShareAnswers;

impl<T: Clone, E> Share<T, E> for ShareAnswers {
    type Kept = T;

    fn keep(&self, result: Result<&T, &E>) -> Option<T> {
        result.ok().cloned()
    }

    fn give(&self, kept: &T) -> Result<T, E> {
        Ok(kept.clone())
    }
}

/// Which calls share an answer.
pub trait KeyOf<Req> {
    /// Equal for requests to which one answer is right.
    type Key: Hash + Eq + Clone + Send + Sync + 'static;

    /// The key of `request`; `None` for one that must have an answer of its own.
    fn key_of(&self, request: &Req) -> Option<Self::Key>;

    /// How many bytes a key takes; that of its type by default, without what it points to.
    fn size_of_key(&self, key: &Self::Key) -> usize {
        size_of_val(key)
    }

    /// Takes from the request that goes to the inner service what is its caller's alone, such as a
    /// deadline. Nothing by default.
    fn detach(&self, request: &mut Req) {
        let _ = request;
    }
}

/// The key that a function finds in the request; made by the layers from a
/// `Fn(&Request) -> Option<Key>`.
#[derive(Clone, Copy)]
pub struct KeyFn<F>(pub F);

impl<Req, K, F> KeyOf<Req> for KeyFn<F>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&Req) -> Option<K>,
{
    type Key = K;

    fn key_of(&self, request: &Req) -> Option<K> {
        (self.0)(request)
    }
}

// By hand: closures have no `Debug`.
impl<F> fmt::Debug for KeyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFn")
    }
}
