//! What a writer hands to a reader: "at least this".

use super::position::Position;

/// A write that was acknowledged, for reads that must see it: [`Freshness::AtLeast`](super::Freshness).
///
/// # Wire form
///
/// ```text
/// [version: 1 = 1 | kind: 1 | cluster: 8 | epoch: 8 | position: 0 to 494], numbers most significant first
/// ```
///
/// One form per token, 512 bytes at most. It is not signed: whoever lets it out of the process (a
/// cookie, a header) signs these bytes, and reads them only after the check.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Token<P> {
    /// The cluster it was written to; see [`Observation::new`](super::Observation::new).
    pub cluster: u64,
    /// The epoch of the primary that acknowledged it.
    pub epoch: u64,
    /// Where that was after the write.
    pub position: P,
}

/// The longest encoded token: it fits a cookie together with a signature, in base64, four times.
pub const MAX_TOKEN: usize = 512;

/// What all positions fit but sets of more than five ids.
const USUAL: usize = 114;

const VERSION: u8 = 1;

impl<P: Position> Token<P> {
    /// The bytes.
    ///
    /// # Errors
    ///
    /// [`TokenError::TooLong`] for a position of more than 494 bytes: a [`GtidSet`](super::GtidSet)
    /// of more than 30 ids.
    pub fn encode(&self) -> Result<Vec<u8>, TokenError> {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend([VERSION, P::KIND]);
        bytes.extend(self.cluster.to_be_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        self.position.encode(&mut bytes);
        match bytes.len() <= MAX_TOKEN {
            true => Ok(bytes),
            false => Err(TokenError::TooLong),
        }
    }

    /// The token of `bytes`.
    ///
    /// # Errors
    ///
    /// Anything that [`encode`](Self::encode) does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (&version, bytes) = bytes.split_first().ok_or(TokenError::Malformed)?;
        if version != VERSION {
            return Err(TokenError::Version { found: version });
        }
        let (&kind, bytes) = bytes.split_first().ok_or(TokenError::Malformed)?;
        if kind != P::KIND {
            return Err(TokenError::Kind { found: kind });
        }
        let rest = || {
            let (cluster, bytes) = bytes.split_first_chunk()?;
            let (epoch, bytes) = bytes.split_first_chunk()?;
            Some(Self {
                cluster: u64::from_be_bytes(*cluster),
                epoch: u64::from_be_bytes(*epoch),
                position: P::decode(bytes)?,
            })
        };
        rest().ok_or(TokenError::Malformed)
    }
}

/// Why bytes are no token, or a token has no bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// More than [`MAX_TOKEN`] bytes.
    #[error("a token has 512 bytes at most")]
    TooLong,
    /// Of another version of this format.
    #[error("a token of version {found}, not 1")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Of another family of engines.
    #[error("a token of another kind of store ({found})")]
    Kind {
        /// Its [`Position::KIND`].
        found: u8,
    },
    /// Cut, garbled, too long by some bytes, or not in its one form.
    #[error("not a token")]
    Malformed,
}
