//! What the API says and hears. The OpenAPI document is made from these.
//!
//! Spans of time are numbers of seconds, times of day as RFC 3339 has them; what is not known is
//! `null`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::BalanceStrategy;
use crate::handle::{BulkheadState, EndpointState, RateLimitState, RouteState, UpstreamState};
use crate::metrics::state_name;
use crate::reload::ReloadReport;
use crate::wall::rfc3339;

/// The gateway as a whole.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Status {
    /// The version of the program.
    pub(super) version: &'static str,
    /// Goes up with every change of settings, by a reload or by hand.
    pub(super) revision: u64,
    /// Since the start.
    pub(super) uptime_seconds: f64,
    /// It has begun to stop.
    pub(super) stopping: bool,
    /// How many routes there are.
    pub(super) routes: usize,
    /// How many services there are.
    pub(super) services: usize,
    /// Endpoints of all services.
    pub(super) endpoints: usize,
    /// Those that requests may go to.
    pub(super) endpoints_up: usize,
    /// Breakers that refuse calls.
    pub(super) breakers_open: usize,
    /// Requests that are with an endpoint.
    pub(super) in_flight: u64,
}

/// All services.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Services {
    pub(super) revision: u64,
    pub(super) services: Vec<Service>,
}

/// A service behind the gateway.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    /// `false`: its routes answer 404.
    pub(super) enabled: bool,
    /// How an endpoint is chosen; `null`: always the first.
    pub(super) strategy: Option<&'static str>,
    /// Whether endpoints may be registered.
    pub(super) registers: bool,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What the balancer of a service knows.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct LoadBalancer {
    pub(super) revision: u64,
    #[serde(flatten)]
    pub(super) service: Service,
}

/// One address of a service.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Endpoint {
    /// `host:port`.
    pub(super) address: String,
    /// Whether TLS is spoken to it.
    pub(super) tls: bool,
    /// In one word: why it gets requests, or why not.
    pub(super) state: EndpointWord,
    /// It is healthy, not ejected, and its breaker lets requests through.
    pub(super) up: bool,
    /// In force; 0: no new requests.
    pub(super) weight: u32,
    /// As its source says.
    pub(super) configured_weight: u32,
    pub(super) priority: u8,
    pub(super) zone: Option<String>,
    /// Where it comes from.
    pub(super) source: &'static str,
    /// The rest of its registration.
    pub(super) expires_in_seconds: Option<f64>,
    /// What the health checks found; `true` without any.
    pub(super) healthy: bool,
    /// The rest of its ejection.
    pub(super) ejected_for_seconds: Option<f64>,
    /// Requests sent whose answers have not ended.
    pub(super) in_flight: u64,
    pub(super) idle_connections: usize,
    /// The peak of its latency that fades; `null` before its first answer.
    pub(super) latency_seconds: Option<f64>,
    /// Since it came.
    pub(super) successes: u64,
    /// Since it came.
    pub(super) failures: u64,
    pub(super) breaker: Breaker,
}

/// Why an endpoint gets requests, or why not.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndpointWord {
    Up,
    /// Its weight is 0.
    Drained,
    Unhealthy,
    Ejected,
    /// Its breaker refuses.
    BreakerOpen,
}

/// The circuit breakers of a service.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Breakers {
    pub(super) revision: u64,
    pub(super) service: String,
    pub(super) breakers: Vec<Breaker>,
}

/// One circuit breaker.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Breaker {
    /// The address of its endpoint.
    pub(super) endpoint: String,
    /// `closed`, `half_open` or `open`.
    pub(super) state: &'static str,
    /// Who decides: `automatic`, or a person.
    pub(super) mode: &'static str,
    /// Calls in the window.
    pub(super) calls: u64,
    /// Failures among them.
    pub(super) failures: u64,
    pub(super) consecutive_failures: u32,
    /// From 0 to 1; `null` with too few calls.
    pub(super) failure_rate: Option<f64>,
    /// Calls refused since it was made.
    pub(super) rejected: u64,
    pub(super) retry_after_seconds: Option<f64>,
}

/// All routes.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Routes {
    pub(super) revision: u64,
    pub(super) routes: Vec<Route>,
}

/// One route.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Route {
    /// What metrics and logs call it.
    pub(super) name: String,
    pub(super) prefix: String,
    /// `false`: it answers 404.
    pub(super) enabled: bool,
    /// Whether requests are shared out by weight.
    pub(super) split: bool,
    pub(super) upstreams: Vec<Share>,
}

