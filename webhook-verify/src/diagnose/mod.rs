//! "Why is it refused?": the usual mistakes, tried one by one. For development.
//!
//! [`Verifier::diagnose`] tries other bodies, other keys of the set and another time;
//! [`Scheme::diagnose_secret`] tries other readings of the secret's text and other presets.
//! Both verify a delivery up to some hundred times, so they have no place where strangers can
//! call them; and a [`Hint`] tells how a forgery might be mended, so it is for the operator's
//! eyes, never for the sender's.
//!
//! Nothing is accepted here: a hint says what to mend, and then [`Verifier::verify`] decides.
//!
//! # Examples
//! ```
//! # use webhook_verify::{Secret, Signer, Verifier, diagnose::{BodyChange, Hint}, presets};
//! # let secret = || Secret::new("k", "S9JNLK").unwrap();
//! # let (mut parts, ()) = http::Request::post("/").body(()).unwrap().into_parts();
//! # parts.headers = Signer::new(presets::paytabs_callback(), secret()).sign(b"{\"a\":1}").unwrap();
//! let verifier = Verifier::builder(presets::paytabs_callback())
//!     .secret(secret())
//!     .build()?;
//! // The body went through an editor.
//! let hints = verifier.diagnose(&parts, b"{\"a\":1}\n");
//! assert_eq!(hints, [Hint::Body(BodyChange::LineFeedAdded)]);
//! # Ok::<(), webhook_verify::BuildError>(())
//! ```

use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;

pub use self::bodies::BodyChange;
use crate::{
    KeyFormat, KeySet, Reason, Scheme, Secret, Step, Verifier, clock::WallClock, presets,
    secret::Key,
};

mod bodies;
mod json;

/// What would make a refused delivery a good one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Hint {
    /// The body was changed on its way: undo this, and it is accepted.
    Body(BodyChange),
    /// The signature is right, and the timestamp is outside the tolerance: a clock is off, or
    /// this is an old delivery.
    OnlyTime,
    /// This key of the set made the signature, and has reached its end time.
    EndedKey(Arc<str>),
    /// The sender takes the text of the secret in this form.
    KeyForm(KeyFormat),
    /// The secret lacks this prefix.
    KeyPrefix(&'static str),
    /// The text of the secret has white space or quotes around it.
    KeyAround,
    /// It is accepted as a delivery of this preset.
    OtherScheme(&'static str),
    /// The header of the signature is absent; those of this preset are there.
    HeadersOf(&'static str),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(change) => write!(f, "it is accepted {change}"),
            Self::OnlyTime => f.write_str(
                "the signature is right; only the timestamp is refused (is a clock off, or is \
                 this an old delivery?)",
            ),
            Self::EndedKey(id) => write!(f, "key `{id}` signed it, which has reached its end time"),
            Self::KeyForm(form) => {
                let name = form_name(*form);
                write!(f, "the sender takes the secret as {name}")
            }
            Self::KeyPrefix(prefix) => write!(f, "the secret lacks its prefix `{prefix}`"),
            Self::KeyAround => f.write_str("the secret has white space or quotes around it"),
            Self::OtherScheme(name) => write!(f, "it is a delivery of {name}"),
            Self::HeadersOf(name) => write!(f, "it has the headers of {name}"),
        }
    }
}

const fn form_name(form: KeyFormat) -> &'static str {
    match form {
        KeyFormat::Text => "text",
        KeyFormat::Base64 => "base64",
        KeyFormat::Hex => "hex",
        KeyFormat::StandardWebhooks => "whsec_ and base64",
        KeyFormat::Ed25519Hex => "hex of an Ed25519 key",
        KeyFormat::Spki => "base64 of a public key",
        KeyFormat::Pem => "PEM",
    }
}

impl Verifier {
    /// Why a delivery may be refused by this verifier: empty when it is accepted, and when
    /// none of the usual mistakes explains it. The source is not judged. See the
    /// [module](crate::diagnose): for development, never in the path of requests.
    #[must_use]
    pub fn diagnose(&self, parts: &Parts, body: &[u8]) -> Vec<Hint> {
        let now = self.inner.clock.now();
        let scheme = self.scheme();
        let some = |take: &dyn Fn(&Key) -> bool| {
            let keys = &self.inner.keys;
            let keys = keys.without_end(|key| key.fits(scheme) && take(key));
            Trial::new(scheme, keys)
        };
        let active = some(&|key| key.active(|| now));
        let judged = active.within(self, now);
        let Some(error) = judged.and_then(|one| one.error(parts, body)) else {
            return Vec::new();
        };
        let mut hints = Vec::new();
        if active.accepts(parts, body) {
            hints.push(Hint::OnlyTime);
        }
        for id in self.inner.keys.ids() {
            let ended = some(&|key| key.id == id && !key.active(|| now));
            if ended.accepts(parts, body) {
                hints.push(Hint::EndedKey(id));
            }
        }
        let mut changes = bodies::before_change(body).into_iter();
        let found = changes.find(|(_, body)| active.accepts(parts, body));
        hints.extend(found.map(|(change, _)| Hint::Body(change)));
        if let Reason::Missing(_) = error {
            let others = presets::names().filter(|name| *name != scheme.name());
            hints.extend(
                others
                    .filter(|name| has_headers(name, parts))
                    .map(Hint::HeadersOf),
            );
        }
        hints.dedup();
        hints
    }
}

