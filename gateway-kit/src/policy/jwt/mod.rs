//! JSON Web Tokens: who is allowed in by the word of an issuer.
//!
//! What a token says of itself is believed after its signature, and its algorithm and key only as a
//! choice among those configured (RFC 8725). In every doubt the request is refused.

mod fetch;
mod keys;
mod pem;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::fetch::KeySet;
use self::fetch::NoKey;
use self::keys::{Key, read_set};
use crate::Error;
use crate::config::{FieldText, JwtConfig, files};
use crate::policy::Place;
use crate::problem::Problem;
use crate::shared::Shared;
use crate::upstream::balance;
use crate::wall::WallClock;

/// The check of one place.
#[derive(Debug)]
pub(crate) struct Jwt {
    config: JwtConfig,
    keys: Keys,
    claim_headers: Vec<(String, HeaderName)>,
    realm: String,
    wall: WallClock,
}

#[derive(Debug)]
enum Keys {
    Fixed(Vec<Key>),
    Fetched(Arc<KeySet>),
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// There is no token.
    Missing,
    /// Several that could be meant.
    Ambiguous,
    Malformed,
    /// It calls itself something else than what is taken here.
    Type,
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYet,
    Issuer,
    Audience,
    Claim,
    Scope,
    /// No keys to check by.
    Unavailable,
}

/// The longest token.
const LONGEST: usize = 16 * 1024;
/// What tokens usually call themselves, if they do.
const USUAL_TYPES: [&str; 2] = ["JWT", "at+jwt"];
/// The most keys that a token without a key's name is tried with.
const MOST_TRIES: usize = 8;

/// What is read of a token's header before its signature is checked. Members that would choose
/// keys (`jku`, `jwk`, `x5u`, `x5c`) are not.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that have to be understood; none is. Not `None` for `null`.
    #[serde(default, deserialize_with = "there")]
    crit: Option<Value>,
}

