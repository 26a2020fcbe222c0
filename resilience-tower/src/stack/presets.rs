//! Stacks with settings that are right for most.

use std::time::Duration;

use resilience_core::{breaker, bulkhead};

use super::describe::{AttemptTimeout, Backoff, Budget, Deadline, Retry};
use super::{Description, Stack};
use crate::admission::Policy;

/// Calls to another service, for somebody who waits: deadline (5 s) → retry with a budget (3
/// attempts) → breaker → bulkhead (100 at once) → attempt timeout (1 s).
///
/// The deadline leaves room for all attempts. What asks to come back later than in 1 s is not waited
/// for: an open breaker, as a rule, is an answer at once.
///
/// # Examples
///
/// ```
/// use resilience_tower::stack;
/// use tower::{ServiceBuilder, service_fn};
///
/// let client = service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount));
/// let payments = ServiceBuilder::new().layer(stack::outbound("payments")).service(client);
/// ```
pub fn outbound(name: &str) -> Stack {
    made(Description::outbound(name))
}

/// Calls that nobody waits for, such as deliveries and synchronisation: the order of
/// [`outbound`] with more patience. Deadline (5 min) → retry with a budget (10 attempts, 1 s to
/// 1 min apart, after what a breaker or an upstream asks for) → breaker → bulkhead (10 at once, 1 000
/// in line for up to 1 min) → attempt timeout (30 s).
pub fn background(name: &str) -> Stack {
    made(Description::background(name))
}

/// Calls to a store, which may have done what it did not answer: nothing is tried again. Deadline
/// (2 s) → breaker → bulkhead (20 at once, 100 in line for up to 500 ms) → attempt timeout (1 s).
///
/// As many at once as there are connections: the line is then before the pool, where it is bounded.
pub fn store(name: &str) -> Stack {
    made(Description::store(name))
}

/// Calls that others make to this service: deadline (10 s, or what the caller leaves) → bulkhead
/// (1 000 at once).
///
/// A rate limit goes outermost; its figures are nobody's to guess:
///
/// ```
/// use std::time::Duration;
///
/// use resilience_tower::admission::Policy;
/// use resilience_tower::stack::{self, Quota};
///
/// let stack = stack::inbound("orders").configure(|orders| {
///     orders.order.insert(0, Policy::RateLimit);
///     let per = Duration::from_secs(1);
///     orders.rate_limit = Some(Quota { permits: 500, per, burst: None });
/// })?;
/// # Ok::<(), stack::DescriptionError>(())
/// ```
pub fn inbound(name: &str) -> Stack {
    made(Description::inbound(name))
}

fn made(description: Description) -> Stack {
    // PANIC-FREE: any name will do, and all else is known; see the test.
    Stack::from_description(&description).expect("the settings are within their ranges")
}

const SECOND: Duration = Duration::from_secs(1);

impl Description {
    /// That of [`outbound`].
    pub fn outbound(name: &str) -> Self {
        let order = [
            Policy::Deadline,
            Policy::Retry,
            Policy::Breaker,
            Policy::Bulkhead,
            Policy::AttemptTimeout,
        ];
        Self {
            deadline: total(5 * SECOND),
            retry: Some(Retry {
                max_retry_after: SECOND,
                ..Retry::default()
            }),
            breaker: Some(breaker::Config::builder()),
            bulkhead: Some(bulkhead::Config::builder()),
            attempt_timeout: attempt(SECOND),
            ..Self::new(name, order)
        }
    }

    /// That of [`background`].
    pub fn background(name: &str) -> Self {
        let line = bulkhead::Config::builder().limit(10).max_queue(1_000);
        Self {
            deadline: total(300 * SECOND),
            retry: Some(Retry {
                max_attempts: 10,
                backoff: Backoff {
                    base: SECOND,
                    cap: 60 * SECOND,
                    ..Backoff::default()
                },
                max_retry_after: 120 * SECOND,
                budget: Budget {
                    floor_per_second: 1,
                    ..Budget::default()
                },
            }),
            bulkhead: Some(line.max_wait(60 * SECOND)),
            attempt_timeout: attempt(30 * SECOND),
            ..Self::outbound(name)
        }
    }

    /// That of [`store`].
    pub fn store(name: &str) -> Self {
        let order = [
            Policy::Deadline,
            Policy::Breaker,
            Policy::Bulkhead,
            Policy::AttemptTimeout,
        ];
        let line = bulkhead::Config::builder().limit(20).max_queue(100);
        Self {
            deadline: total(2 * SECOND),
            breaker: Some(breaker::Config::builder()),
            bulkhead: Some(line.max_wait(SECOND / 2)),
            attempt_timeout: attempt(SECOND),
            ..Self::new(name, order)
        }
    }

    /// That of [`inbound`].
    pub fn inbound(name: &str) -> Self {
        let order = [Policy::Deadline, Policy::Bulkhead];
        Self {
            deadline: total(10 * SECOND),
            bulkhead: Some(bulkhead::Config::builder().limit(1_000)),
            ..Self::new(name, order)
        }
    }
}

fn total(total: Duration) -> Option<Deadline> {
    let least = Duration::ZERO;
    Some(Deadline { total, least })
}

fn attempt(after: Duration) -> Option<AttemptTimeout> {
    Some(AttemptTimeout { after })
}
