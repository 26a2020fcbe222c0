//! Which endpoint of an upstream gets a request.

use std::fmt;
use std::time::Duration;

use resilience_core::balance;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::check::{Bounds, Place, SOME, TIME, WEIGHT, bounds};
use super::{EndpointUrl, FieldName, Switch};

/// One endpoint of an upstream: its URL, or a table with what else is to be said of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// Where it is.
    pub url: EndpointUrl,
    /// Its share in proportion to the others', 0 (no new requests) to 1000; default 1.
    pub weight: u32,
    /// Requests go to the lowest number, and to others as far as too little of it is healthy;
    /// default 0.
    pub priority: u8,
    /// Where it runs; see [`Config::zone`](super::Config::zone).
    pub zone: Option<String>,
}

impl EndpointConfig {
    /// An endpoint of weight 1 and priority 0, without a zone.
    pub const fn new(url: EndpointUrl) -> Self {
        Self {
            url,
            weight: 1,
            priority: 0,
            zone: None,
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<EndpointConfig>))]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointTable {
    /// Where it is.
    url: EndpointUrl,
    /// Its share in proportion to the others', 0 (no new requests) to 1000; default 1.
    #[serde(default = "one")]
    weight: u32,
    /// Requests go to the lowest number, and to others as far as too little of it is healthy;
    /// default 0.
    #[serde(default)]
    priority: u8,
    /// Where it runs.
    zone: Option<String>,
}

const fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for EndpointConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlOrTable)
    }
}

struct UrlOrTable;

impl<'de> Visitor<'de> for UrlOrTable {
    type Value = EndpointConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"http://host:port\" or { url = \"http://host:port\", weight = 1 }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EndpointConfig, E> {
        let url = EndpointUrl::try_from(text.to_owned()).map_err(E::custom)?;
        Ok(EndpointConfig::new(url))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointConfig, A::Error> {
        let table = EndpointTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(EndpointConfig {
            url: table.url,
            weight: table.weight,
            priority: table.priority,
            zone: table.zone,
        })
    }
}

/// `balance`: who gets the next request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BalanceConfig {
    /// How an endpoint is chosen; default `round_robin`.
    pub strategy: BalanceStrategy,
    /// What `consistent_hash` goes by; default `address`.
    pub key: HashKey,
    /// The most requests in flight that `consistent_hash` gives an endpoint, as a multiple of its
    /// fair share; over 1, up to 100; default no bound.
    pub max_load: Option<f64>,
    /// The time in which the share of an endpoint that is new, or back, grows from a tenth to the
    /// whole; default at once. Not for `consistent_hash`.
    #[serde(with = "super::Human")]
    pub slow_start: Option<Duration>,
    /// The time in which a measured latency fades to 1/e; default 10 s. For `peak_ewma`.
    #[serde(with = "super::Human")]
    pub decay: Duration,
    /// The least latency that a failure counts as; default 1 s. For `peak_ewma`.
    #[serde(with = "super::Human")]
    pub failure_penalty: Duration,
    /// How much of a priority's weight must be healthy for it to keep all requests; over 0, up to
    /// 1; default 0.7.
    pub failover_below: f64,
    /// Refuses requests while all endpoints are unhealthy, instead of trying them; default false.
    pub refuse_unhealthy: bool,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        let core = balance::Config::default();
        Self {
            strategy: BalanceStrategy::default(),
            key: HashKey::default(),
            max_load: core.max_load(),
            slow_start: core.slow_start(),
            decay: core.decay(),
            failure_penalty: core.failure_penalty().unwrap_or_default(),
            failover_below: core.failover_below(),
            refuse_unhealthy: core.refuse_unhealthy(),
        }
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BalanceStrategy {
    /// One after the other; of a weight only counts whether it is 0.
    #[default]
    RoundRobin,
    /// One after the other in proportion to the weights, the heavy ones spread out.
    WeightedRoundRobin,
    /// The fewest requests in flight per weight.
    LeastConnections,
    /// The better of two at random by latency and requests in flight.
    PeakEwma,
    /// The same endpoint for the same key.
    ConsistentHash,
}

impl BalanceStrategy {
    /// As it is written in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastConnections => "least_connections",
            Self::PeakEwma => "peak_ewma",
            Self::ConsistentHash => "consistent_hash",
        }
    }

    const fn core(self) -> balance::Strategy {
        match self {
            Self::RoundRobin => balance::Strategy::RoundRobin,
            Self::WeightedRoundRobin => balance::Strategy::SmoothWeighted,
            Self::LeastConnections => balance::Strategy::LeastConnections,
            Self::PeakEwma => balance::Strategy::PeakEwma,
            Self::ConsistentHash => balance::Strategy::ConsistentHash,
        }
    }
}

/// What requests are told apart by. One without it goes anywhere.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HashKey {
    /// The client's address, as far as it is believed.
    #[default]
    Address,
    /// The canonical path.
    Path,
    /// The value of a header field.
    Header(FieldName),
    /// The value of a cookie.
    Cookie(String),
}

