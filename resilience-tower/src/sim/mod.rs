//! A simulator for stacks: virtual time, many clients, faults, and the same result for the same
//! seed.
//!
//! A stack runs in it as it is; only the clock of its policies is the simulation's, and its
//! innermost service a model of the upstream. A minute with 100 000 calls through retry, breaker
//! and timeout took 1.2 s of a processor in a debug build. The crate's `docs/SIMULATION.md` shows what the policies do when a retry storm, a slow
//! replica, a cold cache and other trouble come, and how the figures are made.
//!
//! # What is modelled
//!
//! | | |
//! |---|---|
//! | [`Upstream`] | so many servers with a line before them, so that load above the capacity makes it slow; times by chance; spans in which it is down, silent, failing or slow, once or flapping; death of a full line; a cold start |
//! | [`Clients`] | arrivals at random ([`open`](Clients::open)), or users who wait for their answer and think ([`closed`](Clients::closed)); timeouts and retries of their own; keys, and classes |
//! | [`World`] | what the stack is built from: upstreams, clock, seeds |
//! | [`Report`] | calls offered and ended well, errors by kind, exact quantiles of latency, what came to the upstreams, time to recover; for the run, by buckets of time, and by class |
//!
//! # Time
//!
//! Tokio's paused clock, in a runtime of one thread that the run makes: it moves when nothing else
//! is left to do. Its timers have a resolution of a millisecond, and so have all times that a
//! client sees; an upstream keeps its own books in nanoseconds, so that its capacity is exact.
//!
//! # The same result
//!
//! In every process and thread, whatever runs beside it, if the stack itself is so: give
//! policies that draw lots a [`seed`](World::seed) and the [`clock`](World::clock); do not iterate
//! over a `HashMap` with random keys; call `tokio::select!` with `biased`; no other threads, no I/O.
//!
//! # Examples
//!
//! An upstream is silent for five seconds. How many calls wait in vain for how long, with and
//! without a breaker?
//!
//! ```
//! use std::time::Duration;
//!
//! use resilience_core::breaker::{CircuitBreaker, Config};
//! use resilience_tower::breaker::BreakerLayer;
//! use resilience_tower::sim::{Clients, Fault, Simulation, Upstream};
//! use resilience_tower::timeout::TimeoutLayer;
//! use tower::ServiceBuilder;
//!
//! let secs = Duration::from_secs;
//! let payments = Upstream::new().fault(secs(5)..secs(10), Fault::Silent);
//! let simulation = Simulation::new(1)
//!     .upstream("payments", payments)
//!     .clients(Clients::open(100.0));
//!
//! let without = simulation.run(secs(20), |world| {
//!     ServiceBuilder::new()
//!         .layer(TimeoutLayer::new(secs(1)))
//!         .service(world.upstream("payments"))
//! });
//! let with = simulation.run(secs(20), |world| {
//!     let config = Config::builder()
//!         .consecutive_failures(5)
//!         .half_open_permits(1)
//!         .reset_timeout(Duration::from_millis(500));
//!     let config = config.build().unwrap();
//!     let breaker = CircuitBreaker::with_clock("payments", config, world.clock());
//!     ServiceBuilder::new()
//!         .layer(BreakerLayer::from_handle(breaker))
//!         .layer(TimeoutLayer::new(secs(1)))
//!         .service(world.upstream("payments"))
//! });
//! let (without, with) = (without.total(), with.total());
//! assert_eq!(without.offered, with.offered);
//! assert!(with.in_vain < without.in_vain / 3);
//! ```

mod clients;
mod clock;
mod drive;
mod log;
mod random;
mod report;
mod run;
mod server;
mod service;
mod upstream;

pub use self::clients::{Clients, Request};
pub use self::random::Times;
pub use self::report::{Bucket, ClassReport, Report, UpstreamReport};
pub use self::run::{Simulation, World};
pub use self::service::{Failure, Response, ResponseFuture, UpstreamService};
pub use self::upstream::{Fault, Upstream};
