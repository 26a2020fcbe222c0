//! Schemes of data: the body is hashed as it is or as it arrives, and not kept.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{
    Delivery, Verified,
    run::{Flow, Run},
    state::State,
};
use crate::{
    error::{Error, Reason, Step},
    mac::{Algorithm, Candidates, Mac},
    replay::ReplayKey,
    scheme::{Fields, Inputs, Layout, ReplayBasis},
    verifier::Inner,
};

/// What the steps learn about a delivery of such a scheme.
pub(super) struct ByLayout<'a> {
    layout: &'a Layout,
    fields: Fields<'a>,
    candidates: Candidates,
    /// SHA-256 of the signed bytes, when it names the delivery.
    content: Option<[u8; 32]>,
    signer: Option<(Arc<str>, Mac)>,
}

impl<'a> Flow<'a> for ByLayout<'a> {
    #[inline]
    fn look_up(&mut self, headers: &'a HeaderMap) {
        self.fields = self.layout.fields(headers);
    }

    #[inline]
    fn check_fields(&self, headers: &HeaderMap) -> Result<(), Reason> {
        self.layout.check_fields(&self.fields, headers)
    }

    #[inline]
    fn check_timestamp(run: &mut Run<'a, Self>, _: Option<&[u8]>) -> Result<bool, Error> {
        run.trace.push(Step::Timestamp);
        let checked = run.judged_timestamp();
        run.timestamp = checked.map_err(|reason| run.fail(Step::Timestamp, reason))?;
        Ok(true)
    }

    #[inline]
    fn read_signature(run: &mut Run<'a, Self>) -> Result<(), Error> {
        run.trace.push(Step::Signature);
        let read = run.read_candidates();
        let flow = &run.flow;
        read.and_then(|()| flow.layout.check_signed(&flow.fields, &run.parts.headers))
            .map_err(|reason| run.fail(Step::Signature, reason))
    }

    #[inline]
    fn proof(run: &mut Run<'a, Self>) -> Option<(Arc<str>, ReplayKey)> {
        let (key_id, mac) = run.flow.signer.take()?;
        let namespaced = |bytes: &[u8]| {
            run.inner
                .names
                .clone()
                .chain_update(bytes)
                .finalize()
                .into()
        };
        let replay_key = match (run.flow.layout.replay, run.flow.content) {
            (ReplayBasis::Id, _) => namespaced(run.flow.fields.id.text()),
            (ReplayBasis::Content, Some(content)) => content,
            // Anybody may know the hash of the content.
            _ if matches!(mac.algorithm(), Algorithm::EcdsaP256) => namespaced(mac.bytes()),
            _ if run.inner.by_namespace => namespaced(mac.bytes()),
            // Nobody compares it. A signature of another length than a key is hashed.
            _ => ReplayKey::try_from(mac.bytes()).unwrap_or_else(|_| namespaced(mac.bytes())),
        };
        Some((key_id, replay_key))
    }
}

