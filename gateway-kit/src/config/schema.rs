//! The configuration as JSON Schema (2020-12), made from its types: names, descriptions and forms
//! are theirs. What one field alone cannot say is left to [`Config::from_toml`].

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::balance::EndpointTable;
use super::health::StatusRange;
use super::human::Human;
use super::{
    ByteSize, Config, EndpointConfig, EndpointUrl, FieldName, FieldText, HostPattern, MethodName,
    Network, OriginPattern, PlainPath, Prefix, ProbeHost, ProbePath, Several, Switch,
};

/// Units as humantime has them.
const SPAN: &str = "^ *([0-9]+ *(nsec|ns|usec|us|µs|msec|ms|seconds?|secs?|s|minutes?|mins?|m|\
                    hours?|hrs?|h|days?|d|weeks?|wks?|wk|w|months?|M|years?|yrs?|y) *)+$";

impl Config {
    /// The JSON Schema of a configuration.
    pub fn schema() -> Value {
        let settings = SchemaSettings::draft2020_12().for_deserialize();
        let schema = settings.into_generator().into_root_schema_for::<Self>();
        let mut schema = Value::from(schema);
        without_null(&mut schema);
        for (of, field, low, high) in RANGES {
            let of = match *of {
                "" => Some(&mut schema),
                name => schema.get_mut("$defs").and_then(|all| all.get_mut(name)),
            };
            let field = of.and_then(|of| of.get_mut("properties")?.get_mut(field));
            if let Some(Value::Object(field)) = field {
                narrow(field, *low, *high);
            }
        }
        if let Value::Object(schema) = &mut schema {
            schema.insert("title".to_owned(), "Configuration of gateway".into());
        }
        schema
    }
}

/// Ranges of numbers that the check of a configuration knows: type (none: the top), field, lowest,
/// highest.
const RANGES: &[(&str, &str, f64, f64)] = &[
    ("ServerConfig", "min_body_rate", 1.0, 1e9),
    ("ServerConfig", "max_head_bytes", 8192.0, 1_048_576.0),
    ("ServerConfig", "max_headers", 1.0, 1000.0),
    ("ServerConfig", "max_connections", 1.0, 1e6),
    ("ServerConfig", "max_connections_per_client", 1.0, 1e6),
    ("ServerConfig", "max_concurrent_streams", 1.0, 10_000.0),
    ("UpstreamConfig", "max_streams", 1.0, 10_000.0),
    ("UpstreamConfig", "replay_bytes", 1.0, 1_048_576.0),
    ("EndpointTable", "weight", 0.0, 1000.0),
    ("SplitConfig", "weight", 0.0, 1000.0),
    ("HealthConfig", "jitter", 0.0, 0.5),
    ("HealthConfig", "healthy", 1.0, 1000.0),
    ("HealthConfig", "unhealthy", 1.0, 1000.0),
    ("RateLimitConfig", "max_keys", 1.0, 1e7),
    ("RateLimitConfig", "ipv6_prefix", 1.0, 128.0),
    ("TraceConfig", "sample", 0.0, 1.0),
    ("OtelConfig", "max_queue", 16.0, 1e6),
    ("AccessLogConfig", "sample", 0.0, 1.0),
    ("Breaker", "failure_rate", 0.0, 1.0),
    ("Breaker", "slow_call_rate", 0.0, 1.0),
    ("Breaker", "consecutive_failures", 1.0, 10_000.0),
];

/// Sets the bounds of a number, also of one that may be something else as well.
fn narrow(field: &mut Map<String, Value>, low: f64, high: f64) {
    let number = |value: f64| match value.fract() == 0.0 {
        true => json!(value as i64),
        false => json!(value),
    };
    if let Some(Value::Array(forms)) = field.get_mut("anyOf") {
        for form in forms.iter_mut().filter_map(Value::as_object_mut) {
            narrow(form, low, high);
        }
        return;
    }
    let kind = field.get("type").and_then(Value::as_str);
    if !matches!(kind, Some("integer" | "number")) {
        return;
    }
    field.insert("minimum".to_owned(), number(low));
    field.insert("maximum".to_owned(), number(high));
}

/// TOML has no null: what is not set is left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
                forms.retain(|form| *form != json!({ "type": "null" }));
                // What is left of a choice is none.
                if let [Value::Object(only)] = forms.as_mut_slice() {
                    let only = std::mem::take(only);
                    object.remove("anyOf");
                    for (name, value) in only {
                        object.entry(name).or_insert(value);
                    }
                }
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Types that say their form themselves.
macro_rules! forms {
    ($($name:ident: $form:expr;)*) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $form
            }
        })*
    };
}

forms! {
    Human: json_schema!({
        "type": "string",
        "pattern": SPAN,
        "description": "A duration: \"500ms\", \"30s\", \"1m 30s\".",
    });
    ByteSize: json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+ *([KMGT]i)?B?$" },
        ],
        "description": "A number of bytes: 65536, \"64KiB\", \"10MiB\".",
    });
    StatusRange: json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" },
        ],
        "description": "A status, 200, or a range, \"200-399\".",
    });
}

/// Values that are read from a text: what it must be like, and what it is.
macro_rules! texts {
    ($($name:ident: $pattern:literal, $description:literal;)*) => {
        forms! {
            $($name: json_schema!({
                "type": "string",
                "pattern": $pattern,
                "description": $description,
            });)*
        }
    };
}

