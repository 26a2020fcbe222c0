//! PostgreSQL: places in the write-ahead log.

use std::{fmt, str::FromStr};

use super::{Coverage, ParseError, Position};
use crate::route::Fork;

/// A log sequence number: a byte of the write-ahead log, as `pg_lsn` (`16/B374D848`).
///
/// The epoch of a PostgreSQL cluster is the timeline, its id the system identifier. A number says
/// nothing about the timeline it was written on: after a failover that lost rows, a node that
/// never had them passes their numbers. So a token of an earlier timeline needs the
/// [fork](Fork): the switch point of [`parse_history`].
///
/// | number | where from |
/// |---|---|
/// | of a token | `pg_current_wal_flush_lsn()` after the commit, in the same message; with `synchronous_commit = off` `pg_current_wal_insert_lsn()`, through [`at_page_border`](Self::at_page_border) |
/// | of the primary | the same, asked at any time |
/// | of a replica | `pg_last_wal_replay_lsn()` |
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lsn(
    /// The byte.
    pub u64,
);

/// `XLOG_BLCKSZ` as PostgreSQL is built by default.
const PAGE: u64 = 8_192;

/// Headers of a page and of the first page of a segment (`SizeOfXLogShortPHD`,
/// `SizeOfXLogLongPHD`).
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

impl Lsn {
    /// The number that a replica shows when it has replayed all up to here.
    ///
    /// The insert position at the border of two pages is behind the header of a page of which
    /// nothing is written yet; replay stops at the border until it is. Without this a token taken
    /// there waits for the next write, which may never come. `segment` is `wal_segment_size` in
    /// bytes (16 MiB by default). No record ends where a header does, so that the token of a
    /// write that is on the page is never rounded.
    pub const fn at_page_border(self, segment: u64) -> Self {
        let border = self.0 - self.0 % PAGE;
        let header = match border.checked_rem(segment) {
            Some(0) => LONG_HEADER,
            _ => SHORT_HEADER,
        };
        match self.0 - border == header {
            true => Self(border),
            false => self,
        }
    }
}

impl Position for Lsn {
    const KIND: u8 = 1;

    fn covers(&self, wanted: &Self) -> Coverage {
        Coverage::of(self.0, wanted.0)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u64::from_be_bytes).map(Self)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

impl FromStr for Lsn {
    type Err = ParseError;

    /// Two hexadecimal numbers of 1 to 8 digits, as `pg_lsn` takes them.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let half = |text: &str| hex(text, 1).map(u64::from);
        let halves = text.split_once('/');
        let halves = halves.and_then(|(high, low)| Some(half(high)? << 32 | half(low)?));
        halves.map(Self).ok_or(ParseError {
            expected: "a log sequence number like 16/B374D848",
        })
    }
}

fn hex(text: &str, least: usize) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits = (least..=8).contains(&text.len());
    (digits && fits)
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

/// The timeline of a log file's name, or of its first eight digits, as in
/// `substring(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`.
///
/// # Errors
///
/// Not eight or 24 hexadecimal digits, or timeline 0.
pub fn parse_timeline(name: &str) -> Result<u64, ParseError> {
    let timeline = || {
        let digits = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let whole = digits && matches!(name.len(), 8 | 24);
        let first = whole.then(|| hex(&name[..8], 8)).flatten();
        first.filter(|timeline| *timeline > 0)
    };
    timeline().map(u64::from).ok_or(ParseError {
        expected: "the name of a log file, or its first eight digits",
    })
}

/// The forks of a timeline, oldest first, from its history file (`00000003.history`): lines of
/// parent timeline, switch point and reason. Empty lines and comments (`#`) are passed over.
///
/// # Errors
///
/// A line that is none, or timelines that do not go up.
pub fn parse_history(text: &str) -> Result<Vec<Fork<Lsn>>, ParseError> {
    let expected = "lines of timeline and switch point, timelines going up";
    let mut forks: Vec<Fork<Lsn>> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let epoch = words.next().and_then(super::number::<u32>).map(u64::from);
        let position = words.next().and_then(|word| word.parse().ok());
        let last = forks.last().map_or(0, |fork| fork.epoch);
        match (epoch, position) {
            (Some(epoch), Some(position)) if epoch > last => forks.push(Fork { epoch, position }),
            _ => return Err(ParseError { expected }),
        }
    }
    Ok(forks)
}
