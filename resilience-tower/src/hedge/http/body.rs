use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

/// The body of a request that may be hedged: the caller's, or for a hedge of a request without one,
/// none.
///
/// # Cancel safety
///
/// Dropping it drops the caller's body.
#[pin_project]
#[derive(Debug)]
pub struct HedgeBody<B>(#[pin] Option<B>);

impl<B> HedgeBody<B> {
    pub(super) const fn of(body: B) -> Self {
        Self(Some(body))
    }

    pub(super) const fn empty() -> Self {
        Self(None)
    }
}

impl<B: Body> Body for HedgeBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().0.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let empty = || SizeHint::with_exact(0);
        self.0.as_ref().map_or_else(empty, Body::size_hint)
    }
}
