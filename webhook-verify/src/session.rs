//! One verification: the steps in their order, over a whole body or chunk by chunk.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hmac::Mac as _;
use http::{HeaderMap, header::CONTENT_LENGTH, request::Parts};

use crate::{
    error::{Error, Reason, Step, Trace},
    mac::{self, Candidates, KeyState, Mac},
    replay::ReplayKey,
    scheme::{Part, ReplayBasis, id_is_well_formed, parse_timestamp, single},
    secret::Key,
    source::canonical,
    verifier::{Inner, Verifier},
};

/// A delivery that passed every step; handlers should require it.
#[derive(Clone, Debug)]
pub struct Verified {
    key_id: Arc<str>,
    scheme: &'static str,
    source: Option<IpAddr>,
    timestamp: Option<u64>,
    age: Option<i64>,
    replay_key: ReplayKey,
    trace: Trace,
}

impl Verified {
    /// The id of the secret that signed.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The name of the scheme.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The address of the sender: what the IP policy found, else the peer.
    #[must_use]
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The signed timestamp in Unix seconds, if the scheme has one.
    #[must_use]
    pub const fn timestamp(&self) -> Option<u64> {
        self.timestamp
    }

    /// Seconds since the timestamp; negative when it lies in the future.
    #[must_use]
    pub const fn age_seconds(&self) -> Option<i64> {
        self.age
    }

    /// What names this delivery in a replay store.
    #[must_use]
    pub const fn replay_key(&self) -> &ReplayKey {
        &self.replay_key
    }

    /// The steps that ran.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }
}

/// What the steps learn on their way.
pub(crate) struct Run<'a> {
    inner: &'a Inner,
    headers: &'a HeaderMap,
    peer: Option<IpAddr>,
    now: Duration,
    candidates: Candidates,
    /// Steps of the order that are done.
    done: usize,
    source: Option<IpAddr>,
    timestamp: Option<u64>,
    signer: Option<(Arc<str>, Mac)>,
    trace: Trace,
}

impl<'a> Run<'a> {
    /// Runs the steps that come before the first one that needs the body.
    pub(crate) fn begin(
        inner: &'a Inner,
        parts: &'a Parts,
        peer: Option<IpAddr>,
        length: Option<usize>,
    ) -> Result<Self, Error> {
        let mut run = Self {
            inner,
            headers: &parts.headers,
            peer,
            now: inner.clock.now(),
            candidates: Candidates::new(),
            done: 0,
            source: peer.map(canonical),
            timestamp: None,
            signer: None,
            trace: Trace::default(),
        };
        if !inner.methods.is_empty() && !inner.methods.contains(&parts.method) {
            run.trace.push(Step::Method);
            return Err(run.fail(Step::Method, Reason::Method));
        }
        // The source, when it comes first, is judged before the size.
        if inner.order[0] == Step::Source {
            run.check_source()?;
            run.done = 1;
        }
        run.check_length(length)?;
        while let Some(step) = inner.order.get(run.done) {
            match step {
                Step::Source => run.check_source()?,
                Step::Header => run.check_headers()?,
                Step::Timestamp => run.check_timestamp()?,
                Step::Signature => {
                    // The trace is written here: the step begins with its header.
                    run.trace.push(Step::Signature);
                    run.read_signature()?;
                    return Ok(run);
                }
                // Needs the body.
                _ => return Ok(run),
            }
            run.done += 1;
        }
        Ok(run)
    }

    fn fail(&self, step: Step, reason: Reason) -> Error {
        Error::new(step, reason, self.trace)
    }

    pub(crate) fn check_length(&mut self, length: Option<usize>) -> Result<(), Error> {
        let limit = self.inner.body_limit;
        if length.is_some_and(|length| length > limit) {
            self.trace.push(Step::BodyLimit);
            return Err(self.fail(Step::BodyLimit, Reason::TooLarge { limit }));
        }
        Ok(())
    }

