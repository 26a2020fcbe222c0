//! Follows the requests of an HTTP/1.1 connection in its bytes, for what hyper decides before
//! anyone could refuse it: a `Content-Length` beside a `Transfer-Encoding` is dropped (RFC 9112,
//! section 6.1), and a bare LF ends a line (section 2.2).
//!
//! Bodies are stepped over by the length or the chunks that hyper goes by, so that the next head
//! is found wherever it begins. Where hyper would give up on a connection, looking ends as well.
//! A fault is told by the number of its head; the request with that number carries it to the
//! guard.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use http::Extensions;

use crate::guard::Fault;

/// What the reading side tells the requests of a connection.
// ORDERING: Relaxed throughout. Both sides run in the task of the connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// Requests that were handed out.
    requests: AtomicU64,
    /// The number of the first head with a fault; 0 is none. Nothing is answered after it.
    fault_at: AtomicU64,
    fault: AtomicU8,
    /// The number of the first head whose `Content-Length` is more than hyper takes; 0 is none.
    too_great_at: AtomicU64,
    /// The answer to the last request has not ended, or with bytes that hyper's own may end with.
    unsettled: AtomicBool,
    /// The last head was answered by us in place of hyper.
    refused: AtomicBool,
    /// What comes now is not HTTP/1.1 any more.
    other_protocol: AtomicBool,
}

const LENGTH_AND_CODING: u8 = 1;

impl Framing {
    /// Counts the next request, and gives it the fault of its head.
    pub(crate) fn next_request(&self, extensions: &mut Extensions) -> u64 {
        let number = self.requests.load(Ordering::Relaxed) + 1;
        self.requests.store(number, Ordering::Relaxed);
        self.unsettled.store(true, Ordering::Relaxed);
        if self.fault_at.load(Ordering::Relaxed) == number {
            extensions.insert(match self.fault.load(Ordering::Relaxed) {
                LENGTH_AND_CODING => Fault::LengthAndCoding,
                _ => Fault::BareLineFeed,
            });
        }
        number
    }

    /// The connection has changed its protocol: no more is looked at.
    pub(crate) fn leave(&self) {
        self.other_protocol.store(true, Ordering::Relaxed);
    }

    /// The answer to the last request has ended.
    pub(super) fn settle(&self) {
        self.unsettled.store(false, Ordering::Relaxed);
    }

    /// Whether what hyper writes now can be an answer of its own: none of ours is under way.
    pub(super) fn is_settled(&self) -> bool {
        !self.unsettled.load(Ordering::Relaxed) && !self.has_left()
    }

    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether the head after the last request has a `Content-Length` that is too great.
    pub(super) fn is_length_too_great(&self) -> bool {
        let next = self.requests.load(Ordering::Relaxed) + 1;
        self.too_great_at.load(Ordering::Relaxed) == next
    }

    pub(super) fn has_left(&self) -> bool {
        self.other_protocol.load(Ordering::Relaxed)
    }

    /// The number of the first head with a fault, and whether it is a length beside a coding.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn fault(&self) -> Option<(u64, bool)> {
        let at = self.fault_at.load(Ordering::Relaxed);
        let both = self.fault.load(Ordering::Relaxed) == LENGTH_AND_CODING;
        (at > 0).then_some((at, both))
    }

    fn report(&self, head: u64, fault: Fault) {
        if self.fault_at.load(Ordering::Relaxed) == 0 {
            let kind = u8::from(fault == Fault::LengthAndCoding);
            self.fault.store(kind, Ordering::Relaxed);
            self.fault_at.store(head, Ordering::Relaxed);
        }
    }
}

/// Where in its requests a connection is.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    place: Place,
    head: Head,
    heads: u64,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Head,
    /// In a body, with this many bytes to come.
    Length(u64),
    Chunks(Chunk),
    /// Where hyper has given up.
    Lost,
}

/// The states of hyper's decoder, so that both find the same end.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Start,
    Size(u64),
    SizeSpace(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    EndCr,
    EndLf,
    Trailer,
    TrailerLf,
}

#[derive(Debug, Default)]
struct Head {
    /// The beginning of a line whose end has not been read.
    partial: Vec<u8>,
    started: bool,
    bare_line_feed: bool,
    length: Option<Option<u64>>,
    coding: bool,
}

