//! The signed bytes of one delivery under one key.

use hmac::Hmac;
use hmac::Mac as _;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

#[cfg(feature = "ed25519")]
use crate::mac::ed25519::Check;
use crate::{
    mac::{self, Candidates, Hash, Mac, SharedKey},
    scheme::{Inputs, Scheme},
    secret::Material,
};

/// What all keys of one delivery try.
#[derive(Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) scheme: &'a Scheme,
    pub(crate) inputs: Inputs<'a>,
    pub(crate) candidates: &'a Candidates,
}

impl Delivery<'_> {
    /// The candidate that `key` made of `body`, over the whole body at once.
    pub(super) fn signed_by(&self, key: &Material, body: &[u8]) -> Option<Mac> {
        match key {
            Material::Shared(key) => {
                let mac = self.hmac(key, body)?;
                self.candidates.contain(&mac).then_some(mac)
            }
            #[cfg(feature = "ed25519")]
            Material::Ed25519(key) => self.candidates.ed25519().find_map(|candidate| {
                let mut check = Check::new(key, candidate)?;
                self.feed(body, |bytes| check.update(bytes));
                check.finish()
            }),
        }
    }

    /// The HMAC of the signed bytes; `None` when the scheme has none.
    pub(crate) fn hmac(&self, key: &SharedKey, body: &[u8]) -> Option<Mac> {
        let hash = self.scheme.hash()?;
        Some(match hash {
            Hash::Sha256 => mac::finish(hash, self.hashed(&key.sha256, body)),
            Hash::Sha512 => mac::finish(hash, self.hashed(&key.sha512, body)),
            Hash::Sha1 => mac::finish(hash, self.hashed(&key.sha1, body)),
        })
    }

    fn hashed<M: hmac::Mac + Clone>(&self, key: &M, body: &[u8]) -> M {
        let mut state = key.clone();
        self.feed(body, |bytes| state.update(bytes));
        state
    }

    /// Hands all signed bytes to `sink`, in order.
    pub(crate) fn feed(&self, body: &[u8], mut sink: impl FnMut(&[u8])) {
        self.inputs.feed(&self.scheme.before, &mut sink);
        sink(body);
        self.inputs.feed(&self.scheme.after, sink);
    }

    /// Begins under `key`, with what comes before the body; `None` when the scheme has
    /// nothing for keys of this kind.
    pub(super) fn start(&self, key: &Material) -> Option<State> {
        let mut state = match key {
            Material::Shared(key) => match self.scheme.hash()? {
                Hash::Sha256 => State::Sha256(key.sha256.clone()),
                Hash::Sha512 => State::Sha512(key.sha512.clone()),
                Hash::Sha1 => State::Sha1(key.sha1.clone()),
            },
            #[cfg(feature = "ed25519")]
            Material::Ed25519(key) => {
                let candidates = self.candidates.ed25519();
                State::Ed25519(candidates.filter_map(|one| Check::new(key, one)).collect())
            }
        };
        let sink = |bytes: &[u8]| state.update(bytes);
        self.inputs.feed(&self.scheme.before, sink);
        Some(state)
    }

    /// Ends with what comes after the body.
    pub(super) fn finish(&self, mut state: State) -> Option<Mac> {
        let sink = |bytes: &[u8]| state.update(bytes);
        self.inputs.feed(&self.scheme.after, sink);
        let mac = match state {
            State::Sha256(state) => mac::finish(Hash::Sha256, state),
            State::Sha512(state) => mac::finish(Hash::Sha512, state),
            State::Sha1(state) => mac::finish(Hash::Sha1, state),
            #[cfg(feature = "ed25519")]
            State::Ed25519(checks) => return checks.into_iter().find_map(Check::finish),
        };
        self.candidates.contain(&mac).then_some(mac)
    }
}

/// The hash of a delivery that arrives in chunks.
pub(super) enum State {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
    Sha1(Hmac<Sha1>),
    /// The hash depends on the candidate: one for each.
    #[cfg(feature = "ed25519")]
    Ed25519(Vec<Check>),
}

impl State {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
            Self::Sha1(state) => state.update(bytes),
            #[cfg(feature = "ed25519")]
            Self::Ed25519(checks) => checks.iter_mut().for_each(|check| check.update(bytes)),
        }
    }
}