texts! {
    EndpointUrl: "^https?://[^/?#@]+:[0-9]+$", "One address, `http://host:port`.";
    FieldName: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "The name of a header field.";
    FieldText: "^[^\\r\\n]*$", "The value of a header field.";
    HostPattern: "^((\\*\\.)?[0-9A-Za-z._-]+|\\[[0-9A-Fa-f:.]+\\])$",
        "A host, or all below a name, `*.example.com`.";
    MethodName: "^[A-Z-]+$", "A method in capitals.";
    Network: "^[0-9A-Fa-f:.]+(/[0-9]+)?$", "An address or a network, `10.0.0.0/8`.";
    OriginPattern: "^(\\*|https?://.+)$", "An origin, `https://shop.example.com`.";
    PlainPath: "^/[^?#{}]*$", "A path in plain form.";
    Prefix: "^/[^?#{}]*$", "The prefix of a path, in plain form.";
    ProbeHost: "^[^@]+$", "A host, with or without a port.";
    ProbePath: "^/[^#]*$", "A path, with or without a query.";
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrFalse", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "const": false }] })
    }
}

impl<T: JsonSchema> JsonSchema for Several<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Several{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl JsonSchema for EndpointConfig {
    fn schema_name() -> Cow<'static, str> {
        "EndpointConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = generator.subschema_for::<EndpointUrl>();
        let table = generator.subschema_for::<EndpointTable>();
        json_schema!({
            "anyOf": [url, table],
            "description": "One endpoint of an upstream: its URL, or a table with what else is to be said of it.",
        })
    }
}

/// A setting that can be `"off"`.
pub(super) struct Off<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Off<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "const": "off" }] })
    }
}

/// Stand-ins for the settings of resilience-core, which knows no schemas; only their forms are used.
/// A test holds their fields to the real ones.
#[allow(dead_code, reason = "only the forms are used")]
mod core {
    use super::{Human, JsonSchema, Off};

    /// A circuit breaker.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    pub(in crate::config) struct Breaker {
        /// Share of failed calls in a window that opens; default 0.5.
        failure_rate: Option<Off<f64>>,
        /// Failures in a window that open; default off.
        failure_count: Option<Off<u32>>,
        /// Fewest calls in a window for which a rate is judged; default 20.
        minimum_calls: Option<u32>,
        /// How many calls the count window holds; default 100.
        count_window: Option<Off<u32>>,
        /// How long a call stays in the time window; default off.
        time_window: Option<Off<Human>>,
        /// A call that takes longer is slow; default off.
        slow_call: Option<Off<Human>>,
        /// Share of slow calls in a window that opens; default 0.5.
        slow_call_rate: Option<Off<f64>>,
        /// Failures in a row that open; default off.
        consecutive_failures: Option<Off<u32>>,
        /// Probes admitted per half-open period; default 10.
        half_open_permits: Option<u32>,
        /// Successful probes that close; default 1.
        success_threshold: Option<u32>,
        /// Share of failed probes that reopens, in place of success_threshold.
        half_open_failure_rate: Option<f64>,
        /// Probes that may fail without reopening.
        probe_failures: Option<u32>,
        /// How long it stays open the first time; default 30 s.
        reset_timeout: Option<Human>,
        /// The longest it stays open after several openings in a row; default 5 min.
        max_reset_timeout: Option<Human>,
        /// Share of the reset timeout by which it varies; default 0.
        jitter: Option<f64>,
        /// How long a probe may take before it is written off; default reset_timeout.
        lease: Option<Human>,
        /// What a dropped call counts as; default `ignore`.
        on_cancel: Option<OnCancel>,
    }

    /// What a dropped call counts as.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "snake_case")]
    enum OnCancel {
        /// Nothing.
        Ignore,
        /// A failure.
        Failure,
        /// A failure if it ran at least this long.
        FailureAfter(Human),
        /// A failure if it was slow by then.
        FailureWhenSlow,
    }

    /// Requests at once.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    pub(in crate::config) struct Bulkhead {
        /// The most requests at once; default 100.
        limit: Option<u32>,
        /// The most that wait; default 0.
        max_queue: Option<u32>,
        /// How long one waits at most; default 1 s.
        max_wait: Option<Off<Human>>,
    }

    /// Retries beside first tries.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    pub(in crate::config) struct Retry {
        /// Retries per first try; default 0.2.
        share: Option<f64>,
        /// And beside that; default 10.
        floor_per_second: Option<u32>,
        /// The most at once.
        burst: Option<u32>,
    }

    /// A limit that is found out.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    pub(in crate::config) struct Adaptive {
        /// By what rule the limit moves; default `gradient2`.
        algorithm: Option<Algorithm>,
        /// Default 20.
        initial_limit: Option<u32>,
        /// Default 5.
        min_limit: Option<u32>,
        /// Default 1000.
        max_limit: Option<u32>,
        /// How often the limit moves; default 100 ms.
        window: Option<Human>,
        /// The fewest calls of a window; default 10.
        min_samples: Option<u32>,
        /// Share of dropped calls that lowers the limit; default 0.05.
        drop_rate: Option<f64>,
        /// By what it is lowered; default 0.9.
        backoff_ratio: Option<f64>,
        /// A call that takes longer is dropped (aimd); default 5 s.
        timeout: Option<Off<Human>>,
        /// How much longer than usual calls may take (gradient2); default 1.5.
        tolerance: Option<f64>,
        /// Calls that may queue; default 4.
        queue_size: Option<u32>,
        /// Weight of the newest limit; default 0.2.
        smoothing: Option<f64>,
        /// Windows of the usual time; default 600.
        long_window: Option<u32>,
    }

    /// By what rule the limit moves.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "snake_case")]
    enum Algorithm {
        Aimd,
        Vegas,
        Gradient2,
    }
}

pub(super) use self::core::{Adaptive, Breaker, Bulkhead, Retry};