    fn check_source(&mut self) -> Result<(), Error> {
        self.trace.push(Step::Source);
        if let Some(policy) = &self.inner.source {
            let checked = policy.check(self.peer, self.headers);
            self.source = Some(checked.map_err(|reason| self.fail(Step::Source, reason))?);
        }
        Ok(())
    }

    fn check_headers(&mut self) -> Result<(), Error> {
        self.trace.push(Step::Header);
        let checked = self.inner.headers.check(&self.inner.scheme, self.headers);
        checked.map_err(|reason| self.fail(Step::Header, reason))
    }

    fn check_timestamp(&mut self) -> Result<(), Error> {
        self.trace.push(Step::Timestamp);
        let checked = self.timestamp();
        self.timestamp = checked.map_err(|reason| self.fail(Step::Timestamp, reason))?;
        Ok(())
    }

    fn timestamp(&self) -> Result<Option<u64>, Reason> {
        let Some(name) = &self.inner.scheme.timestamp else {
            return Ok(None);
        };
        let text = single(self.headers, name)?;
        let at = parse_timestamp(text.as_bytes());
        let at = at.ok_or_else(|| Reason::Malformed(name.clone()))?;
        let now = self.now.as_secs();
        let (past, future) = self.inner.tolerance;
        let too_old = now.saturating_sub(at).saturating_sub(past.as_secs());
        let too_new = at.saturating_sub(now).saturating_sub(future.as_secs());
        match (too_old, too_new) {
            (0, 0) => Ok(Some(at)),
            (0, by_seconds) => Err(Reason::TooNew { by_seconds }),
            (by_seconds, _) => Err(Reason::TooOld { by_seconds }),
        }
    }

    fn read_signature(&mut self) -> Result<(), Error> {
        let read = self
            .inner
            .scheme
            .candidates(self.headers)
            .and_then(|candidates| self.signed_headers().map(|()| candidates));
        self.candidates = read.map_err(|reason| self.fail(Step::Signature, reason))?;
        Ok(())
    }

    /// The header values that are hashed must be there, once; the id in its exact form.
    fn signed_headers(&self) -> Result<(), Reason> {
        let scheme = &self.inner.scheme;
        if let Some(name) = &scheme.id
            && !id_is_well_formed(single(self.headers, name)?.as_bytes())
        {
            return Err(Reason::Malformed(name.clone()));
        }
        scheme
            .timestamp
            .as_ref()
            .map_or(Ok(()), |name| single(self.headers, name).map(drop))
    }

    /// The state of `key` with everything hashed that comes before the body.
    pub(crate) fn start(&self, key: &Key) -> KeyState {
        let mut state = key.state.clone();
        let scheme = &self.inner.scheme;
        for part in scheme.prefix {
            match part {
                Part::Id => state.update(self.text(scheme.id.as_ref())),
                Part::Timestamp => state.update(self.text(scheme.timestamp.as_ref())),
                Part::Dot => state.update(b"."),
            }
        }
        state
    }

