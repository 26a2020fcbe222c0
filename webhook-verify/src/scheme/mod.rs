//! What a provider signs and where it puts the signature.
//!
//! A [`Scheme`] is data. Reading a delivery ([`Verifier`](crate::Verifier)) and writing one
//! ([`Signer`](crate::Signer)) both walk the same definition, so they cannot drift apart.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, request::Parts};

pub use self::{
    builder::{SchemeBuilder, SchemeError},
    signature::Encoding,
};
pub(crate) use self::{
    fields::{Field, Fields, id_is_well_formed, parse_timestamp},
    signature::{Label, SignatureField},
};
use crate::{
    error::Reason,
    mac::{Candidates, Hash},
    secret::{KeyFormat, Secret, SecretError},
};

mod builder;
mod fields;
mod signature;

/// The definition of a provider's signature, shared by [`Verifier`](crate::Verifier) and
/// [`Signer`](crate::Signer).
///
/// Made by [`presets`](crate::presets), or by [`custom`](Self::custom) for one's own.
#[derive(Clone, Debug)]
pub struct Scheme {
    pub(crate) name: &'static str,
    pub(crate) signature: SignatureField,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) id: Option<HeaderName>,
    /// What is signed before the body, in order.
    pub(crate) before: Arc<[Part]>,
    /// What is signed after the body, in order.
    pub(crate) after: Arc<[Part]>,
    pub(crate) key_format: KeyFormat,
    pub(crate) tolerance: (Duration, Duration),
    pub(crate) replay: ReplayBasis,
    pub(crate) replay_lifetime: Duration,
}

/// Where the time stands, and in which unit.
#[derive(Clone, Debug)]
pub(crate) struct Timestamp {
    pub(crate) place: Place,
    pub(crate) unit: TimeUnit,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Header(HeaderName),
    /// In the list of the signature header, after this label.
    Signature(Label),
}

/// The unit of a timestamp.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum TimeUnit {
    /// Whole seconds since the Unix epoch, 1 to 12 digits.
    #[default]
    Seconds,
    /// Whole milliseconds since the Unix epoch, 1 to 15 digits.
    Milliseconds,
}

impl TimeUnit {
    pub(crate) const fn most_digits(self) -> usize {
        match self {
            Self::Seconds => 12,
            Self::Milliseconds => 15,
        }
    }

    pub(crate) const fn per_second(self) -> u64 {
        match self {
            Self::Seconds => 1,
            Self::Milliseconds => 1000,
        }
    }

    /// Whole units in `time`; saturates.
    pub(crate) fn count(self, time: Duration) -> u64 {
        match self {
            Self::Seconds => time.as_secs(),
            Self::Milliseconds => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// One part of the signed bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// The raw body.
    Body,
    /// A fixed text: a separator, a version, the receiver's own URL.
    Literal(Cow<'static, str>),
    /// The timestamp, as the text that was sent.
    Timestamp,
    /// The id header, as sent.
    Id,
    /// The request method, such as `POST`.
    Method,
    /// Path and query of the request, as received (`/hook?a=1`). The URL is a literal with
    /// scheme and host, never taken from the `Host` header, and then this part.
    ///
    /// A router that rewrites paths before the check (axum's `nest` does) changes it: sign
    /// the whole URL as a [`Literal`](Self::Literal) there.
    Target,
    /// The value of another header, which must be present once.
    Header(HeaderName),
}

impl Part {
    /// A fixed text.
    pub fn literal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Literal(text.into())
    }

    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self::Literal(Cow::Borrowed(text))
    }
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
    /// is the signature.
    Content,
}

impl Scheme {
    /// The name of the scheme.
    #[must_use]
    pub const fn name(&self) -> &str {
        self.name
    }

