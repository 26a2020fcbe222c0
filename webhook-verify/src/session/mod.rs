//! One verification: the steps in their order, over a whole body or chunk by chunk.

use std::net::IpAddr;

use http::{HeaderMap, header::CONTENT_LENGTH, request::Parts};

pub(crate) use self::state::Delivery;
pub use self::verified::Verified;
use self::{
    document::ByDocument,
    layout::{ByLayout, Hashes},
    run::Run,
};
#[cfg(feature = "layer")]
use crate::error::Trace;
use crate::{error::Error, scheme::Form, verifier::Verifier};

mod document;
mod layout;
mod run;
mod state;
mod verified;

impl Verifier {
    /// Verifies a whole delivery. Allocates nothing when it succeeds under a policy without
    /// payload checks and a scheme whose signature stands in a header, over the body as it
    /// is. Does not ask the replay store: see [`reserve`](Self::reserve).
    ///
    /// # Errors
    /// The first step that failed, in the configured order; later steps did not run. A scheme
    /// that reads the delivery refuses what it cannot read as soon as it needs it, with
    /// [`Step::Signature`](crate::Step::Signature).
    pub fn verify(
        &self,
        parts: &Parts,
        peer: Option<IpAddr>,
        body: &[u8],
    ) -> Result<Verified, Error> {
        match &self.inner.scheme.form {
            Form::Layout(layout) => Run::of_layout(&self.inner, layout, parts, peer).whole(body),
            Form::Document(document) => {
                let mut run = Run::of_document(&self.inner, &**document, parts, peer);
                run.before_body(Some(body.len()))?;
                run.whole(body)
            }
        }
    }

    /// Begins a delivery whose body arrives in chunks: runs the steps that come before the
    /// body and refuses a `Content-Length` above the limit.
    ///
    /// The body is kept only when there is a payload policy, or when the scheme must read it
    /// to know what was signed; never more than has arrived, up to the body limit.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn begin<'a>(
        &'a self,
        parts: &'a Parts,
        peer: Option<IpAddr>,
    ) -> Result<Session<'a>, Error> {
        let length = content_length(&parts.headers);
        let (kind, keeps) = match &self.inner.scheme.form {
            Form::Layout(layout) => {
                let mut run = Run::of_layout(&self.inner, layout, parts, peer);
                run.before_body(length)?;
                let hashes = run.hashes()?;
                (Kind::Layout(run, hashes), self.inner.payload.is_some())
            }
            Form::Document(document) => {
                let mut run = Run::of_document(&self.inner, &**document, parts, peer);
                run.before_body(length)?;
                (Kind::Document(run), true)
            }
        };
        Ok(Session {
            kind,
            length: 0,
            kept: keeps.then(Vec::new),
        })
    }
}

/// `Content-Length`; of several the largest. What is no number counts as too large.
fn content_length(headers: &HeaderMap) -> Option<usize> {
    let values = headers.get_all(CONTENT_LENGTH).iter();
    values
        .map(|value| {
            let text = value.to_str().unwrap_or("");
            // `parse` takes a sign, HTTP does not.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number.unwrap_or(usize::MAX)
        })
        .max()
}

/// A delivery whose body arrives in chunks; made by [`Verifier::begin`].
#[must_use = "nothing is verified before `finish`"]
pub struct Session<'a> {
    kind: Kind<'a>,
    length: usize,
    /// The body, when a step reads it.
    kept: Option<Vec<u8>>,
}

#[allow(clippy::large_enum_variant)] // One on the stack at a time, and moved once.
enum Kind<'a> {
    Layout(Run<'a, ByLayout<'a>>, Hashes),
    Document(Run<'a, ByDocument<'a>>),
}

impl Session<'_> {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`Step::BodyLimit`](crate::Step::BodyLimit) when the body grows beyond the limit; the
    /// chunk is not taken.
    pub fn update(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.reserve_length(chunk.len())?;
        self.hash(chunk);
        Ok(())
    }

    /// Counts a chunk that is about to come.
    pub(crate) fn reserve_length(&mut self, more: usize) -> Result<(), Error> {
        self.length = self.length.saturating_add(more);
        match &mut self.kind {
            Kind::Layout(run, _) => run.check_length(Some(self.length)),
            Kind::Document(run) => run.check_length(Some(self.length)),
        }
    }

    /// Takes a chunk that was counted.
    pub(crate) fn hash(&mut self, chunk: &[u8]) {
        if let Kind::Layout(_, hashes) = &mut self.kind {
            hashes.update(chunk);
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(chunk);
        }
    }

    /// Runs the steps that are left.
    ///
    /// # Errors
    /// The first step that failed; [`Step::BodyLimit`](crate::Step::BodyLimit) again when a
    /// chunk was refused.
    pub fn finish(mut self) -> Result<Verified, Error> {
        // A caller that went on after a refused chunk has bytes that were not taken.
        self.reserve_length(0)?;
        let kept = self.kept.as_deref();
        match self.kind {
            Kind::Layout(run, hashes) => run.finish_hashed(hashes, kept),
            Kind::Document(mut run) => run.whole(kept.unwrap_or(&[])),
        }
    }

    #[cfg(feature = "layer")]
    pub(crate) const fn trace(&self) -> Trace {
        match &self.kind {
            Kind::Layout(run, _) => run.trace,
            Kind::Document(run) => run.trace,
        }
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