fn there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Jwt {
    pub(crate) fn compile(config: &JwtConfig, place: Place<'_>) -> Result<Self, Error> {
        let keys = match &config.jwks_url {
            None => {
                let keys = fixed_keys(config);
                Keys::Fixed(
                    keys.map_err(|(field, why)| Error::Settings(format!("jwt.{field} {why}")))?,
                )
            }
            Some(url) => {
                let known = place.shared.key_sets.get(&KeySet::name_of(config, url));
                let new = || Arc::new(KeySet::new(config, url, place.shared));
                Keys::Fetched(known.unwrap_or_else(new))
            }
        };
        let headers = config.claim_headers.iter();
        let headers = headers.map(|(claim, name)| (claim.clone(), name.name().clone()));
        let realm = config.realm.as_ref().map_or("gateway", FieldText::as_str);
        Ok(Self {
            keys,
            claim_headers: headers.collect(),
            realm: realm.to_owned(),
            wall: place.shared.wall.clone(),
            config: config.clone(),
        })
    }

    /// The keys that are fetched, beginning with the first fetch.
    pub(crate) fn attach(&self) -> Option<Arc<KeySet>> {
        let Keys::Fetched(set) = &self.keys else {
            return None;
        };
        set.warm();
        Some(Arc::clone(set))
    }

    /// What a good token says; `None` if there is none and need not be.
    pub(crate) async fn check(&self, headers: &HeaderMap) -> Result<Option<Value>, Refusal> {
        match self.token(headers)? {
            Some(token) => self.verify(token).await.map(Some),
            None if self.config.optional => Ok(None),
            None => Err(Refusal::Missing),
        }
    }

    /// The token of a request.
    fn token<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h [u8]>, Refusal> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let field = match (fields.next(), fields.next()) {
            (field, None) => field.map(HeaderValue::as_bytes),
            (_, Some(_)) => return Err(Refusal::Ambiguous),
        };
        if let Some(token) = field.and_then(bearer) {
            return Ok(Some(token));
        }
        match &self.config.cookie {
            None => Ok(None),
            Some(name) => one_cookie(headers, name),
        }
    }

    async fn verify(&self, token: &[u8]) -> Result<Value, Refusal> {
        if token.len() > LONGEST {
            return Err(Refusal::Malformed);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        let message = token.get(..header.len() + 1 + claims.len());
        let message = message.ok_or(Refusal::Malformed)?;
        let header: Header = decode(header)?;
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        if !self.takes(header.typ.as_deref()) {
            return Err(Refusal::Type);
        }
        let algorithm: Algorithm = header.alg.parse().map_err(|_| Refusal::Algorithm)?;
        let allowed = &self.config.algorithms;
        if !allowed.iter().any(|one| keys::of_config(*one) == algorithm) {
            return Err(Refusal::Algorithm);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature);
        let signature = signature.map_err(|_| Refusal::Malformed)?;
        let is_meant = |key: &Key| key.is_meant(header.kid.as_deref(), algorithm);
        let verifies = |key: &Key| key.verifies(algorithm, message, &signature);
        let good = match &self.keys {
            Keys::Fixed(keys) => {
                let mut meant = keys.iter().filter(|key| is_meant(key)).peekable();
                if meant.peek().is_none() {
                    return Err(Refusal::UnknownKey);
                }
                meant.take(MOST_TRIES).any(verifies)
            }
            Keys::Fetched(set) => {
                let meant = set.find(is_meant).await.map_err(|none| match none {
                    NoKey::Unknown => Refusal::UnknownKey,
                    NoKey::Unavailable => Refusal::Unavailable,
                })?;
                meant.iter().take(MOST_TRIES).any(verifies)
            }
        };
        if !good {
            return Err(Refusal::Signature);
        }
        let claims: Value = decode(claims)?;
        self.check_claims(&claims)?;
        Ok(claims)
    }

    /// Whether tokens that call themselves so are taken: a media type (RFC 7515, section 4.1.9), in any
    /// case, with `application/` or without. One made for something else is not, though it may have
    /// the same key (RFC 8725, section 3.11).
    fn takes(&self, kind: Option<&str>) -> bool {
        let types = &self.config.types;
        let Some(kind) = kind else {
            return types.is_empty();
        };
        let is = |known: &str| bare_type(kind).eq_ignore_ascii_case(bare_type(known));
        match types.is_empty() {
            true => USUAL_TYPES.into_iter().any(is),
            false => types.iter().any(|known| is(known)),
        }
    }

    /// What a token that is genuine has to say.
    fn check_claims(&self, claims: &Value) -> Result<(), Refusal> {
        if !claims.is_object() {
            return Err(Refusal::Malformed);
        }
        let now = self.wall.now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        let leeway = self.config.leeway.as_secs_f64();
        let expiry = number(claims, "exp")?.ok_or(Refusal::Claim)?;
        if now >= expiry + leeway {
            return Err(Refusal::Expired);
        }
        if number(claims, "nbf")?.is_some_and(|from| now + leeway < from) {
            return Err(Refusal::NotYet);
        }
        let issuers = &self.config.issuers;
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !issuers.is_empty()
            && !issuer.is_some_and(|one| issuers.iter().any(|known| known == one))
        {
            return Err(Refusal::Issuer);
        }
        self.check_audience(claims.get("aud"))?;
        let has = |name: &String| claims.get(name).is_some_and(|value| !value.is_null());
        if !self.config.required_claims.iter().all(has) {
            return Err(Refusal::Claim);
        }
        let mut needed = self.config.scopes.iter();
        match needed.all(|scope| has_scope(claims, scope)) {
            true => Ok(()),
            false => Err(Refusal::Scope),
        }
    }

    fn check_audience(&self, audience: Option<&Value>) -> Result<(), Refusal> {
        let ours = &self.config.audiences;
        let is_ours = |one: &Value| {
            one.as_str()
                .is_some_and(|one| ours.iter().any(|own| own == one))
        };
        let good = match audience {
            // RFC 7519, section 4.1.3: who is not named must not take it.
            None => ours.is_empty(),
            Some(Value::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
        };
        good.then_some(()).ok_or(Refusal::Audience)
    }

    /// The values that the upstream is told. A value that cannot be told makes the token bad: without
    /// it the upstream would take the user for somebody else.
    pub(crate) fn fields(&self, claims: &Value) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let mut fields = Vec::new();
        for (claim, name) in &self.claim_headers {
            let value = match claim.starts_with('/') {
                true => claims.pointer(claim),
                false => claims.get(claim),
            };
            let Some(value) = value.filter(|value| !value.is_null()) else {
                continue;
            };
            let text = text(value).ok_or(Refusal::Claim)?;
            let value = HeaderValue::from_bytes(text.as_bytes());
            fields.push((name.clone(), value.map_err(|_| Refusal::Claim)?));
        }
        Ok(fields)
    }

    /// Whether the upstream gets the token too.
    pub(crate) fn hide_token(&self, headers: &mut HeaderMap) {
        if self.config.forward_token {
            return;
        }
        let is_token = |value: &HeaderValue| bearer(value.as_bytes()).is_some();
        if headers.get(AUTHORIZATION).is_some_and(is_token) {
            headers.remove(AUTHORIZATION);
        }
        if let Some(name) = &self.config.cookie {
            remove_cookie(headers, name);
        }
    }

    /// The answer, by RFC 6750, section 3.
    pub(crate) fn problem(&self, refusal: Refusal) -> Problem {
        let (status, code, detail) = refusal.told();
        let title = match status {
            StatusCode::BAD_REQUEST => "Bad request",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::SERVICE_UNAVAILABLE => "Service unavailable",
            _ => "Unauthorized",
        };
        let problem = Problem::new(status, code, title, detail);
        if refusal == Refusal::Unavailable {
            return problem.retry_after(self.config.min_interval);
        }
        let mut challenge = format!("Bearer realm=\"{}\"", self.realm);
        match refusal {
            // Who sent no token is told nothing of errors.
            Refusal::Missing => {}
            Refusal::Ambiguous => challenge += ", error=\"invalid_request\"",
            Refusal::Scope => {
                let scopes = self.config.scopes.join(" ");
                challenge += &format!(", error=\"insufficient_scope\", scope=\"{scopes}\"");
            }
            _ => challenge += &format!(", error=\"invalid_token\", error_description=\"{detail}\""),
        }
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => problem.header(WWW_AUTHENTICATE, challenge),
            Err(_) => problem,
        }
    }
}

