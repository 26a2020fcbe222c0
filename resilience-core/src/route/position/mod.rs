//! How far a node is, in the words of its engine.

mod counter;
mod gtid;
mod lsn;
mod offset;

use std::fmt::{Debug, Display};

pub use self::{
    counter::Counter,
    gtid::{Gtid, GtidSet},
    lsn::{Lsn, parse_history, parse_timeline},
    offset::Offset,
};

/// A place in the history of a store, opaque to those who route.
///
/// One type per family of engines: [`Lsn`], [`GtidSet`], [`Offset`], [`Counter`], or one of your
/// own. It compares within one history; what a failover did to that is told by epochs and
/// [forks](super::Fork).
pub trait Position: Clone + Debug + Display + PartialEq + Send + Sync + 'static {
    /// Tells encoded positions of different families apart. Ours are below 64; one of your own
    /// takes 64 or more.
    const KIND: u8;

    /// Positions tell by themselves whether they are of the same history, so that tokens of an
    /// earlier epoch need no fork. `false` unless said otherwise.
    const TELLS_HISTORY: bool = false;

    /// Whether a node that is here has all that one had that was at `wanted`.
    fn covers(&self, wanted: &Self) -> Coverage;

    /// Appends the form for [`Token`](super::Token): the same bytes for equal positions.
    fn encode(&self, bytes: &mut Vec<u8>);

    /// Reads exactly what [`encode`](Self::encode) wrote: `None` for anything else, and for bytes
    /// left over.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// What one position says of another.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Coverage {
    /// It is there.
    Yes,
    /// It is still to come.
    NotYet {
        /// How much is missing: bytes (PostgreSQL, Redis), transactions (MariaDB), versions.
        gap: u64,
    },
    /// It will never come: the history went another way before it.
    Diverged,
    /// The two cannot be compared.
    Unknown,
}

impl Coverage {
    /// It is there.
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }

    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::NotYet { .. } => "not_yet",
            Self::Diverged => "diverged",
            Self::Unknown => "unknown",
        }
    }

    /// Of plain numbers.
    pub(crate) fn of(at: u64, wanted: u64) -> Self {
        match wanted.saturating_sub(at) {
            0 => Self::Yes,
            gap => Self::NotYet { gap },
        }
    }

    /// Of both: what never comes outweighs what cannot be told, and that what is still to come.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Diverged, _) | (_, Self::Diverged) => Self::Diverged,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::NotYet { gap }, Self::NotYet { gap: more }) => Self::NotYet {
                gap: gap.saturating_add(more),
            },
            (Self::Yes, other) => other,
            (this, Self::Yes) => this,
        }
    }
}

/// A position that is no position.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not {expected}")]
#[non_exhaustive]
pub struct ParseError {
    /// What should have been there.
    pub expected: &'static str,
}

/// A number without sign or leading zeros (but for 0 itself), as engines write it.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    (plain && canonical).then(|| text.parse().ok()).flatten()
}

/// The first `N` bytes, and the rest.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((*first, rest))
}
