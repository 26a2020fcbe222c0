use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

/// The body of a response that is either the inner service's or a refusal.
///
/// Frames, trailers, `is_end_stream` and `size_hint` of the inner body pass untouched.
///
/// # Cancel safety
///
/// Dropping it drops the inner body.
#[pin_project]
#[derive(Debug)]
pub struct RefusalBody<B> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<B> {
    Inner(#[pin] B),
    // Empty once it was given out, so that polling again ends the body.
    Refusal(Bytes),
}

impl<B> RefusalBody<B> {
    /// Passes `body` through.
    pub fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner(body),
        }
    }

    /// One frame of `bytes`, or none if they are empty.
    pub fn refusal(bytes: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Refusal(bytes.into()),
        }
    }
}

impl<B> Body for RefusalBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner(body) => body.poll_frame(cx),
            KindProj::Refusal(bytes) if bytes.is_empty() => Poll::Ready(None),
            KindProj::Refusal(bytes) => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes).into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner(body) => body.is_end_stream(),
            Kind::Refusal(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner(body) => body.size_hint(),
            Kind::Refusal(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
