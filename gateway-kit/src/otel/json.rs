//! OTLP in JSON: the messages of opentelemetry-proto with names in lowerCamelCase, ids in
//! hexadecimal digits, 64-bit numbers as text and enumerations as numbers.

use serde_json::{Map, Value as Json, json};

use super::{Kind, Span, Value};
use crate::trace::write_hex;

/// Flags of a span: sampled, and that it is known whether the parent is remote, and that it is.
const SAMPLED: u32 = 1;
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;
/// The number of the status of what failed.
const ERROR: u32 = 2;

/// A message with these spans.
pub(super) fn encode(service: &str, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        ("service.name", service),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", "gateway-kit"),
        ("telemetry.sdk.version", version),
    ];
    let resource = resource.map(|(key, text)| attribute(key, &text.into()));
    let spans: Vec<_> = spans.iter().map(span).collect();
    let message = json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{
                "scope": { "name": "gateway-kit", "version": version },
                "spans": spans,
            }],
        }],
    });
    message.to_string().into_bytes()
}

fn span(span: &Span) -> Json {
    let remote = if span.remote { REMOTE } else { 0 };
    let attributes = span.attributes.iter();
    let attributes = attributes.map(|(key, value)| attribute(key, value));
    let mut status = Map::new();
    if span.failed {
        status.insert("code".to_owned(), ERROR.into());
    }
    let mut shown = json!({
        "traceId": hex(&span.trace),
        "spanId": hex(&span.id),
        "flags": SAMPLED | REMOTE_KNOWN | remote,
        "name": span.name,
        "kind": match span.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes.collect::<Vec<_>>(),
        "status": status,
    });
    if let Json::Object(shown) = &mut shown {
        if let Some(parent) = &span.parent {
            shown.insert("parentSpanId".to_owned(), hex(parent).into());
        }
        if let Some(state) = span.state.as_ref().and_then(|state| state.to_str().ok()) {
            shown.insert("traceState".to_owned(), state.into());
        }
    }
    shown
}

fn attribute(key: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": key, "value": value })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; 2 * bytes.len()];
    write_hex(&mut text, bytes);
    // Digits are ASCII.
    String::from_utf8(text).unwrap_or_default()
}
