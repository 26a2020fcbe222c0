//! Settings: built-in defaults, then a TOML file, then `NESTCMS_*` variables.
//!
//! Unknown names are refused, durations are humane (`"30s"`), and every error names the
//! field (or the variable), its value and what is allowed. Secrets appear neither in
//! errors nor in `Debug` output.

mod check;
mod load;
mod secret;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use resilience_core::{balance, breaker, retry::Backoff, route};
use serde::Deserialize;

pub use self::{
    load::{SettingsError, VARIABLES},
    secret::Secret,
};

/// Everything that an operator may choose. Each field's default stands in [`DEFAULTS`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the application listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where clients and PayTabs reach the application, without a trailing slash.
    pub public_url: String,
    /// The database.
    pub database: DatabaseSettings,
    /// The payment provider.
    pub paytabs: PaytabsSettings,
    /// The checks of incoming webhooks.
    pub webhook: WebhookSettings,
    /// Login and tokens.
    pub auth: AuthSettings,
    /// One entry for each name in [`BREAKERS`].
    pub breakers: BTreeMap<String, breaker::Config>,
    /// The cache of the content.
    pub cache: CacheSettings,
    /// The message broker.
    pub nats: NatsSettings,
    /// What is done after the answer.
    pub tasks: TaskSettings,
    /// Rules of payments.
    pub payments: PaymentSettings,
    /// How often background jobs look for work.
    pub jobs: JobSettings,
    /// The event bus.
    pub events: EventSettings,
    /// The outbox.
    pub outbox: OutboxSettings,
    /// The status page.
    pub status: StatusSettings,
    /// Logs.
    pub log: LogSettings,
}

/// The database: embedded, or the nodes of a PostgreSQL cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// File; created when it is not there. `:memory:` keeps everything in memory.
    pub path: PathBuf,
    /// How long a statement waits for another writer; up to 1 minute.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
    /// Connections in the pool, 1 to 64.
    pub max_connections: u32,
    /// PostgreSQL nodes, as `postgres://user:password@host:port/database`; none: the file. The first
    /// is the primary when all is well, the others are the replicas 1, 2, 3 of aggregations. Who
    /// takes writes is asked of the nodes.
    pub nodes: Vec<Secret>,
    /// Connections to each node that read, and as many that write; 1 to 1000.
    pub pool_size: u32,
    /// How long a statement waits for a connection; 1 ms to 1 minute.
    #[serde(with = "humantime_serde")]
    pub wait_limit: Duration,
    /// How long a statement may take in all; 1 ms to 1 minute.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How much of that a write may wait for a primary; 1 ms to 1 minute.
    #[serde(with = "humantime_serde")]
    pub write_wait: Duration,
    /// How much of it a read may wait for a node, while a promotion hides them; up to 1 minute.
    #[serde(with = "humantime_serde")]
    pub read_wait: Duration,
    /// Whether aggregations run on the primary when no replica is left.
    pub reports_on_primary: bool,
    /// A function that reads the histories of timelines; without one the role must be a superuser's
    /// or may read server files.
    #[serde(default)]
    pub history_function: Option<String>,
    /// How reads and writes find their node.
    #[serde(default)]
    pub route: route::Config,
    /// How reads choose among replicas.
    #[serde(default)]
    pub balance: balance::Config,
}

/// The payment provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaytabsSettings {
    /// Root of the provider's API, without a trailing slash.
    pub base_url: String,
    /// The merchant profile.
    pub profile_id: u64,
    /// The merchant's key; also signs callbacks.
    pub server_key: Secret,
    /// How long one call may take; 1 ms to 5 minutes.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
}

