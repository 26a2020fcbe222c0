//! One verification: the steps in their order, over a whole body or chunk by chunk.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hmac::Mac as _;
use http::{HeaderMap, header::CONTENT_LENGTH, request::Parts};

use crate::{
    error::{Error, Reason, Step, Trace},
    mac::{self, Candidates, KeyState, Mac},
    replay::ReplayKey,
    scheme::{Fields, Part, ReplayBasis, id_is_well_formed, parse_timestamp},
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
    parts: &'a Parts,
    fields: Fields<'a>,
    peer: Option<IpAddr>,
    /// Read once, and only when a step needs it.
    now: Option<Duration>,
    candidates: Candidates,
    /// Steps of the order that are done.
    done: usize,
    source: Option<IpAddr>,
    timestamp: Option<u64>,
    signer: Option<(Arc<str>, Mac)>,
    trace: Trace,
}

impl<'a> Run<'a> {
    // A run is large (room for all candidates), so it is filled in place and never moved.
    pub(crate) fn new(inner: &'a Inner, parts: &'a Parts, peer: Option<IpAddr>) -> Self {
        Self {
            inner,
            parts,
            fields: Fields::default(),
            peer,
            now: None,
            candidates: Candidates::new(),
            done: 0,
            source: peer.map(canonical),
            timestamp: None,
            signer: None,
            trace: Trace::default(),
        }
    }

    /// Runs the steps that come before the first one that needs the body.
    pub(crate) fn before_body(&mut self, length: Option<usize>) -> Result<(), Error> {
        let inner = self.inner;
        if !inner.methods.is_empty() && !inner.methods.contains(&self.parts.method) {
            self.trace.push(Step::Method);
            return Err(self.fail(Step::Method, Reason::Method));
        }
        // The source, when it comes first, is judged before the size.
        if inner.order[0] == Step::Source {
            self.check_source()?;
            self.done = 1;
        }
        self.check_length(length)?;
        self.fields = inner.scheme.fields(&self.parts.headers);
        while let Some(step) = inner.order.get(self.done) {
            match step {
                Step::Source => self.check_source()?,
                Step::Header => self.check_headers()?,
                Step::Timestamp => self.check_timestamp()?,
                // The header is read here, the MAC judged when the body is there.
                Step::Signature => return self.read_signature(),
                // Needs the body.
                _ => return Ok(()),
            }
            self.done += 1;
        }
        Ok(())
    }

    fn now(&mut self) -> Duration {
        let clock = &self.inner.clock;
        *self.now.get_or_insert_with(|| clock.now())
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
            let checked = policy.check(self.peer, &self.parts.headers);
            self.source = Some(checked.map_err(|reason| self.fail(Step::Source, reason))?);
        }
        Ok(())
    }

    fn check_headers(&mut self) -> Result<(), Error> {
        self.trace.push(Step::Header);
        let repeated = self.inner.scheme.check_repeated(&self.fields);
        let checked = repeated.and_then(|()| self.inner.headers.check(&self.parts.headers));
        checked.map_err(|reason| self.fail(Step::Header, reason))
    }

    fn check_timestamp(&mut self) -> Result<(), Error> {
        self.trace.push(Step::Timestamp);
        let checked = self.timestamp();
        self.timestamp = checked.map_err(|reason| self.fail(Step::Timestamp, reason))?;
        Ok(())
    }

    fn timestamp(&mut self) -> Result<Option<u64>, Reason> {
        let Some(name) = &self.inner.scheme.timestamp else {
            return Ok(None);
        };
        let at = parse_timestamp(self.fields.timestamp.get(name)?);
        let at = at.ok_or_else(|| Reason::Malformed(name.clone()))?;
        let now = self.now().as_secs();
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
        self.trace.push(Step::Signature);
        let scheme = &self.inner.scheme;
        let read = scheme.candidates(&self.fields, &mut self.candidates);
        read.and_then(|()| self.signed_headers())
            .map_err(|reason| self.fail(Step::Signature, reason))
    }

    /// The header values that are hashed must be there, once; the id in its exact form.
    fn signed_headers(&self) -> Result<(), Reason> {
        let scheme = &self.inner.scheme;
        if let Some(name) = &scheme.id
            && !id_is_well_formed(self.fields.id.get(name)?)
        {
            return Err(Reason::Malformed(name.clone()));
        }
        scheme
            .timestamp
            .as_ref()
            .map_or(Ok(()), |name| self.fields.timestamp.get(name).map(drop))
    }

    /// The state of `key` with everything hashed that comes before the body.
    pub(crate) fn start(&self, key: &Key) -> KeyState {
        let mut state = key.state.clone();
        for part in self.inner.scheme.prefix {
            match part {
                Part::Id => state.update(self.fields.id.text()),
                Part::Timestamp => state.update(self.fields.timestamp.text()),
                Part::Dot => state.update(b"."),
            }
        }
        state
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
        &mut self,
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
                        self.read_signature()?;
                    }
                    macs(self).map_err(|reason| self.fail(Step::Signature, reason))?;
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

    fn verified(&mut self) -> Result<Verified, Error> {
        let Some((key_id, mac)) = self.signer.take() else {
            // The order holds the signature step (the builder made sure), so this does not
            // happen; if it did, nothing may pass.
            return Err(self.fail(Step::Signature, Reason::SignatureMismatch));
        };
        let scheme = &self.inner.scheme;
        let replay_key = match scheme.replay {
            ReplayBasis::Mac => mac.0,
            ReplayBasis::Id => {
                mac::sha256(&[self.inner.namespace.as_bytes(), &[0], self.fields.id.text()])
            }
        };
        let now = self.now.unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
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
        let mut run = Run::new(&self.inner, parts, peer);
        run.before_body(Some(body.len()))?;
        run.finish(Some(body), |run| {
            let keys = run.inner.keys.load();
            let mut tried = false;
            for key in keys.iter() {
                if !key.active(|| run.now()) {
                    continue;
                }
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
        let mut run = Run::new(&self.inner, parts, peer);
        run.before_body(content_length(&parts.headers))?;
        // A signature step that was not reached yet (it comes after the payload) is hashed
        // all the same: the body passes only once.
        let keys = self.inner.keys.load();
        let active = keys.iter().filter(|key| key.active(|| run.now()));
        let active: Vec<_> = active.collect();
        let states: Vec<_> = active
            .into_iter()
            .map(|key| (key.id.clone(), run.start(key)))
            .collect();
        if states.is_empty() && run.trace.contains(Step::Signature) {
            // Nothing of the body needs to be read to know the answer.
            return Err(run.fail(Step::Signature, Reason::NoActiveKey));
        }
        let kept = self.inner.payload.as_ref().map(|_| Vec::new());
        Ok(Session {
            run,
            states,
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
    /// The first step that failed; [`Step::BodyLimit`] again when a chunk was refused.
    pub fn finish(self) -> Result<Verified, Error> {
        let Self {
            mut run,
            states,
            length,
            kept,
        } = self;
        // A caller that went on after a refused chunk has bytes that were not hashed.
        run.check_length(Some(length))?;
        let mut states = states.into_iter();
        run.finish(kept.as_deref(), |run| {
            let none = states.len() == 0;
            for (id, state) in states.by_ref() {
                if run.try_key(&id, state) {
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