impl Scheme {
    /// Whether the text of a secret is good for a delivery in another form, or under another
    /// preset; `id` as in [`secret`](Self::secret). Time and source are not judged. See the
    /// [module](crate::diagnose): for development, never in the path of requests.
    #[must_use]
    pub fn diagnose_secret(&self, id: &str, text: &str, parts: &Parts, body: &[u8]) -> Vec<Hint> {
        let accepts = |scheme: &Self, form, text: &str| {
            let secret = Secret::parse(id, form, text);
            let keys = secret.and_then(|secret| KeySet::new([secret]));
            keys.is_ok_and(|keys| Trial::new(scheme, keys).accepts(parts, body))
        };
        let own = self.key_format;
        let mut hints = Vec::new();
        let others = FORMS.into_iter().filter(|form| *form != own);
        let forms = others.filter(|form| accepts(self, *form, text));
        hints.extend(forms.map(Hint::KeyForm));
        if own == KeyFormat::StandardWebhooks && accepts(self, own, &format!("whsec_{text}")) {
            hints.push(Hint::KeyPrefix("whsec_"));
        }
        let trimmed = text.trim();
        for inner in [trimmed, trimmed.trim_matches(['"', '\''])] {
            if inner != text && accepts(self, own, inner) {
                hints.push(Hint::KeyAround);
            }
        }
        for name in presets::names().filter(|name| *name != self.name()) {
            let found = presets::by_name(name);
            if found.is_some_and(|scheme| accepts(&scheme, scheme.key_format(), text)) {
                hints.push(Hint::OtherScheme(name));
            }
        }
        hints.dedup();
        hints
    }
}

/// Those of shared keys, and the forms in which public ones are shown.
const FORMS: [KeyFormat; 7] = [
    KeyFormat::Text,
    KeyFormat::Base64,
    KeyFormat::Hex,
    KeyFormat::StandardWebhooks,
    KeyFormat::Ed25519Hex,
    KeyFormat::Spki,
    KeyFormat::Pem,
];

fn has_headers(name: &str, parts: &Parts) -> bool {
    let Some(scheme) = presets::by_name(name) else {
        return false;
    };
    let mut headers = scheme.headers().peekable();
    headers.peek().is_some() && headers.all(|header| parts.headers.contains_key(header))
}

/// A verifier that judges the signature alone.
struct Trial(Option<Verifier>);

impl Trial {
    fn new(scheme: &Scheme, keys: KeySet) -> Self {
        Self::of(scheme, keys, FOR_EVER, Duration::ZERO)
    }

    /// As [`new`](Self::new), and the time as `verifier` does.
    fn within(&self, verifier: &Verifier, now: Duration) -> Option<Self> {
        let keys = self.0.as_ref()?.keys().clone();
        let inner = &verifier.inner;
        Some(Self::of(&inner.scheme, keys, inner.tolerance, now))
    }

    /// None without a key that fits.
    fn of(
        scheme: &Scheme,
        keys: KeySet,
        (past, future): (Duration, Duration),
        now: Duration,
    ) -> Self {
        let mut builder = Verifier::builder(scheme.clone());
        if scheme.tolerance().is_some() {
            builder = builder.tolerance(past, future);
        }
        let built = builder
            .keys(keys)
            .replay_lifetime(FOR_EVER.0)
            .methods([])
            .order(Step::SIGNATURE_FIRST)
            .body_limit(usize::MAX)
            .clock(At(now))
            .build();
        Self(built.ok())
    }

    fn accepts(&self, parts: &Parts, body: &[u8]) -> bool {
        let verifier = self.0.as_ref();
        verifier.is_some_and(|verifier| verifier.verify(parts, None, body).is_ok())
    }

    fn error(&self, parts: &Parts, body: &[u8]) -> Option<Reason> {
        let error = self.0.as_ref()?.verify(parts, None, body).err()?;
        Some(error.reason().clone())
    }
}

const FOR_EVER: (Duration, Duration) = (Duration::MAX, Duration::MAX);

/// A clock that stands still.
#[derive(Debug)]
struct At(Duration);

impl WallClock for At {
    fn now(&self) -> Duration {
        self.0
    }
}
