//! The signed bytes of one delivery under one key.

#[cfg(feature = "ecdsa")]
use std::sync::Arc;

use hmac::Hmac;
use hmac::Mac as _;
use sha1::Sha1;
#[cfg(feature = "ecdsa")]
use sha2::Digest as _;
use sha2::{Sha256, Sha512};

#[cfg(feature = "ed25519")]
use crate::mac::ed25519::Check;
#[cfg(feature = "ecdsa")]
use crate::mac::{Algorithm, ecdsa};
use crate::{
    mac::{self, Candidates, Hash, Mac, SharedKey},
    scheme::{Inputs, Layout},
    secret::Material,
};

/// What all keys of one delivery try.
#[derive(Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) layout: &'a Layout,
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
            #[cfg(feature = "ecdsa")]
            Material::EcdsaP256(key) => {
                let mut hash = Sha256::new();
                self.feed(body, |bytes| hash.update(bytes));
                self.ecdsa(key, hash)
            }
            #[cfg(feature = "rsa")]
            Material::Rsa(_) => None,
        }
    }

    /// The HMAC of the signed bytes; `None` when the scheme has none.
    pub(crate) fn hmac(&self, key: &SharedKey, body: &[u8]) -> Option<Mac> {
        let hash = self.layout.hash()?;
        Some(match hash {
            Hash::Sha256 => mac::finish(hash, self.hashed(&key.sha256, body)),
            Hash::Sha512 => mac::finish(hash, self.hashed(&key.sha512, body)),
            Hash::Sha1 => mac::finish(hash, self.hashed(&key.sha1, body)),
        })
    }

    /// The hash of the signed bytes, if a candidate signs it: that, and not the signature,
    /// names the delivery, because anybody can make a second signature of it.
    #[cfg(feature = "ecdsa")]
    fn ecdsa(&self, key: &p256::ecdsa::VerifyingKey, hash: Sha256) -> Option<Mac> {
        let digest = hash.finalize().into();
        let signs = |candidate: &Mac| ecdsa::verifies(key, &digest, candidate.bytes());
        let found = self.candidates.ecdsa().any(signs);
        found.then(|| Mac::new(Algorithm::EcdsaP256, &digest))
    }

    fn hashed<M: hmac::Mac + Clone>(&self, key: &M, body: &[u8]) -> M {
        let mut state = key.clone();
        self.feed(body, |bytes| state.update(bytes));
        state
    }

    /// Hands all signed bytes to `sink`, in order.
    pub(crate) fn feed(&self, body: &[u8], mut sink: impl FnMut(&[u8])) {
        self.inputs.feed(&self.layout.before, &mut sink);
        sink(body);
        self.inputs.feed(&self.layout.after, sink);
    }

    /// Begins under `key`, with what comes before the body; `None` when the scheme has
    /// nothing for keys of this kind.
    pub(super) fn start(&self, key: &Material) -> Option<State> {
        let mut state = match key {
            Material::Shared(key) => match self.layout.hash()? {
                Hash::Sha256 => State::Sha256(key.sha256.clone()),
                Hash::Sha512 => State::Sha512(key.sha512.clone()),
                Hash::Sha1 => State::Sha1(key.sha1.clone()),
            },
            #[cfg(feature = "ed25519")]
            Material::Ed25519(key) => {
                let candidates = self.candidates.ed25519();
                State::Ed25519(candidates.filter_map(|one| Check::new(key, one)).collect())
            }
            #[cfg(feature = "ecdsa")]
            Material::EcdsaP256(key) => State::EcdsaP256(key.clone(), Sha256::new()),
            #[cfg(feature = "rsa")]
            Material::Rsa(_) => return None,
        };
        let sink = |bytes: &[u8]| state.update(bytes);
        self.inputs.feed(&self.layout.before, sink);
        Some(state)
    }

    /// Ends with what comes after the body.
    pub(super) fn finish(&self, mut state: State) -> Option<Mac> {
        let sink = |bytes: &[u8]| state.update(bytes);
        self.inputs.feed(&self.layout.after, sink);
        let mac = match state {
            State::Sha256(state) => mac::finish(Hash::Sha256, state),
            State::Sha512(state) => mac::finish(Hash::Sha512, state),
            State::Sha1(state) => mac::finish(Hash::Sha1, state),
            #[cfg(feature = "ed25519")]
            State::Ed25519(checks) => return checks.into_iter().find_map(Check::finish),
            #[cfg(feature = "ecdsa")]
            State::EcdsaP256(key, hash) => return self.ecdsa(&key, hash),
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
    /// The hash does not depend on it.
    #[cfg(feature = "ecdsa")]
    EcdsaP256(Arc<p256::ecdsa::VerifyingKey>, Sha256),
}

impl State {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
            Self::Sha1(state) => state.update(bytes),
            #[cfg(feature = "ed25519")]
            Self::Ed25519(checks) => checks.iter_mut().for_each(|check| check.update(bytes)),
            #[cfg(feature = "ecdsa")]
            Self::EcdsaP256(_, hash) => hash.update(bytes),
        }
    }
}