/// The checks of incoming webhooks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Keys of the timestamped scheme; any of them may sign.
    pub secrets: Vec<Secret>,
    /// Who may deliver.
    #[serde(deserialize_with = "check::networks")]
    pub allowed_ips: Vec<IpNet>,
    /// Whose `x-forwarded-for` is believed.
    #[serde(deserialize_with = "check::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// How old a signature may be; up to 1 day.
    #[serde(with = "humantime_serde")]
    pub tolerance_past: Duration,
    /// How far ahead the sender's clock may be; up to 1 day.
    #[serde(with = "humantime_serde")]
    pub tolerance_future: Duration,
    /// The order of the checks: each exactly once.
    pub order: [WebhookCheck; 5],
    /// Longest body in bytes, 1 to 16 MiB.
    pub body_limit: usize,
}

/// One check of the webhook pipeline.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum WebhookCheck {
    /// The message authentication code.
    Signature,
    /// The age of the signature.
    Timestamp,
    /// The sender's address.
    Ip,
    /// Content type and required headers.
    Header,
    /// The JSON body.
    Payload,
}

/// Login and tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// Signs access tokens (HS256); 32 bytes or more.
    pub jwt_secret: Secret,
    /// The `iss` claim, written and required.
    pub issuer: String,
    /// The `aud` claim, written and required.
    pub audience: String,
    /// Lifetime of an access token; 1 second to 1 day.
    #[serde(with = "humantime_serde")]
    pub access_ttl: Duration,
    /// Work factor of password hashes, 4 to 16; each step doubles the work.
    pub bcrypt_cost: u32,
    /// Failed logins of one account or address before more are refused, 1 to 1000.
    pub max_failures: u32,
    /// The time in which they are counted; 1 second to 1 day.
    #[serde(with = "humantime_serde")]
    pub failure_window: Duration,
    /// A user made at the start when it is not there yet.
    #[serde(default)]
    pub demo_user: Option<DemoUser>,
}

/// A user made at the start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoUser {
    /// Login name.
    pub email: String,
    /// Password; 8 to 72 bytes.
    pub password: Secret,
    /// What the user may do: `user`, `editor` or `admin`.
    pub role: String,
}

/// The cache of the content.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// How long a record is shown; 10 ms to 1 day.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// How long an aggregation is shown; 10 ms to 1 day.
    #[serde(with = "humantime_serde")]
    pub reports: Duration,
    /// In front of Redis: how long this process shows what another may have replaced meanwhile;
    /// 10 ms to 1 day.
    #[serde(with = "humantime_serde")]
    pub near_lifetime: Duration,
    /// What this process keeps, in bytes; 64 KiB to 64 GiB.
    pub near_bytes: u64,
    /// Redis, as `redis://user:password@host:port`, that several instances share; without one each
    /// has a cache of its own.
    #[serde(default)]
    pub redis: Option<Secret>,
    /// URLs of sentinels that know which Redis is the primary; then `redis` says all but the host.
    #[serde(default)]
    pub sentinels: Vec<Secret>,
    /// The name under which they watch it.
    pub service: String,
    /// How long one call to Redis may take; 1 ms to 10 s.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
}

/// NATS with JetStream, which several instances share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSettings {
    /// Servers of one cluster, as `nats://user:password@host:port` (`tls://` with TLS); none: this
    /// process does it alone.
    pub servers: Vec<Secret>,
    /// A file of credentials (JWT and seed), as `nsc` writes it.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// How long connecting to one server may take; 1 ms to 1 minute.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long an answer of JetStream may take; 1 ms to 1 minute.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Servers that keep each message, 1 to 5.
    pub replicas: usize,
}

/// What is done after the answer, and by how many workers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSettings {
    /// Workers when there is nothing to do, 1 to 1000.
    pub least_workers: usize,
    /// Workers at most, `least_workers` to 1000.
    pub most_workers: usize,
    /// Unfinished tasks for each worker, 1 to 1 000 000: with more of them there are more workers.
    pub tasks_per_worker: usize,
    /// How often the queue is looked at; 10 ms to 1 minute.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// After this time a worker that is not heard of has lost its task; 100 ms to 1 hour.
    #[serde(with = "humantime_serde")]
    pub visibility: Duration,
    /// How long one run may take; 100 ms to 1 day.
    #[serde(with = "humantime_serde")]
    pub run_limit: Duration,
    /// How long runs have to end at a shutdown, before they are handed back; up to 4 s.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How long the record of a task is kept once it is done; 1 minute to 365 days.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// How long a task waits after a run that failed.
    pub backoff: Backoff,
}

