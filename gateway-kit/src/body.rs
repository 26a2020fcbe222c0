//! The body type of requests and responses; frames pass through one at a time.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use resilience_core::bulkhead::OwnedPermit;

use crate::exchange::Exchange;
use crate::headers;
use crate::server::ClientBody;
use crate::upstream::balance::Picked;
use crate::upstream::pace::Pace;
use crate::upstream::pool::Lease;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body. Reading it is what drives the other side: a reader that stops makes the
/// writer stop, so memory stays bounded.
///
/// # Cancel safety
/// Dropping a response body before its end closes the connection to the upstream.
#[must_use]
pub struct Body {
    kind: Kind,
    /// `None` for what the gateway itself has made. Boxed: bodies are moved often.
    held: Option<Box<Held>>,
}

/// What an answer holds until it has ended.
#[derive(Default)]
struct Held {
    /// The upstream connection the frames come from; given back at the end of the body.
    lease: Option<Lease>,
    /// Counts the call at its endpoint until the body ends.
    in_flight: Option<Picked>,
    /// The call's place among those that the service may have at once.
    permit: Option<OwnedPermit>,
    /// How long the frames may take.
    pace: Option<Pace>,
    /// What is measured; recorded when the body is dropped.
    exchange: Option<Exchange>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Client(Box<ClientBody>),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// A body without a byte.
    pub fn empty() -> Self {
        Kind::Empty.into()
    }

    /// Takes any body over.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Kind::Boxed(UnsyncBoxBody::new(body.map_err(Into::into))).into()
    }

    /// Gives the connection back to its pool at the end of the body.
    pub(crate) fn leased(mut self, lease: Lease) -> Self {
        // An answer without a body is at its end already.
        if self.is_end_stream() {
            lease.give_back();
        } else {
            self.held().lease = Some(lease);
        }
        self
    }

    pub(crate) fn counted(mut self, in_flight: Picked) -> Self {
        if !self.is_end_stream() {
            self.held().in_flight = Some(in_flight);
        }
        self
    }

    pub(crate) fn paced(mut self, permit: Option<OwnedPermit>, pace: Pace) -> Self {
        if !self.is_end_stream() {
            let held = self.held();
            held.permit = permit;
            held.pace = Some(pace);
        }
        self
    }

    pub(crate) fn measured(mut self, mut exchange: Exchange) -> Self {
        // hyper does not read a body that is not there, or that HEAD leaves out.
        if self.is_end_stream() || exchange.is_head() {
            exchange.complete();
        }
        self.held().exchange = Some(exchange);
        self
    }

    fn held(&mut self) -> &mut Held {
        self.held.get_or_insert_default()
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, held: None }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Kind::Full(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Kind::Incoming(body).into()
    }
}

impl From<ClientBody> for Body {
    fn from(body: ClientBody) -> Self {
        Kind::Client(Box::new(body)).into()
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("size_hint", &self.size_hint())
            .finish_non_exhaustive()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let held = &mut this.held;
        let pace = held.as_mut().and_then(|held| held.pace.as_mut());
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Kind::Incoming(body) => match (Pin::new(body).poll_frame(cx), pace) {
                (Poll::Ready(frame), None) => frame.map(|frame| frame.map_err(Into::into)),
                (Poll::Ready(frame), Some(pace)) => match (frame, pace.moved()) {
                    // The end is not late any more.
                    (Some(_), Err(late)) => Some(Err(late.into())),
                    (frame, _) => frame.map(|frame| frame.map_err(Into::into)),
                },
                (Poll::Pending, None) => return Poll::Pending,
                (Poll::Pending, Some(pace)) => Some(Err(ready!(pace.poll_late(cx)).into())),
            },
            Kind::Client(body) => ready!(Pin::new(body).poll_frame(cx)),
            Kind::Boxed(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        let frame = frame.map(|frame| frame.map(checked)).filter(|frame| {
            // Trailers of which nothing is left are the end.
            !matches!(frame, Ok(frame) if frame.trailers_ref().is_some_and(HeaderMap::is_empty))
        });
        let ended = this.kind.has_ended();
        let Some(held) = &mut this.held else {
            return Poll::Ready(frame);
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(exchange), Some(data)) = (&mut held.exchange, frame.data_ref()) {
                    exchange.sent(data.len());
                }
            }
            Some(Err(_)) => {
                if let Some(exchange) = &mut held.exchange {
                    exchange.fail("upstream_body");
                }
            }
            None => {}
        }
        // hyper asks no further once `is_end_stream` says so, nor after trailers: the end is
        // noticed here.
        let trailers = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        if frame.is_none() || trailers || ended {
            if let Some(lease) = held.lease.take() {
                lease.give_back();
            }
            held.in_flight = None;
            held.permit = None;
            if let Some(exchange) = &mut held.exchange {
                exchange.complete();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.kind.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            // A length in memory fits in 64 bits.
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Client(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

/// The frame as it is passed on.
fn checked(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::remove_from_trailers(trailers);
    }
    frame
}

impl Kind {
    fn has_ended(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Client(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }
}
