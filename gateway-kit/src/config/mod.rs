//! The configuration: a TOML text, checked before anything starts.
//!
//! Every refusal is a [`ConfigError`] that names the line, the field, the value and what is
//! allowed. Unknown keys are refused. Durations are written as `"30s"`, `"500ms"`, `"1m"`.

#[cfg(feature = "admin")]
mod admin;
pub(crate) mod balance;
mod bytes;
#[cfg(feature = "cache")]
mod cache;
mod check;
#[cfg(feature = "compression")]
mod compression;
mod cors;
mod discovery;
mod env;
mod error;
pub(crate) mod files;
mod health;
pub(crate) mod human;
mod ip_filter;
#[cfg(feature = "jwt")]
mod jwt;
mod load;
mod origin;
#[cfg(feature = "otel")]
mod otel;
mod rate_limit;
mod reload;
mod route;
#[cfg(feature = "schema")]
mod schema;
mod sections;
mod security_headers;
mod server;
mod several;
mod shown;
mod size_limits;
mod source;
mod switch;
#[cfg(feature = "tls")]
mod tls;
mod trace;
mod transform;
pub(crate) mod upstream;
#[cfg(any(feature = "jwt", feature = "otel"))]
mod url;
mod values;
#[cfg(feature = "webhook")]
mod webhook;
#[cfg(feature = "webhook")]
mod webhook_scheme;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use resilience_core::retry::BudgetConfig;
use resilience_core::{adaptive, breaker, bulkhead};
use serde::{Deserialize, Serialize};

#[cfg(feature = "admin")]
pub use self::admin::{AdminConfig, AdminToken};
pub use self::balance::{BalanceConfig, BalanceStrategy, EjectionConfig, EndpointConfig, HashKey};
pub use self::bytes::ByteSize;
#[cfg(feature = "cache")]
pub use self::cache::{CacheConfig, CacheStoreConfig};
use self::check::{Bounds, TIME, bounds};
#[cfg(feature = "compression")]
pub use self::compression::{Coding, CompressionConfig, CompressionEffort, MediaPattern};
pub use self::cors::{CorsConfig, CsrfConfig};
pub use self::discovery::DiscoveryConfig;
pub(crate) use self::discovery::EndpointList;
pub use self::env::{VARIABLES, Variable};
pub use self::error::{ConfigError, ConfigProblem};
pub use self::health::{HealthConfig, InitialHealth, ProbeHost, ProbePath, StatusRange};
use self::human::Human;
pub use self::ip_filter::IpFilterConfig;
#[cfg(feature = "jwt")]
pub use self::jwt::{JwtAlgorithm, JwtConfig, JwtKey};
pub use self::origin::OriginPattern;
#[cfg(feature = "otel")]
pub use self::otel::{OtelConfig, OtelHeader};
pub use self::rate_limit::{RateLimitConfig, RateLimitKey};
pub use self::reload::ReloadConfig;
pub use self::route::{RouteConfig, SplitConfig};
#[cfg(feature = "jwt")]
pub(crate) use self::sections::tokens;
pub use self::security_headers::{FieldText, HstsConfig, SecurityHeadersConfig};
pub use self::server::ServerConfig;
pub use self::several::Several;
pub use self::size_limits::SizeLimitsConfig;
pub use self::source::Source;
pub use self::switch::Switch;
#[cfg(feature = "tls")]
pub use self::tls::{CertificateConfig, TlsConfig, TlsVersion};
pub use self::trace::{AccessLogConfig, TraceConfig, TraceTrust};
pub use self::transform::{EditConfig, TransformConfig};
pub use self::upstream::{Protocol, UpstreamTlsConfig};
#[cfg(any(feature = "jwt", feature = "otel"))]
pub use self::url::HttpUrl;
pub use self::values::{
    EndpointUrl, FieldName, HostPattern, MethodName, Network, PlainPath, Prefix,
};
#[cfg(feature = "webhook")]
pub use self::webhook::{
    ReplayConfig, ReplayRedisConfig, WebhookConfig, WebhookMessageConfig, WebhookOrder,
    WebhookSecretConfig,
};
#[cfg(feature = "webhook")]
pub use self::webhook_scheme::{
    WebhookAlgorithm, WebhookEncoding, WebhookKeyFormat, WebhookSchemeConfig, WebhookTimeUnit,
    WebhookTimestampConfig,
};