/// A service that a route leads to.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Share {
    pub(super) upstream: String,
    pub(super) weight: u32,
}

/// All limits.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Limits {
    pub(super) revision: u64,
    pub(super) rates: Vec<Rate>,
    pub(super) bulkheads: Vec<Bulkhead>,
}

/// A limit on the requests of each client.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Rate {
    pub(super) name: String,
    /// Requests that come back per second.
    pub(super) per_second: f64,
    /// The most at once.
    pub(super) burst: u32,
    /// Not as configured.
    pub(super) changed: bool,
    /// Clients that are remembered.
    pub(super) clients: usize,
}

/// A limit on the requests of a service at once.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Bulkhead {
    pub(super) service: String,
    /// The most at once.
    pub(super) limit: u32,
    /// The most that wait.
    pub(super) max_queue: usize,
    /// Not as configured.
    pub(super) changed: bool,
    pub(super) in_flight: u32,
    pub(super) queued: usize,
}

/// All series of the metrics.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Samples {
    /// Since the start, by the gateway's clock: what two answers are apart.
    pub(super) uptime_seconds: f64,
    pub(super) samples: Vec<Sample>,
}

/// One value of the metrics.
#[derive(Debug, JsonSchema, PartialEq, Serialize)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// What was changed here, the latest first.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct History {
    pub(super) revision: u64,
    pub(super) changes: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct Change {
    /// The revision that it made.
    pub(super) revision: u64,
    #[serde(serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub(super) at: SystemTime,
    /// Seconds since the start of the gateway.
    pub(super) uptime_seconds: f64,
    /// The address that it came from.
    pub(super) actor: String,
    /// What let it in: `token` or `address`.
    pub(super) by: &'static str,
    pub(super) action: &'static str,
    pub(super) target: String,
    pub(super) before: serde_json::Value,
    pub(super) after: serde_json::Value,
}

/// Reloads, the latest first.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Reloads {
    pub(super) revision: u64,
    pub(super) reloads: Vec<ReloadReport>,
}

/// The configuration in force; secrets are not shown.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct InForce {
    pub(super) revision: u64,
    /// By the names of the file.
    pub(super) config: serde_json::Map<String, serde_json::Value>,
}

/// Another weight for an endpoint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetWeight {
    /// 0 (no new requests) to 1000. It holds until the configured one changes.
    #[schemars(range(max = 1000))]
    pub(super) weight: u32,
}

/// An endpoint for a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    /// `http://host:port` or `https://host:port`.
    #[schemars(regex(pattern = URL))]
    pub(super) url: String,
    /// How long, if it is not registered again before.
    #[schemars(range(min = 1, max = 86_400))]
    pub(super) ttl_seconds: u32,
    /// 0 to 1000.
    #[serde(default = "one")]
    #[schemars(range(max = 1000))]
    pub(super) weight: u32,
    #[serde(default)]
    pub(super) priority: u8,
    #[schemars(length(max = 100))]
    pub(super) zone: Option<String>,
}

/// What [`Register::url`] looks like; held to by `operations::register`.
pub(super) const URL: &str = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";

/// Other shares of the upstreams of a route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetSplit {
    /// The name of the route.
    pub(super) route: String,
    /// Weights by upstream, 0 to 1000; those not named stay.
    #[schemars(extend("minProperties" = 1))]
    #[schemars(extend("additionalProperties" = { "type": "integer", "minimum": 0, "maximum": 1000 }))]
    pub(super) weights: BTreeMap<String, u32>,
}

/// What to do with circuit breakers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetBreaker {
    pub(super) action: BreakerAction,
    /// The address of one endpoint; default all of the service.
    pub(super) endpoint: Option<String>,
}

/// What may be done with a circuit breaker.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BreakerAction {
    /// Refuses every call until another is said.
    ForceOpen,
    /// Admits every call until another is said.
    ForceClosed,
    /// Decides by itself again.
    Automatic,
    /// Closes it and forgets what it counted.
    Reset,
}

/// Another rate for the clients of a limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetRate {
    /// The name of the limit.
    pub(super) limit: String,
    /// Requests per window.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) requests: NonZeroU32,
    #[serde(default = "minute")]
    #[schemars(range(min = 1, max = 86_400))]
    pub(super) window_seconds: u32,
    /// The most at once; default `requests`.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub(super) burst: Option<NonZeroU32>,
}

