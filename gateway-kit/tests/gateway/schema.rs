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
    let (_, expected) = told
        .split_once("expected")
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
    let mut rows = vec![
        ("zzz = 1", ""),
        ("[server]\nzzz = 1", "ServerConfig"),
        ("[reload]\nzzz = 1", "ReloadConfig"),
        ("[trace]\nzzz = 1", "TraceConfig"),
        ("[access_log]\nzzz = 1", "AccessLogConfig"),
        ("[shutdown]\nzzz = 1", "ShutdownConfig"),
        ("[log]\nzzz = 1", "LogConfig"),
        ("[ip_filter]\nzzz = 1", "IpFilterConfig"),
        ("[cors]\nzzz = 1", "CorsConfig"),
        ("[csrf]\nzzz = 1", "CsrfConfig"),
        ("[size_limits]\nzzz = 1", "SizeLimitsConfig"),
        ("[security_headers]\nzzz = 1", "SecurityHeadersConfig"),
        ("[security_headers.hsts]\nzzz = 1", "HstsConfig"),
        ("[rate_limit]\nzzz = 1", "RateLimitConfig"),
        ("[[route]]\nzzz = 1", "RouteConfig"),
        ("[[route]]\nsplit = [{ zzz = 1 }]", "SplitConfig"),
        ("[upstream.a]\nzzz = 1", "UpstreamConfig"),
        ("[upstream.a]\nendpoints = [{ zzz = 1 }]", "EndpointTable"),
        ("[upstream.a.discovery]\nzzz = 1", "DiscoveryConfig"),
        ("[upstream.a.health]\nzzz = 1", "HealthConfig"),
        ("[upstream.a.balance]\nzzz = 1", "BalanceConfig"),
        ("[upstream.a.ejection]\nzzz = 1", "EjectionConfig"),
        ("[upstream.a.tls]\nzzz = 1", "UpstreamTlsConfig"),
        ("[upstream.a.breaker]\nzzz = 1", "Breaker"),
        ("[upstream.a.bulkhead]\nzzz = 1", "Bulkhead"),
        ("[upstream.a.adaptive]\nzzz = 1", "Adaptive"),
        ("[upstream.a.retry]\nzzz = 1", "Retry"),
    ];
    #[cfg(feature = "tls")]
    rows.extend([
        ("[tls]\nzzz = 1", "TlsConfig"),
        ("[[tls.certificate]]\nzzz = 1", "CertificateConfig"),
    ]);
    rows.extend([
        ("[transform]\nzzz = 1", "TransformConfig"),
        ("[transform.request]\nzzz = 1", "EditConfig"),
    ]);
    #[cfg(feature = "cache")]
    rows.extend([
        ("[cache]\nzzz = 1", "CacheConfig"),
        ("[cache_store]\nzzz = 1", "CacheStoreConfig"),
    ]);
    #[cfg(feature = "compression")]
    rows.push(("[compression]\nzzz = 1", "CompressionConfig"));
    #[cfg(feature = "webhook")]
    rows.extend([
        ("[[route]]\nwebhook = { zzz = 1 }", "WebhookConfig"),
        (
            "[[route]]\nwebhook = { secrets = [{ zzz = 1 }] }",
            "WebhookSecretConfig",
        ),
        (
            "[[route]]\nwebhook = { replay = { zzz = 1 } }",
            "ReplayConfig",
        ),
        (
            "[[route]]\nwebhook = { replay = { redis = { zzz = 1 } } }",
            "ReplayRedisConfig",
        ),
        (
            "[[route]]\nwebhook = { message = { zzz = 1 } }",
            "WebhookMessageConfig",
        ),
        (
            "[[route]]\nwebhook = { scheme = { zzz = 1 } }",
            "WebhookSchemeConfig",
        ),
        (
            "[[route]]\nwebhook = { scheme = { timestamp = { zzz = 1 } } }",
            "WebhookTimestampConfig",
        ),
    ]);
    #[cfg(feature = "jwt")]
    rows.push(("[jwt]\nzzz = 1", "JwtConfig"));
    #[cfg(feature = "otel")]
    rows.push(("[otel]\nzzz = 1", "OtelConfig"));
    #[cfg(feature = "admin")]
    rows.push(("[admin]\nzzz = 1", "AdminConfig"));
    for (text, name) in &rows {
        let named = properties(name);
        let names: BTreeSet<_> = named.keys().cloned().collect();
        assert_eq!(names, fields(text), "{name}");
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