/// Everything a gateway can be told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; default `0.0.0.0:8080`. Port 0 takes a free port.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Peers whose forwarding headers are believed and extended; default none.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// The routes, `[[route]]`; the order does not matter.
    #[serde(default, rename = "route")]
    pub routes: Vec<RouteConfig>,
    /// The services behind the gateway, `[upstream.NAME]`.
    #[serde(default, rename = "upstream")]
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// The zone of this gateway: endpoints of the same one come first, as far as they can bear it;
    /// default none, and all zones are alike.
    pub zone: Option<String>,
    /// Whose requests are refused; default nobody's.
    pub ip_filter: Option<IpFilterConfig>,
    /// Pages of which origins may read answers; default what upstreams say.
    pub cors: Option<CorsConfig>,
    /// Fields that tell browsers to be careful; default none.
    pub security_headers: Option<SecurityHeadersConfig>,
    /// How large a request may be; default as large as `server` admits.
    pub size_limits: Option<SizeLimitsConfig>,
    /// What pages of other origins may do in a user's name; default not looked at.
    pub csrf: Option<CsrfConfig>,
    /// Requests need a good token; default they do not.
    #[cfg(feature = "jwt")]
    pub jwt: Option<JwtConfig>,
    /// Requests allowed per client; default no limit.
    pub rate_limit: Option<Several<RateLimitConfig>>,
    /// Answers that are kept; default none.
    #[cfg(feature = "cache")]
    pub cache: Option<CacheConfig>,
    /// What all that is kept may take.
    #[cfg(feature = "cache")]
    #[serde(default)]
    pub cache_store: CacheStoreConfig,
    /// Compression of answers; default none.
    #[cfg(feature = "compression")]
    pub compression: Option<CompressionConfig>,
    /// What is changed in requests and answers; default nothing.
    pub transform: Option<TransformConfig>,
    /// Limits of the listening side.
    #[serde(default)]
    pub server: ServerConfig,
    /// TLS; default none.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsConfig>,
    /// How changed files are noticed; `false`: not at all.
    #[serde(default)]
    pub reload: Switch<ReloadConfig>,
    /// The admin API and its page; default off.
    #[cfg(feature = "admin")]
    pub admin: Option<AdminConfig>,
    /// Which trace a request belongs to; `false`: what it says of it is passed on as it is.
    #[serde(default)]
    pub trace: Switch<TraceConfig>,
    /// Where the spans of sampled requests go; default nowhere.
    #[cfg(feature = "otel")]
    pub otel: Option<OtelConfig>,
    /// What is written of each request; `false`: nothing.
    #[serde(default)]
    pub access_log: Switch<AccessLogConfig>,
    /// How the gateway stops.
    #[serde(default)]
    pub shutdown: ShutdownConfig,
    /// What the `gateway` program logs; the library itself only emits `tracing` events.
    #[serde(default)]
    pub log: LogConfig,
}

