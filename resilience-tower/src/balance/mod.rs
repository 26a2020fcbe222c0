//! Calls over several endpoints, each of which is a service: the best that is ready.
//!
//! The rules (who is next, who is ejected and comes back, zones, priorities, what a change does) are
//! those of [`resilience_core::balance`]; this module asks the picked endpoint whether it is ready,
//! calls it, and reports how the call ended.
//!
//! # Who is called
//!
//! | the endpoint | the call |
//! |---|---|
//! | is ready | is made, by the very clone of it that said so |
//! | is not ready | goes to the next that the strategy picks; the endpoint is none the worse for it |
//! | fails when asked whether it is ready | goes to the next; a failure of the endpoint |
//! | none is ready | waits in its future until one is, or the endpoints change and the search begins anew; refused if as many wait as may ([`Balance::max_waiting`]) |
//! | there is none, or all have weight 0 | is refused with [`Unavailable`] |
//!
//! # How a call ends
//!
//! By the layer's [`Judge`](crate::breaker::Judge), which is the breaker's, with the same
//! classifiers; by default `Ok` is a success and `Err` a failure.
//!
//! | the call | counts as | its latency is |
//! |---|---|---|
//! | has its response | what the judge says, then or when the body ends | the time until the response's head |
//! | fails, or panics | failure | that time, `failure_penalty` at least |
//! | is dropped before | nothing, except that it would have taken longer | at least the time until then |
//!
//! It is in flight until its response is there, or with a judge of bodies
//! ([`OnBodyEnd`](crate::breaker::http::OnBodyEnd)) until the body ends or the judge knows enough.
//!
//! # Where it stands
//!
//! Inside of retries, so that an attempt can go elsewhere; inside of what is kept for the upstream as
//! a whole (deadline, retry budget, rate limit). What is kept per endpoint is part of the endpoint's
//! service: a breaker, a bulkhead, the timeout of an attempt. A breaker that refuses is *ready*, and
//! its refusal is an error of the endpoint: a failure, so that calls go elsewhere.
//!
//! # What a clone shares
//!
//! The endpoints, what is known of them, and the places of those who wait. Each call clones the
//! service of its endpoint, which must be `Send + Sync` for that (tower's `BoxCloneSyncService`,
//! where a box is needed).
//!
//! # Why is it always ready?
//!
//! The key is known only with the request, and so is the endpoint whose readiness matters. A clone
//! of a service that became ready and is never called would hold a place at its endpoint. So the
//! readiness of endpoints is asked in `call`, and awaited in the response future.
//!
//! # What an operator must know
//!
//! - Give an endpoint a name by which it is known again, such as its address: what is known of it
//!   (calls, latency, ejection) stays with the name.
//! - To take one out without breaking calls, [`drain`](resilience_core::balance::Balancer::drain) it,
//!   and remove it when its snapshot shows no calls in flight. Calls that are cut off are the
//!   endpoint's to end, not the balancer's.
//! - Endpoints that come from elsewhere (DNS, a registry, a file) are told by
//!   [`set_endpoints`](resilience_core::balance::Balancer::set_endpoints), the whole set each time.
//! - A call that waits has no time limit of its own: put a timeout around.
//!
//! # Examples
//!
//! ```
//! use resilience_core::balance::{Balancer, Config, Endpoint};
//! use resilience_tower::balance::Balance;
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = |port: u16| {
//!     service_fn(move |word: &'static str| async move { Ok::<_, std::io::Error>((port, word)) })
//! };
//! let shops = Balancer::new(Config::default());
//! shops.set_endpoints([
//!     Endpoint::new("10.0.0.1:80", endpoint(1)),
//!     Endpoint::new("10.0.0.2:80", endpoint(2)),
//! ])?;
//! let mut service = Balance::new(shops.clone());
//! assert_eq!(service.ready().await?.call("hello").await?.1, "hello");
//! shops.drain("10.0.0.1:80");
//! assert_eq!(service.ready().await?.call("hello").await?, (2, "hello"));
//! # Ok(())
//! # }
//! ```

mod criteria;
mod error;
mod future;
#[cfg(feature = "http")]
mod refusal;
mod service;
mod waiting;

pub use self::criteria::{Any, CriteriaOf};
pub use self::error::{Error, Reason, Unavailable};
pub use self::future::ResponseFuture;
#[cfg(feature = "http")]
pub use self::refusal::{Refuse, problem, status};
pub use self::service::Balance;
use crate::breaker::Record;

impl<S> Record for resilience_core::balance::Pick<S> {
    #[inline]
    fn record(self, outcome: resilience_core::breaker::Outcome) {
        self.end(outcome);
    }
}
