//! Schemes that are data: where the signature stands, and what is signed around the body.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName};

use super::{
    Encoding, Field, Fields, Label, Part, ReplayBasis, SignatureField, TimeUnit, id_is_well_formed,
    parse_timestamp,
};
use crate::{
    error::Reason,
    mac::{Candidates, Hash},
    secret::Material,
};

/// A signature in a header, over the body as it is and parts before and after it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) signature: SignatureField,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) id: Option<HeaderName>,
    /// What is signed before the body, in order.
    pub(crate) before: Arc<[Part]>,
    /// What is signed after the body, in order.
    pub(crate) after: Arc<[Part]>,
    pub(crate) replay: ReplayBasis,
    /// A header that says what is the case anyway: may be absent, must not say otherwise.
    pub(crate) fixed: Option<(HeaderName, &'static str)>,
}

/// Where the time stands, and in which unit.
#[derive(Clone, Debug)]
pub(crate) struct Timestamp {
    pub(crate) place: Place,
    pub(crate) unit: TimeUnit,
    /// Exactly so many digits: where nothing stands between the time and the body, a digit
    /// could else move from one to the other.
    pub(crate) digits: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Header(HeaderName),
    /// In the list of the signature header, after this label.
    Signature(Label),
}

impl Timestamp {
    /// Seconds in a header of their own.
    pub(crate) const fn seconds_in(header: &'static str) -> Self {
        Self {
            place: Place::Header(HeaderName::from_static(header)),
            unit: TimeUnit::Seconds,
            digits: None,
        }
    }

    /// Seconds in the list of the signature header.
    pub(crate) const fn seconds_after(label: &'static str) -> Self {
        Self {
            place: Place::Signature(Cow::Borrowed(label)),
            unit: TimeUnit::Seconds,
            digits: None,
        }
    }
}

impl Timestamp {
    /// The time that `text` says, in whole units; `None` when it is not in the exact form.
    pub(crate) fn parse(&self, text: &[u8]) -> Option<u64> {
        let at = parse_timestamp(text, self.unit.most_digits())?;
        let fits = self.digits.is_none_or(|digits| text.len() == digits);
        fits.then_some(at)
    }
}

impl Layout {
    /// One HMAC-SHA256 value over the body alone.
    pub(crate) fn body_only(header: &'static str, encoding: Encoding) -> Self {
        Self {
            signature: SignatureField::one(header, "", encoding),
            timestamp: None,
            id: None,
            before: [].into(),
            after: [].into(),
            replay: ReplayBasis::Signature,
            fixed: None,
        }
    }

    /// Signature, then timestamp and id if they have a header of their own.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        let timestamp = match self.place() {
            Some(Place::Header(name)) => Some(name),
            _ => None,
        };
        std::iter::once(&self.signature.header)
            .chain(timestamp)
            .chain(&self.id)
    }

    /// Whether deliveries can be signed by a key of this kind.
    pub(crate) const fn fits(&self, key: &Material) -> bool {
        match key {
            Material::Shared(_) => self.signature.hmac.is_some(),
            #[cfg(feature = "ed25519")]
            Material::Ed25519(_) => self.signature.ed25519.is_some(),
            #[cfg(feature = "ecdsa")]
            Material::EcdsaP256(_) => self.signature.ecdsa.is_some(),
            #[cfg(feature = "rsa")]
            Material::Rsa(_) => false,
        }
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

    /// Refuses repeated fields of the scheme, and a fixed one that says something else.
    pub(crate) fn check_fields(
        &self,
        fields: &Fields<'_>,
        headers: &HeaderMap,
    ) -> Result<(), Reason> {
        if let Some((name, fixed)) = &self.fixed {
            match Field::of(headers, name) {
                Field::Absent => {}
                Field::Once(value) if value == fixed.as_bytes() => {}
                _ => return Err(Reason::Malformed(name.clone())),
            }
        }
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
