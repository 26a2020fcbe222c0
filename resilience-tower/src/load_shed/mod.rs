//! When there is more to do than can be done, the calls that matter least are refused first.
//!
//! The rules (what is overload, who is shed, how the level moves) are those of
//! [`resilience_core::load_shed`]. A call counts as running from `call` until its response is there
//! or its future is dropped; a response body that is read afterwards is not counted.
//!
//! # Three layers
//!
//! | layer | does |
//! |---|---|
//! | [`StampLayer`] | notes in the request when it came ([`Arrived`]) |
//! | [`LoadShedLayer`] | admits the call or sheds it, by its class and the level of the moment |
//! | [`MeasureLayer`] | reports how long ago the request came, and so what the queues in between cost |
//!
//! Whatever lies between the first and the last counts as queue: a buffer, a line before a bulkhead,
//! a runtime that is late. A queue of one's own reports by
//! [`LoadShed::report`](resilience_core::load_shed::LoadShed::report). Without the other two layers
//! the load shedder goes by calls at once alone, if it has a limit.
//!
//! # Where it stands
//!
//! Outermost on a server, so that a call that is shed costs next to nothing: outside of every queue,
//! of authentication and of the reading of bodies; inside of what tells health and admin requests from
//! others, if the path does not. The last layer stands just outside of the work.
//!
//! # What a clone shares
//!
//! The load shedder: level, counts, settings.
//!
//! # What an operator must know
//!
//! - Health checks and admin requests must be [`Class::Critical`](resilience_core::load_shed::Class):
//!   a server whose health check is shed is restarted for having much to do.
//! - Who sets the class decides who is served. Do not take it from strangers.
//! - A queue that does not move reports nothing. Give a limit too, fixed or
//!   [live](resilience_core::load_shed::LoadShed::follow).
//! - A server whose work is all CPU may go by that too: `Config::cpu` says how much is borne, and
//!   [`CpuUsage`] or a figure of one's own tells what is used. Off by default: a server may run at
//!   100 % with nobody waiting.
//! - A target far below the time of a call makes the level swing, and serves less than could be
//!   served; about half of that time is a good one
//!   (simulated in `docs/SIMULATION.md`).
//! - `poll_ready` is the inner service's. Where that holds callers back, they wait outside, unseen and
//!   unstamped: put a [`Buffer`](https://docs.rs/tower/latest/tower/buffer/index.html) or a waiting
//!   policy within.
//! - A refusal is no failure of the upstream. Its `Retry-After` is when the class is admitted again at
//!   the earliest: the lower the class, the later.
//!
//! # Examples
//!
//! ```
//! # #[cfg(feature = "http")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use http::{Request, Response};
//! use resilience_core::load_shed::{Class, Config, LoadShed};
//! use resilience_tower::load_shed::{LoadShedLayer, StampLayer, http::Paths};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let shed = LoadShed::new(Config::builder().limit(200).build().unwrap());
//! let classes = Paths::new()
//!     .path("/health", Class::Critical)
//!     .path("/checkout", Class::High);
//! let layer = LoadShedLayer::new(shed.clone()).class(classes);
//! let measure = layer.measure();
//! let service = ServiceBuilder::new()
//!     .layer(StampLayer)
//!     .layer(layer.into_response())
//!     .concurrency_limit(100)
//!     .layer(measure)
//!     .service(service_fn(async |_: Request<()>| {
//!         Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
//!     }));
//! let answer = service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(answer.status(), 200);
//! assert_eq!(shed.snapshot().admitted(Class::Normal), 1);
//! # }
//! # #[cfg(not(feature = "http"))]
//! # fn main() {}
//! ```

mod arrival;
mod class;
mod cpu;
mod error;
mod future;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod service;

pub use self::arrival::{Arrived, HasArrival, Measure, MeasureLayer, Stamp, StampLayer};
pub use self::class::ClassOf;
pub use self::cpu::CpuUsage;
pub use self::error::Error;
pub use self::future::ResponseFuture;
pub use self::layer::LoadShedLayer;
pub use self::service::LoadShed;
