//! Sees a `Content-Length` beside a `Transfer-Encoding`, which hyper drops before anyone could
//! refuse the request (RFC 9112, section 6.1).
//!
//! A connection's bytes are looked at as they are read: field names up to the end of a head,
//! then nothing until the body has been taken. A head that arrives in one read with the end of
//! an earlier request's body is not seen; hyper's own rule (chunked wins) then stands.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the reading side tells the requests of a connection.
// ORDERING: Relaxed throughout. Both sides run in the task of the connection, or hand the body
// over by a channel that orders them.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// The last head with a body had both fields.
    both: AtomicBool,
    /// The body has ended; the next bytes are a head.
    body_ended: AtomicBool,
}

/// Marks the end of a request body when it is dropped.
#[derive(Debug)]
pub(crate) struct BodyEnd(Arc<Framing>);

impl Drop for BodyEnd {
    fn drop(&mut self) {
        self.0.body_ended.store(true, Ordering::Relaxed);
    }
}

impl Framing {
    /// Puts the `Content-Length` that hyper dropped back in sight of the guard.
    pub(crate) fn restore(&self, headers: &mut HeaderMap) {
        if headers.contains_key(TRANSFER_ENCODING) && self.both.swap(false, Ordering::Relaxed) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }

    pub(crate) fn body_end(self: &Arc<Self>) -> BodyEnd {
        BodyEnd(Arc::clone(self))
    }
}

/// A stream whose heads are looked at.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: TcpStream,
    head: Head,
    framing: Arc<Framing>,
}

impl Watched {
    pub(crate) fn new(stream: TcpStream) -> (Self, Arc<Framing>) {
        let framing = Arc::<Framing>::default();
        let watched = Self {
            stream,
            head: Head::default(),
            framing: Arc::clone(&framing),
        };
        (watched, framing)
    }

    fn look(&mut self, bytes: &[u8]) {
        if self.head.ended && self.framing.body_ended.swap(false, Ordering::Relaxed) {
            self.head = Head::default();
        }
        self.head.feed(bytes);
        if self.head.ended && self.head.length && self.head.coding {
            self.framing.both.store(true, Ordering::Relaxed);
        }
    }
}

/// One head, read byte by byte.
#[derive(Debug, Default)]
struct Head {
    /// The field name of the current line so far, lower case.
    name: [u8; LONGEST],
    name_len: usize,
    past_name: bool,
    line_len: usize,
    length: bool,
    coding: bool,
    /// The head of a request with a body has ended.
    ended: bool,
}

/// `transfer-encoding`.
const LONGEST: usize = 17;

impl Head {
    fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.ended {
                return;
            }
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        match byte {
            b'\r' => {}
            b'\n' if self.line_len == 0 => {
                // Without either field there is no body: the next byte begins a head.
                self.ended = self.length || self.coding;
            }
            b'\n' => {
                self.line_len = 0;
                self.name_len = 0;
                self.past_name = false;
            }
            _ => {
                self.line_len += 1;
                self.name_byte(byte);
            }
        }
    }

    fn name_byte(&mut self, byte: u8) {
        if self.past_name {
            return;
        }
        if byte == b':' {
            self.past_name = true;
            match self.name.get(..self.name_len) {
                Some(b"content-length") => self.length = true,
                Some(b"transfer-encoding") => self.coding = true,
                _ => {}
            }
        } else if let Some(slot) = self.name.get_mut(self.name_len) {
            *slot = byte.to_ascii_lowercase();
            self.name_len += 1;
        } else {
            self.past_name = true;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(read) = buf.filled().get(before..) {
            self.look(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
