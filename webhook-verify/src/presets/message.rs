//! HTTP message signatures, of whatever service signs by the RFC.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

use super::Scheme;
use crate::{
    document::message::{ALGORITHMS, MessagePolicy, Origin, is_printable},
    mac::Algorithm,
    scheme::SchemeError,
    secret::KeyFormat,
};

/// HTTP message signatures ([RFC 9421](https://www.rfc-editor.org/rfc/rfc9421)) with
/// `Content-Digest` ([RFC 9530](https://www.rfc-editor.org/rfc/rfc9530)), for the receiver
/// that the sender calls at `origin`, such as `https://hooks.example`.
///
/// The RFC is a box of parts. What is built here without any further call accepts
/// signatures that protect a whole delivery, and no others.
///
/// - Headers: `signature-input` and `signature`, dictionaries of at most 16 signatures;
///   `content-digest`. Each may come in several lines. Labels (`sig1`) pair the first two and
///   mean nothing: they are not signed.
/// - Signed: the signature base of section 2.5, made of the components that the sender lists.
///   `@method`, `content-digest` and, either as such or within `@target-uri`, `@authority`,
///   `@path` and (when there is one) `@query` must be among them, and what
///   [`require`](HttpMessage::require) adds; the path and query may also be
///   `@request-target`. Other header fields, `@scheme` and `@query-param` may be.
///   A header is signed as all its lines together. Components with parameters (`sf`, `key`,
///   `bs`, `tr`, `req`) are not understood, and a signature over them is not accepted; nor is
///   one over more than 64 components, or more than 64 KiB of them.
/// - The body: by its digest. `sha-256` and `sha-512` are compared with the body, each that is
///   there, and one must be; other algorithms are passed over. It is the digest of what was
///   transferred: a layer that decompresses bodies stands behind this check.
/// - The receiver's name: `@authority`, `@scheme` and `@target-uri` are made of `origin`, never
///   of `Host` or `Forwarded`, which a sender chooses. The path and query are those of the
///   request: a router that rewrites them before the check (axum's `nest` does) makes every
///   signature wrong.
/// - Parameters: `created` and `keyid` must be there. `expires` is kept to, `alg` must be that
///   of the key. An unknown parameter makes a signature unacceptable.
/// - Keys: `keyid` is the id of a [`Secret`](crate::Secret), and no other key is tried. The
///   kind of key is the algorithm: shared secrets `hmac-sha256`, Ed25519 `ed25519`, P-256
///   `ecdsa-p256-sha256`, RSA `rsa-pss-sha512` (or see [`rsa_v1_5`](HttpMessage::rsa_v1_5)),
///   the last three with the features of their kind. [`Scheme::secret`] reads shared secrets
///   in base64; see [`Secret`](crate::Secret) for other forms.
/// - Tolerance: 300 s in both directions, around `created`. The RFC leaves it to the receiver.
///   `expires` ends a delivery earlier, to the second.
/// - Rotation: the new key has another id. While both are in the key set either may sign.
/// - Several signatures: one that is accepted and right suffices. Those that somebody on the
///   way added do no harm, unless they break the syntax of the headers. See
///   [`tag`](HttpMessage::tag).
/// - Replay key: the signature base; with [`nonce`](HttpMessage::nonce), the key's id and the
///   nonce. A retry that is signed anew is another delivery, unless it keeps its nonce. A
///   delivery that has two signatures by keys of ours has two names (one, if key and nonce
///   are the same): who records it can cut one and send it once more.
/// - Signer: labels its signature `sig1`, covers the least that is needed, and adds a
///   `content-digest` by SHA-256 (in place of one that is there), `created`, `keyid` and `alg`.
///
/// Not protected: every header that the sender did not list, such as `content-type` unless it
/// is required here; `@scheme`, and with it whether TLS was used; trailers; the fact that there
/// was another signature. A list of nothing, which the RFC allows, is refused.
///
/// # Examples
///
/// ```
/// use http::{Request, header::CONTENT_TYPE};
/// use webhook_verify::{Secret, Signer, Verifier, presets};
///
/// let scheme = presets::http_message("https://hooks.example")
///     .require(CONTENT_TYPE)
///     .build()?;
/// let secret = Secret::new("key-2026", "a secret of at least 32 random bytes")?;
///
/// let request = Request::post("/orders?shop=7").header(CONTENT_TYPE, "application/json");
/// let (mut request, body) = request.body(br#"{"id":1}"#)?.into_parts();
/// let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
/// let signer = Signer::new(scheme.clone(), secret.clone());
/// let headers = signer.sign_request(&request, None, now, body)?;
/// request.headers.extend(headers);
///
/// let verifier = Verifier::builder(scheme).secret(secret).build()?;
/// assert!(verifier.verify(&request, None, body).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn http_message(origin: &str) -> HttpMessage {
    HttpMessage {
        origin: origin.to_owned(),
        minimum: true,
        fields: Vec::new(),
        tag: None,
        nonce: false,
        lifetime: None,
        algorithms: ALGORITHMS,
    }
}

