//! New connections: TCP, TLS, and the protocol that is spoken on them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
#[cfg(feature = "http2")]
use resilience_core::clock::Clock;
use resilience_core::clock::SharedClock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

#[cfg(feature = "http2")]
use super::multiplexed;
use super::wire::{LONGEST_HEAD, Watched, Wire};
use super::{Settings, Target};
use crate::config::Protocol;
use crate::upstream::upload::Upload;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// It took longer than it may.
    #[error("no connection in time")]
    TimedOut,
    /// The system, or the other side, refused.
    #[error("no connection: {0}")]
    Refused(#[from] io::Error),
    /// The other side speaks something else.
    #[error("no HTTP connection: {0}")]
    Protocol(#[from] hyper::Error),
}

/// A connection that is set up.
pub(super) enum Connected {
    Http1(Http1),
    #[cfg(feature = "http2")]
    Http2(multiplexed::Connection),
}

/// One HTTP/1 connection; closed when dropped.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<Upload>,
    pub(super) wire: Arc<Wire>,
    pub(super) _driver: Driver,
}

/// The task that moves the bytes of a connection; ends with the connection.
#[derive(Debug)]
pub(super) struct Driver(AbortHandle);

impl Driver {
    pub(super) fn spawn(driver: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(driver).abort_handle())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects within the time that the settings give.
pub(super) async fn connect(
    target: &Target,
    settings: &Settings,
    clock: &SharedClock,
) -> Result<Connected, ConnectError> {
    let connecting = dial(target, settings, clock);
    tokio::time::timeout(settings.connect_timeout, connecting)
        .await
        .map_err(|_| ConnectError::TimedOut)?
}

async fn dial(
    target: &Target,
    settings: &Settings,
    clock: &SharedClock,
) -> Result<Connected, ConnectError> {
    let stream = TcpStream::connect(target.address.as_str()).await?;
    // Requests wait for small segments otherwise; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let (stream, speaks_http2) = secure(stream, target, settings).await?;
    if speaks_http2 {
        return http2(stream, clock).await;
    }
    let (stream, wire) = Watched::new(stream);
    let (sender, driver) = http1::Builder::new()
        .max_header_size(LONGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let driver = driver.with_upgrades();
    Ok(Connected::Http1(Http1 {
        sender,
        wire,
        // What goes wrong on the connection is told to the request that uses it.
        _driver: Driver::spawn(async move {
            let _ = driver.await;
        }),
    }))
}

/// Adds TLS if the target asks for it, and tells whether HTTP/2 is spoken.
async fn secure(
    stream: TcpStream,
    target: &Target,
    settings: &Settings,
) -> Result<(Stream, bool), ConnectError> {
    if !target.tls {
        return Ok((Stream::Plain(stream), settings.protocol == Protocol::Http2));
    }
    #[cfg(feature = "tls")]
    {
        let stream = settings.tls.connect(stream, &target.authority).await?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if settings.protocol == Protocol::Http2 && !agreed {
            let why = io::Error::other("the upstream does not speak HTTP/2 over TLS");
            return Err(why.into());
        }
        Ok((Stream::Tls(Box::new(stream)), agreed))
    }
    #[cfg(not(feature = "tls"))]
    Err(io::Error::other("built without the feature \"tls\"").into())
}

#[cfg(feature = "http2")]
async fn http2(stream: Stream, clock: &SharedClock) -> Result<Connected, ConnectError> {
    let connection = multiplexed::Connection::handshake(stream, clock.now()).await?;
    Ok(Connected::Http2(connection))
}

#[cfg(not(feature = "http2"))]
async fn http2(_stream: Stream, _clock: &SharedClock) -> Result<Connected, ConnectError> {
    Err(io::Error::other("built without the feature \"http2\"").into())
}

/// The bytes of a connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:ident, $stream:ident => $do:expr) => {
        match $self.get_mut() {
            Stream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $do
            }
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}
