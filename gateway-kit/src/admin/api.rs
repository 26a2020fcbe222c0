//! An operation: how it is asked for, what it answers, and how the OpenAPI document tells of it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::change::Changed;
use super::{Actor, REVISION, operations, types};
use crate::body::Body;
use crate::handle::Handle;
use crate::problem::{Document, Problem};

/// One row of the table.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    /// `/admin/loadbalancer/{service}`.
    pub(super) path: &'static str,
    /// What generated clients call it.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) body: Option<Shape>,
    pub(super) answers: &'static [(StatusCode, Shape)],
    /// Refusals of its own, besides those that all have.
    pub(super) problems: &'static [(StatusCode, &'static str)],
    pub(super) run: fn(&Asked) -> Result<Reply, Problem>,
}

/// The values of a path, by name.
pub(super) type Parameters = Vec<(&'static str, String)>;

/// The schema of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape(fn(&mut SchemaGenerator) -> Schema);

impl Shape {
    pub(super) const fn of<T: JsonSchema>() -> Self {
        Self(SchemaGenerator::subschema_for::<T>)
    }
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) handle: Handle,
    pub(super) parameters: Parameters,
    pub(super) body: Bytes,
    /// The revision that it is meant for.
    pub(super) revision: Option<u64>,
    pub(super) actor: Actor,
}

/// An answer, and what was changed.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    text: String,
    changed: Option<Changed>,
}

impl Operation {
    /// The values of the path, if it is this one's.
    pub(super) fn matches(&self, path: &str) -> Option<Parameters> {
        let mut segments = path.split('/');
        let mut parameters = Vec::new();
        for wanted in self.path.split('/') {
            let segment = segments.next()?;
            match wanted
                .strip_prefix('{')
                .and_then(|name| name.strip_suffix('}'))
            {
                Some(name) => parameters.push((name, decoded(segment)?)),
                None if wanted == segment => {}
                None => return None,
            }
        }
        segments.next().is_none().then_some(parameters)
    }

    pub(super) fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

impl Asked {
    /// Answers; changes come one after the other.
    pub(super) fn run(&self, operation: &Operation) -> Result<Response<Body>, Problem> {
        let shared = self.handle.shared();
        let state = &shared.admin;
        let _writing = operation.writes().then(|| state.writing.lock());
        let now = self.handle.revision();
        if operation.writes()
            && let Some(meant) = self.revision.filter(|meant| *meant != now)
        {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "revision_changed",
                "Conflict",
                "something was changed since; look again and repeat the request",
            )
            .fault("if-revision", meant.into(), now.to_string()));
        }
        let reply = (operation.run)(self)?;
        if let Some(changed) = reply.changed {
            state.record(types::Change {
                revision: self.handle.revision(),
                at: shared.wall.now(),
                uptime_seconds: self.uptime(),
                actor: self.actor.address.to_string(),
                by: if self.actor.token { "token" } else { "address" },
                action: changed.action,
                target: changed.target,
                before: changed.before,
                after: changed.after,
            });
        }
        let mut response = Response::new(Body::from(reply.text));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REVISION, self.handle.revision().into());
        Ok(response)
    }

    /// A value of the path.
    pub(super) fn parameter(&self, name: &str) -> &str {
        let mut parameters = self.parameters.iter();
        let found = parameters.find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    /// What the body says.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let refused = match self.read() {
            Ok(read) => return Ok(read),
            Err(refused) => refused,
        };
        // JSON Schema takes 2.0 for an integer (2020-12, validation, section 6.1.1); serde does not.
        // What is said twice stays refused.
        if !refused.1.starts_with("duplicate field") {
            let mut whole: Value = serde_json::from_slice(&self.body).unwrap_or_default();
            integers(&mut whole);
            if let Ok(read) = T::deserialize(whole) {
                return Ok(read);
            }
        }
        let (field, reason) = refused;
        let value = self.value_at(&field);
        let problem = invalid("bad_body", "the body is not what is wanted here");
        Err(problem.fault(if field == "." { "(body)" } else { &field }, value, reason))
    }

    /// The body as it is written, or the place of an error and what it is.
    fn read<T: DeserializeOwned>(&self) -> Result<T, (String, String)> {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.body);
        let read = serde_path_to_error::deserialize(&mut deserializer);
        let read =
            read.map_err(|error| (error.path().to_string(), error.into_inner().to_string()))?;
        let end = deserializer.end();
        end.map_err(|error| (".".to_owned(), error.to_string()))?;
        Ok(read)
    }

    /// The value of a plain field of the body.
    fn value_at(&self, field: &str) -> Value {
        let whole: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let mut found = Some(&whole);
        for name in field.split('.') {
            found = found.and_then(|value| value.get(name));
        }
        match found {
            Some(Value::Object(_) | Value::Array(_)) | None => Value::Null,
            Some(value) => value.clone(),
        }
    }

    /// Since the gateway was made.
    pub(super) fn uptime(&self) -> f64 {
        self.handle.shared().uptime().as_secs_f64()
    }
}