/// Rules of payments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentSettings {
    /// Time to complete a payment; 1 second to 30 days.
    #[serde(with = "humantime_serde")]
    pub expires_after: Duration,
}

/// How often background jobs look for work; 10 ms to 1 hour each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSettings {
    /// The scan for payments past their deadline.
    #[serde(with = "humantime_serde")]
    pub expiry_scan: Duration,
    /// Verifications that wait for the provider.
    #[serde(with = "humantime_serde")]
    pub verification: Duration,
    /// Refunds of late payments.
    #[serde(with = "humantime_serde")]
    pub refund: Duration,
    /// Invalidations that the cache did not take.
    #[serde(with = "humantime_serde")]
    pub invalidation: Duration,
    /// Records of tasks that are done for long.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

/// The event bus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSettings {
    /// Events that may wait for one listener, 1 to 1 000 000.
    pub queue: usize,
}

/// The outbox: events that must not be lost.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxSettings {
    /// How often it is looked at when nobody in this process has put something in; 10 ms to 1 hour.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// Events published at once, 1 to 10 000.
    pub batch: u32,
    /// The wait after the first failure, doubled with each further one; 1 ms to 1 day.
    #[serde(with = "humantime_serde")]
    pub retry_base: Duration,
    /// The longest wait; `retry_base` to 1 day.
    #[serde(with = "humantime_serde")]
    pub retry_max: Duration,
    /// How long an instance that publishes and has died is waited for; 100 ms to 1 hour.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How long published events are kept; up to 1 year.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
}

/// The status page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusSettings {
    /// Whether `/status` is there. It asks for no login and shows everyone's payments.
    pub enabled: bool,
}

/// Logs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The least urgent level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what may become one.
    Warn,
    /// And normal business.
    Info,
    /// And details for developers.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object on each line, for machines.
    Json,
    /// Plain text, for development.
    Text,
}

/// The built-in settings, as TOML.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// The breakers of the application; `breakers` in the settings takes these names only.
pub const BREAKERS: [&str; 4] = ["paytabs", "database", "cache", "external"];

/// Laid over the defaults by [`Settings::demo`]: published secrets and a short wait.
const DEMO: &str = r#"
[database]
path = ":memory:"
[paytabs]
server_key = "demo-server-key-not-for-production"
[webhook]
secrets = ["demo-webhook-secret-not-for-production"]
[auth]
jwt_secret = "demo-jwt-secret-not-for-production-use"
bcrypt_cost = 6
[auth.demo_user]
email = "demo@nestcms.test"
password = "demo-password"
role = "user"
[breakers.paytabs]
reset_timeout = "5s"
[jobs]
expiry_scan = "1s"
verification = "500ms"
refund = "1s"
[status]
enabled = true
"#;

impl Settings {
    /// Settings for a demonstration on one machine: the defaults, secrets that everyone
    /// knows, a database in memory, cheap password hashes and a PayTabs breaker that
    /// waits 5 seconds instead of 30. Never for production.
    ///
    /// # Panics
    ///
    /// Never: a test loads the built-in texts.
    #[must_use]
    pub fn demo() -> Self {
        load::layered(&[("demo settings", DEMO)], &[]).expect("the built-in settings are valid")
    }

    /// The settings of the breaker `name`, or the library's defaults for an unknown name.
    #[must_use]
    pub fn breaker(&self, name: &str) -> breaker::Config {
        self.breakers.get(name).cloned().unwrap_or_default()
    }
}