    /// The header text as sent; `signed_headers` made sure that it is there.
    fn text(&self, name: Option<&http::HeaderName>) -> &'a [u8] {
        name.and_then(|name| self.headers.get(name))
            .map_or(&[], |value| value.as_bytes())
    }

    /// One pass of the body under one key; true when it made one of the candidates.
    fn try_key(&mut self, id: &Arc<str>, state: KeyState) -> bool {
        let mac = mac::finish(state);
        let candidates = &self.candidates;
        let matches = candidates.contain(&mac);
        if matches {
            self.signer = Some((id.clone(), mac));
        }
        matches
    }

    /// Runs the steps that are left. `macs` gives the answer of the signature step.
    pub(crate) fn finish(
        mut self,
        body: Option<&[u8]>,
        mut macs: impl FnMut(&mut Self) -> Result<(), Reason>,
    ) -> Result<Verified, Error> {
        while let Some(step) = self.inner.order.get(self.done) {
            match step {
                Step::Source => self.check_source()?,
                Step::Header => self.check_headers()?,
                Step::Timestamp => self.check_timestamp()?,
                Step::Signature => {
                    if !self.trace.contains(Step::Signature) {
                        self.trace.push(Step::Signature);
                        self.read_signature()?;
                    }
                    macs(&mut self).map_err(|reason| self.fail(Step::Signature, reason))?;
                }
                _ => self.check_payload(body)?,
            }
            self.done += 1;
        }
        self.verified()
    }

    fn check_payload(&mut self, body: Option<&[u8]>) -> Result<(), Error> {
        self.trace.push(Step::Payload);
        let Some(policy) = &self.inner.payload else {
            return Ok(());
        };
        policy
            .check(body.unwrap_or(&[]))
            .map_err(|reason| self.fail(Step::Payload, reason))
    }

    fn verified(mut self) -> Result<Verified, Error> {
        let Some((key_id, mac)) = self.signer.take() else {
            // The order holds the signature step (the builder made sure), so this does not
            // happen; if it did, nothing may pass.
            return Err(self.fail(Step::Signature, Reason::SignatureMismatch));
        };
        let scheme = &self.inner.scheme;
        let replay_key = match scheme.replay {
            ReplayBasis::Mac => mac.0,
            ReplayBasis::Id => mac::sha256(&[
                self.inner.namespace.as_bytes(),
                &[0],
                self.text(scheme.id.as_ref()),
            ]),
        };
        let now = i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX);
        Ok(Verified {
            key_id,
            scheme: scheme.name,
            source: self.source,
            timestamp: self.timestamp,
            // Timestamps have at most 12 digits.
            age: self
                .timestamp
                .and_then(|at| Some(now.saturating_sub(i64::try_from(at).ok()?))),
            replay_key,
            trace: self.trace,
        })
    }
}

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
        let run = Run::begin(&self.inner, parts, peer, Some(body.len()))?;
        run.finish(Some(body), |run| {
            let keys = run.inner.keys.load();
            let mut tried = false;
            let now = run.now;
            for key in keys.iter().filter(|key| key.active(now)) {
                tried = true;
                let mut state = run.start(key);
                state.update(body);
                if run.try_key(&key.id, state) {
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
        let run = Run::begin(&self.inner, parts, peer, content_length(&parts.headers))?;
        // A signature step that was not reached yet (it comes after the payload) is hashed
        // all the same: the body passes only once.
        let keys = self.inner.keys.load();
        let active = keys.iter().filter(|key| key.active(run.now));
        let states = active.map(|key| (key.id.clone(), run.start(key))).collect();
        let kept = self.inner.payload.as_ref().map(|_| Vec::new());
        Ok(Session {
            run,
            states,
            length: 0,
            kept,
        })
    }
}

/// `Content-Length`; what is no number counts as too large.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<usize> {
    let value = headers.get(CONTENT_LENGTH)?;
    Some(
        value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(usize::MAX),
    )
}

/// A delivery whose body arrives in chunks; made by [`Verifier::begin`].
#[must_use = "nothing is verified before `finish`"]
pub struct Session<'a> {
    run: Run<'a>,
    states: Vec<(Arc<str>, KeyState)>,
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
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(chunk);
        }
    }

    /// Runs the steps that are left.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn finish(self) -> Result<Verified, Error> {
        let Self {
            run, states, kept, ..
        } = self;
        run.finish(kept.as_deref(), |run| {
            for (id, state) in &states {
                if run.try_key(id, state.clone()) {
                    return Ok(());
                }
            }
            let none = states.is_empty();
            Err(if none {
                Reason::NoActiveKey
            } else {
                Reason::SignatureMismatch
            })
        })
    }

    #[cfg(feature = "layer")]
    pub(crate) const fn source(&self) -> Option<IpAddr> {
        self.run.source
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