    /// The header fields of the scheme: signature, then timestamp and id if they have a
    /// header of their own.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        let timestamp = match self.place() {
            Some(Place::Header(name)) => Some(name),
            _ => None,
        };
        std::iter::once(&self.signature.header)
            .chain(timestamp)
            .chain(&self.id)
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
        self.timestamp.as_ref().map(|_| self.tolerance)
    }

    /// What names a delivery in a replay store.
    #[must_use]
    pub const fn replay_basis(&self) -> ReplayBasis {
        self.replay
    }

    /// Whether a delivery is tried again under the same id, which then must be signed.
    #[must_use]
    pub const fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// The hash of its HMAC, if it has one.
    pub(crate) fn hash(&self) -> Option<Hash> {
        self.signature.hmac.as_ref().map(|(hash, _)| *hash)
    }

    fn place(&self) -> Option<&Place> {
        self.timestamp.as_ref().map(|timestamp| &timestamp.place)
    }

    /// The label of a timestamp in the signature header.
    pub(crate) fn time_label(&self) -> Option<&str> {
        match self.place() {
            Some(Place::Signature(label)) => Some(label),
            _ => None,
        }
    }

    /// The header that holds the timestamp.
    pub(crate) fn time_header(&self) -> Option<&HeaderName> {
        self.place().map(|place| match place {
            Place::Header(name) => name,
            Place::Signature(_) => &self.signature.header,
        })
    }

    /// Looks each header field of the scheme up, once.
    pub(crate) fn fields<'a>(&self, headers: &'a HeaderMap) -> Fields<'a> {
        let signature = Field::of(headers, &self.signature.header);
        let timestamp = match self.place() {
            None => Field::Absent,
            Some(Place::Header(name)) => Field::of(headers, name),
            Some(Place::Signature(label)) => self.signature.labelled(signature, label),
        };
        let id = self.id.as_ref();
        Fields {
            signature,
            timestamp,
            id: id.map_or(Field::Absent, |name| Field::of(headers, name)),
        }
    }

    /// Refuses repeated fields of the scheme.
    pub(crate) fn check_repeated(&self, fields: &Fields<'_>) -> Result<(), Reason> {
        // A field without a name is absent.
        let repeated = [
            (Some(&self.signature.header), fields.signature),
            (self.time_header(), fields.timestamp),
            (self.id.as_ref(), fields.id),
        ];
        for (name, field) in repeated {
            if let (Some(name), Field::Repeated) = (name, field) {
                return Err(Reason::Malformed(name.clone()));
            }
        }
        Ok(())
    }

    /// Reads the candidate signatures into `all`.
    pub(crate) fn candidates(
        &self,
        fields: &Fields<'_>,
        all: &mut Candidates,
    ) -> Result<(), Reason> {
        let value = fields.signature.get(&self.signature.header)?;
        self.signature.candidates(value, self.time_label(), all)
    }

    /// The header values that are signed must be there, once; the id in its exact form.
    pub(crate) fn check_signed(
        &self,
        fields: &Fields<'_>,
        headers: &HeaderMap,
    ) -> Result<(), Reason> {
        if let Some(name) = &self.id
            && !id_is_well_formed(fields.id.get(name)?)
        {
            return Err(Reason::Malformed(name.clone()));
        }
        if let Some(name) = self.time_header() {
            fields.timestamp.get(name)?;
        }
        self.signed_headers()
            .try_for_each(|name| Field::of(headers, name).get(name).map(drop))
    }

    /// Other headers that are signed.
    pub(crate) fn signed_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let parts = self.before.iter().chain(self.after.iter());
        parts.filter_map(|part| match part {
            Part::Header(name) => Some(name),
            _ => None,
        })
    }

    /// Whether the signed bytes need more of the request than headers that are added.
    pub(crate) fn signs_request(&self) -> bool {
        let mut parts = self.before.iter().chain(self.after.iter());
        parts.any(|part| matches!(part, Part::Method | Part::Target | Part::Header(_)))
    }
}

/// What the parts of the signed bytes are in one delivery, beside the body.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) timestamp: &'a [u8],
    pub(crate) request: Option<&'a Parts>,
}

impl Inputs<'_> {
    /// Hands the bytes of each part to `sink`.
    pub(crate) fn feed(&self, parts: &[Part], mut sink: impl FnMut(&[u8])) {
        for part in parts {
            match part {
                Part::Literal(text) => sink(text.as_bytes()),
                Part::Timestamp => sink(self.timestamp),
                Part::Id => sink(self.id),
                Part::Method => sink(self.of_request(|parts| parts.method.as_str().as_bytes())),
                Part::Target => sink(self.of_request(target)),
                Part::Header(name) => {
                    sink(self.of_request(|parts| Field::of(&parts.headers, name).text()));
                }
                // A scheme holds the parts before and after it.
                Part::Body => {}
            }
        }
    }

    fn of_request<'a>(&'a self, read: impl FnOnce(&'a Parts) -> &'a [u8]) -> &'a [u8] {
        self.request.map_or(&[], read)
    }
}

fn target(parts: &Parts) -> &[u8] {
    let target = parts.uri.path_and_query();
    target.map_or(&[], |target| target.as_str().as_bytes())
}
