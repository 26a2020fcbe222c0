//! What a provider signs and where it puts the signature.
//!
//! A [`Scheme`] is data ([`Layout`]), or reads and writes whole deliveries ([`Document`]).
//! Reading one ([`Verifier`](crate::Verifier)) and writing one ([`Signer`](crate::Signer))
//! both go by the same definition, so they cannot drift apart.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

pub use self::{
    builder::{SchemeBuilder, SchemeError},
    part::{Part, TimeUnit},
    signature::Encoding,
};
pub(crate) use self::{
    fields::{Field, Fields, id_is_well_formed, parse_timestamp},
    layout::{Layout, Place, Timestamp},
    part::Inputs,
    signature::{Label, SignatureField},
};
use crate::{
    document::Document,
    secret::{KeyFormat, Material, Secret, SecretError},
};

mod builder;
mod fields;
mod layout;
mod part;
mod signature;

/// The definition of a provider's signature, shared by [`Verifier`](crate::Verifier) and
/// [`Signer`](crate::Signer).
///
/// Made by [`presets`](crate::presets), or by [`custom`](Self::custom) for one's own.
#[derive(Clone, Debug)]
pub struct Scheme {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) key_format: KeyFormat,
    pub(crate) tolerance: (Duration, Duration),
    pub(crate) replay_lifetime: Duration,
}

/// The two forms of schemes.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // In place: the hot path would go through the box.
pub(crate) enum Form {
    /// The signature stands in a header and the body is signed as it is: it is hashed as it
    /// arrives.
    Layout(Layout),
    /// The delivery must be read to know what was signed: the body is kept.
    Document(Arc<dyn Document>),
}

/// Which signed data names a delivery in the replay store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ReplayBasis {
    /// The signed id, which a sender keeps when it tries again.
    Id,
    /// The signature itself. Only for headers with one value: of a list somebody could cut
    /// the signature that was accepted, and the next one would look like a new delivery.
    Signature,
    /// SHA-256 of the signed bytes: a second pass over the body, made only by verifiers
    /// with a replay store. Without one [`Verified::replay_key`](crate::Verified::replay_key)
    /// is the signature. For ECDSA it is the hash of the signed bytes always, which is at hand;
    /// so it is for schemes that read the delivery, each signed text after its length.
    Content,
}

impl Scheme {
    /// A scheme of data with the settings that most have: keys as text, a tolerance of 300 s,
    /// a replay lifetime of a day.
    pub(crate) const fn of_layout(name: &'static str, layout: Layout) -> Self {
        Self::of(name, Form::Layout(layout), KeyFormat::Text)
    }

    /// As [`of_layout`](Self::of_layout), for a scheme that reads whole deliveries.
    pub(crate) fn of_document(
        name: &'static str,
        document: Arc<dyn Document>,
        key_format: KeyFormat,
    ) -> Self {
        Self::of(name, Form::Document(document), key_format)
    }

    const fn of(name: &'static str, form: Form, key_format: KeyFormat) -> Self {
        Self {
            name,
            form,
            key_format,
            tolerance: (FIVE_MINUTES, FIVE_MINUTES),
            replay_lifetime: Duration::from_secs(24 * 60 * 60),
        }
    }

    /// The name of the scheme.
    #[must_use]
    pub const fn name(&self) -> &str {
        self.name
    }

    /// The header fields of the scheme: signature, then timestamp and id if they have a
    /// header of their own. None when all of it stands in the body or URL.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        let (layout, others) = match &self.form {
            Form::Layout(layout) => (Some(layout), &[][..]),
            Form::Document(document) => (None, document.headers()),
        };
        layout.into_iter().flat_map(Layout::headers).chain(others)
    }

    /// How the provider writes its keys.
    #[must_use]
    pub const fn key_format(&self) -> KeyFormat {
        self.key_format
    }

    /// A secret in the form in which the provider shows it; see [`key_format`](Self::key_format).
    ///
    /// # Errors
    /// As [`Secret::parse`].
    pub fn secret(&self, id: &str, text: &str) -> Result<Secret, SecretError> {
        Secret::parse(id, self.key_format, text)
    }

    /// How far in the past and in the future a timestamp may lie by default; `None` when
    /// the scheme has no signed timestamp.
    #[must_use]
    pub fn tolerance(&self) -> Option<(Duration, Duration)> {
        let has_timestamp = match &self.form {
            Form::Layout(layout) => layout.timestamp.is_some(),
            Form::Document(document) => document.has_timestamp(),
        };
        has_timestamp.then_some(self.tolerance)
    }

    /// What names a delivery in a replay store.
    #[must_use]
    pub fn replay_basis(&self) -> ReplayBasis {
        match &self.form {
            Form::Layout(layout) => layout.replay,
            Form::Document(document) if document.has_id() => ReplayBasis::Id,
            Form::Document(_) => ReplayBasis::Content,
        }
    }

    /// Whether a delivery is tried again under the same id, which then must be signed.
    #[must_use]
    pub fn has_id(&self) -> bool {
        match &self.form {
            Form::Layout(layout) => layout.id.is_some(),
            Form::Document(document) => document.has_id(),
        }
    }

    /// Whether deliveries can be signed by a key of this kind.
    pub(crate) fn fits(&self, key: &Material) -> bool {
        match &self.form {
            Form::Layout(layout) => layout.fits(key),
            Form::Document(document) => {
                let mut algorithms = document.algorithms().iter();
                algorithms.any(|algorithm| key.is_for(*algorithm))
            }
        }
    }
}

const FIVE_MINUTES: Duration = Duration::from_secs(300);
