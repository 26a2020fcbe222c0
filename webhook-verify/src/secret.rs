//! Secrets and the key set that can be changed while deliveries arrive.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::mac::{self, KeyState};

/// One shared secret with an id of your choice.
///
/// The id is reported in [`Verified`](crate::Verified) and in events, so it must not be
/// secret. The key is wiped on drop and never shown by `Debug`.
#[derive(Clone)]
pub struct Secret {
    id: Arc<str>,
    key: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// A secret whose bytes are the key (PayTabs, the timestamped scheme).
    ///
    /// # Errors
    /// When the id or key is empty, or the key begins or ends with ASCII white space
    /// (the usual trace of a line feed in a file or variable).
    pub fn new(id: &str, key: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let key = key.as_ref();
        if key.trim_ascii().len() != key.len() {
            return Err(SecretError::WhiteSpace);
        }
        Self::of(id, Zeroizing::new(key.to_vec()))
    }

    /// A Standard Webhooks secret: `whsec_` and the key in base64.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the prefix is absent or the rest is not canonical,
    /// padded base64.
    pub fn whsec(id: &str, text: &str) -> Result<Self, SecretError> {
        if text.trim_ascii().len() != text.len() {
            return Err(SecretError::WhiteSpace);
        }
        let encoded = text.strip_prefix("whsec_").ok_or(SecretError::Prefix)?;
        // Decoded in place, so that the part before a wrong character is wiped as well.
        let mut key = Zeroizing::new(Vec::with_capacity(encoded.len()));
        STANDARD
            .decode_vec(encoded, &mut key)
            .map_err(|_| SecretError::Base64)?;
        Self::of(id, key)
    }

    fn of(id: &str, key: Zeroizing<Vec<u8>>) -> Result<Self, SecretError> {
        match (id.is_empty(), key.is_empty()) {
            (true, _) => Err(SecretError::NoId),
            (_, true) => Err(SecretError::Empty),
            _ => Ok(Self { id: id.into(), key }),
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn state(&self) -> KeyState {
        mac::key_state(&self.key)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("id", &self.id)
            .field("key", &"[redacted]")
            .finish()
    }
}

/// A secret or key set that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The id is empty.
    #[error("secret id is empty")]
    NoId,
    /// The key is empty.
    #[error("secret key is empty")]
    Empty,
    /// The key begins or ends with white space.
    #[error("secret key begins or ends with white space")]
    WhiteSpace,
    /// The prefix `whsec_` is absent.
    #[error("secret must begin with `whsec_`")]
    Prefix,
    /// Not canonical base64.
    #[error("secret is not padded base64 of the standard alphabet")]
    Base64,
    /// Two keys of a set share an id.
    #[error("secret id `{0}` is used twice")]
    DuplicateId(Arc<str>),
}

/// The active keys; a handle whose clones share one set.
///
/// Verification sees either the set before a change or the one after it. A change needs
/// no restart and does not wait for verifications that run.
#[derive(Clone, Default)]
pub struct KeySet(Arc<ArcSwap<Vec<Key>>>);

#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: Arc<str>,
    pub(crate) state: KeyState,
    until: Option<Duration>,
}

impl Key {
    /// A key stops at its end time: it is active while `now < until`.
    /// Asks for the time only when there is an end.
    pub(crate) fn active(&self, now: impl FnOnce() -> Duration) -> bool {
        self.until.is_none_or(|until| now() < until)
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
                state: secret.state(),
                id: secret.id,
                until,
            });
        }
        self.0.store(Arc::new(keys));
        Ok(())
    }

    /// Adds `new` in front and gives every key that has no earlier end the end `old_until`.
    ///
    /// # Errors
    /// When the id is in the set already.
    pub fn rotate(&self, new: &Secret, old_until: Duration) -> Result<(), SecretError> {
        let added = Key {
            id: new.id.clone(),
            state: new.state(),
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

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Vec<Key>>> {
        self.0.load()
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.ids()).finish()
    }
}
