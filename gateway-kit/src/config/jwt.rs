//! `jwt`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::check::{Bounds, Place, TIME, bounds};
use super::{FieldName, FieldText, HttpUrl, UpstreamTlsConfig, balance};

/// `jwt`: requests need a good JSON Web Token (RFC 7519, 7515, 8725), signed and not encrypted.
///
/// A token without `exp` is refused, and so is one with `aud` where no `audiences` are named.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JwtConfig {
    /// The algorithms that are believed; what a token says of its own only chooses among them. Either
    /// some of HS256, HS384 and HS512, or others.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where the keys of the issuer are fetched; or `keys`, or `keys_file`.
    pub jwks_url: Option<HttpUrl>,
    /// The authorities that are believed at `jwks_url`, in PEM; default those of Mozilla.
    pub ca_file: Option<PathBuf>,
    /// Keys, each a JSON Web Key (RFC 7517), or a public key in PEM, `{ pem = "…", kid = "a" }`.
    #[serde(default)]
    pub keys: Vec<JwtKey>,
    /// A file with a JSON Web Key Set, or with up to 8 public keys in PEM (RSA, EC, Ed25519).
    pub keys_file: Option<PathBuf>,
    /// What a token has to call itself, one of these: `["at+jwt"]` for access tokens (RFC 9068);
    /// default `JWT`, `at+jwt` or nothing.
    #[serde(default)]
    pub types: Vec<String>,
    /// The issuers, one of which `iss` has to be; default any that has the key.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Whom tokens are for: `aud` has to have one of these; default tokens without `aud`.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Claims that a token has to have besides `exp`; default none.
    #[serde(default)]
    pub required_claims: Vec<String>,
    /// Scopes, all of which `scope` (or `scp`) has to have, else 403; default none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// How far the issuer's clock may be off; up to 5 min; default 30 s.
    #[serde(default = "super::seconds::<30>", with = "super::Human")]
    pub leeway: Duration,
    /// Whether requests without a token pass as well; a bad one never does. Default false.
    #[serde(default)]
    pub optional: bool,
    /// The cookie that has the token where `Authorization` has none; default none. See
    /// [`CsrfConfig`](super::CsrfConfig).
    pub cookie: Option<String>,
    /// Claims that the upstream is told, by the header fields that have them. What a client sends under
    /// these names is removed, on all routes. A claim inside another is written `/address/country`
    /// (RFC 6901); a list is joined by `,`.
    #[serde(default)]
    pub claim_headers: BTreeMap<String, FieldName>,
    /// Whether the upstream gets the token as well; default true.
    #[serde(default = "super::route::yes")]
    pub forward_token: bool,
    /// What `WWW-Authenticate` calls the place; default `gateway`.
    pub realm: Option<FieldText>,
    /// The age of fetched keys from which on they are fetched anew, while they are used; default 10 min.
    #[serde(default = "super::seconds::<600>", with = "super::Human")]
    pub refresh: Duration,
    /// The age of fetched keys from which on they are not used, as when the issuer is down for so long;
    /// default 1 h.
    #[serde(default = "super::seconds::<3600>", with = "super::Human")]
    pub max_age: Duration,
    /// The least time between two fetches, also when tokens name keys that are not known; default 10 s.
    #[serde(default = "super::seconds::<10>", with = "super::Human")]
    pub min_interval: Duration,
    /// The longest wait for the keys; default 5 s.
    #[serde(default = "super::seconds::<5>", with = "super::Human")]
    pub timeout: Duration,
}

/// An algorithm (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "the names are those of the RFCs")]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    /// With Ed25519.
    EdDSA,
}

impl JwtAlgorithm {
    /// Whether who can check a signature can also make one.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// A JSON Web Key, `{ kty = "OKP", crv = "Ed25519", x = "…", kid = "a" }`, or one with a public key in
/// PEM in place of its own members, `{ pem = "…", kid = "a" }`. Shown without secrets.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct JwtKey(Map<String, Value>);

impl JwtKey {
    pub(crate) const fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The keys of a JSON Web Key Set.
    pub(super) fn set(text: &str) -> Result<Vec<Self>, &'static str> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<JwtKey>,
        }
        let set = serde_json::from_str(text).map(|Set { keys }| keys);
        let set = set.ok().filter(|keys| !keys.is_empty());
        set.ok_or("must be a JSON Web Key Set like {\"keys\": [{\"kty\": \"OKP\", …}]}")
    }

    fn is_secret(&self) -> bool {
        self.0.get("kty").is_some_and(|kind| kind == "oct")
    }

    /// Its members, secret ones hidden.
    fn shown(&self) -> Map<String, Value> {
        const SHOWN: [&str; 9] = ["kty", "kid", "alg", "use", "crv", "x", "y", "n", "e"];
        // Then it is one public key and nothing else, or the configuration is refused.
        let is_pem = |name: &str| name == "pem" && !self.0.contains_key("kty");
        let shown = |(name, value): (&String, &Value)| {
            let value = match SHOWN.contains(&name.as_str()) || is_pem(name) {
                true => value.clone(),
                false => "[redacted]".into(),
            };
            (name.clone(), value)
        };
        self.0.iter().map(shown).collect()
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JwtKey").field(&self.shown()).finish()
    }
}

impl Serialize for JwtKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

