//! The steps of one verification, in their order.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::request::Parts;
use sha2::{Digest as _, Sha256};

use super::{Verified, state::Delivery};
use crate::{
    error::{Error, Reason, Step, Trace},
    mac::{self, Candidates, Mac},
    replay::ReplayKey,
    scheme::{Fields, Inputs, ReplayBasis, parse_timestamp},
    source::canonical,
    verifier::Inner,
};

/// What the steps learn on their way.
pub(crate) struct Run<'a> {
    pub(super) inner: &'a Inner,
    parts: &'a Parts,
    fields: Fields<'a>,
    peer: Option<IpAddr>,
    /// Read once, and only when a step needs it.
    now: Option<Duration>,
    candidates: Candidates,
    /// SHA-256 of the signed bytes, when it names the delivery.
    pub(super) content: Option<[u8; 32]>,
    /// Steps of the order that are done.
    done: usize,
    source: Option<IpAddr>,
    timestamp: Option<u64>,
    signer: Option<(Arc<str>, Mac)>,
    pub(super) trace: Trace,
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
            content: None,
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

    pub(super) fn now(&mut self) -> Duration {
        let clock = &self.inner.clock;
        *self.now.get_or_insert_with(|| clock.now())
    }

    pub(super) fn fail(&self, step: Step, reason: Reason) -> Error {
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
        let scheme = &self.inner.scheme;
        let (Some(timestamp), Some(name)) = (&scheme.timestamp, scheme.time_header()) else {
            return Ok(None);
        };
        let unit = timestamp.unit;
        let at = parse_timestamp(self.fields.timestamp.get(name)?, unit.most_digits());
        let at = at.ok_or_else(|| Reason::Malformed(name.clone()))?;
        let now = unit.count(self.now());
        let (past, future) = self.inner.tolerance;
        let too_old = now.saturating_sub(at).saturating_sub(unit.count(past));
        let too_new = at.saturating_sub(now).saturating_sub(unit.count(future));
        let seconds = |units: u64| units.div_ceil(unit.per_second());
        match (seconds(too_old), seconds(too_new)) {
            (0, 0) => Ok(Some(at / unit.per_second())),
            (0, by_seconds) => Err(Reason::TooNew { by_seconds }),
            (by_seconds, _) => Err(Reason::TooOld { by_seconds }),
        }
    }

    fn read_signature(&mut self) -> Result<(), Error> {
        self.trace.push(Step::Signature);
        let read = self.read_candidates();
        let scheme = &self.inner.scheme;
        read.and_then(|()| scheme.check_signed(&self.fields, &self.parts.headers))
            .map_err(|reason| self.fail(Step::Signature, reason))
    }

    pub(super) fn read_candidates(&mut self) -> Result<(), Reason> {
        if !self.candidates.is_empty() {
            self.candidates = Candidates::new();
        }
        let scheme = &self.inner.scheme;
        scheme.candidates(&self.fields, &mut self.candidates)
    }

    pub(super) fn delivery(&self) -> Delivery<'_> {
        Delivery {
            scheme: &self.inner.scheme,
            inputs: Inputs {
                id: self.fields.id.text(),
                timestamp: self.fields.timestamp.text(),
                request: Some(self.parts),
            },
            candidates: &self.candidates,
        }
    }

    /// Remembers which key signed, and what; true when there is a signature.
    pub(super) fn signed(&mut self, id: &Arc<str>, mac: Option<Mac>) -> bool {
        self.signer = mac.map(|mac| (id.clone(), mac));
        self.signer.is_some()
    }

    /// Begins the hash that names the delivery, with what comes before it.
    pub(super) fn content(&self) -> Option<Sha256> {
        let namespace = self.inner.namespace.as_bytes();
        let start = || Sha256::new().chain_update(namespace).chain_update([0]);
        self.inner.by_content.then(start)
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
        let namespaced =
            |bytes: &[u8]| mac::sha256(&[self.inner.namespace.as_bytes(), &[0], bytes]);
        let replay_key = match (scheme.replay, self.content) {
            (ReplayBasis::Id, _) => namespaced(self.fields.id.text()),
            (ReplayBasis::Content, Some(content)) => content,
            // A signature of another length than a key is hashed.
            _ => ReplayKey::try_from(mac.bytes()).unwrap_or_else(|_| namespaced(mac.bytes())),
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
