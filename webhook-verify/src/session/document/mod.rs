//! Schemes that must be read out of the delivery: the body is kept, and read once.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{
    Verified,
    run::{Flow, Run},
};
use crate::{
    document::{Claim, Document, Extract, Head, MAX_SPELLINGS},
    error::{Error, Reason, Step},
    mac::{Algorithm, Candidates, Hash, MAX_CANDIDATES, Mac},
    replay::ReplayKey,
    scheme::{Field, TimeUnit},
    secret::{Key, Material},
    verifier::Inner,
};

/// What the steps learn about a delivery of such a scheme.
pub(super) struct ByDocument<'a> {
    document: &'a dyn Document,
    head: Option<Head>,
    /// The readings that no step has refused; `None` before the body was read.
    readings: Option<Vec<Reading>>,
}

/// One reading of the delivery.
struct Reading {
    extract: Extract,
    /// The key that signed it.
    key: Option<Arc<str>>,
}

impl<'a> Flow<'a> for ByDocument<'a> {
    fn look_up(&mut self, _: &'a HeaderMap) {}

    fn check_fields(&self, headers: &HeaderMap) -> Result<(), Reason> {
        if self.document.repeatable() {
            return Ok(());
        }
        for name in self.document.headers() {
            if let Field::Repeated = Field::of(headers, name) {
                return Err(Reason::Malformed(name.clone()));
            }
        }
        Ok(())
    }

    fn check_timestamp(run: &mut Run<'a, Self>, body: Option<&[u8]>) -> Result<bool, Error> {
        run.begin(Step::Timestamp);
        if !run.flow.document.has_timestamp() {
            return Ok(true);
        }
        let head = run.head()?;
        match (body, head.timestamp) {
            (Some(body), _) => {
                run.read(body)?;
                run.keep_those_in_time()?;
                Ok(true)
            }
            (None, Some(at)) => {
                let checked = run.in_window(at, TimeUnit::Seconds);
                checked.map_err(|reason| run.fail(Step::Timestamp, reason))?;
                Ok(true)
            }
            (None, None) => Ok(false),
        }
    }

    fn read_signature(run: &mut Run<'a, Self>) -> Result<(), Error> {
        run.begin(Step::Signature);
        run.head()?;
        let keys = run.inner.keys.load();
        if keys.iter().any(|key| run.usable(key)) {
            Ok(())
        } else {
            // Nothing of the body needs to be read to know the answer.
            Err(run.fail(Step::Signature, Reason::NoActiveKey))
        }
    }

    fn proof(run: &mut Run<'a, Self>) -> Option<(Arc<str>, ReplayKey)> {
        let reading = run.flow.readings.as_ref()?.first()?;
        let key = reading.key.clone()?;
        let replay_key = replay_key(run.inner.names.clone(), &reading.extract);
        run.timestamp = run.flow.time_of(&reading.extract);
        Some((key, replay_key))
    }
}

impl ByDocument<'_> {
    /// The time that is judged and reported.
    fn time_of(&self, extract: &Extract) -> Option<u64> {
        let head = self.head.and_then(|head| head.timestamp);
        let time = extract.timestamp.or(head);
        time.filter(|_| self.document.has_timestamp())
    }
}

