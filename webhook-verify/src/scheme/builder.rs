//! A scheme of one's own: unchecked settings, one checking conversion.

use std::{borrow::Cow, time::Duration};

use http::HeaderName;

use super::{
    Encoding, Form, Label, Layout, Part, Place, ReplayBasis, Scheme, SignatureField, TimeUnit,
    Timestamp,
};
use crate::{mac::Hash, secret::KeyFormat};

/// Settings of a scheme of one's own; made by [`Scheme::custom`].
#[must_use]
#[derive(Clone, Debug)]
pub struct SchemeBuilder {
    name: &'static str,
    signature: Option<String>,
    separator: Option<char>,
    encoding: Encoding,
    hmac: Option<(Hash, Label)>,
    ed25519: Option<Label>,
    timestamp: Option<(Source, TimeUnit)>,
    digits: Option<usize>,
    id: Option<String>,
    signed: Vec<Part>,
    key_format: KeyFormat,
    tolerance: (Duration, Duration),
    replay: Option<ReplayBasis>,
    replay_lifetime: Duration,
}

#[derive(Clone, Debug)]
enum Source {
    Header(String),
    Signature(Label),
}

impl Scheme {
    /// A scheme of one's own. `name` is reported in [`Verified`](crate::Verified) and in
    /// events, and keeps its replay keys apart from those of others.
    ///
    /// Defaults: one lower-case hex value of HMAC-SHA256 over the body; no timestamp, no
    /// id; keys as text; tolerance 300 s in both directions; replay by the id when there is
    /// one, else by the content of a list and by the signature of a single value; replay
    /// lifetime 24 hours without a timestamp or by id, else both tolerances together.
    ///
    /// # Examples
    /// ```
    /// use webhook_verify::{Part, Scheme};
    ///
    /// // X-Acme-Signature: t=1700000000,v1=5f0c…
    /// let acme = Scheme::custom("acme")
    ///     .signature_header("x-acme-signature")
    ///     .list(',')
    ///     .label("v1=")
    ///     .timestamp_in_signature("t=")
    ///     .signs([Part::Timestamp, Part::literal("."), Part::Body])
    ///     .build()?;
    /// # Ok::<(), webhook_verify::SchemeError>(())
    /// ```
    pub fn custom(name: &'static str) -> SchemeBuilder {
        SchemeBuilder {
            name,
            signature: None,
            separator: None,
            encoding: Encoding::Hex,
            hmac: None,
            ed25519: None,
            timestamp: None,
            digits: None,
            id: None,
            signed: vec![Part::Body],
            key_format: KeyFormat::Text,
            tolerance: (FIVE_MINUTES, FIVE_MINUTES),
            replay: None,
            replay_lifetime: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl SchemeBuilder {
    /// The header of the signature. Required.
    pub fn signature_header(mut self, name: &str) -> Self {
        self.signature = Some(name.to_owned());
        self
    }

    /// The header is a list of labelled values with this character between them, such as
    /// `,`, `;` or a blank. At most 16 are read; unknown labels are skipped.
    pub const fn list(mut self, separator: char) -> Self {
        self.separator = Some(separator);
        self
    }

    /// How signatures are written; hex by default.
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// What stands before an HMAC-SHA256 value: `sha256=`, `v1=`, `v1,`. Empty by default,
    /// which a list does not allow.
    pub fn label(self, label: impl Into<Cow<'static, str>>) -> Self {
        self.hmac(Hash::Sha256, label)
    }

    /// As [`label`](Self::label), with another hash.
    pub fn hmac(mut self, hash: Hash, label: impl Into<Cow<'static, str>>) -> Self {
        self.hmac = Some((hash, label.into()));
        self
    }

    /// What stands before an Ed25519 signature (RFC 8032). Beside [`hmac`](Self::hmac) when
    /// that is set as well: a key tries the values of its own kind only.
    #[cfg(feature = "ed25519")]
    pub fn ed25519(mut self, label: impl Into<Cow<'static, str>>) -> Self {
        self.ed25519 = Some(label.into());
        self
    }

    /// A header with the time in seconds. It must be signed.
    pub fn timestamp_header(mut self, name: &str) -> Self {
        self.timestamp = Some((Source::Header(name.to_owned()), self.unit()));
        self
    }

    /// The time stands in the list of the signature header, after this label, exactly once.
    /// It must be signed.
    pub fn timestamp_in_signature(mut self, label: impl Into<Cow<'static, str>>) -> Self {
        self.timestamp = Some((Source::Signature(label.into()), self.unit()));
        self
    }

    /// The unit of the time, set after its place; seconds by default.
    pub fn timestamp_unit(mut self, unit: TimeUnit) -> Self {
        if let Some((_, old)) = &mut self.timestamp {
            *old = unit;
        }
        self
    }

    /// The time has exactly so many digits; by default 1 to 12, or 15 in milliseconds. Ten (13
    /// in milliseconds) last until 2286. Needed where nothing stands between the time and a
    /// body that may begin with a digit.
    pub const fn timestamp_digits(mut self, digits: usize) -> Self {
        self.digits = Some(digits);
        self
    }

    /// A header with the id of the delivery, 1 to 256 visible ASCII characters without `.`.
    /// It must be signed.
    pub fn id_header(mut self, name: &str) -> Self {
        self.id = Some(name.to_owned());
        self
    }

    /// The signed bytes, part by part; the body alone by default.
    ///
    /// Two parts of free length side by side are ambiguous (a digit can move from the time
    /// to the body under the same signature): put a literal between them, or fix the digits of
    /// the time ([`timestamp_digits`](Self::timestamp_digits)).
    pub fn signs(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.signed = parts.into_iter().collect();
        self
    }

    /// How the provider writes its keys, for [`Scheme::secret`]; text by default.
    pub const fn key_format(mut self, format: KeyFormat) -> Self {
        self.key_format = format;
        self
    }

    /// How old and how far ahead a timestamp may be by default.
    pub const fn tolerance(mut self, past: Duration, future: Duration) -> Self {
        self.tolerance = (past, future);
        self
    }

    /// What names a delivery in a replay store.
    pub const fn replay(mut self, basis: ReplayBasis) -> Self {
        self.replay = Some(basis);
        self
    }

    /// How long a delivery is remembered by default when there is no timestamp.
    pub const fn replay_lifetime(mut self, lifetime: Duration) -> Self {
        self.replay_lifetime = lifetime;
        self
    }

    fn unit(&self) -> TimeUnit {
        let unit = self.timestamp.as_ref().map(|(_, unit)| *unit);
        unit.unwrap_or_default()
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first of these that holds; see [`SchemeError`].
    pub fn build(self) -> Result<Scheme, SchemeError> {
        let header = self.signature.ok_or(SchemeError::NoSignatureHeader)?;
        let separator = self.separator.map(|character| {
            let byte = u8::try_from(character)
                .ok()
                .filter(|_| separates(character));
            byte.ok_or(SchemeError::Separator(character))
        });
        let hmac = match (self.hmac, &self.ed25519) {
            (None, None) => Some((Hash::Sha256, Cow::Borrowed(""))),
            (hmac, _) => hmac,
        };
        let mut timestamp = None;
        if let Some((source, unit)) = self.timestamp {
            let place = match source {
                Source::Header(name) => Place::Header(header_name(name)?),
                Source::Signature(label) => Place::Signature(label),
            };
            timestamp = Some(Timestamp {
                place,
                unit,
                digits: self.digits,
            });
        }
        let mut before = self.signed;
        let body = before.iter().position(|part| *part == Part::Body);
        let after = before.split_off(body.ok_or(SchemeError::Body)? + 1);
        before.pop();
        let id = self.id.map(header_name).transpose()?;
        let replay = match (self.replay, &id, &separator) {
            (Some(basis), ..) => basis,
            (None, Some(_), _) => ReplayBasis::Id,
            (None, None, Some(_)) => ReplayBasis::Content,
            (None, None, None) => ReplayBasis::Signature,
        };
        let layout = Layout {
            signature: SignatureField {
                header: header_name(header)?,
                separator: separator.transpose()?,
                encoding: self.encoding,
                hmac,
                ed25519: self.ed25519,
                ecdsa: None,
            },
            timestamp,
            id,
            before: before.into(),
            after: after.into(),
            replay,
            fixed: None,
        };
        let scheme = Scheme {
            key_format: self.key_format,
            tolerance: self.tolerance,
            replay_lifetime: self.replay_lifetime,
            ..Scheme::of_layout(self.name, layout)
        };
        scheme.check()?;
        Ok(scheme)
    }
}

impl Scheme {
    /// The rules that every scheme keeps, presets included.
    pub(crate) fn check(&self) -> Result<(), SchemeError> {
        if self.name.is_empty() {
            return Err(SchemeError::NoName);
        }
        if let Form::Layout(layout) = &self.form {
            layout.check()?;
        }
        if self.replay_lifetime.is_zero() {
            return Err(SchemeError::ReplayLifetime);
        }
        Ok(())
    }
}

impl Layout {
    fn check(&self) -> Result<(), SchemeError> {
        let mut seen: Vec<&HeaderName> = Vec::new();
        let fixed = self.fixed.as_ref().map(|(name, _)| name);
        for name in self.headers().chain(self.signed_headers()).chain(fixed) {
            if seen.contains(&name) {
                return Err(SchemeError::HeaderTwice(name.clone()));
            }
            seen.push(name);
        }
        self.check_labels()?;
        let signs = |part: &Part| self.before.contains(part) || self.after.contains(part);
        if signs(&Part::Body) {
            return Err(SchemeError::Body);
        }
        let parts = [
            ("timestamp", self.timestamp.is_some(), &Part::Timestamp),
            ("id", self.id.is_some(), &Part::Id),
        ];
        for (name, placed, part) in parts {
            match (placed, signs(part)) {
                (true, false) => return Err(SchemeError::NotSigned(name)),
                (false, true) => return Err(SchemeError::NotSent(name)),
                _ => {}
            }
        }
        let too_many = |time: &Timestamp| {
            let most = time.unit.most_digits();
            time.digits.filter(|digits| !(1..=most).contains(digits))
        };
        if let Some(digits) = self.timestamp.as_ref().and_then(too_many) {
            return Err(SchemeError::TimestampDigits(digits));
        }
        match self.replay {
            ReplayBasis::Id if self.id.is_none() => Err(SchemeError::NotSent("id")),
            ReplayBasis::Signature if self.signature.separator.is_some() => {
                Err(SchemeError::ReplayOfList)
            }
            _ => Ok(()),
        }
    }

    /// Labels must be tellable apart, and must fit into the header beside the separator.
    fn check_labels(&self) -> Result<(), SchemeError> {
        let field = &self.signature;
        let hmac = field.hmac.as_ref().map(|(_, label)| &**label);
        let labels = [
            hmac,
            field.ed25519.as_deref(),
            field.ecdsa.as_deref(),
            self.time_label(),
        ];
        let labels: Vec<&str> = labels.into_iter().flatten().collect();
        if self.time_label().is_some() && field.separator.is_none() {
            return Err(SchemeError::TimestampNeedsList);
        }
        for (i, label) in labels.iter().enumerate() {
            let fits = |byte: u8| byte.is_ascii_graphic() && Some(byte) != field.separator;
            let empty = label.is_empty() && (field.separator.is_some() || labels.len() > 1);
            if empty || !label.bytes().all(fits) {
                return Err(SchemeError::Label((*label).to_owned()));
            }
            let mut others = labels.iter().enumerate();
            if others.any(|(j, other)| i != j && other.starts_with(label)) {
                return Err(SchemeError::LabelsOverlap((*label).to_owned()));
            }
        }
        Ok(())
    }
}

fn header_name(name: String) -> Result<HeaderName, SchemeError> {
    HeaderName::try_from(&name).map_err(|_| SchemeError::HeaderName(name))
}

/// Neither part of a value (hex, base64, digits) nor of what ends a label.
const fn separates(character: char) -> bool {
    matches!(character, ' ' | ',' | ';' | '|' | '&')
}

const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// Settings that do not make a scheme.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemeError {
    /// The name is empty.
    #[error("scheme name is empty")]
    NoName,
    /// `signature_header` was not called.
    #[error("no signature header is set")]
    NoSignatureHeader,
    /// Not the name of a header.
    #[error("`{0}` is not a header name")]
    HeaderName(String),
    /// One header in two roles.
    #[error("header `{0}` is used twice")]
    HeaderTwice(HeaderName),
    /// Not one of the characters that can stand between values.
    #[error("separator {0:?} is not one of blank `,` `;` `|` `&`")]
    Separator(char),
    /// A label that is empty in a list, holds the separator, or is not visible ASCII.
    #[error("label `{0}` is empty, holds the separator or is not visible ASCII")]
    Label(String),
    /// A label begins like another one, so that a value could be read as either.
    #[error("another label begins with label `{0}`")]
    LabelsOverlap(String),
    /// A timestamp in a signature header that is no list.
    #[error("a timestamp in the signature header needs a list")]
    TimestampNeedsList,
    /// No time has so many digits.
    #[error("a timestamp of exactly {0} digits is never accepted")]
    TimestampDigits(usize),
    /// The body is not signed, or more than once.
    #[error("the signed parts must hold the body exactly once")]
    Body,
    /// A timestamp or id that anybody could change.
    #[error("the {0} is read but not signed")]
    NotSigned(&'static str),
    /// A timestamp or id that is used but comes from nowhere.
    #[error("the {0} is used but no header holds it")]
    NotSent(&'static str),
    /// Replay by the signature, in a list from which signatures can be cut.
    #[error("the signature of a list does not name a delivery: use its content or id")]
    ReplayOfList,
    /// Not the id of a webhook of PayPal.
    #[error("webhook id is not 1 to 50 letters, digits, `-` or `_`")]
    WebhookId,
    /// Nothing would be remembered.
    #[error("replay lifetime is zero")]
    ReplayLifetime,
    /// A URL that a scheme signs, in a form in which no sender can call it.
    #[error("the URL cannot be used: {0}")]
    Url(&'static str),
    /// A tag that no signature can have.
    #[error("tag is empty or not printable ASCII")]
    Tag,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> SchemeBuilder {
        Scheme::custom("acme")
            .signature_header("x-acme-signature")
            .list(',')
            .label("v1=")
            .timestamp_in_signature("t=")
            .signs([Part::Timestamp, Part::literal("."), Part::Body])
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        use SchemeError as E;
        assert!(acme().build().is_ok());
        assert!(acme().timestamp_digits(12).build().is_ok());
        let one = || Scheme::custom("one").signature_header("x-one");
        assert!(one().build().is_ok());
        let header = HeaderName::from_static("x-one");
        for (settings, expected) in [
            (Scheme::custom("x"), E::NoSignatureHeader),
            (Scheme::custom("").signature_header("a"), E::NoName),
            (one().signature_header("a b"), E::HeaderName("a b".into())),
            (
                one().id_header("X-One").signs([Part::Id, Part::Body]),
                E::HeaderTwice(header.clone()),
            ),
            (
                one().signs([Part::Header(header.clone()), Part::Body]),
                E::HeaderTwice(header),
            ),
            (acme().list('='), E::Separator('=')),
            (acme().list('a'), E::Separator('a')),
            (acme().list('·'), E::Separator('·')),
            (acme().label(""), E::Label(String::new())),
            (acme().label("v1,"), E::Label("v1,".into())),
            (one().label("v 1"), E::Label("v 1".into())),
            (acme().label("t=v"), E::LabelsOverlap("t=".into())),
            (acme().label("t="), E::LabelsOverlap("t=".into())),
            (one().timestamp_in_signature("t="), E::TimestampNeedsList),
            (acme().timestamp_digits(0), E::TimestampDigits(0)),
            (acme().timestamp_digits(13), E::TimestampDigits(13)),
            (one().signs([]), E::Body),
            (one().signs([Part::Body, Part::Body]), E::Body),
            (acme().signs([Part::Body]), E::NotSigned("timestamp")),
            (one().id_header("x-id"), E::NotSigned("id")),
            (
                one().signs([Part::Timestamp, Part::Body]),
                E::NotSent("timestamp"),
            ),
            (one().signs([Part::Body, Part::Id]), E::NotSent("id")),
            (one().replay(ReplayBasis::Id), E::NotSent("id")),
            (acme().replay(ReplayBasis::Signature), E::ReplayOfList),
            (one().replay_lifetime(Duration::ZERO), E::ReplayLifetime),
        ] {
            assert_eq!(settings.build().unwrap_err(), expected);
        }
    }

    #[test]
    fn the_basis_of_replay_follows_from_what_is_signed() {
        let with_id = acme().id_header("x-id").signs([
            Part::Id,
            Part::literal("."),
            Part::Timestamp,
            Part::Body,
        ]);
        let one = Scheme::custom("one").signature_header("x-one");
        for (settings, expected) in [
            (acme(), ReplayBasis::Content),
            (with_id, ReplayBasis::Id),
            (one, ReplayBasis::Signature),
        ] {
            assert_eq!(settings.build().unwrap().replay_basis(), expected);
        }
    }
}
