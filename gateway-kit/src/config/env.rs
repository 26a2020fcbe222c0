//! What variables of the environment say, alone or over a file.

use std::time::Duration;

use resilience_core::breaker::{self, ConfigError as Refused};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::balance::check_endpoints;
use super::check;
use super::{
    BalanceConfig, Config, ConfigError, ConfigProblem, EndpointConfig, EndpointUrl, Network,
    Several, Switch, UpstreamConfig,
};

/// A variable that is read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it is taken for without a file and without the variable.
    pub default: &'static str,
    /// What it means, and what it may be.
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default,
        meaning,
    }
}

/// All that [`Config::apply_env`] asks for.
pub const VARIABLES: &[Variable] = &[
    variable("PORT", "8080", "listen port"),
    variable("LOG_LEVEL", "info", "error, warn, info, debug or trace"),
    variable("LOG_FORMAT", "json", "json or text"),
    variable("PRODUCT_SERVICE_ENABLED", "true", "/api/products on or off"),
    variable(
        "PRODUCT_SERVICE_URLS",
        "http://product-service:8080",
        "its endpoints, separated by commas",
    ),
    variable("BASKET_SERVICE_ENABLED", "true", "/api/baskets on or off"),
    variable(
        "BASKET_SERVICE_URLS",
        "http://basket-service:8081",
        "its endpoints, separated by commas",
    ),
    variable("PAYMENT_SERVICE_ENABLED", "true", "/api/payments on or off"),
    variable(
        "PAYMENT_SERVICE_URLS",
        "http://payment-service:8082",
        "its endpoints, separated by commas",
    ),
    variable("CIRCUIT_BREAKER_ENABLED", "true", "false: no breaker opens"),
    variable(
        "CIRCUIT_BREAKER_MAX_REQUESTS",
        "10",
        "probes of a half-open breaker",
    ),
    variable(
        "CIRCUIT_BREAKER_INTERVAL",
        "60",
        "window of the closed state; seconds, or a duration",
    ),
    variable(
        "CIRCUIT_BREAKER_TIMEOUT",
        "30",
        "how long a breaker stays open; seconds, or a duration",
    ),
    variable(
        "CIRCUIT_BREAKER_FAILURES",
        "5",
        "failures in a row that open",
    ),
    variable(
        "CIRCUIT_BREAKER_FAILURE_RATE",
        "0.5",
        "share of failures that opens, above 0, up to 1",
    ),
    variable(
        "LOAD_BALANCER_ENABLED",
        "true",
        "false: always the first endpoint",
    ),
    variable(
        "LOAD_BALANCER_STRATEGY",
        "round_robin",
        "or least_connections, weighted_round_robin, peak_ewma, consistent_hash",
    ),
    variable("RATE_LIMIT_ENABLED", "true", "false: no limit at all"),
    variable("RATE_LIMIT_REQUESTS", "100", "requests refilled per window"),
    variable(
        "RATE_LIMIT_WINDOW",
        "1m",
        "a duration: a number and ms, s, m or h",
    ),
    variable("RATE_LIMIT_BURST", "10", "most requests at once"),
    #[cfg(feature = "jwt")]
    variable(
        "AUTH_KEYS",
        "(none)",
        "a JSON Web Key Set in place of the keys of [jwt], which is switched on",
    ),
    variable(
        "TRUSTED_PROXIES",
        "(none)",
        "addresses or networks, separated by commas, whose forwarding fields are believed",
    ),
    #[cfg(feature = "otel")]
    variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "(none)",
        "where spans go, http://host:4318, to which /v1/traces is added; [otel] is switched on",
    ),
    #[cfg(feature = "otel")]
    variable(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "(none)",
        "name=value, separated by commas, in place of the headers of [otel], if it is on",
    ),
    #[cfg(feature = "otel")]
    variable(
        "OTEL_SERVICE_NAME",
        "(none)",
        "what spans say that the gateway is called, if [otel] is on",
    ),
    #[cfg(feature = "admin")]
    variable(
        "ADMIN_TOKEN",
        "(none)",
        "16 to 256 characters that admit to the admin, which is off without",
    ),
];

/// What stands without a file.
const TABLE: &str = r#"
[[route]]
prefix = "/api/products"
rewrite = "/products"
upstream = "product"