impl<'a> Run<'a, ByDocument<'a>> {
    pub(super) fn of_document(
        inner: &'a Inner,
        document: &'a dyn Document,
        parts: &'a Parts,
        peer: Option<IpAddr>,
    ) -> Self {
        Self::new(inner, parts, peer, || ByDocument {
            document,
            head: None,
            readings: None,
        })
    }

    /// All steps that are left, over the whole body.
    pub(super) fn whole(&mut self, body: &[u8]) -> Result<Verified, Error> {
        self.finish(Some(body), |run| {
            run.read(body)?;
            if run.trace.contains(Step::Timestamp) {
                // The time of the head was judged. That of a reading may be another one.
                run.keep_those_in_time()?;
            }
            run.keep_those_signed()
        })
    }

    /// A step that is judged in two parts began with the first one.
    fn begin(&mut self, step: Step) {
        if !self.trace.contains(step) {
            self.trace.push(step);
        }
    }

    /// The head, judged once. What is wrong with it is a matter of the signature step,
    /// whichever step asks first.
    fn head(&mut self) -> Result<Head, Error> {
        if let Some(head) = self.flow.head {
            return Ok(head);
        }
        let head = self.flow.document.head(self.parts);
        let head = head.map_err(|reason| self.unreadable(reason))?;
        self.flow.head = Some(head);
        Ok(head)
    }

    fn read(&mut self, body: &[u8]) -> Result<(), Error> {
        if self.flow.readings.is_some() {
            return Ok(());
        }
        let read = self.flow.document.read(self.parts, body);
        let readings = read.and_then(readings);
        let readings = readings.map_err(|reason| self.unreadable(reason))?;
        self.flow.readings = Some(readings);
        Ok(())
    }

    fn unreadable(&mut self, reason: Reason) -> Error {
        self.begin(Step::Signature);
        self.fail(Step::Signature, reason)
    }

    /// Drops the readings whose time is outside the window.
    fn keep_those_in_time(&mut self) -> Result<(), Error> {
        let mut readings = self.flow.readings.take().unwrap_or_default();
        let mut first = None;
        readings.retain(|reading| {
            let judged = self.in_time(&reading.extract);
            judged.map_err(|reason| first.get_or_insert(reason)).is_ok()
        });
        let reason = first.filter(|_| readings.is_empty());
        self.flow.readings = Some(readings);
        match reason {
            None => Ok(()),
            Some(reason) => {
                // After the signature began, when a reading has another time than the head.
                if self.trace.iter().last() != Some(Step::Timestamp) {
                    self.trace.push(Step::Timestamp);
                }
                Err(self.fail(Step::Timestamp, reason))
            }
        }
    }

    fn in_time(&mut self, extract: &Extract) -> Result<(), Reason> {
        if self.flow.document.has_timestamp() {
            let at = self.flow.time_of(extract);
            let at = at.ok_or_else(|| Reason::FieldMissing("timestamp".into()))?;
            self.in_window(at, TimeUnit::Seconds)?;
        }
        let now = self.now().as_secs();
        match extract.expires.map(|end| now.saturating_sub(end)) {
            None | Some(0) => Ok(()),
            Some(by_seconds) => Err(Reason::TooOld { by_seconds }),
        }
    }

    /// Drops the readings that no key signed.
    fn keep_those_signed(&mut self) -> Result<(), Error> {
        let keys = self.inner.keys.load();
        let usable: Vec<&Key> = keys.iter().filter(|key| self.usable(key)).collect();
        let readings = self.flow.readings.get_or_insert_default();
        for reading in &mut *readings {
            let signer = usable.iter().find(|key| signed(key, &reading.extract));
            reading.key = signer.map(|key| key.id.clone());
        }
        readings.retain(|reading| reading.key.is_some());
        if !readings.is_empty() {
            return Ok(());
        }
        let reason = if usable.is_empty() {
            Reason::NoActiveKey
        } else {
            Reason::SignatureMismatch
        };
        Err(self.fail(Step::Signature, reason))
    }

    fn usable(&mut self, key: &Key) -> bool {
        key.fits(&self.inner.scheme) && key.active(|| self.now())
    }
}

/// All readings in their order, each within the bounds of what is tried.
fn readings(mut first: Extract) -> Result<Vec<Reading>, Reason> {
    let others = std::mem::take(&mut first.others);
    let too_many =
        |claim: &Claim| claim.signatures.len() > MAX_CANDIDATES || claim.also.len() > MAX_SPELLINGS;
    let mut all = Vec::with_capacity(1);
    for extract in std::iter::once(first).chain(others) {
        if all.len() == MAX_CANDIDATES || extract.claims.iter().any(too_many) {
            return Err(Reason::TooManySignatures);
        }
        all.push(Reading { extract, key: None });
    }
    Ok(all)
}

/// Whether `key` signed every claim; nobody signed nothing.
fn signed(key: &Key, extract: &Extract) -> bool {
    let mut claims = extract.claims.iter();
    !extract.claims.is_empty()
        && claims.all(|claim| {
            let named = claim.key.as_ref().is_none_or(|id| **id == *key.id);
            named && made(&key.material, claim)
        })
}

/// Whether one of the signatures is of `key`, over one of the spellings.
fn made(key: &Material, claim: &Claim) -> bool {
    let mut spellings = std::iter::once(&claim.signed).chain(&claim.also);
    spellings.any(|signed| match key {
        // Hashed once for all signatures.
        Material::Shared(key) => HASHES.into_iter().any(|hash| {
            let candidates = candidates(claim, Algorithm::Hmac(hash));
            !candidates.is_empty() && candidates.contain(&key.mac(hash, signed))
        }),
        #[allow(unreachable_patterns)] // Without the other kinds of keys.
        key => {
            let mut signatures = claim.signatures.iter();
            signatures.any(|(algorithm, signature)| key.verifies(*algorithm, signed, signature))
        }
    })
}

const HASHES: [Hash; 3] = [Hash::Sha256, Hash::Sha512, Hash::Sha1];

/// The signatures of one algorithm. Those that are longer than any are dropped: there is no
/// room for them, and they must not be cut to fit.
fn candidates(claim: &Claim, wanted: Algorithm) -> Candidates {
    let mut all = Candidates::new();
    for (algorithm, signature) in &claim.signatures {
        if *algorithm == wanted && signature.len() <= 64 {
            all.push(Mac::new(wanted, signature));
        }
    }
    all
}

/// The signed id, else all signed bytes, each with its length so that none can move from
/// one claim to the next.
fn replay_key(names: Sha256, extract: &Extract) -> ReplayKey {
    if let Some(id) = &extract.id {
        return names.chain_update(id).finalize().into();
    }
    let mut hash = names;
    for claim in &extract.claims {
        hash.update((claim.signed.len() as u64).to_be_bytes());
        hash.update(&claim.signed);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
