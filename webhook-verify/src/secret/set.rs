//! The key set that can be changed while deliveries arrive.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{Material, Secret, SecretError};
use crate::scheme::Scheme;

/// The active keys; a handle whose clones share one set.
///
/// Verification sees either the set before a change or the one after it. A change needs
/// no restart and does not wait for verifications that run.
#[derive(Clone, Default)]
pub struct KeySet(Arc<ArcSwap<Vec<Key>>>);

#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: Arc<str>,
    pub(crate) material: Material,
    until: Option<Duration>,
}

impl Key {
    /// A key stops at its end time: it is active while `now < until`.
    /// Asks for the time only when there is an end.
    pub(crate) fn active(&self, now: impl FnOnce() -> Duration) -> bool {
        self.until.is_none_or(|until| now() < until)
    }

    /// Whether deliveries of `scheme` can be signed by a key of this kind.
    pub(crate) fn fits(&self, scheme: &Scheme) -> bool {
        scheme.fits(&self.material)
    }
}

impl KeySet {
    /// A set of keys without end.
    ///
    /// # Errors
    /// When two have the same id.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Result<Self, SecretError> {
        let set = Self::default();
        set.replace(secrets.into_iter().map(|secret| (secret, None)))?;
        Ok(set)
    }

    /// Replaces all keys at once. The second part is the end time (since the Unix epoch)
    /// from which on the key is not used. An empty set refuses every delivery.
    ///
    /// # Errors
    /// When two have the same id; the set is then as before.
    pub fn replace(
        &self,
        secrets: impl IntoIterator<Item = (Secret, Option<Duration>)>,
    ) -> Result<(), SecretError> {
        let mut keys: Vec<Key> = Vec::new();
        for (secret, until) in secrets {
            if keys.iter().any(|key| key.id == secret.id) {
                return Err(SecretError::DuplicateId(secret.id));
            }
            keys.push(Key {
                material: secret.material(),
                id: secret.id,
                until,
            });
        }
        self.0.store(Arc::new(keys));
        Ok(())
    }

    /// Adds `new` in front and gives every key that has no earlier end the end `old_until`, a
    /// time since the Unix epoch: now and the overlap, not the overlap alone.
    ///
    /// # Errors
    /// When the id is in the set already.
    pub fn rotate(&self, new: &Secret, old_until: Duration) -> Result<(), SecretError> {
        let added = Key {
            id: new.id.clone(),
            material: new.material(),
            until: None,
        };
        let mut clash = false;
        self.0.rcu(|old| {
            clash = old.iter().any(|key| key.id == added.id);
            if clash {
                return Arc::clone(old);
            }
            let ended = old.iter().map(|key| Key {
                until: Some(key.until.map_or(old_until, |until| until.min(old_until))),
                ..key.clone()
            });
            Arc::new(std::iter::once(added.clone()).chain(ended).collect())
        });
        if clash {
            Err(SecretError::DuplicateId(new.id.clone()))
        } else {
            Ok(())
        }
    }

    /// Removes a key; false when the set has none of this id.
    pub fn remove(&self, id: &str) -> bool {
        let before = self.0.rcu(|old| {
            Arc::new(
                old.iter()
                    .filter(|key| &*key.id != id)
                    .cloned()
                    .collect::<Vec<_>>(),
            )
        });
        before.iter().any(|key| &*key.id == id)
    }

    /// The ids in the set, in the order in which they are tried.
    #[must_use]
    pub fn ids(&self) -> Vec<Arc<str>> {
        self.0.load().iter().map(|key| key.id.clone()).collect()
    }

    /// A set of its own of some of the keys, none of which ends.
    pub(crate) fn without_end(&self, take: impl Fn(&Key) -> bool) -> Self {
        let keys = self.0.load();
        let some = keys.iter().filter(|key| take(key));
        let some = some.map(|key| Key {
            until: None,
            ..key.clone()
        });
        Self(Arc::new(ArcSwap::from_pointee(some.collect())))
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Vec<Key>>> {
        self.0.load()
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.ids()).finish()
    }
}
