//! `[compression]`.

use serde::{Deserialize, Serialize};

use super::ByteSize;
use super::check::{Bounds, Place, bounds};

/// `[compression]`: answers are compressed for clients that accept it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CompressionConfig {
    /// The codings, the best first; of those that a client likes alike the first is taken.
    /// Default all that are built in.
    pub codings: Vec<Coding>,
    /// Shorter answers stay as they are; default 1024 bytes. An answer of unknown length is
    /// compressed.
    pub min_size: ByteSize,
    /// The kinds of content, `type/subtype`, `type/*` or `*/*+suffix`; default text, JSON,
    /// JavaScript, XML, SVG, WebAssembly and fonts that are not compressed.
    pub types: Vec<MediaPattern>,
    /// How hard to try; default balanced.
    pub effort: CompressionEffort,
}

/// A content coding.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Coding {
    /// Brotli (RFC 7932).
    #[cfg(feature = "compression-brotli")]
    Br,
    /// Zstandard (RFC 8878).
    #[cfg(feature = "compression-zstd")]
    Zstd,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// The name in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            #[cfg(feature = "compression-brotli")]
            Self::Br => "br",
            #[cfg(feature = "compression-zstd")]
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Those that are built in.
    const ALL: &[Self] = &[
        #[cfg(feature = "compression-brotli")]
        Self::Br,
        #[cfg(feature = "compression-zstd")]
        Self::Zstd,
        Self::Gzip,
    ];

    /// The coding of that name in `Accept-Encoding`.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        // RFC 9110, section 8.4.1.3.
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        let mut all = Self::ALL.iter().copied();
        all.find(|coding| name.eq_ignore_ascii_case(coding.as_str().as_bytes()))
    }
}

/// Time against size.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CompressionEffort {
    /// Least time.
    Fast,
    /// In between.
    #[default]
    Balanced,
    /// Several times the time of `balanced` for some per cent.
    Small,
}

/// A kind of content: `text/html`, `text/*`, `*/*+json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct MediaPattern(String);

impl MediaPattern {
    /// Whether a media type in lower case and without parameters is of this kind.
    pub(crate) fn matches(&self, kind: &str) -> bool {
        if let Some(suffix) = self.0.strip_prefix("*/*") {
            return kind.ends_with(suffix);
        }
        match self.0.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => kind == self.0,
        }
    }
}

impl TryFrom<String> for MediaPattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let token = |token: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !token.is_empty() && token.bytes().all(good)
        };
        let good = match text.split_once('/') {
            Some(("*", rest)) => rest
                .strip_prefix("*+")
                .is_some_and(|suffix| token(suffix) && !suffix.contains('+')),
            Some((kind, "*")) => token(kind),
            Some((kind, subtype)) => token(kind) && token(subtype),
            None => false,
        };
        if !good {
            return Err("must be a media type like \"text/html\", \"text/*\" or \"*/*+json\"");
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl From<MediaPattern> for String {
    fn from(pattern: MediaPattern) -> Self {
        pattern.0
    }
}

/// What compression makes clearly smaller.
const TYPES: [&str; 12] = [
    "text/*",
    "*/*+json",
    "*/*+xml",
    "*/*+text",
    "application/javascript",
    "application/json",
    "application/wasm",
    "application/x-javascript",
    "application/xml",
    "application/x-ndjson",
    "font/otf",
    "font/ttf",
];

impl Default for CompressionConfig {
    fn default() -> Self {
        Self {
            codings: Coding::ALL.to_vec(),
            min_size: ByteSize::new(1024),
            types: TYPES.map(|kind| MediaPattern(kind.to_owned())).to_vec(),
            effort: CompressionEffort::default(),
        }
    }
}

impl CompressionConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        let mut place = place.at("compression");
        place.bounds(self);
        if self.codings.is_empty() {
            place.at("codings").refuse("needs at least one coding");
        }
        for (index, coding) in self.codings.iter().enumerate() {
            if self.codings[..index].contains(coding) {
                place
                    .at(format_args!("codings[{index}]"))
                    .refuse("is in the list already; each coding once");
            }
        }
        if self.types.is_empty() {
            place.at("types").refuse("needs at least one kind");
        }
    }
}

bounds! {
    CompressionConfig {
        min_size: Bounds::bytes(0, 1 << 30),
    }
}