impl Refusal {
    /// The name in metrics.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Malformed => "malformed",
            Self::Type => "type",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim => "claim",
            Self::Scope => "scope",
            Self::Unavailable => "unavailable",
        }
    }

    const fn told(self) -> (StatusCode, &'static str, &'static str) {
        let detail = match self {
            Self::Missing => "this needs a token",
            Self::Ambiguous => "there is more than one token",
            Self::Malformed => "the token is malformed",
            Self::Type => "the token is of another kind",
            Self::Algorithm | Self::UnknownKey | Self::Signature => "the token is not genuine",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for somebody else",
            Self::Claim => "the token lacks a claim",
            Self::Scope => "the token lacks a scope",
            Self::Unavailable => "tokens cannot be checked at present",
        };
        match self {
            Self::Missing => (StatusCode::UNAUTHORIZED, "unauthenticated", detail),
            Self::Ambiguous => (StatusCode::BAD_REQUEST, "ambiguous_token", detail),
            Self::Scope => (StatusCode::FORBIDDEN, "insufficient_scope", detail),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "auth_unavailable", detail),
            _ => (StatusCode::UNAUTHORIZED, "invalid_token", detail),
        }
    }
}

/// The keys that are configured; the field that is wrong, and why.
pub(crate) fn fixed_keys(config: &JwtConfig) -> Result<Vec<Key>, (String, String)> {
    if let Some(file) = &config.keys_file {
        let field = || "keys_file".to_owned();
        let text = files::read(file, files::MOST)
            .map_err(|error| (field(), format!("cannot be read: {error}")))?;
        let pem = std::str::from_utf8(&text).ok();
        let pem = pem.filter(|text| !text.trim_start().starts_with('{'));
        if let Some(text) = pem.filter(|text| text.contains(pem::BEGIN)) {
            return in_pem(text, config).map_err(|why| (field(), why));
        }
        // What serde says might quote a secret.
        let read = read_set(&text, &config.algorithms, false)
            .map_err(|_| (field(), "is no JSON Web Key Set".to_owned()))?;
        return match read {
            (keys, unusable) if unusable.is_empty() && !keys.is_empty() => Ok(keys),
            (_, unusable) => {
                let why = unusable.first().map(ToString::to_string);
                let why = why.map_or_else(
                    || "has no key".to_owned(),
                    |why| format!("has a key that {why}"),
                );
                Err((field(), why))
            }
        };
    }
    let keys = config.keys.iter().enumerate();
    let keys = keys.map(|(index, key)| {
        let key = Key::of(key.members(), &config.algorithms, false);
        key.map_err(|why| (format!("keys[{index}]"), why.to_string()))
    });
    keys.collect()
}

