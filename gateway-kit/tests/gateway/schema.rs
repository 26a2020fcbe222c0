//! The JSON Schema of a configuration, and that it says what the check says.

use std::collections::BTreeSet;

use gateway_kit::Config;
use regex::Regex;
use serde_json::Value;

/// A validator of what the schema uses of JSON Schema, and of no more.
struct Schema(Value);

impl Schema {
    fn accepts(&self, value: &Value) -> bool {
        self.fits(&self.0, value)
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        const KNOWN: &[&str] = &[
            "$ref",
            "$defs",
            "$schema",
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "anyOf",
            "oneOf",
            "enum",
            "const",
            "pattern",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "x-minimum",
            "x-maximum",
            "description",
            "title",
            "default",
            "format",
            "minItems",
            "maxItems",
            "uniqueItems",
            "minLength",
            "maxLength",
        ];
        let Value::Object(rules) = schema else {
            return schema.as_bool().expect("a schema");
        };
        rules.iter().all(|(rule, says)| {
            assert!(KNOWN.contains(&rule.as_str()), "{rule} is not known here");
            match rule.as_str() {
                "$ref" => {
                    let name = says.as_str().unwrap().strip_prefix("#").unwrap();
                    self.fits(self.0.pointer(name).expect(name), value)
                }
                "type" => match says {
                    Value::Array(types) => types.iter().any(|one| is(one, value)),
                    one => is(one, value),
                },
                "minLength" | "maxLength" => value.as_str().is_none_or(|text| {
                    let (length, told) = (text.chars().count() as u64, says.as_u64().unwrap());
                    match rule.as_str() {
                        "minLength" => length >= told,
                        _ => length <= told,
                    }
                }),
                "properties" => value.as_object().is_none_or(|object| {
                    object.iter().all(|(name, value)| {
                        says.get(name).is_none_or(|schema| self.fits(schema, value))
                    })
                }),
                "required" => value.as_object().is_none_or(|object| {
                    let mut names = says.as_array().unwrap().iter();
                    names.all(|name| object.contains_key(name.as_str().unwrap()))
                }),
                "additionalProperties" => value.as_object().is_none_or(|object| {
                    let known = rules.get("properties");
                    let known = |name: &String| known.is_some_and(|one| one.get(name).is_some());
                    let mut rest = object.iter().filter(|(name, _)| !known(name));
                    rest.all(|(_, value)| self.fits(says, value))
                }),
                "items" => {
                    let mut items = value.as_array().into_iter().flatten();
                    items.all(|item| self.fits(says, item))
                }
                "anyOf" | "oneOf" => {
                    let mut forms = says.as_array().unwrap().iter();
                    forms.any(|form| self.fits(form, value))
                }
                "enum" => says.as_array().unwrap().contains(value),
                "const" => says == value,
                "pattern" => value
                    .as_str()
                    .is_none_or(|text| Regex::new(says.as_str().unwrap()).unwrap().is_match(text)),
                "minimum" => value
                    .as_f64()
                    .is_none_or(|one| one >= says.as_f64().unwrap()),
                "exclusiveMinimum" => value
                    .as_f64()
                    .is_none_or(|one| one > says.as_f64().unwrap()),
                "exclusiveMaximum" => value
                    .as_f64()
                    .is_none_or(|one| one < says.as_f64().unwrap()),
                "maximum" => value
                    .as_f64()
                    .is_none_or(|one| one <= says.as_f64().unwrap()),
                _ => true,
            }
        })
    }
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    }
}

