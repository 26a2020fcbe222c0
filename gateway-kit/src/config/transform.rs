//! `[transform]`.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::load::check_range;
use super::{ByteSize, ConfigError, FieldName};
use crate::headers;
use crate::policy::identity::Identity;

/// `[transform]`: what is changed in requests and answers on their way through.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TransformConfig {
    /// Changes of what the upstream gets.
    pub request: EditConfig,
    /// Changes of what the client gets.
    pub response: EditConfig,
    /// Most bytes of a JSON body whose fields are renamed, 1 to 64 MiB; default 1 MiB.
    pub max_body: ByteSize,
}

/// Changes of one direction: fields are removed, then set, then added.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct EditConfig {
    /// Header fields that are removed.
    pub remove: Vec<FieldName>,
    /// Header fields that get this value in place of any other.
    pub set: BTreeMap<String, String>,
    /// Header fields that get this value beside what is there.
    pub add: BTreeMap<String, String>,
    /// Fields of JSON bodies by their path (`"user.name"`, through lists), and their new names.
    pub rename: BTreeMap<String, String>,
}

impl Default for TransformConfig {
    fn default() -> Self {
        Self {
            request: EditConfig::default(),
            response: EditConfig::default(),
            max_body: ByteSize::new(1 << 20),
        }
    }
}

impl TransformConfig {
    pub(super) fn check(&self, field: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
        let field = |name: &str| field(&format!("transform.{name}"));
        let most = usize::try_from(self.max_body.bytes()).unwrap_or(usize::MAX);
        check_range(&field("max_body"), most, 1..=64 << 20)?;
        self.request
            .check(|name| field(&format!("request.{name}")))?;
        self.response
            .check(|name| field(&format!("response.{name}")))
    }
}

impl TransformConfig {
    /// What the gateway tells upstreams of who a client is must be its own word.
    pub(super) fn check_identity(
        &self,
        identity: &Identity,
        field: &dyn Fn(&str) -> String,
    ) -> Result<(), ConfigError> {
        for (way, edit) in [("request", &self.request), ("response", &self.response)] {
            let removed = edit.remove.iter().enumerate();
            let removed =
                removed.map(|(index, name)| (format!("remove[{index}]"), name.name().clone()));
            let tables = [("set", &edit.set), ("add", &edit.add)].into_iter();
            let given = tables.flat_map(|(table, fields)| {
                let names = fields.keys();
                names.filter_map(move |name| Some((format!("{table}.{name}"), name.parse().ok()?)))
            });
            if let Some((place, _)) = removed.chain(given).find(|(_, name)| identity.is_one(name)) {
                return Err(ConfigError::new(
                    field(&format!("transform.{way}.{place}")),
                    "tells who the client is, by claim_headers; any other field",
                ));
            }
        }
        Ok(())
    }
}

impl EditConfig {
    fn check(&self, field: impl Fn(&str) -> String) -> Result<(), ConfigError> {
        for (index, name) in self.remove.iter().enumerate() {
            check_name(name.name(), || field(&format!("remove[{index}]")))?;
        }
        for (table, fields) in [("set", &self.set), ("add", &self.add)] {
            for (name, value) in fields {
                let place = || field(&format!("{table}.{name}"));
                let known: HeaderName = name.parse().map_err(|_| {
                    ConfigError::new(place(), "the key must be the name of a header field")
                })?;
                check_name(&known, place)?;
                let plain = value.trim() == value && HeaderValue::from_str(value).is_ok();
                if !plain {
                    return Err(ConfigError::new(
                        place(),
                        "must be the value of a header field: visible ASCII and inner spaces",
                    ));
                }
            }
        }
        for (path, name) in &self.rename {
            let place = || field(&format!("rename.{path}"));
            let last = path.rsplit('.').next().unwrap_or_default();
            if path.split('.').any(str::is_empty) {
                return Err(ConfigError::new(
                    place(),
                    "the key must be names with \".\" between them, like \"user.name\"",
                ));
            }
            if name.is_empty() || name == last {
                return Err(ConfigError::new(
                    place(),
                    "must be another name for the last name of the path",
                ));
            }
            let parent = path.strip_suffix(last).unwrap_or_default();
            let target = format!("{parent}{name}");
            let twice = self.rename.iter().any(|(other, same)| {
                other != path
                    && same == name
                    && other
                        .rsplit('.')
                        .next()
                        .is_some_and(|last| other.strip_suffix(last).unwrap_or_default() == parent)
            });
            if twice || self.rename.contains_key(&target) {
                return Err(ConfigError::new(
                    place(),
                    "is the name of another field that is renamed; each name once",
                ));
            }
        }
        Ok(())
    }
}

fn check_name(name: &HeaderName, place: impl FnOnce() -> String) -> Result<(), ConfigError> {
    match headers::is_fixed(name) {
        false => Ok(()),
        true => Err(ConfigError::new(
            place(),
            "is a field of the connection, the framing, the host, or one the gateway sets itself; \
             any other field",
        )),
    }
}
