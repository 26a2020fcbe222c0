//! Looks at the bytes that a connection to an upstream brings, before hyper does.
//!
//! An HTTP/1 connection carries one answer at a time, and none that was not asked for. What a
//! parser cannot know is seen here: bytes while no request is out, bytes behind an answer that has
//! no body (`HEAD`, 204, 304), and heads that are too long together. Each ends the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gather;

/// What the user of a connection and its reading side tell each other.
// ORDERING: Release and Acquire. `arm` comes before the request is handed to the connection's task,
// and the answer, or the failure, comes back by a channel; the orders cost nothing beside them.
#[derive(Debug, Default)]
pub(super) struct Wire(AtomicU8);

/// The next write begins a request.
const ARMED: u8 = 1;
/// A request is out: what comes is its answer.
const EXPECTED: u8 = 2;
/// It is a `HEAD`.
const HEAD: u8 = 4;
/// Bytes of the answer came.
const STARTED: u8 = 8;
/// The bytes are no answer that can be passed on.
const BAD: u8 = 16;

/// Most bytes of the heads of one answer, interim ones included.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;

impl Wire {
    /// Before a request is sent.
    pub(super) fn arm(&self, is_head: bool) {
        let head = if is_head { HEAD } else { 0 };
        self.0.store(ARMED | head, Ordering::Release);
    }

    /// After the answer has ended: whatever comes now was not asked for.
    pub(super) fn rest(&self) {
        self.0.fetch_and(BAD, Ordering::AcqRel);
    }

    /// Whether a byte of the answer came.
    pub(super) fn started(&self) -> bool {
        self.0.load(Ordering::Acquire) & (STARTED | BAD) != 0
    }

    /// Whether the answer was refused here.
    pub(super) fn is_bad(&self) -> bool {
        self.0.load(Ordering::Acquire) & BAD != 0
    }
}

/// A stream whose answers are looked at.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    wire: Arc<Wire>,
    answer: Answer,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> (Self, Arc<Wire>) {
        let wire = Arc::<Wire>::default();
        let watched = Self {
            stream,
            wire: Arc::clone(&wire),
            answer: Answer::default(),
        };
        (watched, wire)
    }

    /// A request begins with the first write after it was armed.
    fn writes(&mut self) {
        let word = self.wire.0.load(Ordering::Acquire);
        if word & ARMED != 0 {
            self.answer = Answer::default();
            let expected = (word & !ARMED) | EXPECTED;
            self.wire.0.store(expected, Ordering::Release);
        }
    }

    fn look(&mut self, filled: &[u8]) -> Result<(), &'static str> {
        let word = self.wire.0.load(Ordering::Acquire);
        let looked = if word & EXPECTED == 0 {
            Err("bytes that no request asked for")
        } else {
            self.answer.feed(filled, word & HEAD != 0)
        };
        let bad = if looked.is_err() { BAD } else { 0 };
        if word & STARTED == 0 || bad != 0 {
            self.wire.0.fetch_or(STARTED | bad, Ordering::AcqRel);
        }
        looked
    }
}

/// One answer up to the end of its head, interim answers before it included.
#[derive(Debug, Default)]
struct Answer {
    /// `HTTP/1.1 200`.
    first: [u8; 12],
    first_len: usize,
    /// Bytes of the current line, without CR.
    line_len: usize,
    /// Lines of the current head.
    lines: usize,
    /// Bytes of heads so far.
    total: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Head,
    /// The rest is hyper's to read.
    Body,
    /// There is no rest.
    Nothing,
}

impl Answer {
    fn feed(&mut self, mut bytes: &[u8], is_head: bool) -> Result<(), &'static str> {
        while self.stage == Stage::Head && !bytes.is_empty() {
            let (line, rest) = match memchr::memchr(b'\n', bytes) {
                Some(at) => (bytes.get(..at), bytes.get(at + 1..)),
                None => (Some(bytes), None),
            };
            let line = line.unwrap_or_default();
            self.total += line.len() + usize::from(rest.is_some());
            if self.total > LONGEST_HEAD {
                return Err("a head of more than 64 KiB");
            }
            self.text(line);
            let Some(rest) = rest else { return Ok(()) };
            bytes = rest;
            match (self.line_len, self.lines) {
                (0, 0) => return Err("an empty line in place of a head"),
                (0, _) => self.end_of_head(is_head),
                _ => self.lines += 1,
            }
            self.line_len = 0;
        }
        if self.stage == Stage::Nothing && !bytes.is_empty() {
            return Err("a body where there can be none");
        }
        Ok(())
    }

    fn text(&mut self, line: &[u8]) {
        let cr = usize::from(line.last() == Some(&b'\r'));
        self.line_len += line.len() - cr;
        if let Some(room) = self.first.get_mut(self.first_len..) {
            let fits = room.len().min(line.len());
            if let (Some(room), Some(line)) = (room.get_mut(..fits), line.get(..fits)) {
                room.copy_from_slice(line);
                self.first_len += fits;
            }
        }
    }

    fn end_of_head(&mut self, is_head: bool) {
        self.stage = match self.first.get(9..) {
            // 101 ends HTTP; what follows is for those who asked for it.
            Some(b"101") => Stage::Body,
            Some([b'1', _, _]) => Stage::Head,
            Some(b"204" | b"304") => Stage::Nothing,
            _ if is_head => Stage::Nothing,
            _ => Stage::Body,
        };
        self.first_len = 0;
        self.lines = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() || self.answer.stage == Stage::Body && self.wire.asked() {
            return Poll::Ready(Ok(()));
        }
        let looked = self.look(read);
        Poll::Ready(looked.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

impl Wire {
    fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire) & EXPECTED != 0
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes();
        gather::poll_write(&mut self.stream, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole, and byte by byte.
    fn fed(text: &str, is_head: bool) -> Result<(), &'static str> {
        let whole = Answer::default().feed(text.as_bytes(), is_head);
        let mut answer = Answer::default();
        let mut pieces = text.as_bytes().chunks(1);
        let single = pieces.try_for_each(|piece| answer.feed(piece, is_head));
        assert_eq!(whole, single, "{text:?}");
        whole
    }

    #[test]
    fn bytes_behind_an_answer_without_a_body_are_seen() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        assert!(fed(&format!("{head}ok"), false).is_ok());
        assert!(fed(head, true).is_ok());
        assert!(fed(&format!("{head}ok"), true).is_err());
        for status in ["204 No Content", "304 Not Modified"] {
            let head = format!("HTTP/1.1 {status}\r\nx: y\r\n\r\n");
            assert!(fed(&head, false).is_ok());
            assert!(fed(&format!("{head}x"), false).is_err());
            assert!(fed(&format!("{head}{head}"), false).is_err());
        }
    }

    #[test]
    fn interim_answers_come_before_the_head_that_counts() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let head = "HTTP/1.1 204 No Content\r\n\r\n";
        assert!(fed(&format!("{interim}{interim}{head}"), false).is_ok());
        assert!(fed(&format!("{interim}{head}x"), false).is_err());
        let many = interim.repeat(LONGEST_HEAD / interim.len() + 1);
        assert!(fed(&many, false).is_err());
        assert!(fed(&format!("\r\n{head}"), false).is_err());
        assert!(fed("HTTP/1.1 101 Switching\nupgrade: x\n\nbytes", false).is_ok());
    }
}