impl<'a> Run<'a, ByLayout<'a>> {
    #[inline]
    pub(super) fn of_layout(
        inner: &'a Inner,
        layout: &'a Layout,
        parts: &'a Parts,
        peer: Option<IpAddr>,
    ) -> Self {
        Self::new(inner, parts, peer, || ByLayout {
            layout,
            fields: Fields::default(),
            candidates: Candidates::new(),
            content: None,
            signer: None,
        })
    }

    /// All steps, over the whole body.
    #[inline]
    pub(super) fn whole(&mut self, body: &[u8]) -> Result<Verified, Error> {
        self.before_body(Some(body.len()))?;
        self.finish(Some(body), |run| {
            let keys = run.inner.keys.load();
            let mut tried = false;
            for key in keys.iter() {
                if !run.flow.layout.fits(&key.material) || !key.active(|| run.now()) {
                    continue;
                }
                tried = true;
                let mac = run.delivery().signed_by(&key.material, body);
                if run.signed(&key.id, mac) {
                    run.flow.content = run.content().map(|mut content| {
                        run.delivery().feed(body, |bytes| content.update(bytes));
                        content.finalize().into()
                    });
                    return Ok(());
                }
            }
            Err(run.not_signed(tried))
        })
    }

    #[inline]
    fn judged_timestamp(&mut self) -> Result<Option<u64>, Reason> {
        let layout = self.flow.layout;
        let (Some(timestamp), Some(name)) = (&layout.timestamp, layout.time_header()) else {
            return Ok(None);
        };
        let unit = timestamp.unit;
        let at = timestamp.parse(self.flow.fields.timestamp.get(name)?);
        let at = at.ok_or_else(|| Reason::Malformed(name.clone()))?;
        self.in_window(at, unit)?;
        Ok(Some(unit.seconds(at)))
    }

    #[inline]
    fn read_candidates(&mut self) -> Result<(), Reason> {
        let flow = &mut self.flow;
        if !flow.candidates.is_empty() {
            flow.candidates = Candidates::new();
        }
        flow.layout.candidates(&flow.fields, &mut flow.candidates)
    }

    #[inline]
    fn delivery(&self) -> Delivery<'_> {
        let flow = &self.flow;
        Delivery {
            layout: flow.layout,
            inputs: Inputs {
                id: flow.fields.id.text(),
                timestamp: flow.fields.timestamp.text(),
                request: Some(self.parts),
            },
            candidates: &flow.candidates,
        }
    }

    /// Remembers which key signed, and what; true when there is a signature.
    #[inline]
    fn signed(&mut self, id: &Arc<str>, mac: Option<Mac>) -> bool {
        self.flow.signer = mac.map(|mac| (id.clone(), mac));
        self.flow.signer.is_some()
    }

    fn not_signed(&self, tried: bool) -> Error {
        let reason = if tried {
            Reason::SignatureMismatch
        } else {
            Reason::NoActiveKey
        };
        self.fail(Step::Signature, reason)
    }

    /// Begins the hash that names the delivery, with what comes before it.
    fn content(&self) -> Option<Sha256> {
        let start = || self.inner.names.clone();
        self.inner.by_content.then(start)
    }

    /// Begins a body that arrives in chunks: one hash under each active key.
    pub(super) fn hashes(&mut self) -> Result<Hashes, Error> {
        // A signature step that was not reached yet (it comes after the payload) is hashed
        // all the same: the body passes only once.
        let keys = self.inner.keys.load();
        if !self.trace.contains(Step::Signature) {
            // Ed25519 hashes the candidate first. What is wrong with it is told by its step.
            let _ = self.read_candidates();
        }
        let layout = self.flow.layout;
        let fitting = keys.iter().filter(|key| layout.fits(&key.material));
        let active: Vec<_> = fitting.filter(|key| key.active(|| self.now())).collect();
        let delivery = self.delivery();
        let states: Vec<_> = active
            .into_iter()
            .filter_map(|key| Some((key.id.clone(), delivery.start(&key.material)?)))
            .collect();
        let content = self.content().map(|mut content| {
            let sink = |bytes: &[u8]| content.update(bytes);
            delivery.inputs.feed(&layout.before, sink);
            content
        });
        if states.is_empty() && self.trace.contains(Step::Signature) {
            // Nothing of the body needs to be read to know the answer.
            return Err(self.not_signed(false));
        }
        Ok(Hashes { states, content })
    }

    /// The steps that are left, after the last chunk.
    pub(super) fn finish_hashed(
        mut self,
        hashes: Hashes,
        kept: Option<&[u8]>,
    ) -> Result<Verified, Error> {
        let Hashes { states, content } = hashes;
        self.flow.content = content.map(|mut content| {
            let sink = |bytes: &[u8]| content.update(bytes);
            self.delivery().inputs.feed(&self.flow.layout.after, sink);
            content.finalize().into()
        });
        let mut states = states.into_iter();
        self.finish(kept, |run| {
            let tried = states.len() > 0;
            for (id, state) in states.by_ref() {
                let mac = run.delivery().finish(state);
                if run.signed(&id, mac) {
                    return Ok(());
                }
            }
            Err(run.not_signed(tried))
        })
    }
}

/// The hashes of a body that arrives in chunks.
pub(super) struct Hashes {
    states: Vec<(Arc<str>, State)>,
    /// What names the delivery, if that is its content.
    content: Option<Sha256>,
}

impl Hashes {
    pub(super) fn update(&mut self, chunk: &[u8]) {
        for (_, state) in &mut self.states {
            state.update(chunk);
        }
        if let Some(content) = &mut self.content {
            content.update(chunk);
        }
    }
}
