//! One quota for several processes, kept in Redis.
//!
//! A [`RedisLimiter`] is made of an address, a name and a [`Config`]; processes that use the same
//! name on the same server share one quota. It works alone ([`RedisLimiter::acquire`]) and as a
//! layer ([`RateLimitLayer::remote`](super::RateLimitLayer::remote)), with keys
//! ([`RedisLimiter::keyed`]), costs and header fields as any other limit.
//!
//! | | exact | leased |
//! |---|---|---|
//! | who decides | Redis, by one script per call | this process, out of blocks that one script gives it |
//! | a call waits | for Redis, each time | only when nothing is left and Redis is to be asked |
//! | admitted by all in a span t | ≤ burst + rate × t | ≤ burst + rate × t |
//! | burst at once | all of it | all but what comes back in a lease |
//! | told to admitted calls | what remains | nothing |
//! | for | up to 1 000 per second | more |
//!
//! How leases work and why they keep the limit is said in [`resilience_core::rate_limit::store`].
//!
//! With keys all of it holds per key. A process holds leases of [`max_keys`](ConfigBuilder::max_keys) keys
//! at most (10 000); a key that was not asked for as long as a lease lasts gives its place to a new one,
//! and while there is no place, Redis decides the calls of a new key one by one, out of the same bucket.
//!
//! # While Redis does not answer
//!
//! No call hangs: an answer takes [`timeout`](ConfigBuilder::timeout) at most, connecting included. After
//! some failures in a row a breaker opens, and calls are decided without a wait; one call in each
//! reset timeout asks again, and the first answer closes it. What is leased is spent to its end.
//! [`OnOutage`] says what becomes of the others:
//!
//! | | calls are | the limit |
//! |---|---|---|
//! | `Closed` (default) | refused as an [`Outage`](super::Outage): 503 and `Retry-After` as a response | holds |
//! | `Open` | admitted, and counted | does not hold |
//! | `Local(share)` | limited by this process to a share of the quota | holds per process |
//!
//! Killed, paused, slow, unreachable, read-only, out of memory, an answer that makes no sense: all
//! are the same. The [breaker](RedisLimiter::breaker) tells subscribers when Redis is given up and when it
//! is back. A server that restarted or lost the script is sent it again, within the same call.
//!
//! # What an operator must know
//!
//! - Redis 5 or newer, for scripts that read the time; its `TIME` is the only clock that counts. Keep it
//!   in step (NTP, slewed): a jump forward gives credit for the jump, at most the burst. The clocks of
//!   the processes do not matter, if they run at the right speed to 1 %.
//! - One key per limit and one per counted key, `prefix name` and `prefix name : hash`, with an expiry: a
//!   key is gone when its bucket is full. A counted key's name is hashed (SHA-256, 128 bits of it).
//! - `maxmemory-policy noeviction`, or room enough: an evicted key is a full bucket. When memory runs out,
//!   writes fail, and calls are decided as in an outage.
//! - A restart without persistence, `FLUSHALL` or an eviction forgets what was taken: up to one burst is
//!   admitted twice.
//! - After a failover to a replica, what was not replicated is admitted twice: what was taken in the
//!   replication lag, at most one burst. Two primaries in a split network admit one quota each. A replica
//!   whose clock is behind gives no credit for the difference.
//! - On a cluster, give the address of the node that holds the key; the script touches one key.
//! - The user needs `+evalsha +eval +get +set +time` on the keys of the prefix.
//! - A call whose answer was lost has taken its cost; one that is sent again, since the connection broke,
//!   may take it twice. Both keep to the limit.
//!
//! # Examples
//!
//! ```no_run
//! use resilience_core::rate_limit::Quota;
//! use resilience_tower::rate_limit::RateLimitLayer;
//! use resilience_tower::rate_limit::redis::{Config, OnOutage, RedisLimiter};
//! use tower::{ServiceBuilder, service_fn};
//!
//! struct Request {
//!     tenant: String,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 50 per second for each tenant, over all processes; a quarter of it in each while Redis is down.
//! let config = Config::builder(Quota::per_second(50)?).on_outage(OnOutage::Local(0.25));
//! let limiter = RedisLimiter::new("redis://127.0.0.1/", "api", config.build()?)?;
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(limiter.keyed(|request: &Request| request.tenant.clone())).remote())
//!     .service(service_fn(async |_: Request| Ok::<_, std::io::Error>("done")));
//! # let _ = service;
//! # Ok(())
//! # }
//! ```

mod config;
mod future;
mod keys;
mod layer;
mod limit;
mod limiter;
mod link;
mod script;
mod service;
mod snapshot;

pub use self::config::{Config, ConfigBuilder, ConfigError, Mode, OnOutage};
pub use self::future::ResponseFuture;
pub use self::layer::RemoteLayer;
pub use self::limit::{Decision, Keyed, Later, RemoteLimit};
pub use self::limiter::RedisLimiter;
pub use self::service::Remote;
pub use self::snapshot::RedisSnapshot;
