//! The bytes of a client's connection: followed as they are read, with a bound on how long the
//! client may take none of the answer, and read on for a while when the connection is closed in
//! the middle of a request. An answer that hyper gives by itself is replaced by one of ours.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::gather;
use crate::server::bare::{self, Refuse};
use crate::server::framing::{Follower, Framing};
use crate::server::interim::Interims;

/// A client's connection as hyper sees it.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    /// Read already, to find out the protocol.
    start: Start,
    follower: Follower,
    framing: Arc<Framing>,
    write_timeout: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    ended: bool,
    closing: Closing,
    /// What we write beside hyper, as far as it is not written: our answer in place of its own,
    /// and interim answers.
    own: Vec<u8>,
    refuse: Refuse,
    interims: Option<Arc<Interims>>,
}

/// The first bytes of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    pub(super) bytes: [u8; 24],
    pub(super) len: usize,
}

#[derive(Debug)]
enum Closing {
    Open,
    /// Our side is closed; what the client still sends is read and dropped.
    Lingering {
        until: Pin<Box<Sleep>>,
        left: usize,
    },
    Closed,
}

/// A close with unread bytes makes the system reset the connection, and with it goes the answer
/// that says what was wrong. So reading goes on this long and this far.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

impl<S> Watched<S> {
    pub(super) fn new(
        stream: S,
        start: Start,
        framing: Arc<Framing>,
        write_timeout: Duration,
        refuse: Refuse,
    ) -> Self {
        Self {
            stream,
            start,
            follower: Follower::default(),
            framing,
            write_timeout,
            stalled: None,
            ended: false,
            closing: Closing::Open,
            own: Vec::new(),
            refuse,
            interims: None,
        }
    }

    /// Writes these as well.
    pub(super) fn with_interims(mut self, interims: Option<Arc<Interims>>) -> Self {
        self.interims = interims;
        self
    }

    /// Where hyper's own answer to a head that it cannot parse begins in what it writes.
    fn bare_answer(&self, bytes: &[u8]) -> Option<usize> {
        // Nearly nothing else ends so, and those that do are looked at.
        let may_be = bytes.ends_with(b"\r\n\r\n") && self.framing.is_settled();
        may_be.then(|| bare::find(bytes)).flatten()
    }

    /// Takes hyper's answer as written, and ours in its place.
    fn replace(&mut self, bytes: &[u8]) {
        self.framing.refuse();
        self.own = self
            .refuse
            .answer(bytes, self.framing.is_length_too_great());
    }
}

impl<S: Unpin> Watched<S> {
    /// Bounds the time in which a write is pending.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let write_timeout = self.write_timeout;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes no bytes",
        )))
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Writes what we have to write, if there is anything.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            let polled = Pin::new(&mut self.stream).poll_write(cx, &self.own);
            match ready!(self.bounded(cx, polled))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(self.own.drain(..written)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Whether closing now would cut the client off while it sends.
    fn is_inside(&self) -> bool {
        !self.ended && !self.framing.has_left() && self.follower.is_inside()
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingering { until, left } = &mut self.closing else {
            return Poll::Ready(());
        };
        let mut scratch = [0; 4096];
        loop {
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            let bytes = buf.filled().len();
            if read.is_err() || bytes == 0 || bytes > *left {
                return Poll::Ready(());
            }
            *left -= bytes;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.start.len > 0 && buf.remaining() > 0 {
            let take = this.start.len.min(buf.remaining());
            buf.put_slice(&this.start.bytes[..take]);
            this.start.bytes.copy_within(take.., 0);
            this.start.len -= take;
        } else {
            let room = buf.remaining() > 0;
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            this.ended |= room && buf.filled().len() == before;
        }
        if !this.framing.has_left()
            && let Some(read) = buf.filled().get(before..)
        {
            this.follower.feed(read, &this.framing);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_own(cx))?;
        let first = match self.bare_answer(buf) {
            Some(0) => {
                self.replace(buf);
                return Poll::Ready(Ok(buf.len()));
            }
            Some(at) => buf.get(..at).unwrap_or(buf),
            None => buf,
        };
        let polled = Pin::new(&mut self.stream).poll_write(cx, first);
        self.bounded(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_own(cx))?;
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        if let Some(last) = filled.next_back()
            && self.bare_answer(last).is_some()
        {
            let first = filled.next().unwrap_or(last);
            return self.poll_write(cx, first);
        }
        let polled = gather::poll_write(&mut self.stream, cx, bufs);
        self.bounded(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        if let Some(interims) = &self.interims {
            self.own = interims.take(cx);
            ready!(self.poll_own(cx))?;
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.closing, Closing::Open) {
            ready!(this.poll_own(cx))?;
            let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.bounded(cx, polled))?;
            this.closing = if this.is_inside() {
                Closing::Lingering {
                    until: Box::pin(sleep(LINGER)),
                    left: LINGER_BYTES,
                }
            } else {
                Closing::Closed
            };
        }
        ready!(this.poll_linger(cx));
        this.closing = Closing::Closed;
        Poll::Ready(Ok(()))
    }
}