impl JwtConfig {
    /// Puts keys in place of those of `section`, which is made if there is none: for the algorithms
    /// that go with them, and tokens without `aud`.
    pub(super) fn put_keys(section: &mut Option<Self>, keys: Vec<JwtKey>) {
        use JwtAlgorithm::{
            ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
        };
        let algorithms = match keys.iter().any(JwtKey::is_secret) {
            true => vec![HS256, HS384, HS512],
            false => vec![
                RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA,
            ],
        };
        let section = section.get_or_insert_with(|| Self::of(algorithms));
        section.keys = keys;
        section.jwks_url = None;
        section.ca_file = None;
        section.keys_file = None;
    }

    /// The defaults.
    fn of(algorithms: Vec<JwtAlgorithm>) -> Self {
        Self {
            algorithms,
            jwks_url: None,
            ca_file: None,
            keys: Vec::new(),
            keys_file: None,
            types: Vec::new(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            required_claims: Vec::new(),
            scopes: Vec::new(),
            leeway: Duration::from_secs(30),
            optional: false,
            cookie: None,
            claim_headers: BTreeMap::new(),
            forward_token: true,
            realm: None,
            refresh: Duration::from_secs(600),
            max_age: Duration::from_secs(3600),
            min_interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }

    pub(super) fn check(&self, place: &mut Place<'_>) {
        let place = &mut place.at("jwt");
        place.bounds(self);
        self.check_algorithms(&mut place.at("algorithms"));
        self.check_source(place);
        if self.max_age < self.refresh {
            place.at("max_age").refuse("must not be less than refresh");
        }
        let is_token = |name: &String| balance::is_token(name);
        if !self.cookie.as_ref().is_none_or(is_token) {
            place.at("cookie").refuse("must be the name of a cookie");
        }
        let plain = |realm: &FieldText| !realm.as_str().contains(['"', '\\']);
        if !self.realm.as_ref().is_none_or(plain) {
            place
                .at("realm")
                .refuse("must not have quotes or backslashes");
        }
        for (name, list) in [("issuers", &self.issuers), ("audiences", &self.audiences)] {
            if list.iter().any(String::is_empty) {
                place.at(name).refuse("must not have an empty one");
            }
        }
        for (name, list) in [
            ("scopes", &self.scopes),
            ("required_claims", &self.required_claims),
            ("types", &self.types),
        ] {
            let bad =
                |one: &String| one.is_empty() || one.contains([' ', '"', '\\']) || !one.is_ascii();
            if list.iter().any(bad) {
                place
                    .at(name)
                    .refuse("must be plain names, without spaces and quotes");
            }
        }
        for (claim, header) in &self.claim_headers {
            if crate::headers::is_reserved(header.name()) {
                place.at(format_args!("claim_headers.{claim}")).refuse(
                    "must not be a field that the gateway, or the message itself, depends on",
                );
            }
        }
    }

    fn check_algorithms(&self, place: &mut Place<'_>) {
        let symmetric = self.algorithms.iter().filter(|one| one.is_symmetric());
        let symmetric = symmetric.count();
        if self.algorithms.is_empty() {
            place.refuse("needs at least one algorithm");
        } else if symmetric > 0 && symmetric < self.algorithms.len() {
            place.refuse(
                "must not have HS256, HS384 or HS512 together with others: a public key is no \
                 secret",
            );
        } else if symmetric > 0 && self.jwks_url.is_some() {
            place.refuse(
                "must not have HS256, HS384 or HS512 together with jwks_url: a public key is no \
                 secret",
            );
        }
    }

    fn check_source(&self, place: &mut Place<'_>) {
        let sources = [
            self.jwks_url.is_some(),
            !self.keys.is_empty(),
            self.keys_file.is_some(),
        ];
        if sources.into_iter().filter(|there| *there).count() != 1 {
            place
                .at("jwks_url")
                .refuse("needs exactly one of jwks_url, keys and keys_file");
            return;
        }
        let url = self.jwks_url.as_ref();
        let tls = url.is_some_and(|url| url.endpoint().is_tls());
        if tls && cfg!(not(feature = "tls")) {
            place
                .at("jwks_url")
                .refuse("must be \"http://…\": this program is built without the feature \"tls\"");
        }
        if self.ca_file.is_some() && !tls {
            place.at("ca_file").refuse("needs jwks_url = \"https://…\"");
        }
        #[cfg(feature = "tls")]
        if tls && let Err(reason) = crate::upstream::pool::check_tls(&self.tls()) {
            place.at("ca_file").refuse(reason);
        }
        if self.jwks_url.is_none()
            && !self.algorithms.is_empty()
            && let Err((name, reason)) = crate::policy::jwt::fixed_keys(self)
        {
            place.at(name).refuse(reason);
        }
    }

    /// How `jwks_url` is verified.
    pub(crate) fn tls(&self) -> UpstreamTlsConfig {
        UpstreamTlsConfig {
            ca_file: self.ca_file.clone(),
            ..UpstreamTlsConfig::default()
        }
    }
}

bounds! {
    JwtConfig {
        leeway: Bounds::time(Duration::ZERO, Duration::from_secs(300)),
        refresh: TIME,
        max_age: TIME,
        min_interval: TIME,
        timeout: TIME,
    }
}
