//! `[admin]`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::check::Place;
use super::{Config, Network, Switch, files};

/// `[admin]`: the admin API and its page.
///
/// Off unless there is a token or an `allow` list; with both, both are asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AdminConfig {
    /// Where it listens; default `127.0.0.1:9901`. `false`: nowhere of its own.
    pub listen: Switch<SocketAddr>,
    /// Whether its own address speaks TLS, with the certificates of `[tls]`; default false.
    pub tls: bool,
    /// The token, from `ADMIN_TOKEN`; never in the file.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub token: Option<AdminToken>,
    /// A file with tokens, one per line; all of them are good, so that one can be replaced.
    pub token_file: Option<PathBuf>,
    /// The addresses that may come; default all that have a token. Without a token these need
    /// none.
    pub allow: Vec<Network>,
    /// Whether `/admin` is answered on the public address as well, before any route; needs a
    /// token; default false.
    pub public: bool,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: Switch::On((Ipv4Addr::LOCALHOST, 9901).into()),
            tls: false,
            token: None,
            token_file: None,
            allow: Vec::new(),
            public: false,
        }
    }
}

/// What admits to the admin API: 16 to 256 visible ASCII characters. Never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct AdminToken(String);

impl AdminToken {
    /// The most bytes of a token.
    pub(crate) const LONGEST: usize = 256;

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<&str> for AdminToken {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let good = (16..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            return Err("must be 16 to 256 visible ASCII characters");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for AdminToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

const REDACTED: &str = "[redacted]";

/// The largest file of tokens.
const MOST: u64 = 64 * 1024;

impl AdminConfig {
    /// All tokens there are.
    pub(crate) fn tokens(&self) -> Result<Vec<AdminToken>, String> {
        let mut tokens: Vec<_> = self.token.clone().into_iter().collect();
        if let Some(file) = &self.token_file {
            let told = |reason: String| format!("{}: {reason}", file.display());
            tokens.extend(read(file).map_err(told)?);
        }
        Ok(tokens)
    }

    /// Whether anybody can be let in.
    pub(crate) fn is_on(&self) -> bool {
        self.token.is_some() || self.token_file.is_some() || !self.allow.is_empty()
    }
}

fn read(file: &Path) -> Result<Vec<AdminToken>, String> {
    let text = files::read_text(file, MOST).map_err(|error| error.to_string())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Result<Vec<_>, _> = lines.map(AdminToken::try_from).collect();
    let tokens = tokens.map_err(|reason| format!("each token {reason}"))?;
    if tokens.is_empty() {
        return Err("holds no token".to_owned());
    }
    Ok(tokens)
}

/// What is wrong with `[admin]`.
pub(super) fn check(config: &Config, top: &mut Place<'_>) {
    let Some(admin) = &config.admin else {
        return;
    };
    let mut place = top.at("admin");
    if admin.tls && !config.speaks_tls() {
        place
            .at("tls")
            .refuse("needs a [tls] section with certificates");
    }
    if let Some(file) = &admin.token_file
        && let Err(reason) = read(file)
    {
        place.at("token_file").refuse(reason);
    }
}

impl Config {
    fn speaks_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}
