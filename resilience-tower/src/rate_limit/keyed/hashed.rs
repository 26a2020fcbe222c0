//! Keys of any size, kept as a keyed hash.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;

use super::KeyOf;

/// 64 bits of a hash under a secret of this process (SipHash): nobody outside can find two keys
/// that collide, and of a million keys two collide by chance once in 37 million processes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyHash(u64);

/// A key that a function lends from the request; made by [`hashed`].
pub struct Hashed<F, T: ?Sized> {
    find: F,
    hasher: RandomState,
    // Only lent, never held.
    lent: PhantomData<fn(&T)>,
}

/// The hash of what `find`, a `Fn(&Request) -> Option<&T>`, lends from the request; one without
/// is refused. Nothing is copied, whatever its size.
///
/// ```
/// use http::{Method, Request};
/// use resilience_tower::rate_limit::keyed::{KeyOf, hashed};
///
/// let by_method = hashed(|request: &Request<()>| Some(request.method()));
/// let get = Request::new(());
/// let post = Request::builder().method(Method::POST).body(()).unwrap();
/// assert_eq!(by_method.key_of(&get), by_method.key_of(&get));
/// assert_ne!(by_method.key_of(&get), by_method.key_of(&post));
/// ```
pub fn hashed<Req, T, F>(find: F) -> Hashed<F, T>
where
    T: Hash + ?Sized,
    F: Fn(&Req) -> Option<&T>,
{
    Hashed {
        find,
        hasher: RandomState::new(),
        lent: PhantomData,
    }
}

impl<Req, F, T> KeyOf<Req> for Hashed<F, T>
where
    T: Hash + ?Sized,
    F: Fn(&Req) -> Option<&T>,
{
    type Key = KeyHash;

    fn key_of(&self, request: &Req) -> Option<KeyHash> {
        let found = (self.find)(request)?;
        Some(KeyHash(self.hasher.hash_one(found)))
    }
}

impl<F: Clone, T: ?Sized> Clone for Hashed<F, T> {
    fn clone(&self) -> Self {
        Self {
            find: self.find.clone(),
            hasher: self.hasher.clone(),
            lent: PhantomData,
        }
    }
}

// By hand: closures have no `Debug`, and the hasher is a secret.
impl<F, T: ?Sized> fmt::Debug for Hashed<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashed").finish_non_exhaustive()
    }
}

#[cfg(feature = "http")]
pub use self::of_http::{Extension, Header, extension, header};

#[cfg(feature = "http")]
mod of_http {
    use super::*;
    use http::{HeaderName, Request};

    /// The hash of a header field's value; made by [`header`].
    #[derive(Clone)]
    pub struct Header {
        name: HeaderName,
        hasher: RandomState,
    }

    /// Counts by the value of the field `name`, as it is sent.
    ///
    /// A request without it, or with more than one, is refused. Whoever can write the field can
    /// choose the key: behind something that has checked it (an API key that exists), or for
    /// clients that have nothing to gain.
    pub fn header(name: HeaderName) -> Header {
        Header {
            name,
            hasher: RandomState::new(),
        }
    }

    impl<B> KeyOf<Request<B>> for Header {
        type Key = KeyHash;

        fn key_of(&self, request: &Request<B>) -> Option<KeyHash> {
            let mut values = request.headers().get_all(&self.name).iter();
            let value = values.next()?;
            // Which of two would count is the client's choice, or a proxy's.
            if values.next().is_some() {
                return None;
            }
            Some(KeyHash(self.hasher.hash_one(value.as_bytes())))
        }
    }

    // By hand: the hasher is a secret.
    impl fmt::Debug for Header {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Header")
                .field("name", &self.name)
                .finish_non_exhaustive()
        }
    }

    /// The hash of a value in the request's extensions; made by [`extension`].
    pub struct Extension<T> {
        hasher: RandomState,
        lent: PhantomData<fn(&T)>,
    }

    /// Counts by the `T` that a layer further out has put into the request's extensions: the
    /// authenticated consumer, say. A request without one is refused.
    ///
    /// For what does not hash itself (axum's `MatchedPath`: the path template) use [`hashed`],
    /// which lends a part of it.
    pub fn extension<T>() -> Extension<T> {
        Extension {
            hasher: RandomState::new(),
            lent: PhantomData,
        }
    }

    impl<B, T> KeyOf<Request<B>> for Extension<T>
    where
        T: Hash + Send + Sync + 'static,
    {
        type Key = KeyHash;

        fn key_of(&self, request: &Request<B>) -> Option<KeyHash> {
            let value = request.extensions().get::<T>()?;
            Some(KeyHash(self.hasher.hash_one(value)))
        }
    }

    impl<T> Clone for Extension<T> {
        fn clone(&self) -> Self {
            Self {
                hasher: self.hasher.clone(),
                lent: PhantomData,
            }
        }
    }

    impl<T> fmt::Debug for Extension<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Extension").finish_non_exhaustive()
        }
    }
}
