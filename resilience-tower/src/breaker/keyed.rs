//! A breaker per key.

use std::fmt;
use std::hash::Hash;

use resilience_core::breaker::{CircuitBreaker, Mode, OwnedPermit, Registry, Rejected};

use super::Permits;

/// A breaker per key of the request, out of a bounded [`Registry`].
///
/// The key is what fails on its own: a host, a tenant, a route. Made by
/// [`BreakerLayer::keyed`](super::BreakerLayer::keyed). Clones share the registry and the
/// [`overflow`](Self::overflow).
///
/// A call whose key has a breaker takes no lock and, unless the key's type does, allocates
/// nothing: numbers, `Arc<str>` and `http::uri::Authority` do not, `String` does.
///
/// # Examples
///
/// ```
/// use resilience_core::breaker::{Config, Registry};
/// use resilience_tower::breaker::{BreakerLayer, OnFull};
///
/// struct Request { shard: u32 }
///
/// let shards: Registry<u32> = Registry::builder(Config::default()).max(1_000).build();
/// let shard = |request: &Request| request.shard;
/// let layer = BreakerLayer::keyed(shards.clone(), OnFull::Admit, shard);
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct Keyed<K, F> {
    registry: Registry<K>,
    key: F,
    overflow: CircuitBreaker,
    /// Forced open: refuses what has no breaker while the registry is forced open.
    stopped: CircuitBreaker,
}

/// What becomes of a call whose key is new while the registry is full of breakers that cannot go.
///
/// Such calls have one breaker in common, and the choice is that breaker's [`Mode`]: see
/// [`Keyed::overflow`]. A mode that is set on the registry by hand comes first: while it is forced
/// open they are refused, while it is forced closed or disabled they are called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFull {
    /// It is refused ([`Mode::ForcedOpen`]): a flood of keys cannot reach the upstream unguarded.
    /// The refusal's name is `overflow`, its `retry_after` the reset timeout.
    Refuse,
    /// It is called without a breaker ([`Mode::Disabled`]): a flood of keys costs no caller
    /// anything.
    Admit,
    /// It shares one breaker with the others ([`Mode::Automatic`]), which opens for all of them.
    Share,
}

impl<K, F> Keyed<K, F> {
    /// `key` tells a request's key.
    pub fn new(registry: Registry<K>, on_full: OnFull, key: F) -> Self {
        let overflow = CircuitBreaker::with_config("overflow", registry.config());
        overflow.set_mode(match on_full {
            OnFull::Refuse => Mode::ForcedOpen,
            OnFull::Admit => Mode::Disabled,
            OnFull::Share => Mode::Automatic,
        });
        let stopped = CircuitBreaker::with_config("overflow", registry.config());
        stopped.set_mode(Mode::ForcedOpen);
        Self {
            registry,
            key,
            overflow,
            stopped,
        }
    }

    /// The breakers by key.
    pub fn registry(&self) -> &Registry<K> {
        &self.registry
    }

    /// The breaker of the calls for which the registry has none. It has the registry's settings
    /// at the time it was made, and counts what it admits and refuses; its mode may be changed
    /// while calls run.
    pub fn overflow(&self) -> &CircuitBreaker {
        &self.overflow
    }
}

impl<K, F> fmt::Debug for Keyed<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("registry", &self.registry)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}

impl<K, F, Req> Permits<Req> for Keyed<K, F>
where
    K: Clone + Eq + Hash,
    F: Fn(&Req) -> K,
{
    #[inline]
    fn try_acquire(&self, request: &Req) -> Result<Option<OwnedPermit>, Rejected> {
        let key = (self.key)(request);
        match self.registry.with(&key, CircuitBreaker::try_acquire_owned) {
            Ok(own) => own.map(Some),
            Err(_full) => match self.registry.mode() {
                Mode::ForcedOpen => self.stopped.try_acquire_owned().map(Some),
                Mode::ForcedClosed | Mode::Disabled => Ok(None),
                _ => self.overflow.try_acquire_owned().map(Some),
            },
        }
    }
}