/// Which HTTP message signatures are accepted; made by [`http_message`].
///
/// Defaults: the least that protects a delivery must be signed; no further header, no tag, no
/// nonce; signed deliveries do not expire of themselves.
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpMessage {
    origin: String,
    minimum: bool,
    fields: Vec<HeaderName>,
    tag: Option<String>,
    nonce: bool,
    lifetime: Option<Duration>,
    algorithms: [Algorithm; 4],
}

impl HttpMessage {
    /// A header that must be there and be signed, such as `content-type`. A signer signs it.
    pub fn require(mut self, header: HeaderName) -> Self {
        if !self.fields.contains(&header) {
            self.fields.push(header);
        }
        self
    }

    /// Accepts signatures of this `tag` only, which names the application they are made for.
    /// Needed where the sender's key signs for other purposes as well. A signer sets it.
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }

    /// Asks for a `nonce` of 1 to 256 characters, which then names the delivery together with
    /// `keyid`: a second one of the same nonce is a replay, whatever it says. A signer takes
    /// the delivery's id as its nonce. Without this, a nonce is just a part of what is signed.
    pub const fn nonce(mut self) -> Self {
        self.nonce = true;
        self
    }

    /// A signer sets `expires` to this time after `created`, in whole seconds, rounded down.
    /// A verifier keeps to the `expires` of any delivery that has one.
    pub const fn expires_after(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// RSA keys verify `rsa-v1_5-sha256` instead of `rsa-pss-sha512`.
    pub const fn rsa_v1_5(mut self) -> Self {
        self.algorithms[3] = Algorithm::RsaPkcs1Sha256;
        self
    }

    /// Accepts signatures over anything, as long as they cover one component and what
    /// [`require`](Self::require) names. What is not listed by the sender is then not
    /// protected: not the body without `content-digest`, not the method, the URL or the
    /// receiver, so that a delivery can be sent on to another one that has the same key.
    pub const fn insecure_any_components(mut self) -> Self {
        self.minimum = false;
        self
    }

    /// The scheme.
    ///
    /// # Errors
    /// [`SchemeError::Url`] when the origin is not `https://` or `http://`, a host and at most
    /// a port; [`SchemeError::Tag`] when the tag is empty or not printable ASCII.
    pub fn build(self) -> Result<Scheme, SchemeError> {
        let origin = Origin::parse(&self.origin);
        let origin = origin.ok_or(SchemeError::Url(
            "an origin is a scheme, a host and at most a port, such as `https://hooks.example`",
        ))?;
        let bad = |tag: &String| tag.is_empty() || !is_printable(tag);
        if self.tag.as_ref().is_some_and(bad) {
            return Err(SchemeError::Tag);
        }
        let policy = MessagePolicy {
            origin,
            minimum: self.minimum,
            fields: self.fields,
            tag: self.tag,
            nonce: self.nonce,
            lifetime: self.lifetime.map(|lifetime| lifetime.as_secs()),
            algorithms: self.algorithms,
        };
        let policy = Arc::new(policy);
        Ok(Scheme::of_document(
            "http_message",
            policy,
            KeyFormat::Base64,
        ))
    }
}
