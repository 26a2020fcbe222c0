//! One verification: the steps in their order, over a whole body or chunk by chunk.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, header::CONTENT_LENGTH, request::Parts};
use sha2::{Digest as _, Sha256};

pub(crate) use self::state::Delivery;
pub use self::verified::Verified;
use self::{run::Run, state::State};
#[cfg(feature = "layer")]
use crate::error::Trace;
use crate::{
    error::{Error, Reason, Step},
    verifier::Verifier,
};

mod run;
mod state;
mod verified;

impl Verifier {
    /// Verifies a whole delivery. Allocates nothing when it succeeds under a policy without
    /// payload checks. Does not ask the replay store: see [`reserve`](Self::reserve).
    ///
    /// # Errors
    /// The first step that failed, in the configured order; later steps did not run.
    pub fn verify(
        &self,
        parts: &Parts,
        peer: Option<IpAddr>,
        body: &[u8],
    ) -> Result<Verified, Error> {
        let mut run = Run::new(&self.inner, parts, peer);
        run.before_body(Some(body.len()))?;
        run.finish(Some(body), |run| {
            let keys = run.inner.keys.load();
            let mut tried = false;
            for key in keys.iter() {
                if !key.fits(&run.inner.scheme) || !key.active(|| run.now()) {
                    continue;
                }
                tried = true;
                let mac = run.delivery().signed_by(&key.material, body);
                if run.signed(&key.id, mac) {
                    run.content = run.content().map(|mut content| {
                        run.delivery().feed(body, |bytes| content.update(bytes));
                        content.finalize().into()
                    });
                    return Ok(());
                }
            }
            Err(if tried {
                Reason::SignatureMismatch
            } else {
                Reason::NoActiveKey
            })
        })
    }

    /// Begins a delivery whose body arrives in chunks: runs the steps that come before the
    /// body and refuses a `Content-Length` above the limit.
    ///
    /// The body is kept only when there is a payload policy, up to the body limit.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn begin<'a>(
        &'a self,
        parts: &'a Parts,
        peer: Option<IpAddr>,
    ) -> Result<Session<'a>, Error> {
        let mut run = Run::new(&self.inner, parts, peer);
        run.before_body(content_length(&parts.headers))?;
        // A signature step that was not reached yet (it comes after the payload) is hashed
        // all the same: the body passes only once.
        let keys = self.inner.keys.load();
        if !run.trace.contains(Step::Signature) {
            // Ed25519 hashes the candidate first. What is wrong with it is told by its step.
            let _ = run.read_candidates();
        }
        let fitting = keys.iter().filter(|key| key.fits(&run.inner.scheme));
        let fitting: Vec<_> = fitting.collect();
        let active = fitting.into_iter().filter(|key| key.active(|| run.now()));
        let active: Vec<_> = active.collect();
        let delivery = run.delivery();
        let states: Vec<_> = active
            .into_iter()
            .filter_map(|key| Some((key.id.clone(), delivery.start(&key.material)?)))
            .collect();
        let content = run.content().map(|mut content| {
            let inputs = delivery.inputs;
            inputs.feed(&delivery.scheme.before, |bytes| content.update(bytes));
            content
        });
        if states.is_empty() && run.trace.contains(Step::Signature) {
            // Nothing of the body needs to be read to know the answer.
            return Err(run.fail(Step::Signature, Reason::NoActiveKey));
        }
        let kept = self.inner.payload.as_ref().map(|_| Vec::new());
        Ok(Session {
            run,
            states,
            content,
            length: 0,
            kept,
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
    run: Run<'a>,
    states: Vec<(Arc<str>, State)>,
    /// What names the delivery, if that is its content.
    content: Option<Sha256>,
    length: usize,
    kept: Option<Vec<u8>>,
}

impl Session<'_> {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`Step::BodyLimit`] when the body grows beyond the limit; the chunk is not hashed.
    pub fn update(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.reserve_length(chunk.len())?;
        self.hash(chunk);
        Ok(())
    }

    /// Counts a chunk that is about to come.
    pub(crate) fn reserve_length(&mut self, more: usize) -> Result<(), Error> {
        self.length = self.length.saturating_add(more);
        self.run.check_length(Some(self.length))
    }

    /// Hashes a chunk that was counted.
    pub(crate) fn hash(&mut self, chunk: &[u8]) {
        for (_, state) in &mut self.states {
            state.update(chunk);
        }
        if let Some(content) = &mut self.content {
            content.update(chunk);
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(chunk);
        }
    }

    /// Runs the steps that are left.
    ///
    /// # Errors
    /// The first step that failed; [`Step::BodyLimit`] again when a chunk was refused.
    pub fn finish(self) -> Result<Verified, Error> {
        let Self {
            mut run,
            states,
            content,
            length,
            kept,
        } = self;
        // A caller that went on after a refused chunk has bytes that were not hashed.
        run.check_length(Some(length))?;
        run.content = content.map(|mut content| {
            let delivery = run.delivery();
            let inputs = delivery.inputs;
            inputs.feed(&delivery.scheme.after, |bytes| content.update(bytes));
            content.finalize().into()
        });
        let mut states = states.into_iter();
        run.finish(kept.as_deref(), |run| {
            let none = states.len() == 0;
            for (id, state) in states.by_ref() {
                let mac = run.delivery().finish(state);
                if run.signed(&id, mac) {
                    return Ok(());
                }
            }
            Err(if none {
                Reason::NoActiveKey
            } else {
                Reason::SignatureMismatch
            })
        })
    }

    #[cfg(feature = "layer")]
    pub(crate) const fn trace(&self) -> Trace {
        self.run.trace
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
