//! An embeddable reverse proxy and API gateway on hyper.
//!
//! A request passes, outside in: request guard ([`guard`]: framing, `Host`, [`path`]), built-in
//! endpoints, IP filter, CORS, sizes, rate limit by client address, route, authentication, rate
//! limit by consumer, endpoint with its circuit breaker. Bodies stream both ways, one frame at a
//! time.
//!
//! The policies are those of `resilience-tower`; everything that counts (breakers, pools,
//! buckets) lives apart from the compiled configuration, so that the configuration can be
//! replaced without losing it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use gateway_kit::{Config, Gateway};
//!
//! let config = Config::from_toml(r#"
//!     listen = "127.0.0.1:0"
//!     [[route]]
//!     prefix = "/api"
//!     upstream = "shop"
//!     [upstream.shop]
//!     endpoints = ["http://127.0.0.1:9080"]
//! "#)?;
//! let gateway = Gateway::bind(config).await?;
//! assert_ne!(gateway.local_addr().port(), 0);
//! gateway.serve(async { /* until a signal comes */ }).await?;
//! # Ok(()) }
//! ```

/// The README, whose examples are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "admin")]
mod admin;
pub mod config;
pub mod guard;
pub mod health;
pub mod path;
pub mod pool;

mod alarm;
mod body;
mod built_in;
mod embed;
mod exchange;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gather;
mod handle;
mod headers;
mod ids;
mod layers;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod pipeline;
mod policy;
mod problem;
mod reload;
mod route;
mod server;
mod shared;
mod snapshot;
mod trace;
mod upstream;
mod wall;

pub use self::body::{Body, BoxError};
pub use self::config::{Config, ConfigError, ConfigProblem};
pub use self::embed::GatewayService;
#[cfg(feature = "cache")]
pub use self::handle::CacheState;
pub use self::handle::{
    BulkheadState, EndpointSource, EndpointState, Handle, RateLimitState, RouteState, UpstreamState,
};
pub use self::layers::Next;
pub use self::policy::transform::{Fields, Refusal, RequestHead, Reserved, Transform};
pub use self::reload::{Changes, ConfigDiff, ReloadOutcome, ReloadReport, ReloadTrigger};
pub use self::server::{Builder, Error, Gateway};
pub use self::upstream::service::RegisterError;
