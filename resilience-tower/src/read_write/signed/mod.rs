//! Tokens that leave the process, signed.

mod error;
#[cfg(feature = "http")]
mod http;
mod key;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use resilience_core::route::{MAX_TOKEN, Position, Token, TokenError};
use sha2::Sha256;

#[cfg(feature = "http")]
pub use self::http::{NameError, TokenCookie, TokenHeader};
pub use self::{
    error::VerifyError,
    key::{SigningKey, SigningKeyError},
};

/// Signs tokens for cookies and headers, and reads them back: HMAC-SHA256. Clones are handles on
/// the same keys.
///
/// A token is no secret, but whoever could write one could say of any write that it is lost, or
/// send all reads to the primary. So it is read only as it was signed.
///
/// # Form
///
/// ```text
/// base64 (URL-safe alphabet, no padding, RFC 4648 section 5) of
/// [version: 1 = 1 | length of id: 1 | id: 1 to 32 | signed at, s since 1970: 8 | token: 18 to 512 | tag: 32]
/// tag = HMAC-SHA256(key, "resilience-tower read-write token\0" and all before the tag)
/// ```
///
/// Numbers most significant first. 782 characters at most; 82 to 123 for positions other than
/// [`GtidSet`](resilience_core::route::GtidSet).
///
/// # Rotation
///
/// The first key signs, all verify. To change keys without a refusal: add the new one behind the
/// old one everywhere, then put it first everywhere, then take the old one away when all that it
/// signed is older than `max_age`.
///
/// # Concurrency
///
/// Calls read the keys without a lock; [`set_keys`](Self::set_keys) replaces them under those that
/// run.
///
/// # Examples
///
/// ```
/// use resilience_core::route::{Lsn, Token};
/// use resilience_tower::read_write::{Signer, SigningKey};
///
/// # let random = [7; 32];
/// let signer = Signer::new([SigningKey::new("2026-11", random)?])?.cluster(7);
/// let token = Token { cluster: 7, epoch: 1, position: "0/3000".parse::<Lsn>()? };
///
/// let text = signer.sign(&token)?;
/// assert_eq!(signer.verify::<Lsn>(&text)?, token);
/// assert!(signer.verify::<Lsn>(&text[1..]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    keys: Arc<ArcSwap<Vec<SigningKey>>>,
    cluster: Option<u64>,
    max_age: Option<Duration>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"resilience-tower read-write token\0";
const TAG: usize = 32;
const TIME: usize = 8;
/// The longest signed token, in bytes.
const MOST: usize = 2 + key::LONGEST_ID + TIME + MAX_TOKEN + TAG;

impl Signer {
    /// Signs by the first of the keys. Tokens of any cluster and age are read: see
    /// [`cluster`](Self::cluster) and [`max_age`](Self::max_age).
    ///
    /// # Errors
    ///
    /// No key, or two of the same id.
    pub fn new(keys: impl IntoIterator<Item = SigningKey>) -> Result<Self, SigningKeyError> {
        Ok(Self {
            keys: Arc::new(ArcSwap::from_pointee(checked(keys)?)),
            cluster: None,
            max_age: None,
            clock: Arc::new(today),
        })
    }

    /// Refuses the tokens of other clusters, by the id that [observations] carry. A router refuses
    /// them as well, once it knows its own.
    ///
    /// [observations]: resilience_core::route::Observation::new
    #[must_use]
    pub const fn cluster(mut self, id: u64) -> Self {
        self.cluster = Some(id);
        self
    }

    /// Refuses tokens that were signed longer ago. What is older than any replica may be behind
    /// (`max_lag`) is everywhere: read it as [`Freshness::Any`](resilience_core::route::Freshness::Any).
    ///
    /// A token that was signed by a clock ahead of this one counts as new. Times are whole seconds.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The time of day by which ages are told; by default that of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Replaces the keys, for all handles at once.
    ///
    /// # Errors
    ///
    /// No key, or two of the same id; they are then as before.
    pub fn set_keys(
        &self,
        keys: impl IntoIterator<Item = SigningKey>,
    ) -> Result<(), SigningKeyError> {
        self.keys.store(Arc::new(checked(keys)?));
        Ok(())
    }

    /// The ids of the keys; the first signs.
    pub fn key_ids(&self) -> Vec<String> {
        let keys = self.keys.load();
        keys.iter().map(|key| key.id().to_owned()).collect()
    }

