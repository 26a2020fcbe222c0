//! The configuration as JSON Schema (2020-12), made from its types: names, descriptions and forms
//! are theirs. What one field alone cannot say is left to [`Config::from_toml`].

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::balance::EndpointTable;
use super::check::{Amount, Bounded, Bounds};
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
        if let Value::Object(schema) = &mut schema {
            schema.insert("title".to_owned(), "Configuration of gateway".into());
        }
        schema
    }
}

/// Tells the bounds of a section's fields.
pub(super) fn narrow<T: Bounded>(schema: &mut Schema) {
    tell(schema, T::BOUNDS);
}

/// JSON Schema has no bounds for times and for sizes in words: they are `x-minimum` and `x-maximum`.
fn tell(schema: &mut Schema, bounds: &[(&str, Bounds)]) {
    for (name, bounds) in bounds {
        let all = schema.get_mut("properties");
        let field = all.and_then(|all| all.get_mut(name)?.as_object_mut());
        let Some(field) = field else { continue };
        let low = if bounds.over {
            "exclusiveMinimum"
        } else {
            "minimum"
        };
        let high = if bounds.below {
            "exclusiveMaximum"
        } else {
            "maximum"
        };
        for (rule, word, amount) in [
            (low, "x-minimum", bounds.low),
            (high, "x-maximum", bounds.high),
        ] {
            let number = match amount {
                Amount::Whole(number) => json!(number),
                Amount::Real(number) => json!(number),
                Amount::Bytes(size) => json!(size.bytes()),
                Amount::Time(_) => Value::Null,
            };
            if !number.is_null() {
                field.insert(rule.to_owned(), number);
            }
            if matches!(amount, Amount::Bytes(_) | Amount::Time(_)) {
                let text = amount.to_string();
                field.insert(word.to_owned(), text.trim_matches('"').into());
            }
        }
    }
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
/// Tests hold their fields and bounds to the real ones.
#[allow(dead_code, reason = "only the forms are used")]
mod core {
    use std::time::Duration;

    use super::{Human, JsonSchema, Off, Schema, tell};
    use crate::config::check::{Bounds, DAY, MILLISECOND, SHARE, SOME, TIME};

    /// What any time may be that only has an end.
    const SPAN: Bounds = Bounds::time(Duration::from_nanos(1), DAY);
    const MILLION: Bounds = Bounds::whole(1, 1_000_000);
    const CALLS: Bounds = Bounds::whole(1, 10_000_000);
    const PLACES: Bounds = Bounds::whole(1, 1 << 30);

    const BREAKER: &[(&str, Bounds)] = &[
        ("failure_rate", SOME),
        ("failure_count", CALLS),
        ("minimum_calls", CALLS),
        ("count_window", CALLS),
        (
            "time_window",
            Bounds::time(MILLISECOND.saturating_mul(10), Duration::from_secs(3600)),
        ),
        ("slow_call", SPAN),
        ("slow_call_rate", SOME),
        ("consecutive_failures", Bounds::whole(1, 10_000)),
        ("half_open_permits", Bounds::whole(1, 1023)),
        ("success_threshold", Bounds::whole(1, 1023)),
        ("half_open_failure_rate", SOME),
        ("probe_failures", Bounds::whole(0, 1022)),
        ("reset_timeout", TIME),
        ("max_reset_timeout", TIME),
        ("jitter", SHARE.below()),
        ("lease", TIME),
    ];
    const BULKHEAD: &[(&str, Bounds)] = &[
        ("limit", PLACES),
        ("max_queue", Bounds::whole(0, 1_000_000)),
        ("max_wait", SPAN),
    ];
    const RETRY: &[(&str, Bounds)] = &[
        ("share", SHARE),
        ("floor_per_second", Bounds::whole(0, 1_000_000)),
        ("burst", MILLION),
    ];
    const ADAPTIVE: &[(&str, Bounds)] = &[
        ("initial_limit", PLACES),
        ("min_limit", PLACES),
        ("max_limit", PLACES),
        ("window", TIME),
        ("min_samples", MILLION),
        ("drop_rate", SOME),
        ("backoff_ratio", Bounds::real(0.5, 1.0).below()),
        ("timeout", TIME),
        ("tolerance", Bounds::real(1.0, 10.0)),
        ("queue_size", Bounds::whole(1, 10_000)),
        ("smoothing", SOME),
        ("long_window", MILLION),
    ];

    /// A circuit breaker.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields, transform = |schema: &mut Schema| tell(schema, BREAKER))]
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
    #[schemars(deny_unknown_fields, transform = |schema: &mut Schema| tell(schema, BULKHEAD))]
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
    #[schemars(deny_unknown_fields, transform = |schema: &mut Schema| tell(schema, RETRY))]
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
    #[schemars(deny_unknown_fields, transform = |schema: &mut Schema| tell(schema, ADAPTIVE))]
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