impl Reply {
    pub(super) fn ok<T: Serialize>(value: &T) -> Result<Self, Problem> {
        let text = serde_json::to_string(value).map_err(|error| {
            tracing::error!(%error, "an answer of the admin cannot be written");
            Problem::internal()
        })?;
        Ok(Self {
            status: StatusCode::OK,
            text,
            changed: None,
        })
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Tells what was changed.
    pub(super) fn changed(
        mut self,
        action: &'static str,
        target: impl Into<String>,
        before: impl Into<Value>,
        after: impl Into<Value>,
    ) -> Self {
        // What is named is shorter; what a purge is of may be anything.
        const LONGEST: usize = 300;
        let target: String = target.into();
        self.changed = Some(Changed {
            action,
            target: target.chars().take(LONGEST).collect(),
            before: before.into(),
            after: after.into(),
        });
        self
    }
}

/// Makes numbers without a fraction integers.
fn integers(value: &mut Value) {
    /// Up to here each whole number has a form of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < EXACT {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(integers),
        Value::Object(fields) => fields.values_mut().for_each(integers),
        _ => {}
    }
}

/// 400: what was sent is not what is wanted.
pub(super) fn invalid(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, "Bad request", detail)
}

/// A segment of a path, which the guard has left with the escapes that it needs.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(digits[0])? * 16 + digit(digits[1])?;
        bytes.push(u8::try_from(value).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// The OpenAPI document of all operations.
pub(super) fn document() -> Value {
    let generator = |contract: Contract| {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = contract;
        });
        settings.into_generator()
    };
    let (mut said, mut heard) = (
        generator(Contract::Serialize),
        generator(Contract::Deserialize),
    );
    let problem = Shape::of::<Document<'_>>();
    let problem = (problem.0)(&mut said);
    let mut paths = Map::new();
    for operation in operations::all() {
        let described = describe(operation, &problem, &mut said, &mut heard);
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        let method = operation.method.as_str().to_ascii_lowercase();
        methods[method] = described;
    }
    let mut schemas = said.take_definitions(true);
    schemas.extend(heard.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gateway-kit admin",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a gateway does, and changes to it while it runs.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "token": [] }],
    })
}

/// What every operation may refuse with.
const COMMON: [(StatusCode, &str); 5] = [
    (
        StatusCode::BAD_REQUEST,
        "The request is not what is wanted.",
    ),
    (
        StatusCode::UNAUTHORIZED,
        "The token is missing or not known.",
    ),
    (
        StatusCode::FORBIDDEN,
        "The address or the origin may not ask.",
    ),
    (
        StatusCode::TOO_MANY_REQUESTS,
        "Too many wrong tokens came from this address.",
    ),
    (StatusCode::INTERNAL_SERVER_ERROR, "The gateway failed."),
];

/// What operations with a body may refuse with.
const OF_BODY: [(StatusCode, &str); 2] = [
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body is larger than 64 KiB.",
    ),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not JSON."),
];

const CONFLICT: (StatusCode, &str) = (
    StatusCode::CONFLICT,
    "Something was changed since, or it cannot be done as things are.",
);

fn describe(
    operation: &Operation,
    problem: &Schema,
    said: &mut SchemaGenerator,
    heard: &mut SchemaGenerator,
) -> Value {
    let revision = json!({
        "description": "The revision of the settings in force.",
        "schema": { "type": "integer", "minimum": 0 },
    });
    let mut responses = Map::new();
    for (status, shape) in operation.answers {
        responses.insert(
            status.as_str().to_owned(),
            json!({
                "description": status.canonical_reason(),
                "headers": { "revision": revision },
                "content": { "application/json": { "schema": (shape.0)(said) } },
            }),
        );
    }
    let of_body = operation.body.iter().flat_map(|_| OF_BODY);
    let of_writes = operation.writes().then_some(CONFLICT);
    let own = operation.problems.iter().copied();
    for (status, description) in own.chain(COMMON).chain(of_body).chain(of_writes) {
        responses.entry(status.as_str()).or_insert_with(|| {
            json!({
                "description": description,
                "content": { "application/problem+json": { "schema": problem } },
            })
        });
    }
    let segments = operation.path.split('/');
    let names = segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": { "type": "string", "minLength": 1 },
            })
        })
        .collect();
    if operation.writes() {
        parameters.push(json!({
            "name": "if-revision",
            "in": "header",
            "description": "Refused with 409 if this is no longer the revision in force.",
            "schema": { "type": "integer", "minimum": 0, "maximum": u64::MAX },
        }));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = operation.body {
        described["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": (body.0)(heard) } },
        });
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_fraction_is_an_integer() {
        let mut value = json!({ "a": 2.0, "b": [1.5, -3.0, 1e300], "c": 2 });
        integers(&mut value);
        assert_eq!(value, json!({ "a": 2, "b": [1.5, -3, 1e300], "c": 2 }));
    }

    #[test]
    fn a_segment_is_decoded_once() {
        assert_eq!(decoded("a%3Ab").as_deref(), Some("a:b"));
        assert_eq!(decoded("%5B::1%5D:80").as_deref(), Some("[::1]:80"));
        assert_eq!(decoded("%253A").as_deref(), Some("%3A"));
        for bad in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
