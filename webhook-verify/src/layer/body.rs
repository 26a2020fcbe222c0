//! Bodies: the verified one for the inner service, and ours or the inner one outwards.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

/// The body as received, in memory.
#[derive(Clone, Debug, Default)]
pub struct VerifiedBody {
    chunks: VecDeque<Bytes>,
    small: BytesMut,
    left: usize,
}

/// Chunks below this are joined, so that a body of single bytes does not cost a handle each.
const JOIN_BELOW: usize = 4096;

impl VerifiedBody {
    /// All bytes; no copy when they came in one chunk.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        self.seal();
        if self.chunks.len() <= 1 {
            return self.chunks.pop_front().unwrap_or_default();
        }
        let mut all = BytesMut::with_capacity(self.left);
        self.chunks
            .iter()
            .for_each(|chunk| all.extend_from_slice(chunk));
        all.freeze()
    }

    pub(super) const fn len(&self) -> usize {
        self.left
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.left += chunk.len();
        if chunk.len() < JOIN_BELOW {
            self.small.extend_from_slice(&chunk);
        } else {
            self.seal();
            self.chunks.push_back(chunk);
        }
    }

    /// Ends the run of small chunks; to be called after the last `push`.
    pub(super) fn seal(&mut self) {
        if !self.small.is_empty() {
            let joined = self.small.split().freeze();
            self.chunks.push_back(joined);
        }
    }
}

impl Body for VerifiedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.pop_front();
        self.left -= chunk.as_ref().map_or(0, Bytes::len);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

/// The inner service's body, or the one of a refusal.
#[pin_project]
#[derive(Debug)]
pub struct ResponseBody<B>(#[pin] Kind<B>);

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<B> {
    Inner(#[pin] B),
    // `None` once sent.
    Own(Option<Bytes>),
}

impl<B> ResponseBody<B> {
    pub(super) const fn inner(body: B) -> Self {
        Self(Kind::Inner(body))
    }

    pub(super) fn own(bytes: Bytes) -> Self {
        Self(Kind::Own(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().0.project() {
            KindProj::Inner(body) => body.poll_frame(cx),
            KindProj::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Inner(body) => body.is_end_stream(),
            Kind::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Inner(body) => body.size_hint(),
            Kind::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
