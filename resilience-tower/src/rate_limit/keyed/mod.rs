//! A quota per key.
//!
//! The key comes from the request:
//!
//! | key | of |
//! |---|---|
//! | a closure `Fn(&Request) -> K` | every request has one |
//! | [`required`]`(`closure `Fn(&Request) -> Option<K>)` | a request without one is refused |
//! | [`ByClient`](crate::client_key::ByClient) | the client's address (feature `client-key`) |
//! | [`header`], [`extension`], [`hashed`] | a text or a value of any size, kept as 8 bytes |
//!
//! A closure that answers an `Option` without [`required`] has a key for every request: all that
//! have none share one.
//!
//! What cannot be trusted in a request cannot be trusted as a key: a header that nobody has
//! checked lets a client pick a new key per call. Count an API key after it was found valid, a
//! client by the address of the connection or by what a trusted proxy says of it.
//!
//! # What an operator must know
//!
//! The limiter holds at most `max_keys` keys ([`KeyedRateLimiter::new`]). Size it well above
//! the number of keys seen in the time a quota takes to recover.
//!
//! # Examples
//!
//! ```
//! use resilience_core::rate_limit::{Check, KeyedRateLimiter, Quota};
//! use resilience_tower::rate_limit::RateLimitLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! struct Request {
//!     tenant: u64,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let limiter = KeyedRateLimiter::new(Quota::per_minute(1).unwrap(), 10_000);
//! let mut service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::keyed(limiter, |request: &Request| request.tenant))
//!     .service(service_fn(async |_: Request| Ok::<_, std::io::Error>("done")));
//!
//! assert!(service.ready().await.unwrap().call(Request { tenant: 1 }).await.is_ok());
//! assert!(service.ready().await.unwrap().call(Request { tenant: 1 }).await.is_err());
//! assert!(service.ready().await.unwrap().call(Request { tenant: 2 }).await.is_ok());
//! # }
//! ```

mod hashed;
mod key;

use std::fmt;
use std::hash::Hash;

use resilience_core::rate_limit::{Check, KeyedRateLimiter, Quota};

#[cfg(feature = "http")]
pub use self::hashed::{Extension, Header, extension, header};
pub use self::hashed::{Hashed, KeyHash, hashed};
pub use self::key::{KeyOf, Required, required};
use super::{Admission, Ask, Limit, NoKey, Part, Quotas, Refusal};

/// A limit that counts each call for the key of its request.
pub struct Keyed<K: ?Sized, F, Q = OneQuota> {
    limiter: KeyedRateLimiter<K>,
    key: F,
    quota: Q,
}

/// Every key has the limiter's quota.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneQuota;

impl<K: ?Sized, F> Keyed<K, F> {
    /// Counts on `limiter` for the key that `key` finds in the request; see [`KeyOf`].
    ///
    /// `key` runs in every call; a key that must be built on the heap (a `String`) is the one
    /// allocation of this layer, and [`hashed`] avoids it.
    pub fn new(limiter: KeyedRateLimiter<K>, key: F) -> Self {
        Self {
            limiter,
            key,
            quota: OneQuota,
        }
    }

    /// Each key's quota is what `quota`, a `Fn(&Request) -> Quota`, finds in the request (the
    /// plan of the consumer, say). It runs in every call.
    ///
    /// A key that comes with another quota than before keeps its balance in proportion.
    pub fn quota<Q>(self, quota: Q) -> Keyed<K, F, Q> {
        Keyed {
            limiter: self.limiter,
            key: self.key,
            quota,
        }
    }
}

impl<K: ?Sized, F, Q> Keyed<K, F, Q> {
    /// The limiter.
    pub fn handle(&self) -> &KeyedRateLimiter<K> {
        &self.limiter
    }
}

impl<Req, K, F, Q> Limit<Req> for Keyed<K, F, Q>
where
    K: Hash,
    F: KeyOf<Req, Key = K>,
    Q: QuotaOf<Req>,
{
    #[inline]
    fn admit(&self, request: &Req, ask: Ask) -> Result<Admission, Refusal> {
        let key = self.key.key_of(request).ok_or_else(|| Refusal::no_key(0))?;
        let (answer, quota) = match self.quota.quota_of(request) {
            None => {
                let answer = self.limiter.try_acquire_n(&key, ask.cost);
                (answer, ask.quota.then(|| self.limiter.quota()))
            }
            Some(quota) => {
                let answer = self.limiter.try_acquire_with(&key, ask.cost, quota);
                (answer, Some(quota))
            }
        };
        match answer {
            Ok(admitted) => Ok(Admission::new(0, admitted, quota, ask.cost)),
            Err(limited) => Err(Refusal::limited(0, limited, quota)),
        }
    }
}

impl<Req, K, F, Q> Part<Req> for Keyed<K, F, Q>
where
    K: Hash,
    F: KeyOf<Req, Key = K>,
    Q: QuotaOf<Req>,
{
    fn with_check<T>(
        &self,
        request: &Req,
        n: u32,
        f: impl FnOnce(&dyn Check) -> T,
    ) -> Result<T, NoKey> {
        let key = self.key.key_of(request).ok_or(NoKey)?;
        Ok(match self.quota.quota_of(request) {
            None => f(&self.limiter.cost(&key, n)),
            Some(quota) => f(&self.limiter.cost_with(&key, n, quota)),
        })
    }

    fn quota_for(&self, request: &Req) -> Quota {
        let own = self.quota.quota_of(request);
        own.unwrap_or_else(|| self.limiter.quota())
    }
}

/// Finds the quota of a request's key; [`OneQuota`], or any `Fn(&Request) -> Quota`.
pub trait QuotaOf<Req> {
    /// The quota; `None` for the limiter's own.
    fn quota_of(&self, request: &Req) -> Option<Quota>;
}

impl<Req> QuotaOf<Req> for OneQuota {
    #[inline]
    fn quota_of(&self, _: &Req) -> Option<Quota> {
        None
    }
}

impl<Req, F: Fn(&Req) -> Quota> QuotaOf<Req> for F {
    #[inline]
    fn quota_of(&self, request: &Req) -> Option<Quota> {
        Some(self(request))
    }
}

impl<K: ?Sized, F, Q> Quotas for Keyed<K, F, Q> {
    /// The limiter's own; what single requests are counted by may differ.
    fn quotas(&self) -> Vec<Quota> {
        vec![self.limiter.quota()]
    }
}

// By hand: `K` itself is not cloned.
impl<K: ?Sized, F: Clone, Q: Clone> Clone for Keyed<K, F, Q> {
    fn clone(&self) -> Self {
        Self {
            limiter: self.limiter.clone(),
            key: self.key.clone(),
            quota: self.quota.clone(),
        }
    }
}

// By hand: closures have no `Debug`.
impl<K: ?Sized, F, Q> fmt::Debug for Keyed<K, F, Q>
where
    KeyedRateLimiter<K>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}