/// `ejection`: who gets no requests for a time, by those that failed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct EjectionConfig {
    /// Failures in a row that eject; default 5, or `false`.
    pub consecutive_failures: Switch<u32>,
    /// Ejects at a success rate so many standard deviations below the mean; over 0, up to 10;
    /// default 1.9, or `false`.
    pub success_rate_deviations: Switch<f64>,
    /// The fewest requests of an interval by which a success rate is judged; default 100.
    pub minimum_calls: u32,
    /// The fewest endpoints with enough requests for a mean; default 5.
    pub minimum_endpoints: u32,
    /// How often success rates are judged; default 10 s.
    #[serde(with = "super::Human")]
    pub interval: Duration,
    /// How long the first ejection is, the second twice as long, and so on; default 30 s.
    #[serde(with = "super::Human")]
    pub time: Duration,
    /// The longest; default 5 min.
    #[serde(with = "super::Human")]
    pub max_time: Duration,
    /// The most that is ejected at once, as a share of the endpoints; over 0, up to 1; default
    /// 0.5. One may always be, and never the last.
    pub max_share: f64,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        let core = balance::Config::default();
        fn switch<T>(value: Option<T>) -> Switch<T> {
            value.map_or(Switch::Off, Switch::On)
        }
        Self {
            consecutive_failures: switch(core.consecutive_failures()),
            success_rate_deviations: switch(core.success_rate_deviations()),
            minimum_calls: core.minimum_calls(),
            minimum_endpoints: core.minimum_endpoints(),
            interval: core.interval(),
            time: core.ejection_time(),
            max_time: core.max_ejection_time(),
            max_share: core.max_ejected(),
        }
    }
}

/// The balancer's settings that the two sections mean.
pub(crate) fn settings(
    balance: &Switch<BalanceConfig>,
    ejection: &Switch<EjectionConfig>,
) -> Result<balance::Config, balance::ConfigError> {
    // Switched off, all requests go to the first endpoint: in turn, and the others have no weight.
    let fallback = BalanceConfig::default();
    let balance = balance.on().unwrap_or(&fallback);
    let builder = balance::Config::builder()
        .strategy(balance.strategy.core())
        .max_load(balance.max_load)
        .slow_start(balance.slow_start)
        .decay(balance.decay)
        .failure_penalty(balance.failure_penalty)
        .failover_below(balance.failover_below)
        .refuse_unhealthy(balance.refuse_unhealthy);
    let builder = match ejection {
        Switch::Off => builder
            .consecutive_failures(None)
            .success_rate_deviations(None),
        Switch::On(ejection) => builder
            .consecutive_failures(ejection.consecutive_failures.on().copied())
            .success_rate_deviations(ejection.success_rate_deviations.on().copied())
            .minimum_calls(ejection.minimum_calls)
            .minimum_endpoints(ejection.minimum_endpoints)
            .interval(ejection.interval)
            .ejection_time(ejection.time)
            .max_ejection_time(ejection.max_time)
            .max_ejected(ejection.max_share),
    };
    builder.build()
}

/// What is wrong with the endpoints and the balancing of an upstream.
pub(super) fn check(upstream: &super::UpstreamConfig, place: &mut Place<'_>) {
    check_endpoints(&upstream.endpoints, "endpoints", place);
    if let Some(balance) = upstream.balance.on() {
        place.at("balance").bounds(balance);
        if let HashKey::Cookie(name) = &balance.key
            && !is_token(name)
        {
            place
                .at("balance.key.cookie")
                .refuse("must be the name of a cookie");
        }
    }
    if let Some(ejection) = upstream.ejection.on() {
        place.at("ejection").bounds(ejection);
        if ejection.max_time < ejection.time {
            place
                .at("ejection.max_time")
                .refuse("must not be less than time");
        }
    }
}

/// Weights in their range, no address twice.
pub(super) fn check_endpoints(endpoints: &[EndpointConfig], name: &str, place: &mut Place<'_>) {
    let mut seen = std::collections::HashSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let mut place = place.at(format_args!("{name}[{index}]"));
        if !seen.insert(endpoint.url.authority()) {
            place.refuse("is listed already; each endpoint once");
        }
        place.bounds(endpoint);
    }
    if endpoints.len() > MOST {
        place
            .at(name)
            .refuse(format!("must not have more than {MOST}"));
    }
}

/// The most endpoints of one upstream.
pub(crate) const MOST: usize = 10_000;

bounds! {
    EndpointConfig {
        weight: WEIGHT,
        priority: Bounds::whole(0, 255),
    }
}

// As resilience-core has them.
bounds! {
    BalanceConfig {
        max_load: Bounds::real(1.0, 100.0).over(),
        slow_start: TIME,
        decay: TIME,
        failure_penalty: TIME,
        failover_below: SOME,
    }
}

// As resilience-core has them.
bounds! {
    EjectionConfig {
        consecutive_failures: Bounds::whole(1, 1_000_000),
        success_rate_deviations: Bounds::real(0.0, 10.0).over(),
        minimum_calls: Bounds::whole(1, 1_000_000),
        minimum_endpoints: Bounds::whole(2, 1_000_000),
        interval: TIME,
        time: TIME,
        max_time: TIME,
        max_share: SOME,
    }
}

/// RFC 9110, section 5.6.2; the name of a cookie is one as well.
pub(super) fn is_token(name: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    let good = |byte: u8| byte.is_ascii_alphanumeric() || special.contains(&byte);
    !name.is_empty() && name.bytes().all(good)
}
