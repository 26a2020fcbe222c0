/// Finds whom a request counts for.
///
/// Every `Fn(&Request) -> K` is one that always finds a key.
pub trait KeyOf<Req> {
    /// The key; only its hash is kept.
    type Key;

    /// The key of `request`; `None` refuses it.
    fn key_of(&self, request: &Req) -> Option<Self::Key>;
}

impl<Req, F, K> KeyOf<Req> for F
where
    F: Fn(&Req) -> K,
{
    type Key = K;

    #[inline]
    fn key_of(&self, request: &Req) -> Option<K> {
        Some(self(request))
    }
}

/// A function that may find no key; made by [`required`].
#[derive(Clone, Copy)]
pub struct Required<F>(F);

/// Refuses a request for which `key`, a `Fn(&Request) -> Option<K>`, finds nothing.
pub fn required<F>(key: F) -> Required<F> {
    Required(key)
}

impl<Req, F, K> KeyOf<Req> for Required<F>
where
    F: Fn(&Req) -> Option<K>,
{
    type Key = K;

    #[inline]
    fn key_of(&self, request: &Req) -> Option<K> {
        (self.0)(request)
    }
}

// By hand: closures have no `Debug`.
impl<F> std::fmt::Debug for Required<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Required").finish_non_exhaustive()
    }
}

#[cfg(feature = "client-key")]
impl<B, P> KeyOf<http::Request<B>> for crate::client_key::ByClient<P>
where
    P: Fn(&http::Request<B>) -> Option<std::net::IpAddr>,
{
    type Key = crate::client_key::ClientKey;

    fn key_of(&self, request: &http::Request<B>) -> Option<Self::Key> {
        self.key(request)
    }
}
