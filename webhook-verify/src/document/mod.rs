//! Schemes whose signature or signed bytes must be read out of the delivery first: from form
//! or JSON fields, from the URL and its parameters, from a structured header.
//!
//! The other schemes are data ([`Fields`](crate::scheme)) and hash the body as it arrives. Here
//! the whole body is kept, up to the limit, and a [`Document`] says what was signed.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName, request::Parts};

use crate::{error::Reason, mac::Algorithm, signer::SignError};

pub(crate) mod adyen;
pub(crate) mod content_type;
pub(crate) mod form;
pub(crate) mod mailgun;
pub(crate) mod message;
#[cfg(feature = "rsa")]
pub(crate) mod paypal;
pub(crate) mod paytabs_return;
pub(crate) mod public_url;
pub(crate) mod twilio;

/// One such scheme: reads a delivery and writes one. Pure; verifies nothing itself.
pub(crate) trait Document: fmt::Debug + Send + Sync {
    /// The header fields it reads. Each may be there once at most: repeated is malformed,
    /// unless it is [`repeatable`](Self::repeatable).
    fn headers(&self) -> &[HeaderName];

    /// Whether its header fields are lists that may come in several lines.
    fn repeatable(&self) -> bool {
        false
    }

    /// What its signatures may be made with: keys of other kinds are refused when a verifier
    /// is built.
    fn algorithms(&self) -> &[Algorithm];

    /// Whether every delivery has a signed timestamp, which is then judged. A delivery without
    /// it is refused, also when [`read`](Self::read) forgets to.
    fn has_timestamp(&self) -> bool {
        false
    }

    /// Whether deliveries have a signed id, which stays the same when one is tried again.
    fn has_id(&self) -> bool {
        false
    }

    /// Judges the head alone, before anything of the body is read: what is missing or
    /// malformed there, and the timestamp if it stands there.
    ///
    /// # Errors
    /// The reason, naming the header.
    fn head(&self, request: &Parts) -> Result<Head, Reason>;

    /// What was signed, out of the whole delivery.
    ///
    /// # Errors
    /// The reason: the body is not of the form that is needed, a field is missing, repeated or
    /// malformed, a digest does not match. At least one claim, or an error.
    fn read(&self, request: &Parts, body: &[u8]) -> Result<Extract, Reason>;

    /// Writes a delivery that [`read`](Self::read) accepts. `sign` makes the signature of an
    /// algorithm over bytes; it fails when the key is of another kind.
    ///
    /// # Errors
    /// When the delivery cannot be signed.
    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError>;
}

/// Makes the signature of an algorithm over bytes.
pub(crate) type Sign<'a> = dyn FnMut(Algorithm, &[u8]) -> Result<Vec<u8>, SignError> + 'a;

/// What the head of a delivery says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Head {
    /// The time in seconds since the Unix epoch, if it stands in the head and is the same for
    /// all readings: it is judged before the body is read.
    pub(crate) timestamp: Option<u64>,
}

/// What a delivery says was signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extract {
    /// The time in seconds since the Unix epoch, if the scheme has one: signed data. That of
    /// the head if absent.
    pub(crate) timestamp: Option<u64>,
    /// When the delivery ends to be valid by its sender's word, in seconds since the Unix
    /// epoch; no tolerance is added.
    pub(crate) expires: Option<u64>,
    /// What names the delivery for the replay store when the scheme has such an id: signed.
    /// Without it the signed bytes do.
    pub(crate) id: Option<Vec<u8>>,
    /// Each of them must have been signed, all by the same key.
    pub(crate) claims: Vec<Claim>,
    /// Other readings, for schemes where one good signature of several suffices: the first
    /// reading that passes is the one that counts. At most
    /// [`MAX_CANDIDATES`](crate::MAX_CANDIDATES) together, and theirs are not looked at.
    pub(crate) others: Vec<Self>,
}

/// Bytes that somebody claims to have signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// The id of the key, when the delivery names it: no other key is tried.
    pub(crate) key: Option<String>,
    /// One of them must be right; at most [`MAX_CANDIDATES`](crate::MAX_CANDIDATES). The
    /// kind of key decides which are tried.
    pub(crate) signatures: Vec<(Algorithm, Vec<u8>)>,
    pub(crate) signed: Vec<u8>,
    /// Other spellings of the same, at most [`MAX_SPELLINGS`]: one of `signed` and these must
    /// have been signed. The replay key takes `signed`, whichever it was.
    pub(crate) also: Vec<Vec<u8>>,
}

/// The most other spellings of one claim.
pub(crate) const MAX_SPELLINGS: usize = 8;

/// A delivery that is to be signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) request: Option<&'a Parts>,
    pub(crate) id: Option<&'a str>,
    /// Since the Unix epoch.
    pub(crate) at: Duration,
    /// The id of the key that signs.
    pub(crate) key: &'a str,
    pub(crate) body: &'a [u8],
}

/// What a signer adds to a delivery.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signed {
    pub(crate) headers: HeaderMap,
    /// The body to send instead, when the signature stands in it.
    pub(crate) body: Option<Vec<u8>>,
}
