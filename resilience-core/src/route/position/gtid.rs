//! MariaDB: sets of global transaction ids.

use std::{fmt, str::FromStr, sync::Arc};

use super::{Coverage, ParseError, Position, number, take};

/// One global transaction id: `domain-server-sequence`, as `0-1-100`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Gtid {
    /// The replication domain.
    pub domain: u32,
    /// The server that wrote it.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

/// A position of MariaDB: one id per domain, or one per domain and server.
///
/// | made of | what it is | tells a lost write |
/// |---|---|---|
/// | [`state`](Self::state) | `@@gtid_binlog_state`: the last id of every server that ever wrote; of a replica with `log_slave_updates` | within an epoch; across epochs by a [fork](crate::route::Fork) |
/// | [`last`](Self::last) | `@@gtid_current_pos`, `@@gtid_slave_pos`, `@@last_gtid`: the last id of each domain | no: an id of another server is [`Unknown`](Coverage::Unknown) where the domain is past its number |
///
/// Both take `gtid_strict_mode = ON`, under which numbers go up within a domain. A token is the
/// `@@last_gtid` of the session that wrote.
///
/// | wanted `d-s-n`, in domain d | answer |
/// |---|---|
/// | server s is at n or past it | yes |
/// | no server is at n | not yet; the gap is n less the highest |
/// | another server is, and the set is a state | diverged: the write of s was never there |
/// | another server is, and the set is of last ids | unknown |
///
/// The order of the text does not matter: a set is shown sorted.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct GtidSet {
    /// Sorted by domain and server, each once.
    ids: Arc<[Gtid]>,
    complete: bool,
}

/// The most ids of a set.
const MOST: usize = 1_024;

impl GtidSet {
    /// Of a list of the last id of every domain and server.
    ///
    /// # Errors
    ///
    /// Not a list of ids with commas in between, a domain and server that come twice, or more
    /// than 1024 ids.
    pub fn state(text: &str) -> Result<Self, ParseError> {
        Self::parsed(text, true)
    }

    /// Of a list of the last id of every domain.
    ///
    /// # Errors
    ///
    /// Not a list of ids with commas in between, a domain that comes twice, or more than 1024
    /// ids.
    pub fn last(text: &str) -> Result<Self, ParseError> {
        Self::parsed(text, false)
    }

    /// The ids, by domain and server.
    pub fn ids(&self) -> &[Gtid] {
        &self.ids
    }

    /// It was made by [`state`](Self::state).
    pub const fn is_state(&self) -> bool {
        self.complete
    }

    fn parsed(text: &str, complete: bool) -> Result<Self, ParseError> {
        let text = text.trim();
        let expected = "global transaction ids like 0-1-100, each domain once (and server)";
        let ids = match text.is_empty() {
            true => Some(Vec::new()),
            // MariaDB breaks long lists after the comma.
            false => text.split(',').map(|id| id.trim().parse().ok()).collect(),
        };
        ids.and_then(|ids| Self::checked(ids, complete))
            .ok_or(ParseError { expected })
    }

    fn checked(mut ids: Vec<Gtid>, complete: bool) -> Option<Self> {
        ids.sort_unstable();
        let same = |pair: &[Gtid]| {
            pair[0].domain == pair[1].domain && (!complete || pair[0].server == pair[1].server)
        };
        let whole = ids.len() <= MOST && !ids.windows(2).any(same);
        whole.then(|| Self {
            ids: ids.into(),
            complete,
        })
    }

    fn covers_one(&self, wanted: &Gtid) -> Coverage {
        let start = self.ids.partition_point(|id| id.domain < wanted.domain);
        let domain = self.ids[start..].iter();
        let domain = domain.take_while(|id| id.domain == wanted.domain);
        let (mut highest, mut own) = (0, None);
        for id in domain {
            highest = highest.max(id.sequence);
            if id.server == wanted.server {
                own = Some(id.sequence);
            }
        }
        match wanted.sequence {
            n if own.is_some_and(|own| own >= n) => Coverage::Yes,
            n if highest < n => Coverage::NotYet { gap: n - highest },
            _ if self.complete => Coverage::Diverged,
            _ => Coverage::Unknown,
        }
    }
}

impl Position for GtidSet {
    const KIND: u8 = 2;

    fn covers(&self, wanted: &Self) -> Coverage {
        let each = wanted.ids.iter().map(|id| self.covers_one(id));
        each.fold(Coverage::Yes, Coverage::and)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.complete.into());
        for id in &*self.ids {
            bytes.extend(id.domain.to_be_bytes());
            bytes.extend(id.server.to_be_bytes());
            bytes.extend(id.sequence.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ([complete], bytes) = take(bytes)?;
        let (ids, rest) = bytes.as_chunks::<16>();
        if complete > 1 || !rest.is_empty() || ids.len() > MOST {
            return None;
        }
        let id = |bytes: &[u8; 16]| {
            let (domain, bytes) = take(bytes)?;
            let (server, bytes) = take(bytes)?;
            Some(Gtid {
                domain: u32::from_be_bytes(domain),
                server: u32::from_be_bytes(server),
                sequence: u64::from_be_bytes(bytes.try_into().ok()?),
            })
        };
        let ids: Vec<Gtid> = ids.iter().map(id).collect::<Option<_>>()?;
        // One form per set.
        let sorted = ids.is_sorted();
        sorted.then(|| Self::checked(ids, complete == 1)).flatten()
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, id) in self.ids.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{id}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = if self.complete { "state" } else { "last" };
        write!(f, "{made}({self})")
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for Gtid {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let id = || {
            let (domain, rest) = text.split_once('-')?;
            let (server, sequence) = rest.split_once('-')?;
            Some(Self {
                domain: number(domain)?,
                server: number(server)?,
                sequence: number(sequence)?,
            })
        };
        id().ok_or(ParseError {
            expected: "a global transaction id like 0-1-100",
        })
    }
}
