use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::HeaderMap;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of a response that may be shared: in memory as a whole, or the inner service's own.
///
/// # Cancel safety
///
/// Dropping it drops the inner body.
pub struct SharedBody<B: Body> {
    kind: Kind<B>,
}

enum Kind<B: Body> {
    Whole(Whole),
    Rest {
        read: Bytes,
        failed: Option<B::Error>,
        // Boxed: it was polled before it came here. `None` once it has failed.
        rest: Option<Pin<Box<B>>>,
    },
}

/// A body in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl<B: Body> SharedBody<B> {
    pub(crate) const fn whole(whole: Whole) -> Self {
        Self {
            kind: Kind::Whole(whole),
        }
    }

    /// What was read already, then the rest, or how it ended.
    pub(super) fn rest(read: Bytes, rest: Result<Pin<Box<B>>, B::Error>) -> Self {
        let (rest, failed) = match rest {
            Ok(rest) => (Some(rest), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            kind: Kind::Rest { read, failed, rest },
        }
    }

    /// The body, if it is whole and nothing was read of it.
    pub(crate) const fn as_whole(&self) -> Option<&Whole> {
        match &self.kind {
            Kind::Whole(whole) => Some(whole),
            Kind::Rest { .. } => None,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for SharedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.kind {
            Kind::Whole(whole) => {
                let frame = if whole.bytes.is_empty() {
                    whole.trailers.take().map(Frame::trailers)
                } else {
                    Some(Frame::data(std::mem::take(&mut whole.bytes)))
                };
                Poll::Ready(frame.map(Ok))
            }
            Kind::Rest { read, failed, rest } => {
                if !read.is_empty() {
                    let bytes = std::mem::take(read);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                match (failed.take(), rest) {
                    (Some(error), _) => Poll::Ready(Some(Err(error))),
                    (None, Some(rest)) => rest.as_mut().poll_frame(cx),
                    (None, None) => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(whole) => whole.bytes.is_empty() && whole.trailers.is_none(),
            Kind::Rest { read, failed, rest } => {
                let rest_ended = rest.as_ref().is_none_or(|rest| rest.is_end_stream());
                read.is_empty() && failed.is_none() && rest_ended
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(whole) => SizeHint::with_exact(whole.bytes.len() as u64),
            Kind::Rest { read, rest, .. } => {
                let before = read.len() as u64;
                let after = rest
                    .as_ref()
                    .map(|rest| rest.size_hint())
                    .unwrap_or_default();
                let mut hint = SizeHint::new();
                hint.set_lower(before.saturating_add(after.lower()));
                if let Some(upper) = after.upper() {
                    hint.set_upper(before.saturating_add(upper));
                }
                hint
            }
        }
    }
}

// Nothing of it is pinned in place.
impl<B: Body> Unpin for SharedBody<B> {}

impl<B: Body> fmt::Debug for SharedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SharedBody");
        if let Kind::Whole(whole) = &self.kind {
            debug.field("bytes", &whole.bytes.len());
        }
        debug.finish_non_exhaustive()
    }
}
