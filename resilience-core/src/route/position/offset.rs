//! Redis: replication ids and offsets.

use std::{fmt, str::FromStr};

use super::{Coverage, ParseError, Position, number, take};

/// A replication id.
type Id = [u8; 20];

/// A byte of the replication stream of Redis: `master_replid` and an offset, and the id and end of
/// the history before that, as a node keeps them after a failover (`master_replid2`,
/// `second_repl_offset`).
///
/// | wanted offset, of | answer |
/// |---|---|
/// | the same id | yes, or not yet by so many bytes |
/// | the id before, and below its end | the same |
/// | the id before, at or past its end | diverged |
/// | any other id | unknown: older histories are not kept |
///
/// Written as `id:offset`, or `id:offset,id:end`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Offset {
    id: Id,
    offset: u64,
    before: Option<(Id, u64)>,
}

impl Offset {
    /// Of the answer to `INFO replication`: on a replica what it has processed
    /// (`slave_repl_offset`), on a primary what it has written (`master_repl_offset`).
    ///
    /// # Errors
    ///
    /// A field that is missing or malformed.
    pub fn from_info(info: &str) -> Result<Self, ParseError> {
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
        };
        let offset = match field("role") {
            Some("slave") => field("slave_repl_offset"),
            Some("master") => field("master_repl_offset"),
            _ => None,
        };
        let made = || {
            let before = match field("second_repl_offset")? {
                "-1" => None,
                end => Some((id(field("master_replid2")?)?, number(end)?)),
            };
            Some(Self {
                id: id(field("master_replid")?)?,
                offset: number(offset?)?,
                before,
            })
        };
        made().ok_or(ParseError {
            expected: "the answer to INFO replication",
        })
    }

    /// Bytes of the stream.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The same place without the history before; enough for a token, and half as long.
    pub const fn without_before(self) -> Self {
        Self {
            before: None,
            ..self
        }
    }
}

impl Position for Offset {
    const KIND: u8 = 3;
    const TELLS_HISTORY: bool = true;

    fn covers(&self, wanted: &Self) -> Coverage {
        if wanted.id == self.id {
            return Coverage::of(self.offset, wanted.offset);
        }
        match self.before {
            Some((id, end)) if id == wanted.id && wanted.offset < end => {
                Coverage::of(self.offset, wanted.offset)
            }
            Some((id, _)) if id == wanted.id => Coverage::Diverged,
            _ => Coverage::Unknown,
        }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.id);
        bytes.extend(self.offset.to_be_bytes());
        if let Some((id, end)) = self.before {
            bytes.extend(id);
            bytes.extend(end.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ((id, offset), rest) = decode_place(bytes)?;
        let before = match rest.is_empty() {
            true => None,
            false => Some(decode_place(rest).filter(|(_, rest)| rest.is_empty())?.0),
        };
        Some(Self { id, offset, before })
    }
}

fn decode_place(bytes: &[u8]) -> Option<((Id, u64), &[u8])> {
    let (id, bytes) = take(bytes)?;
    let (offset, bytes) = take(bytes)?;
    Some(((id, u64::from_be_bytes(offset)), bytes))
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.id, self.offset)?;
        self.before.map_or(Ok(()), |(id, end)| {
            f.write_str(",")?;
            write_place(f, &id, end)
        })
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, id: &Id, offset: u64) -> fmt::Result {
    id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
    write!(f, ":{offset}")
}

impl FromStr for Offset {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let place = |text: &str| {
            let (name, offset) = text.split_once(':')?;
            Some((id(name)?, number(offset)?))
        };
        let made = || match text.split_once(',') {
            Some((now, before)) => Some((place(now)?, Some(place(before)?))),
            None => Some((place(text)?, None)),
        };
        let ((id, offset), before) = made().ok_or(ParseError {
            expected: "a replication id (40 digits) and an offset",
        })?;
        Ok(Self { id, offset, before })
    }
}

/// 40 hexadecimal digits in lower case, as Redis writes them.
fn id(text: &str) -> Option<Id> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut id = [0; 20];
    if pairs.len() != id.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in id.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(id)
}