/// The keys of a file in PEM. They have no names, so all of a kind are tried.
fn in_pem(text: &str, config: &JwtConfig) -> Result<Vec<Key>, String> {
    let keys = pem::blocks(text).map(|block| {
        let members = pem::read(block)?;
        Key::of(&members, &config.algorithms, true)
    });
    let keys: Result<Vec<_>, _> = keys.collect();
    let keys = keys.map_err(|why| format!("has a key that {why}"))?;
    match keys.len() > MOST_TRIES {
        true => Err(format!("has more than {MOST_TRIES} keys without names")),
        false => Ok(keys),
    }
}

/// A media type without `application/`, as it may be written.
fn bare_type(name: &str) -> &str {
    const PREFIX: &str = "application/";
    let prefix = name.get(..PREFIX.len());
    let is_long = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
    // Another slash needs the prefix.
    let bare = name.get(PREFIX.len()..).filter(|bare| !bare.contains('/'));
    bare.filter(|_| is_long).unwrap_or(name)
}

/// The token of `Authorization: Bearer …`.
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked(7)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    is_bearer.then(|| token.trim_ascii())
}

/// The value of a cookie that comes once.
fn one_cookie<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Refusal> {
    let fields = headers.get_all(COOKIE).iter();
    let mut values = fields.flat_map(|field| cookies(field.as_bytes(), name));
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Refusal::Ambiguous),
    }
}

fn cookies<'h>(field: &'h [u8], name: &str) -> impl Iterator<Item = &'h [u8]> {
    let pairs = field.split(|byte| *byte == b';');
    pairs.filter_map(move |pair| balance::cookie_of(pair, name))
}

fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let fields: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for field in fields {
        let pairs = field.as_bytes().split(|byte| *byte == b';');
        let kept = pairs.filter(|pair| balance::cookie_of(pair, name).is_none());
        let kept: Vec<&[u8]> = kept.map(<[u8]>::trim_ascii).collect();
        let kept = kept.join(&b"; "[..]);
        if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_bytes(&kept)) {
            headers.append(COOKIE, value);
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &[u8]) -> Result<T, Refusal> {
    let text = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&text).map_err(|_| Refusal::Malformed)
}

/// A date in seconds (RFC 7519, section 2).
fn number(claims: &Value, name: &str) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Refusal::Malformed),
    }
}

/// RFC 9068, section 2.2.3, and what some issuers write in its place.
fn has_scope(claims: &Value, scope: &str) -> bool {
    let has = |value: &Value| match value {
        Value::String(text) => text.split(' ').any(|one| one == scope),
        Value::Array(all) => all.iter().any(|one| one == scope),
        _ => false,
    };
    ["scope", "scp"]
        .iter()
        .any(|name| claims.get(name).is_some_and(has))
}

/// A claim as one line; elements of a list must not be mistaken for two.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Array(all) => {
            let plain = |one: &Value| match one {
                Value::Array(_) => None,
                one => text(one).filter(|text| !text.contains(',')),
            };
            let all: Option<Vec<String>> = all.iter().map(plain).collect();
            Some(all?.join(","))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// Keeps the key sets that are in force.
pub(crate) fn keep<'j>(all: impl Iterator<Item = &'j Arc<Jwt>>, shared: &Shared) {
    let sets = all.filter_map(|jwt| jwt.attach());
    let sets = sets.map(|set| (set.name.clone(), set));
    shared.key_sets.replace(sets.collect());
}