/// One `[upstream.NAME]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = schema::narrow::<Self>))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// `false`: its routes answer 404; default true.
    #[serde(default = "route::yes")]
    pub enabled: bool,
    /// The endpoints; at least one, or `discovery`.
    #[serde(default)]
    pub endpoints: Vec<EndpointConfig>,
    /// Where further endpoints come from; default nowhere.
    pub discovery: Option<DiscoveryConfig>,
    /// Active health checks; default none.
    pub health: Option<HealthConfig>,
    /// Who gets the next request; `false`: always the first endpoint.
    #[serde(default)]
    pub balance: Switch<BalanceConfig>,
    /// Who gets no requests for a time, by those that failed; `false`: nobody.
    #[serde(default)]
    pub ejection: Switch<EjectionConfig>,
    /// Readiness needs at least one endpoint of this upstream; default false.
    #[serde(default)]
    pub required: bool,
    /// Longest wait for a connection; default 1 s.
    #[serde(default = "seconds::<1>", with = "Human")]
    pub connect_timeout: Duration,
    /// Longest wait for the response head, counted from the last byte of the request that was
    /// passed on; default 30 s.
    #[serde(default = "seconds::<30>", with = "Human")]
    pub response_timeout: Duration,
    /// Longest wait for the response head of one try; a request that may be sent again then is.
    /// Default none.
    #[serde(default, with = "Human")]
    pub try_timeout: Option<Duration>,
    /// Longest time from the request to the last byte of its answer; default none.
    #[serde(default, with = "Human")]
    pub total_timeout: Option<Duration>,
    /// Longest pause inside a response body; default 1 min. A stream of events that is silent for
    /// longer needs more.
    #[serde(default = "seconds::<60>", with = "Human")]
    pub body_timeout: Duration,
    /// An upgraded connection (WebSocket) on which nothing moves is closed after this time;
    /// default 5 min.
    #[serde(default = "seconds::<300>", with = "Human")]
    pub upgrade_timeout: Duration,
    /// How many requests that were sent and not answered are sent again, beside the first tries;
    /// `false` for none. Default a fifth of them, and 10 per second.
    #[serde(default, serialize_with = "shown::retry")]
    #[cfg_attr(feature = "schema", schemars(with = "Switch<schema::Retry>"))]
    pub retry: Switch<BudgetConfig>,
    /// Most bytes of a request's body that are kept, so that it can be sent again as one without
    /// a body can; 1 to 1 048 576. Default none: what has a body is sent once.
    pub replay_bytes: Option<usize>,
    /// Most requests at once, and how many wait for a place; default no limit.
    #[serde(serialize_with = "shown::bulkhead")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::Bulkhead>"))]
    pub bulkhead: Option<bulkhead::Config>,
    /// Most requests at once that wait for the head of their answer, found out by how long they
    /// wait; default no limit. Beside `bulkhead`.
    #[serde(serialize_with = "shown::adaptive")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::Adaptive>"))]
    pub adaptive: Option<adaptive::Config>,
    /// What is spoken; default HTTP/1.1.
    #[serde(default)]
    pub protocol: Protocol,
    /// Most calls at once on one HTTP/2 connection, 1 to 10 000, if the upstream does not ask for
    /// fewer; default 100.
    #[serde(default = "default_max_streams")]
    pub max_streams: usize,
    /// How `https` endpoints are verified.
    #[serde(default)]
    pub tls: UpstreamTlsConfig,
    /// A connection takes no further request after this time; default none.
    #[serde(default, with = "Human")]
    pub max_age: Option<Duration>,
    /// An idle connection is closed after this time; default 30 s.
    #[serde(default = "seconds::<30>", with = "Human")]
    pub idle_timeout: Duration,
    /// Most idle connections kept per endpoint; default 32.
    #[serde(default = "default_max_idle")]
    pub max_idle: usize,
    /// The circuit breaker that each endpoint gets.
    #[serde(default, serialize_with = "shown::breaker")]
    #[cfg_attr(feature = "schema", schemars(with = "schema::Breaker"))]
    pub breaker: breaker::Config,
    /// A circuit breaker over all calls to the service, each with its retries: what its endpoints'
    /// own ones leave, as while each call is answered by another. Default none.
    #[serde(serialize_with = "shown::service_breaker")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::Breaker>"))]
    pub service_breaker: Option<breaker::Config>,
    /// Status codes, 500 to 599, that the breaker counts as neither success nor failure; default
    /// none. For an upstream that says an honest 503 about a dependency of its own while the rest
    /// of it is well.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(inner(range(min = 500, max = 599))))]
    pub ignored_statuses: Vec<u16>,
}

/// `[shutdown]`: how the gateway stops.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ShutdownConfig {
    /// How long readiness answers 503 while requests are still accepted; default 1 s. Set it
    /// above the probe interval of what balances in front of the gateway.
    #[serde(with = "Human")]
    pub delay: Duration,
    /// How long running requests may take after that; default 10 s.
    #[serde(with = "Human")]
    pub timeout: Duration,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
        }
    }
}

/// `[log]`: what the `gateway` program writes to standard output.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LogConfig {
    /// The least severe level written; default info.
    pub level: LogLevel,
    /// JSON lines or text; default JSON.
    pub format: LogFormat,
}

/// A level of log events.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// Also what may need one.
    Warn,
    /// Also one line per request.
    #[default]
    Info,
    /// Also decisions.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people.
    Text,
}

bounds! {
    UpstreamConfig {
        connect_timeout: TIME,
        response_timeout: TIME,
        try_timeout: TIME,
        total_timeout: TIME,
        body_timeout: TIME,
        upgrade_timeout: TIME,
        replay_bytes: Bounds::whole(1, 1 << 20),
        max_streams: Bounds::whole(1, 10_000),
        max_age: TIME,
        idle_timeout: TIME,
        max_idle: Bounds::whole(0, 100_000),
    }
}

bounds! {
    ShutdownConfig {
        delay: Bounds::time(Duration::ZERO, Duration::from_secs(3600)),
        timeout: Bounds::time(Duration::ZERO, Duration::from_secs(3600)),
    }
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 8080).into()
}

const fn seconds<const N: u64>() -> Duration {
    Duration::from_secs(N)
}

const fn default_max_idle() -> usize {
    32
}

const fn default_max_streams() -> usize {
    100
}