[[route]]
prefix = "/api/baskets"
rewrite = "/baskets"
upstream = "basket"

[[route]]
prefix = "/api/payments"
rewrite = "/payments"
upstream = "payment"

[upstream.product]
endpoints = ["http://product-service:8080"]
breaker = { consecutive_failures = 5, count_window = "off", time_window = "60s" }

[upstream.basket]
endpoints = ["http://basket-service:8081"]
breaker = { consecutive_failures = 5, count_window = "off", time_window = "60s" }

[upstream.payment]
endpoints = ["http://payment-service:8082"]
breaker = { consecutive_failures = 5, count_window = "off", time_window = "60s" }

[rate_limit]
requests = 100
burst = 10
"#;

const DURATION: &str = "must be a number and ms, s, m or h, like \"500ms\" or \"1m\"";

impl Config {
    /// The configuration without a file: three services (product, basket, payment) below `/api`,
    /// and what the variables that `get` knows make of them. See [`VARIABLES`].
    ///
    /// # Errors
    /// All variables with a bad value.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut config = Self::from_toml(TABLE)?;
        config.apply_env(get)?;
        Ok(config)
    }

    /// Puts the [`VARIABLES`] that `get` knows in place of what the file says. Those of a service
    /// are for the upstream of its name, those of breakers and of the balancer for all upstreams,
    /// those of the limit for `[rate_limit]`.
    ///
    /// # Errors
    /// All variables with a bad value; the configuration is then unchanged.
    pub fn apply_env(&mut self, get: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let mut next = self.clone();
        let mut variables = Variables {
            get: &get,
            refused: Vec::new(),
        };
        variables.apply(&mut next);
        ConfigError::of(variables.refused)?;
        next.check()?;
        *self = next;
        Ok(())
    }
}

/// Where variables come from, and those that cannot be taken.
struct Variables<'g> {
    get: &'g dyn Fn(&str) -> Option<String>,
    refused: Vec<ConfigProblem>,
}