fn json(text: &str) -> Value {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

#[test]
fn the_examples_of_the_readme_are_as_the_schema_wants_them() {
    let schema = Schema(Config::schema());
    let readme = include_str!("../../README.md");
    let examples = readme.split("```toml\n").skip(1);
    let mut seen = 0;
    for example in examples {
        let (text, _) = example.split_once("```").unwrap();
        let value = json(text);
        let fields = value.as_object().unwrap();
        for (name, field) in fields {
            let mut part = serde_json::Map::new();
            part.insert(name.clone(), field.clone());
            assert!(schema.accepts(&part.into()), "{name} of\n{text}");
        }
        seen += 1;
    }
    assert!(seen >= 2);
    for text in [
        "",
        "balance = false",
        "retry = false",
        "max_age = \"1h 30m\"",
        "breaker = { failure_rate = \"off\", time_window = \"60s\" }",
    ] {
        let text = format!("[upstream.a]\nendpoints = [\"http://a:1\"]\n{text}\n");
        assert!(schema.accepts(&json(&text)), "{text}");
        Config::from_toml(&text).unwrap();
    }
}

#[test]
fn what_the_schema_refuses_the_check_refuses_too() {
    let schema = Schema(Config::schema());
    let upstream = |text: &str| format!("[upstream.a]\nendpoints = [\"http://a:1\"]\n{text}\n");
    let route = |text: &str| upstream("") + "[[route]]\nprefix = \"/\"\nupstream = \"a\"\n" + text;
    assert!(schema.accepts(&json(&route(""))));
    for bad in [
        "nonsense = 1".to_owned(),
        "listen = 8080".to_owned(),
        "trusted_proxies = [\"ten\"]".to_owned(),
        "trusted_proxies = \"10.0.0.0/8\"".to_owned(),
        "[server]\nmax_headers = 0".to_owned(),
        "[server]\nmax_head_bytes = 100".to_owned(),
        "[server]\nheader_timeout = 30".to_owned(),
        "[server]\nheader_timeout = \"soon\"".to_owned(),
        "[server]\nhttp2 = \"yes\"".to_owned(),
        "[log]\nlevel = \"loud\"".to_owned(),
        "[trace]\nsample = 2".to_owned(),
        "[trace]\ntrust = \"some\"".to_owned(),
        "[access_log]\nsample = -0.1".to_owned(),
        "access_log = true".to_owned(),
        "[reload]\ninterval = \"1 fortnight\"".to_owned(),
        "[rate_limit]\nburst = 1".to_owned(),
        "[rate_limit]\nrequests = 0".to_owned(),
        "[[rate_limit]]\nrequests = 1\nmax_keys = 0".to_owned(),
        upstream("endpoint = 1"),
        upstream("protocol = \"http3\""),
        upstream("max_streams = 0"),
        upstream("balance = { strategy = \"random\" }"),
        upstream("balance = { key = { query = \"x\" } }"),
        upstream("health = { path = \"up\" }"),
        upstream("health = { jitter = 0.6 }"),
        upstream("health = { statuses = [99] }"),
        upstream("health = { statuses = [\"2xx\"] }"),
        upstream("breaker = { failure_rate = \"never\" }"),
        upstream("breaker = { failure_rate = 1.5 }"),
        upstream("breaker = { failures = 5 }"),
        upstream("bulkhead = { limit = \"x\" }"),
        upstream("retry = true"),
        "[upstream.a]\nendpoints = [\"a:1\"]".to_owned(),
        "[upstream.a]\nendpoints = [{ weight = 1 }]".to_owned(),
        "[upstream.a]\nendpoints = [{ url = \"http://a:1\", weight = 1001 }]".to_owned(),
        "[[route]]\nupstream = \"a\"".to_owned(),
        route("hosts = [\"a b\"]"),
        route("methods = [\"get\"]"),
        route("strip_prefix = 1"),
        route("rewrite = \"x\""),
        route("rate_limit = true"),
    ] {
        assert!(!schema.accepts(&json(&bad)), "the schema takes\n{bad}");
        assert!(Config::from_toml(&bad).is_err(), "the check takes\n{bad}");
    }
}

/// The fields that a section has, as its error for a wrong one tells.
fn fields(text: &str) -> BTreeSet<String> {
    let told = Config::from_toml(text).expect_err(text).to_string();
    let unknown = told.lines().find(|line| line.contains("unknown field"));
    let (_, expected) = unknown
        .and_then(|line| line.split_once("expected"))
        .unwrap_or_else(|| panic!("{text}: {told}"));
    let names = expected.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn the_schema_names_every_field_with_a_description() {
    let schema = Config::schema();
    let properties = |name: &str| {
        let of = match name {
            "" => &schema,
            name => &schema["$defs"][name],
        };
        let properties = of["properties"]
            .as_object()
            .unwrap_or_else(|| panic!("{name}"));
        properties.clone()
    };
    let rows = sections();
    for (text, name) in &rows {
        let named = properties(name);
        let names: BTreeSet<_> = named.keys().cloned().collect();
        assert_eq!(names, fields(&text.replace(FIELD, "zzz = 1")), "{name}");
        for (field, schema) in &named {
            let told = schema["description"]
                .as_str()
                .is_some_and(|text| text.len() > 4);
            assert!(told, "{name}.{field}");
        }
    }
    // What stands in none of the rows was forgotten above, not in the schema.
    for (name, schema) in schema["$defs"].as_object().unwrap() {
        let seen = rows.iter().any(|(_, row)| row == name);
        assert!(
            seen || schema.get("properties").is_none(),
            "{name} is not looked at"
        );
    }
}

/// Where the field of a section stands in [`sections`].
const FIELD: &str = "<field>";

/// Every section: a configuration that is good but for a field to come, and the section's type.
fn sections() -> Vec<(String, &'static str)> {
    let upstream = |rest: &str| format!("[upstream.a]\nendpoints = [\"http://a:1\"]\n{rest}\n");
    let route = |rest: &str| {
        let rest = format!("[[route]]\nprefix = \"/\"\nupstream = \"a\"\n{rest}\n");
        rest + &upstream("")
    };
    let mut rows = vec![
        (FIELD.to_owned(), ""),
        (format!("[server]\n{FIELD}"), "ServerConfig"),
        (format!("[reload]\n{FIELD}"), "ReloadConfig"),
        (format!("[trace]\n{FIELD}"), "TraceConfig"),
        (format!("[access_log]\n{FIELD}"), "AccessLogConfig"),
        (format!("[shutdown]\n{FIELD}"), "ShutdownConfig"),
        (format!("[log]\n{FIELD}"), "LogConfig"),
        (format!("[ip_filter]\n{FIELD}"), "IpFilterConfig"),
        (format!("[cors]\norigins = [\"*\"]\n{FIELD}"), "CorsConfig"),
        (format!("[csrf]\n{FIELD}"), "CsrfConfig"),
        (format!("[size_limits]\n{FIELD}"), "SizeLimitsConfig"),
        (
            format!("[security_headers]\n{FIELD}"),
            "SecurityHeadersConfig",
        ),
        (format!("[security_headers.hsts]\n{FIELD}"), "HstsConfig"),
        (
            format!("[rate_limit]\nrequests = 1\n{FIELD}"),
            "RateLimitConfig",
        ),
        (format!("[transform]\n{FIELD}"), "TransformConfig"),
        (format!("[transform.request]\n{FIELD}"), "EditConfig"),
        (route(FIELD), "RouteConfig"),
        (
            route(&format!(
                "split = [{{ upstream = \"a\", weight = 1, {FIELD} }}]"
            ))
            .replacen("upstream = \"a\"\n", "", 1),
            "SplitConfig",
        ),
        (upstream(FIELD), "UpstreamConfig"),
        (
            format!("[upstream.a]\nendpoints = [{{ url = \"http://a:1\", {FIELD} }}]"),
            "EndpointTable",
        ),
    ];
    let below = [
        ("discovery", "api = true\n", "DiscoveryConfig"),
        ("health", "", "HealthConfig"),
        ("balance", "", "BalanceConfig"),
        (
            "ejection",
            "time = \"1ms\"\nmax_time = \"1day\"\n",
            "EjectionConfig",
        ),
        ("tls", "", "UpstreamTlsConfig"),
        (
            "breaker",
            "time_window = \"60s\"\ncount_window = 10000000\nminimum_calls = 1\n\
             half_open_permits = 1023\nreset_timeout = \"1ms\"\nmax_reset_timeout = \"1day\"\n",
            "Breaker",
        ),
        ("bulkhead", "", "Bulkhead"),
        (
            "adaptive",
            "min_limit = 1\ninitial_limit = 1073741824\nmax_limit = 1073741824\n",
            "Adaptive",
        ),
        ("retry", "", "Retry"),
    ];
    rows.extend(below.map(|(section, rest, name)| {
        (
            upstream(&format!("[upstream.a.{section}]\n{rest}{FIELD}")),
            name,
        )
    }));
    #[cfg(feature = "tls")]
    rows.extend([
        (
            format!("[tls]\n{FIELD}\n[[tls.certificate]]\ncertificate = \"c\"\nkey = \"k\"\n"),
            "TlsConfig",
        ),
        (format!("[[tls.certificate]]\n{FIELD}"), "CertificateConfig"),
    ]);
    #[cfg(feature = "cache")]
    rows.extend([
        (
            format!("[cache]\n{FIELD}\n[cache_store]\nmax_bytes = \"1TiB\"\n"),
            "CacheConfig",
        ),
        (format!("[cache_store]\n{FIELD}"), "CacheStoreConfig"),
    ]);
    #[cfg(feature = "compression")]
    rows.push((format!("[compression]\n{FIELD}"), "CompressionConfig"));
    #[cfg(feature = "webhook")]
    {
        let key = "secrets = [{ id = \"a\", env = \"A\" }]";
        let stripe = |rest: &str| format!("provider = \"stripe\", {rest}");
        let custom = |rest: &str| {
            let scheme = "header = \"x\", signs = \"{timestamp}.{body}\"";
            format!("provider = \"custom\", {key}, scheme = {{ {scheme}, {rest} }}")
        };
        let timestamp = "timestamp = { header = \"t\", unit = \"milliseconds\", <field> }";
        let sections = [
            (stripe(&format!("{key}, {FIELD}")), "WebhookConfig"),
            (
                stripe("secrets = [{ id = \"a\", env = \"A\", <field> }]"),
                "WebhookSecretConfig",
            ),
            (
                stripe(&format!("{key}, replay = {{ {FIELD} }}")),
                "ReplayConfig",
            ),
            (
                stripe(&format!(
                    "{key}, replay = {{ redis = {{ env = \"R\", {FIELD} }} }}"
                )),
                "ReplayRedisConfig",
            ),
            (
                format!("provider = \"http_message\", {key}, message = {{ {FIELD} }}"),
                "WebhookMessageConfig",
            ),
            (custom(FIELD), "WebhookSchemeConfig"),
            (custom(timestamp), "WebhookTimestampConfig"),
        ];
        rows.extend(sections.map(|(rest, name)| (route(&format!("webhook = {{ {rest} }}")), name)));
    }
    #[cfg(feature = "jwt")]
    rows.push((
        format!(
            "[jwt]\nalgorithms = [\"EdDSA\"]\njwks_url = \"http://a:1/k\"\nrefresh = \"1ms\"\n\
             max_age = \"1day\"\n{FIELD}"
        ),
        "JwtConfig",
    ));
    #[cfg(feature = "otel")]
    rows.push((format!("[otel]\n{FIELD}"), "OtelConfig"));
    #[cfg(feature = "admin")]
    rows.push((format!("[admin]\n{FIELD}"), "AdminConfig"));
    rows
}

/// A configuration with a field in a section, in place of what the field is there already.
fn with(section: &str, name: &str, value: &str) -> String {
    let there = Regex::new(&format!(r"\b{name} = [^,\n}}]+(, |\n)")).unwrap();
    // Not in another section.
    let (before, after) = section.split_once(FIELD).unwrap();
    let from = before.rfind(['[', '{']).unwrap_or_default();
    let (start, before) = before.split_at(from);
    format!(
        "{start}{}{name} = {value}{after}",
        there.replace(before, "")
    )
}

/// What a field may be: `integer`, `number`, `Human`, `ByteSize` among others.
fn kinds(schema: &Value) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    let named = schema["$ref"]
        .as_str()
        .and_then(|name| name.rsplit('/').next());
    kinds.extend(named.or_else(|| schema["type"].as_str()).map(str::to_owned));
    for form in schema["anyOf"].as_array().into_iter().flatten() {
        kinds.extend(self::kinds(form));
    }
    kinds
}

/// Values just inside and just outside of the bounds of a field; `None`: it has none.
fn edges(schema: &Value, kinds: &BTreeSet<String>) -> Option<(Vec<String>, Vec<String>)> {
    let time = |rule: &str| {
        let time = humantime_serde::re::humantime::parse_duration(schema[rule].as_str()?);
        i64::try_from(time.unwrap().as_nanos()).ok()
    };
    if kinds.contains("Human") {
        let (low, high) = (time("x-minimum")?, time("x-maximum")?);
        let text = |nanos: i64| format!("\"{nanos}ns\"");
        let under = (low > 0).then(|| text(low - 1));
        let outside = under.into_iter().chain([text(high + 1)]).collect();
        return Some((vec![text(low), text(high)], outside));
    }
    if kinds.contains("number") {
        let step = 1e-6;
        let end = |closed: &str, open: &str, inward: f64| {
            let edge = schema[closed].as_f64().map(|edge| (edge, edge - inward));
            edge.or_else(|| schema[open].as_f64().map(|edge| (edge + inward, edge)))
        };
        let low = end("minimum", "exclusiveMinimum", step)?;
        let high = end("maximum", "exclusiveMaximum", -step)?;
        let text = |number: f64| format!("{number:?}");
        return Some((
            vec![text(low.0), text(high.0)],
            vec![text(low.1), text(high.1)],
        ));
    }
    let (low, high) = (schema["minimum"].as_i64()?, schema["maximum"].as_i64()?);
    let (mut inside, mut outside) = (vec![low, high], vec![low - 1, high + 1]);
    let text = |numbers: &mut Vec<i64>| numbers.iter().map(i64::to_string).collect::<Vec<_>>();
    let (mut good, mut bad) = (text(&mut inside), text(&mut outside));
    if kinds.contains("ByteSize") {
        outside.retain(|bytes| *bytes >= 0);
        let words = |bytes: &i64| format!("\"{bytes}B\"");
        good.extend(inside.iter().map(words));
        bad.extend(outside.iter().map(words));
    }
    Some((good, bad))
}

#[test]
fn the_bounds_of_the_schema_are_those_of_the_check() {
    let schema = Config::schema();
    let mut looked_at = 0;
    for (section, name) in sections() {
        let of = match name {
            "" => &schema,
            name => &schema["$defs"][name],
        };
        for (field, schema) in of["properties"].as_object().unwrap() {
            let is_list = schema["type"] == "array";
            let schema = if is_list { &schema["items"] } else { schema };
            let kinds = kinds(schema);
            let measured = ["integer", "number", "Human", "ByteSize"];
            if !measured.iter().any(|kind| kinds.contains(*kind)) {
                continue;
            }
            let edges = edges(schema, &kinds);
            let (inside, outside) =
                edges.unwrap_or_else(|| panic!("{name}.{field} has no bounds: {schema}"));
            let told = |value: &str| {
                let value = match is_list {
                    true => format!("[{value}]"),
                    false => value.to_owned(),
                };
                let text = with(&section, field, &value);
                let told = Config::from_toml(&text).err();
                let problems = told.iter().flat_map(|told| told.problems());
                let of_field = problems.filter(|one| {
                    let place = one.field.split('[').next_back().unwrap_or_default();
                    one.field.ends_with(field) || (is_list && place.ends_with(']'))
                });
                of_field.map(ToString::to_string).collect::<Vec<_>>()
            };
            for value in inside {
                let told = told(&value);
                assert!(told.is_empty(), "{name}.{field} = {value}: {told:?}");
            }
            for value in outside {
                assert!(
                    !told(&value).is_empty(),
                    "{name}.{field} = {value} is taken"
                );
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 80, "{looked_at}");
}
