//! A request body as the client sends it: with a bound on its pauses and on its slowness, and
//! read to its end, up to a cap, when nobody wants it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::BoxError;
use crate::config::ServerConfig;

/// The client paused too long inside its body, or sends less than the least rate.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client sends its body too slowly")]
pub(crate) struct SlowClient;

/// How slow a client may be.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// The longest pause, and what is granted before the rate counts.
    pause: Duration,
    /// Bytes per second of waiting.
    rate: u64,
}

/// The body of a client's request.
pub(crate) struct ClientBody {
    /// `None` once it is left to [`drain`].
    incoming: Option<Incoming>,
    patience: Option<Patience>,
    /// Set while the client is waited for.
    waiting: Option<Waiting>,
    waited: Duration,
    bytes: u64,
    drains: bool,
}

struct Waiting {
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

/// How much of a body that nobody wants is read so that the connection can be used again.
const DRAIN_BYTES: u64 = 256 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

impl ClientBody {
    pub(crate) fn new(
        incoming: Incoming,
        version: Version,
        headers: &HeaderMap,
        server: &ServerConfig,
    ) -> Self {
        Self {
            incoming: Some(incoming),
            patience: (!is_stream(headers)).then_some(Patience {
                pause: server.body_timeout,
                rate: server.min_body_rate,
            }),
            waiting: None,
            waited: Duration::ZERO,
            bytes: 0,
            // Reading would ask a client for its body that waits for a 100. In HTTP/2 a stream
            // ends on its own.
            drains: version < Version::HTTP_2 && !headers.contains_key(header::EXPECT),
        }
    }

    /// Ready when the client is too slow.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = self.patience else {
            return Poll::Pending;
        };
        let (bytes, waited) = (self.bytes, self.waited);
        let waiting = self.waiting.get_or_insert_with(|| {
            let since = Instant::now();
            let earned = Duration::from_millis(bytes.saturating_mul(1000) / patience.rate);
            let granted = patience.pause.saturating_add(earned).saturating_sub(waited);
            Waiting {
                since,
                timer: Box::pin(sleep_until(since + granted.min(patience.pause))),
            }
        });
        waiting.timer.as_mut().poll(cx)
    }
}

/// A client of a stream is silent as long as it has nothing to say.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl HttpBody for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
            ready!(this.poll_patience(cx));
            this.drains = false;
            return Poll::Ready(Some(Err(SlowClient.into())));
        };
        if let Some(waiting) = this.waiting.take() {
            this.waited += waiting.since.elapsed();
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            // A length in memory fits in 64 bits.
            this.bytes += data.len() as u64;
        }
        this.drains &= !matches!(frame, Some(Err(_)));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if !self.drains || self.is_end_stream() || self.size_hint().lower() > DRAIN_BYTES {
            return;
        }
        if let (Some(incoming), Ok(runtime)) =
            (self.incoming.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(incoming)));
        }
    }
}

/// Reads on up to the cap; dropped before its end, the body closes the connection.
async fn drain(mut incoming: Incoming) {
    use http_body_util::BodyExt;
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = incoming.frame().await {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl fmt::Debug for ClientBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBody")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How long a client is waited for that has sent so many bytes, and was waited for so long.
    async fn patience(bytes: u64, waited: u64) -> u64 {
        let mut body = ClientBody {
            incoming: None,
            patience: Some(Patience {
                pause: Duration::from_secs(30),
                rate: 100,
            }),
            waiting: None,
            waited: Duration::from_secs(waited),
            bytes,
            drains: false,
        };
        let begin = Instant::now();
        poll_fn(|cx| body.poll_patience(cx)).await;
        begin.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_add_up_and_bytes_earn_time() {
        for (bytes, waited, wanted) in [
            (0, 0, 30),
            (0, 10, 20),
            (0, 30, 0),
            (99, 30, 0),
            (1000, 30, 10),
            (1000, 35, 5),
            (1000, 40, 0),
            // No pause is longer, whatever was earned.
            (1_000_000, 0, 30),
            (1_000_000, 10_020, 10),
            (u64::MAX, 1_000_000, 30),
        ] {
            assert_eq!(patience(bytes, waited).await, wanted, "{bytes} {waited}");
        }
    }
}
