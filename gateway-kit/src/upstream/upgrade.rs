//! Upgraded connections (WebSocket): after a 101 that was asked for, bytes are copied both ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::try_join;
#[cfg(feature = "http2")]
use http::header::SEC_WEBSOCKET_KEY;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Extensions, HeaderMap, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::sync::watch;

/// The only protocol that is upgraded to. `h2c` would hide requests from the guard.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// A client's wish, which the guard has found in order.
#[derive(Debug)]
pub(crate) struct Asked {
    client: OnUpgrade,
    /// What the server keeps with the request, for as long as the connection lasts.
    kept: Extensions,
    /// What the upstream has to answer to a key of ours; a client of HTTP/2 sends none.
    accept: Option<HeaderValue>,
}

impl Asked {
    /// Takes the wish out of the request and tells the upstream of it.
    pub(crate) fn take(headers: &mut HeaderMap, extensions: &mut Extensions) -> Option<Self> {
        let client = extensions.remove::<OnUpgrade>()?;
        let kept = std::mem::take(extensions);
        set_fields(headers);
        Some(Self {
            client,
            kept,
            accept: None,
        })
    }

    /// The same of a client of HTTP/2, for an upstream of HTTP/1.1 (RFC 8441, section 5).
    #[cfg(feature = "http2")]
    pub(crate) fn take_extended(
        headers: &mut HeaderMap,
        extensions: &mut Extensions,
    ) -> Option<Self> {
        let mut asked = Self::take(headers, extensions)?;
        let (key, accept) = key();
        headers.insert(SEC_WEBSOCKET_KEY, key);
        asked.accept = Some(accept);
        Some(asked)
    }

    /// Whether a 101 agrees to what was asked for.
    pub(crate) fn is_agreed(&self, headers: &HeaderMap) -> bool {
        let accepted = headers.get(SEC_WEBSOCKET_ACCEPT);
        let keyed = self.accept.is_none() || self.accept.as_ref() == accepted;
        keyed && is_agreed(headers)
    }

    /// Brings a 101 into the form that the client understands.
    pub(crate) fn set_answer<B>(&self, response: &mut Response<B>) {
        if self.accept.is_some() {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
        }
    }

    /// Whether the answer is one to a client of HTTP/2, to which any 2xx would agree.
    pub(crate) const fn is_extended(&self) -> bool {
        self.accept.is_some()
    }
}

/// A key, and what belongs to it (RFC 6455, section 4.2.2).
#[cfg(feature = "http2")]
fn key() -> (HeaderValue, HeaderValue) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use sha1::{Digest, Sha1};

    let value = |text: String| HeaderValue::try_from(text);
    let nonce = uuid::Uuid::now_v7();
    let key = STANDARD.encode(nonce.as_bytes());
    let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    // Letters, digits and signs.
    let none = |_| HeaderValue::from_static("none");
    (
        value(key).unwrap_or_else(none),
        value(STANDARD.encode(accept)).unwrap_or_else(none),
    )
}

/// Names the upgrade, once the fields of the other connection are gone.
pub(crate) fn set_fields(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Whether a 101 agrees to what was asked for.
pub(crate) fn is_agreed(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let agreed = protocols
        .next()
        .is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    agreed && protocols.next().is_none()
}

/// The upgraded connections of a gateway.
#[derive(Debug)]
pub(crate) struct Tunnels(watch::Sender<bool>);

impl Default for Tunnels {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Tunnels {
    /// Ends all of them, and those to come.
    pub(crate) fn close(&self) {
        self.0.send_replace(true);
    }

    /// Waits until there is none.
    pub(crate) async fn finished(&self) {
        self.0.closed().await;
    }

    /// Copies between the client and the upstream that answered 101, until one side ends, nothing
    /// moves for `idle`, or the gateway closes. `held` is dropped then.
    pub(crate) fn open<B>(
        &self,
        asked: Asked,
        response: &mut Response<B>,
        idle: Duration,
        held: impl Send + 'static,
    ) {
        let upstream = hyper::upgrade::on(response);
        let mut closing = self.0.subscribe();
        tokio::spawn(async move {
            let tunnel = async {
                let (client, upstream) = try_join(asked.client, upstream).await?;
                copy(client, upstream, idle).await;
                Ok::<_, hyper::Error>(())
            };
            tokio::select! {
                ended = tunnel => if let Err(error) = ended {
                    tracing::debug!(%error, "upgrade failed");
                },
                // An error means that the gateway is gone.
                _ = closing.wait_for(|closed| *closed) => {}
            }
            drop((asked.kept, held));
        });
    }
}

async fn copy(client: Upgraded, upstream: Upgraded, idle: Duration) {
    let moved = Arc::<AtomicU64>::default();
    let mut client = Counted::new(client, &moved);
    let mut upstream = Counted::new(upstream, &moved);
    let copying = copy_bidirectional(&mut client, &mut upstream);
    let mut copying = std::pin::pin!(copying);
    let mut seen = 0;
    // How it ends is for the two ends to judge.
    while tokio::time::timeout(idle, copying.as_mut()).await.is_err() {
        // ORDERING: Relaxed; both sides run in this task.
        let now = moved.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// A stream that counts what is read from it.
struct Counted {
    stream: TokioIo<Upgraded>,
    moved: Arc<AtomicU64>,
}

impl Counted {
    fn new(stream: Upgraded, moved: &Arc<AtomicU64>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            moved: Arc::clone(moved),
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.moved.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
