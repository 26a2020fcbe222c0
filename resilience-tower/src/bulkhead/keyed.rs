//! A bulkhead per key.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use resilience_core::bulkhead::{Bulkhead, Full, OwnedPermit, Priority, Refused, Registry, Waiter};

use super::Permits;

/// A bulkhead per key of the request, out of a bounded [`Registry`].
///
/// The key is what must not take everything: a tenant, a host, a route. Made by
/// [`BulkheadLayer::keyed`](super::BulkheadLayer::keyed). Clones share the registry and the
/// [`overflow`](Self::overflow).
///
/// A call whose key has a bulkhead takes no lock unless it waits and, unless the key's type does,
/// allocates nothing: numbers, `Arc<str>` and `http::uri::Authority` do not, `String` does.
///
/// # Examples
///
/// ```
/// use resilience_core::bulkhead::{Config, Registry};
/// use resilience_tower::bulkhead::{BulkheadLayer, OnFull};
///
/// struct Request { tenant: u32 }
///
/// let each = Config::builder().limit(10).build().unwrap();
/// let tenants: Registry<u32> = Registry::builder(each).max(1_000).build();
/// let tenant = |request: &Request| request.tenant;
/// let layer = BulkheadLayer::keyed(tenants.clone(), OnFull::Refuse, tenant);
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct Keyed<K, F> {
    registry: Registry<K>,
    key: F,
    on_full: OnFull,
    overflow: Bulkhead,
}

/// What becomes of a call whose key is new while all bulkheads of the registry are in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFull {
    /// It is refused
    /// ([`Reason::KeysFull`](resilience_core::bulkhead::Reason::KeysFull)): a flood of keys lets no
    /// more calls in than the registry's `max` times the limit of each.
    Refuse,
    /// It is called without a limit: a flood of keys costs no caller anything, and the upstream all.
    Admit,
    /// It shares one bulkhead with the others, [`Keyed::overflow`].
    Share,
}

impl<K, F> Keyed<K, F> {
    /// `key` tells a request's key.
    pub fn new(registry: Registry<K>, on_full: OnFull, key: F) -> Self {
        let overflow = Bulkhead::with_clock(registry.config(), registry.clock().clone());
        Self {
            registry,
            key,
            on_full,
            overflow,
        }
    }

    /// The bulkheads by key.
    pub fn registry(&self) -> &Registry<K> {
        &self.registry
    }

    /// The bulkhead that calls share for which the registry has none, if they do
    /// ([`OnFull::Share`]). It has the registry's settings at the time it was made, and may be
    /// given others.
    pub fn overflow(&self) -> &Bulkhead {
        &self.overflow
    }

    fn or_overflow<T>(
        &self,
        of_key: Result<Result<T, Refused>, Full>,
        take: impl FnOnce(&Bulkhead) -> Result<T, Refused>,
    ) -> Result<Option<T>, Refused> {
        match (of_key, self.on_full) {
            (Ok(own), _) => own.map(Some),
            (Err(full), OnFull::Refuse) => Err(full.into()),
            (Err(_), OnFull::Admit) => Ok(None),
            (Err(_), OnFull::Share) => take(&self.overflow).map(Some),
        }
    }
}

impl<K, F> fmt::Debug for Keyed<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("registry", &self.registry)
            .field("on_full", &self.on_full)
            .finish_non_exhaustive()
    }
}

impl<K, F, Req> Permits<Req> for Keyed<K, F>
where
    K: Clone + Eq + Hash,
    F: Fn(&Req) -> K,
{
    #[inline]
    fn try_acquire(&self, request: &Req) -> Result<Option<OwnedPermit>, Refused> {
        let key = (self.key)(request);
        let take = Bulkhead::try_acquire_owned;
        self.or_overflow(self.registry.with(&key, take), take)
    }

    fn enqueue(
        &self,
        request: &Req,
        priority: Priority,
        left: Option<Duration>,
    ) -> Result<Option<Waiter>, Refused> {
        let key = (self.key)(request);
        let take = |bulkhead: &Bulkhead| bulkhead.enqueue_within(priority, left);
        self.or_overflow(self.registry.with(&key, take), take)
    }
}