/// Another limit for the requests of a service at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetBulkhead {
    pub(super) service: String,
    /// The most at once.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) limit: u32,
    /// The most that wait; default as it is.
    #[schemars(range(max = 1_000_000))]
    pub(super) max_queue: Option<usize>,
}

/// What the cache holds.
#[cfg(feature = "cache")]
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Cache {
    /// Whether any route has one.
    pub(super) on: bool,
    /// Addresses with an answer, or a mark that theirs cannot be kept.
    pub(super) addresses: usize,
    /// What they count as, heads included.
    pub(super) bytes: u64,
}

/// What the cache shall forget.
#[cfg(feature = "cache")]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Purge {
    /// All answers of one address, `shop.example.com/products?page=2`.
    Address(String),
    /// All whose address begins so, `shop.example.com/products/`; all of them with nothing.
    Below(String),
    /// All answers of a route, by its name.
    Route(String),
}

/// What the cache has forgotten.
#[cfg(feature = "cache")]
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Purged {
    /// How many addresses that were.
    pub(super) addresses: usize,
}

const fn one() -> u32 {
    1
}

const fn minute() -> u32 {
    60
}

pub(super) fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

impl From<&UpstreamState> for Service {
    fn from(state: &UpstreamState) -> Self {
        Self {
            name: state.name.clone(),
            enabled: state.enabled,
            strategy: state.strategy.map(BalanceStrategy::as_str),
            registers: state.registers,
            endpoints: state.endpoints.iter().map(Endpoint::from).collect(),
        }
    }
}

impl From<&EndpointState> for Endpoint {
    fn from(state: &EndpointState) -> Self {
        let word = if state.weight == 0 {
            EndpointWord::Drained
        } else if !state.healthy {
            EndpointWord::Unhealthy
        } else if state.ejected_for.is_some() {
            EndpointWord::Ejected
        } else if !state.is_up {
            EndpointWord::BreakerOpen
        } else {
            EndpointWord::Up
        };
        Self {
            address: state.address.clone(),
            tls: state.tls,
            state: word,
            up: state.is_up,
            weight: state.weight,
            configured_weight: state.configured_weight,
            priority: state.priority,
            zone: state.zone.clone(),
            source: state.source.as_str(),
            expires_in_seconds: seconds(state.expires_in),
            healthy: state.healthy,
            ejected_for_seconds: seconds(state.ejected_for),
            in_flight: state.in_flight,
            idle_connections: state.idle_connections,
            latency_seconds: seconds(state.latency),
            successes: state.successes,
            failures: state.failures,
            breaker: Breaker::from(state),
        }
    }
}

impl From<&EndpointState> for Breaker {
    fn from(state: &EndpointState) -> Self {
        let breaker = &state.breaker;
        Self {
            endpoint: state.address.clone(),
            state: state_name(breaker.state),
            mode: breaker.mode.as_str(),
            calls: breaker.calls,
            failures: breaker.failures,
            consecutive_failures: breaker.consecutive_failures,
            failure_rate: breaker.failure_rate,
            rejected: breaker.rejected,
            retry_after_seconds: seconds(breaker.retry_after),
        }
    }
}

impl From<RouteState> for Route {
    fn from(state: RouteState) -> Self {
        let upstreams = state.upstreams.into_iter();
        let share = |(upstream, weight)| Share { upstream, weight };
        Self {
            name: state.name,
            prefix: state.prefix,
            enabled: state.enabled,
            split: state.is_split,
            upstreams: upstreams.map(share).collect(),
        }
    }
}

impl From<RateLimitState> for Rate {
    fn from(state: RateLimitState) -> Self {
        Self {
            name: state.name,
            per_second: 1.0 / state.quota.replenish_interval().as_secs_f64(),
            burst: state.quota.burst_size(),
            changed: state.changed,
            clients: state.clients,
        }
    }
}

impl From<BulkheadState> for Bulkhead {
    fn from(state: BulkheadState) -> Self {
        Self {
            service: state.upstream,
            limit: state.config.limit(),
            max_queue: state.config.max_queue(),
            changed: state.changed,
            in_flight: state.in_flight,
            queued: state.queued,
        }
    }
}