impl Follower {
    #[cfg(feature = "fuzzing")]
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether bytes of a request have been read and others are to come.
    pub(super) fn is_inside(&self) -> bool {
        match &self.place {
            Place::Head => self.head.started || !self.head.partial.is_empty(),
            Place::Length(_) | Place::Chunks(_) | Place::Lost => true,
        }
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], framing: &Framing) {
        while !bytes.is_empty() {
            bytes = match &mut self.place {
                Place::Head => self.head_line(bytes, framing),
                Place::Length(left) => {
                    let skipped = skip(bytes, left);
                    if *left == 0 {
                        self.place = Place::Head;
                    }
                    skipped
                }
                Place::Chunks(Chunk::Data(left)) => {
                    let skipped = skip(bytes, left);
                    if *left == 0 {
                        self.place = Place::Chunks(Chunk::DataCr);
                    }
                    skipped
                }
                Place::Chunks(chunk) => {
                    let (first, rest) = (bytes.first().copied(), bytes.get(1..));
                    self.place = match first.map(|byte| chunk.step(byte)) {
                        Some(Some(Chunk::Start)) if matches!(chunk, Chunk::EndLf) => Place::Head,
                        Some(Some(next)) => Place::Chunks(next),
                        _ => Place::Lost,
                    };
                    rest.unwrap_or_default()
                }
                Place::Lost => return,
            };
        }
    }

    /// Takes one line, or its beginning, off `bytes`.
    fn head_line<'b>(&mut self, bytes: &'b [u8], framing: &Framing) -> &'b [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.head.partial.extend_from_slice(bytes);
            // hyper refuses a head long before.
            if self.head.partial.len() > LONGEST_LINE {
                self.place = Place::Lost;
            }
            return &[];
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let ended = if self.head.partial.is_empty() {
            self.head.line(line)
        } else {
            self.head.partial.extend_from_slice(line);
            let whole = std::mem::take(&mut self.head.partial);
            self.head.line(&whole)
        };
        if ended {
            self.heads += 1;
            let head = std::mem::take(&mut self.head);
            if head.coding && head.length.is_some() {
                framing.report(self.heads, Fault::LengthAndCoding);
            } else if head.bare_line_feed {
                framing.report(self.heads, Fault::BareLineFeed);
            }
            if matches!(head.length, Some(Some(MOST..))) {
                framing.too_great_at.store(self.heads, Ordering::Relaxed);
            }
            self.place = match head {
                Head { coding: true, .. } => Place::Chunks(Chunk::Start),
                Head {
                    length: Some(None), ..
                } => Place::Lost,
                Head {
                    length: Some(Some(length @ 1..)),
                    ..
                } => Place::Length(length),
                _ => Place::Head,
            };
        }
        rest
    }
}

/// The greatest `max_head_bytes`.
const LONGEST_LINE: usize = 1 << 20;
/// hyper needs the last two numbers for itself.
const MOST: u64 = u64::MAX - 1;

fn skip<'b>(bytes: &'b [u8], left: &mut u64) -> &'b [u8] {
    let here = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    // A length in memory fits in 64 bits.
    *left -= here as u64;
    &bytes[here..]
}

impl Head {
    /// Looks at one line without its LF; true at the end of the head.
    fn line(&mut self, line: &[u8]) -> bool {
        let line = match line.split_last() {
            Some((b'\r', line)) => line,
            _ => {
                self.bare_line_feed = true;
                line
            }
        };
        if line.is_empty() {
            // Empty lines before the first are skipped.
            return self.started;
        }
        if !self.started {
            self.started = true;
            return false;
        }
        if let Some(value) = field(line, b"content-length:") {
            let text = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            self.length = Some(text.parse().ok().filter(|_| digits));
        } else if field(line, b"transfer-encoding:").is_some() {
            self.coding = true;
        }
        false
    }
}

fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

impl Chunk {
    /// The state after one byte; `Start` after `EndLf` is the end of the body.
    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Start | Self::Size(_), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let size = match self {
                    Self::Size(size) => size,
                    _ => 0,
                };
                let digit = char::from(byte).to_digit(16)?;
                Self::Size(size.checked_mul(16)?.checked_add(u64::from(digit))?)
            }
            (Self::Size(size) | Self::SizeSpace(size), b' ' | b'\t') => Self::SizeSpace(size),
            (Self::Size(size) | Self::SizeSpace(size), b';') => Self::Extension(size),
            (Self::Size(size) | Self::SizeSpace(size) | Self::Extension(size), b'\r') => {
                Self::SizeLf(size)
            }
            (Self::Extension(_), b'\n') => return None,
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeLf(0), b'\n') => Self::EndCr,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf | Self::EndLf, b'\n') => Self::Start,
            (Self::EndCr, b'\r') => Self::EndLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::EndCr | Self::Trailer, _) => Self::Trailer,
            (Self::TrailerLf, b'\n') => Self::EndCr,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of the requests in `bytes`, when they come in pieces of `size`.
    fn faults(bytes: &[u8], size: usize) -> (Option<u64>, u64) {
        let framing = Framing::default();
        let mut follower = Follower::default();
        for piece in bytes.chunks(size) {
            follower.feed(piece, &framing);
        }
        let at = framing.fault_at.load(Ordering::Relaxed);
        ((at > 0).then_some(at), follower.heads)
    }

    #[test]
    fn a_head_is_found_behind_bodies_of_each_kind_and_in_pieces_of_any_size() {
        let plain = "\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n";
        let length = "POST / HTTP/1.1\r\nCONTENT-length:  12 \r\n\r\nGET / HTTP\n\n";
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                       a;x=\"1\"\r\nGET /\r\n\r\n.\r\n0 \r\nx: \n\r\nGET: \n\n\r\n\r\n";
        let both = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n";
        let bare = "GET / HTTP/1.1\r\nhost: h\n\r\n";
        for first in [plain, length, chunked] {
            for second in [plain, length, chunked] {
                for (last, fault) in [(both, Some(3)), (bare, Some(3)), (plain, None)] {
                    let bytes = [first, second, last].concat();
                    for size in [1, 2, 3, 7, 1000] {
                        assert_eq!(
                            faults(bytes.as_bytes(), size),
                            (fault, 3),
                            "{bytes:?} by {size}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn looking_ends_where_a_body_cannot_be_read() {
        for body in ["g\r\n", "\r\n", "fffffffffffffffff\r\n", "1;\n", "1\r\nabc"] {
            let bytes = format!(
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}GET / HTTP/1.1\n\n"
            );
            assert_eq!(faults(bytes.as_bytes(), 1000), (None, 1), "{body:?}");
        }
        let bytes = b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\nGET / HTTP/1.1\n\n";
        assert_eq!(faults(bytes, 1000), (None, 1));
    }
}