impl Variables<'_> {
    fn apply(&mut self, next: &mut Config) {
        if let Some(port) = self.read("PORT", "must be a number from 0 to 65535", plain) {
            next.listen.set_port(port);
        }
        if let Some(level) = self.word("LOG_LEVEL") {
            next.log.level = level;
        }
        if let Some(format) = self.word("LOG_FORMAT") {
            next.log.format = format;
        }
        if let Some(trusted) = self.read(
            "TRUSTED_PROXIES",
            "must be addresses or networks like \"10.0.0.0/8\", separated by commas",
            |text| list(text, |one| Network::try_from(one.to_owned()).ok()),
        ) {
            next.trusted_proxies = trusted;
        }
        #[cfg(feature = "jwt")]
        if let Some(keys) = self.secret("AUTH_KEYS", super::JwtKey::set) {
            super::JwtConfig::put_keys(&mut next.jwt, keys);
        }
        #[cfg(feature = "otel")]
        self.spans(next);
        #[cfg(feature = "admin")]
        if let Some(token) = self.secret("ADMIN_TOKEN", |text| super::AdminToken::try_from(text)) {
            next.admin.get_or_insert_default().token = Some(token);
        }
        self.services(next);
        self.breakers(next);
        self.balancers(next);
        self.limit(next);
    }

    fn refuse(&mut self, name: &str, text: &str, reason: impl Into<String>) {
        self.refused.push(refused(name, text, reason));
    }

    fn read<T>(
        &mut self,
        name: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = (self.get)(name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.refuse(name, &text, allowed);
        }
        parsed
    }

    /// A value that is not shown.
    #[cfg(any(feature = "jwt", feature = "admin", feature = "otel"))]
    fn secret<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let parsed = parse(&(self.get)(name)?);
        let refused = |allowed| self.refused.push(ConfigProblem::new(name, allowed));
        parsed.map_err(refused).ok()
    }

    fn switch(&mut self, name: &str) -> Option<bool> {
        self.read(name, "must be true or false", plain)
    }

    /// A word that the file has as well.
    fn word<T: for<'d> Deserialize<'d>>(&mut self, name: &str) -> Option<T> {
        let text = (self.get)(name)?;
        let deserializer: StrDeserializer<'_, ValueError> = text.as_str().into_deserializer();
        let parsed = T::deserialize(deserializer);
        parsed
            .map_err(|error| self.refuse(name, &text, error.to_string()))
            .ok()
    }

    #[cfg(feature = "otel")]
    fn spans(&mut self, config: &mut Config) {
        let allowed = "must be \"http://host:port\" or \"https://host:port\"";
        let endpoint = self.read("OTEL_EXPORTER_OTLP_ENDPOINT", allowed, |text| {
            let text = text.trim_end_matches('/');
            super::HttpUrl::try_from(format!("{text}/v1/traces")).ok()
        });
        if let Some(endpoint) = endpoint {
            config.otel.get_or_insert_default().endpoint = endpoint;
        }
        let Some(otel) = &mut config.otel else {
            return;
        };
        if let Some(headers) = self.secret("OTEL_EXPORTER_OTLP_HEADERS", super::otel::headers) {
            otel.headers = headers;
        }
        if let Some(name) = (self.get)("OTEL_SERVICE_NAME") {
            otel.service_name = name;
        }
    }

    fn services(&mut self, config: &mut Config) {
        for (service, switch, urls) in [
            ("product", "PRODUCT_SERVICE_ENABLED", "PRODUCT_SERVICE_URLS"),
            ("basket", "BASKET_SERVICE_ENABLED", "BASKET_SERVICE_URLS"),
            ("payment", "PAYMENT_SERVICE_ENABLED", "PAYMENT_SERVICE_URLS"),
        ] {
            let on = self.switch(switch);
            let allowed = "must be \"http://host:port\" or \"https://host:port\", several separated \
                           by commas, each once";
            let endpoints = self.read(urls, allowed, |text| {
                let url = |one: &str| one.parse::<EndpointUrl>().ok().map(EndpointConfig::new);
                let endpoints = list(text, url)?;
                let good = check::good(|top| check_endpoints(&endpoints, "", top));
                good.is_ok().then_some(endpoints)
            });
            if let Some(on) = on
                && let Some(upstream) = self.named(config, service, switch)
            {
                upstream.enabled = on;
            }
            if let Some(endpoints) = endpoints
                && let Some(upstream) = self.named(config, service, urls)
            {
                upstream.endpoints = endpoints;
            }
        }
    }

    /// The upstream that a variable is for.
    fn named<'c>(
        &mut self,
        config: &'c mut Config,
        service: &str,
        variable: &str,
    ) -> Option<&'c mut UpstreamConfig> {
        let upstream = config.upstreams.get_mut(service);
        if upstream.is_none() {
            let reason = format!("is for [upstream.{service}], which the file does not have");
            self.refused.push(ConfigProblem::new(variable, reason));
        }
        upstream
    }

    fn breakers(&mut self, config: &mut Config) {
        let number = "must be a number, 1 or more";
        let seconds = "must be a number of seconds, or a number and ms, s, m or h";
        let on = self.switch("CIRCUIT_BREAKER_ENABLED");
        let permits = self.read("CIRCUIT_BREAKER_MAX_REQUESTS", number, plain);
        let window = self.read("CIRCUIT_BREAKER_INTERVAL", seconds, seconds_or);
        let reset = self.read("CIRCUIT_BREAKER_TIMEOUT", seconds, seconds_or);
        let failures = self.read("CIRCUIT_BREAKER_FAILURES", number, plain::<u32>);
        let rate = "must be a number above 0, up to 1";
        let rate = self.read("CIRCUIT_BREAKER_FAILURE_RATE", rate, plain::<f64>);
        for upstream in config.upstreams.values_mut() {
            let mut builder = upstream.breaker.to_builder();
            if let Some(permits) = permits {
                builder = builder.half_open_permits(permits);
            }
            if let Some(window) = window {
                builder = builder.time_window(window).count_window(None);
            }
            if let Some(reset) = reset {
                builder = builder.reset_timeout(reset);
            }
            if let Some(failures) = failures {
                builder = builder.consecutive_failures(failures);
            }
            if let Some(rate) = rate {
                builder = builder.failure_rate(rate);
            }
            // What is switched off is checked all the same.
            let built = builder.clone().build();
            let built = built.and_then(|built| match on {
                Some(false) => never(builder),
                _ => Ok(built),
            });
            match built {
                Ok(built) => upstream.breaker = built,
                // The others are alike.
                Err(error) => return self.blame(&error),
            }
        }
    }

    /// Refuses the variable that a setting of a breaker came from.
    fn blame(&mut self, error: &Refused) {
        let name = match error.field {
            "half_open_permits" | "success_threshold" | "probe_failures" => {
                "CIRCUIT_BREAKER_MAX_REQUESTS"
            }
            "time_window" => "CIRCUIT_BREAKER_INTERVAL",
            "consecutive_failures" => "CIRCUIT_BREAKER_FAILURES",
            "failure_rate" => "CIRCUIT_BREAKER_FAILURE_RATE",
            _ => "CIRCUIT_BREAKER_TIMEOUT",
        };
        let text = (self.get)(name).unwrap_or_default();
        let reason = format!("{} must be {}", error.field, error.allowed);
        self.refuse(name, &text, reason);
    }

    fn balancers(&mut self, config: &mut Config) {
        let on = self.switch("LOAD_BALANCER_ENABLED");
        let strategy = self.word("LOAD_BALANCER_STRATEGY");
        for upstream in config.upstreams.values_mut() {
            match (on, upstream.balance.on()) {
                (Some(false), _) => upstream.balance = Switch::Off,
                (Some(true), None) => upstream.balance = Switch::On(BalanceConfig::default()),
                _ => {}
            }
            if let (Some(strategy), Switch::On(balance)) = (strategy, &mut upstream.balance) {
                balance.strategy = strategy;
            }
        }
    }

    fn limit(&mut self, config: &mut Config) {
        let number = "must be a number from 1 to 4294967295";
        let on = self.switch("RATE_LIMIT_ENABLED");
        let requests = self.read("RATE_LIMIT_REQUESTS", number, plain);
        let window = self.read("RATE_LIMIT_WINDOW", DURATION, duration);
        let burst = self.read("RATE_LIMIT_BURST", number, plain);
        let names = [
            ("RATE_LIMIT_REQUESTS", requests.is_some()),
            ("RATE_LIMIT_WINDOW", window.is_some()),
            ("RATE_LIMIT_BURST", burst.is_some()),
        ];
        let first = names.iter().find(|(_, set)| *set).map(|(name, _)| *name);
        if config.rate_limit.is_none() && (on == Some(true) || first.is_some()) {
            let table = Config::from_toml(TABLE).ok();
            config.rate_limit = table.and_then(|table| table.rate_limit);
        }
        if let (Some(limits), Some(name)) = (&mut config.rate_limit, first) {
            let limit = match limits {
                Several::One(limit) => Some(limit),
                Several::List(list) => match list.as_mut_slice() {
                    [limit] => Some(limit),
                    _ => None,
                },
            };
            if let Some(limit) = limit {
                limit.requests = requests.unwrap_or(limit.requests);
                limit.window = window.unwrap_or(limit.window);
                limit.burst = burst.or(limit.burst);
                if let Err(error) = limit.quota() {
                    let text = (self.get)(name).unwrap_or_default();
                    self.refuse(name, &text, error.to_string());
                }
            } else {
                let several = "there is more than one [[rate_limit]]; change them in the file";
                self.refused.push(ConfigProblem::new(name, several));
            }
        }
        if on == Some(false) {
            config.rate_limit = None;
            for route in &mut config.routes {
                route.rate_limit = Some(Switch::Off);
            }
        }
    }
}

/// A breaker that nothing opens.
fn never(builder: breaker::ConfigBuilder) -> Result<breaker::Config, Refused> {
    builder
        .failure_rate(None)
        .failure_count(None)
        .slow_call_rate(None)
        .consecutive_failures(None)
        .build()
}

fn refused(name: &str, text: &str, reason: impl Into<String>) -> ConfigProblem {
    let error = ConfigProblem::new(name, reason);
    // `http://user:password@host`.
    match text.contains('@') {
        true => error.value("(not shown)"),
        false => error.value(&format!("{text:?}")),
    }
}

fn plain<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(|one| parse(one.trim())).collect()
}

fn seconds_or(text: &str) -> Option<Duration> {
    plain(text)
        .map(Duration::from_secs)
        .or_else(|| duration(text))
}

/// A whole number and its unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = plain(number)?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    let duration = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        _ => None,
    };
    let longest = Duration::from_secs(86_400);
    duration.filter(|one| (Duration::from_millis(1)..=longest).contains(one))
}
