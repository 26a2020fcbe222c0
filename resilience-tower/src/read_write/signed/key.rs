//! Keys that sign tokens.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

/// One key with an id, by which a token says who signed it.
///
/// The id is not secret. The key is wiped when the last clone is dropped, and is not shown by
/// `Debug`; what was passed to [`new`](Self::new) is the caller's to wipe.
#[derive(Clone)]
pub struct SigningKey {
    id: Arc<str>,
    /// With both pads absorbed, so that a token costs no more than its own blocks.
    state: Arc<Hmac<Sha256>>,
}

/// As long as what HMAC-SHA256 makes; a shorter key is weaker than its hash (RFC 2104, section 3).
const LEAST: usize = 32;

/// An id is part of each token.
pub(super) const LONGEST_ID: usize = 32;

impl SigningKey {
    /// A key of 32 bytes or more, from a generator of random bytes: not a word or a sentence. The
    /// id is 1 to 32 visible ASCII characters: a date, say.
    ///
    /// # Errors
    ///
    /// An id or a key of another length.
    pub fn new(id: &str, key: impl AsRef<[u8]>) -> Result<Self, SigningKeyError> {
        let key = key.as_ref();
        let visible = id.bytes().all(|byte| byte.is_ascii_graphic());
        if id.is_empty() || id.len() > LONGEST_ID || !visible {
            return Err(SigningKeyError::Id);
        }
        if key.len() < LEAST {
            return Err(SigningKeyError::Short { found: key.len() });
        }
        // HMAC takes keys of any length.
        let short = |_| SigningKeyError::Short { found: key.len() };
        let state = Hmac::new_from_slice(key).map_err(short)?;
        Ok(Self {
            id: id.into(),
            state: Arc::new(state),
        })
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hash of nothing yet.
    pub(super) fn begin(&self) -> Hmac<Sha256> {
        Hmac::clone(&self.state)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Keys that cannot sign.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// The id is not 1 to 32 visible ASCII characters.
    #[error("the id of a key has 1 to 32 visible ASCII characters")]
    Id,
    /// The key is too short.
    #[error("a key has 32 bytes at least, not {found}")]
    Short {
        /// The bytes that it has.
        found: usize,
    },
    /// There is no key.
    #[error("no key to sign with")]
    NoKey,
    /// Two keys have the same id.
    #[error("two keys have the id {0:?}")]
    DuplicateId(Arc<str>),
}
