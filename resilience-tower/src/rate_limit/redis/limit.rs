//! What a layer asks before each call, and may have to wait for.

use std::fmt;
use std::pin::Pin;

use super::RedisLimiter;
use crate::rate_limit::keyed::KeyOf;
use crate::rate_limit::{Admission, Ask, Quotas, Refusal, WithCost};
use resilience_core::rate_limit::Quota;

/// A limit that may have to ask elsewhere; as [`Limit`](crate::rate_limit::Limit), which answers at
/// once.
///
/// | limit | counts |
/// |---|---|
/// | [`RedisLimiter`] | all calls of all processes together |
/// | [`Keyed`], made by [`RedisLimiter::keyed`] | those of each key |
/// | [`WithCost`] of another | as that one, each call with its own cost |
pub trait RemoteLimit<Req> {
    /// Admits `request` or refuses it, at once where that is possible.
    fn decide(&self, request: &Req, ask: Ask) -> Decision;
}

/// The answer of a [`RemoteLimit`].
pub enum Decision {
    /// It was decided here.
    Now(Result<Admission, Refusal>),
    /// It has to be asked for. Dropping the future may leave what the call cost taken.
    Later(Later),
}

/// A decision to wait for.
pub type Later = Pin<Box<dyn Future<Output = Result<Admission, Refusal>> + Send>>;

/// A limit per key, all of one [`RedisLimiter`]; made by [`RedisLimiter::keyed`].
#[derive(Clone)]
pub struct Keyed<F> {
    limiter: RedisLimiter,
    key: F,
}

impl RedisLimiter {
    /// Counts each call for the key that `key` finds in its request: a closure
    /// `Fn(&Request) -> K`, or [`required`](crate::rate_limit::keyed::required) of one that may find
    /// none. Keys are bytes ([`AsRef<[u8]>`]), the same in all processes; each has the whole quota.
    ///
    /// With leases each key has blocks of its own, up to
    /// [`max_keys`](super::ConfigBuilder::max_keys) of them; else each call is decided by Redis.
    pub fn keyed<F>(self, key: F) -> Keyed<F> {
        Keyed { limiter: self, key }
    }
}

impl<F> Keyed<F> {
    /// The limiter.
    pub fn handle(&self) -> &RedisLimiter {
        &self.limiter
    }
}

impl<Req> RemoteLimit<Req> for RedisLimiter {
    #[inline]
    fn decide(&self, _: &Req, ask: Ask) -> Decision {
        self.decide_one(ask)
    }
}

impl<Req, K, F> RemoteLimit<Req> for Keyed<F>
where
    K: AsRef<[u8]>,
    F: KeyOf<Req, Key = K>,
{
    fn decide(&self, request: &Req, ask: Ask) -> Decision {
        match self.key.key_of(request) {
            Some(key) => self.limiter.decide_for(key.as_ref(), ask),
            None => Decision::Now(Err(Refusal::no_key(0))),
        }
    }
}

impl<Req, L, F> RemoteLimit<Req> for WithCost<L, F>
where
    L: RemoteLimit<Req>,
    F: Fn(&Req) -> u32,
{
    #[inline]
    fn decide(&self, request: &Req, ask: Ask) -> Decision {
        let cost = self.cost_of(request);
        self.limit().decide(request, ask.times(cost))
    }
}

impl Quotas for RedisLimiter {
    fn quotas(&self) -> Vec<Quota> {
        vec![self.quota()]
    }
}

impl<F> Quotas for Keyed<F> {
    fn quotas(&self) -> Vec<Quota> {
        vec![self.limiter.quota()]
    }
}

// By hand: futures have no `Debug`.
impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(answer) => f.debug_tuple("Now").field(answer).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

// By hand: closures have no `Debug`.
impl<F> fmt::Debug for Keyed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}