    /// The text of a token: letters, digits, `-` and `_`.
    ///
    /// # Errors
    ///
    /// A token that is too long; see [`Token::encode`].
    pub fn sign<P: Position>(&self, token: &Token<P>) -> Result<String, TokenError> {
        let token = token.encode()?;
        let keys = self.keys.load();
        // PANIC-FREE: `checked` lets no empty set in.
        let key = &keys[0];
        let mut bytes = Vec::with_capacity(MOST);
        bytes.push(VERSION);
        // At most `LONGEST_ID`.
        bytes.push(key.id().len() as u8);
        bytes.extend(key.id().as_bytes());
        bytes.extend(self.now().to_be_bytes());
        bytes.extend(token);
        let tag = hash(key, &bytes).finalize().into_bytes();
        bytes.extend(tag);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The token of a text that [`sign`](Self::sign) made.
    ///
    /// Any text may be passed. The tag is compared in constant time, before anything within is
    /// believed.
    ///
    /// # Errors
    ///
    /// [`VerifyError`].
    pub fn verify<P: Position>(&self, text: impl AsRef<[u8]>) -> Result<Token<P>, VerifyError> {
        let mut room = [0; MOST + 2];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut room);
        let bytes = length.ok().and_then(|length| room.get(..length));
        let signed = Signed::parse(bytes.ok_or(VerifyError::Malformed)?)?;
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.id().as_bytes() == signed.id);
        hash(key.ok_or(VerifyError::UnknownKey)?, signed.covered)
            .verify_slice(signed.tag)
            .map_err(|_| VerifyError::Forged)?;
        if let Some(max_age) = self.max_age {
            let age = Duration::from_secs(self.now().saturating_sub(signed.at));
            if age > max_age {
                return Err(VerifyError::Expired { age });
            }
        }
        let token = Token::decode(signed.token)?;
        match self.cluster {
            Some(cluster) if cluster != token.cluster => Err(VerifyError::Foreign {
                cluster: token.cluster,
            }),
            _ => Ok(token),
        }
    }

    fn now(&self) -> u64 {
        let since = (self.clock)().duration_since(UNIX_EPOCH);
        since.map_or(0, |time| time.as_secs())
    }
}

/// The parts of a text, none of which is to be believed yet.
struct Signed<'a> {
    id: &'a [u8],
    at: u64,
    token: &'a [u8],
    covered: &'a [u8],
    tag: &'a [u8; TAG],
}

impl<'a> Signed<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, VerifyError> {
        match bytes.first() {
            Some(&VERSION) => Self::parts(bytes).ok_or(VerifyError::Malformed),
            // Nothing else is known of another version.
            Some(&found) => Err(VerifyError::Version { found }),
            None => Err(VerifyError::Malformed),
        }
    }

    fn parts(bytes: &'a [u8]) -> Option<Self> {
        let (covered, tag) = bytes.split_last_chunk()?;
        let (&length, rest) = covered.get(1..)?.split_first()?;
        let (id, rest) = rest.split_at_checked(usize::from(length))?;
        let (at, token) = rest.split_first_chunk()?;
        Some(Self {
            id,
            at: u64::from_be_bytes(*at),
            token,
            covered,
            tag,
        })
    }
}

fn checked(keys: impl IntoIterator<Item = SigningKey>) -> Result<Vec<SigningKey>, SigningKeyError> {
    let mut checked: Vec<SigningKey> = Vec::new();
    for key in keys {
        if checked.iter().any(|other| other.id() == key.id()) {
            return Err(SigningKeyError::DuplicateId(key.id().into()));
        }
        checked.push(key);
    }
    if checked.is_empty() {
        return Err(SigningKeyError::NoKey);
    }
    Ok(checked)
}

fn hash(key: &SigningKey, covered: &[u8]) -> Hmac<Sha256> {
    let mut hash = key.begin();
    // What the key signs elsewhere is no token.
    hash.update(DOMAIN);
    hash.update(covered);
    hash
}

// The one place of this module that reads the real clock.
#[allow(clippy::disallowed_methods)]
fn today() -> SystemTime {
    SystemTime::now()
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("keys", &self.key_ids())
            .field("cluster", &self.cluster)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}
