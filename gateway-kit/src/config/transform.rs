//! `[transform]`.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::check::{Bounds, Place, bounds};
use super::{ByteSize, FieldName};
use crate::headers;
use crate::policy::identity::Identity;

/// `[transform]`: what is changed in requests and answers on their way through.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
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
    pub(super) fn check(&self, place: &mut Place<'_>) {
        let mut place = place.at("transform");
        place.bounds(self);
        self.request.check(&mut place.at("request"));
        self.response.check(&mut place.at("response"));
    }

    /// What the gateway tells upstreams of who a client is must be its own word.
    pub(super) fn check_identity(&self, identity: &Identity, place: &mut Place<'_>) {
        for (way, edit) in [("request", &self.request), ("response", &self.response)] {
            let removed = edit.remove.iter().enumerate();
            let removed =
                removed.map(|(index, name)| (format!("remove[{index}]"), name.name().clone()));
            let tables = [("set", &edit.set), ("add", &edit.add)].into_iter();
            let given = tables.flat_map(|(table, fields)| {
                let names = fields.keys();
                names.filter_map(move |name| Some((format!("{table}.{name}"), name.parse().ok()?)))
            });
            for (name, _) in removed
                .chain(given)
                .filter(|(_, name)| identity.is_one(name))
            {
                place
                    .at(format_args!("transform.{way}.{name}"))
                    .refuse("tells who the client is, by claim_headers; any other field");
            }
        }
    }
}

bounds! {
    TransformConfig {
        max_body: Bounds::bytes(1, 64 << 20),
    }
}

impl EditConfig {
    fn check(&self, place: &mut Place<'_>) {
        for (index, name) in self.remove.iter().enumerate() {
            check_name(name.name(), &mut place.at(format_args!("remove[{index}]")));
        }
        for (table, fields) in [("set", &self.set), ("add", &self.add)] {
            for (name, value) in fields {
                let mut place = place.at(format_args!("{table}.{name}"));
                match name.parse() {
                    Ok(known) => check_name(&known, &mut place),
                    Err(_) => place.refuse("the key must be the name of a header field"),
                }
                if value.trim() != value || HeaderValue::from_str(value).is_err() {
                    place.refuse(
                        "must be the value of a header field: visible ASCII and inner spaces",
                    );
                }
            }
        }
        for (path, name) in &self.rename {
            if let Some(reason) = self.misnamed(path, name) {
                place.at(format_args!("rename.{path}")).refuse(reason);
            }
        }
    }

    /// Why the field at `path` cannot be called `name`.
    fn misnamed(&self, path: &str, name: &str) -> Option<&'static str> {
        let last = path.rsplit('.').next().unwrap_or_default();
        if path.split('.').any(str::is_empty) {
            return Some("the key must be names with \".\" between them, like \"user.name\"");
        }
        if name.is_empty() || name == last {
            return Some("must be another name for the last name of the path");
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
        (twice || self.rename.contains_key(&target))
            .then_some("is the name of another field that is renamed; each name once")
    }
}

fn check_name(name: &HeaderName, place: &mut Place<'_>) {
    if headers::is_fixed(name) {
        place.refuse(
            "is a field of the connection, the framing, the host, or one the gateway sets itself; \
             any other field",
        );
    }
}
