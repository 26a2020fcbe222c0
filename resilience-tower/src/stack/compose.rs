//! A stack written down policy by policy, outside in.

use std::marker::PhantomData;
use std::time::Duration;

use resilience_core::{adaptive, breaker, bulkhead, hedge};

use super::describe::{AttemptTimeout, Deadline, Quota, Retry};
use super::{Description, DescriptionError, Stack};
use crate::admission::Policy;

/// A stack of one's own, policy by policy, outside in. Policies may be left out; an order that does
/// not work does not compile.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use resilience_core::{adaptive, breaker};
/// use resilience_tower::stack;
///
/// let stack = stack::compose("search")
///     .deadline(Duration::from_secs(2))
///     .breaker(breaker::Config::builder().failure_rate(0.3))
///     .adaptive(adaptive::Config::builder())
///     .attempt_timeout(Duration::from_millis(500))
///     .build()?;
/// # Ok::<(), stack::DescriptionError>(())
/// ```
pub fn compose(name: &str) -> Compose<Outermost, Complete> {
    Compose {
        description: Description::new(name, []),
        place: PhantomData,
    }
}

/// A stack being written down; made by [`compose`].
///
/// `At` is the innermost policy so far, `Needs` what must still come.
#[derive(Clone, Debug)]
#[must_use]
pub struct Compose<At, Needs> {
    description: Description,
    place: PhantomData<(At, Needs)>,
}

macro_rules! places {
    ($($name:ident: $doc:literal,)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}
    )*};
}

places! {
    Outermost: "Where a stack begins.",
    AtRateLimit: "The place of the rate limit.",
    AtDeadline: "The place of the deadline.",
    AtRetry: "The place of the retry policy.",
    AtHedge: "The place of the hedge policy.",
    AtBreaker: "The place of the breaker.",
    AtPlaces: "The place of bulkhead or adaptive limit.",
    AtUpstreamQuota: "The place of the upstream's quota.",
    AtAttemptTimeout: "The place of the attempt timeout.",
    Complete: "The stack may end here.",
    AttemptsEnd: "The stack needs an attempt timeout.",
}

/// The policy at `Self` may stand outside of the one at `Inner`.
#[diagnostic::on_unimplemented(
    message = "in a stack `{Inner}` does not stand inside of `{Self}`",
    note = "outside in: rate limit, deadline, retry, hedge, breaker, bulkhead or adaptive \
            limit, upstream quota, attempt timeout; the docs of `stack` say why"
)]
pub trait OutsideOf<Inner> {}

macro_rules! order {
    ($outer:ident) => {};
    ($outer:ident $($inner:ident)+) => {
        $(impl OutsideOf<$inner> for $outer {})+
        order!($($inner)+);
    };
}

order!(Outermost AtRateLimit AtDeadline AtRetry AtHedge AtBreaker AtPlaces AtUpstreamQuota AtAttemptTimeout);

impl<At, Needs> Compose<At, Needs> {
    fn then<Next, Then>(
        mut self,
        policy: Policy,
        set: impl FnOnce(&mut Description),
    ) -> Compose<Next, Then> {
        self.description.order.push(policy);
        set(&mut self.description);
        Compose {
            description: self.description,
            place: PhantomData,
        }
    }

    /// So many calls in a time, whoever makes them.
    pub fn rate_limit(self, permits: u32, per: Duration) -> Compose<AtRateLimit, Needs>
    where
        At: OutsideOf<AtRateLimit>,
    {
        let quota = Quota {
            permits,
            per,
            burst: None,
        };
        self.then(Policy::RateLimit, |stack| stack.rate_limit = Some(quota))
    }

    /// The longest that a call may take, whatever its caller leaves.
    pub fn deadline(self, total: Duration) -> Compose<AtDeadline, Needs>
    where
        At: OutsideOf<AtDeadline>,
    {
        let deadline = Deadline {
            total,
            least: Duration::ZERO,
        };
        self.then(Policy::Deadline, |stack| stack.deadline = Some(deadline))
    }

    /// Another attempt beside a slow one, for requests that the stack's
    /// [`hedges`](Stack::hedges) says may be sent twice.
    pub fn hedge(self, settings: hedge::ConfigBuilder) -> Compose<AtHedge, Needs>
    where
        At: OutsideOf<AtHedge>,
    {
        self.then(Policy::Hedge, |stack| stack.hedge = Some(settings))
    }

    /// No calls to an upstream that fails.
    pub fn breaker(self, settings: breaker::ConfigBuilder) -> Compose<AtBreaker, AttemptsEnd>
    where
        At: OutsideOf<AtBreaker>,
    {
        self.then(Policy::Breaker, |stack| stack.breaker = Some(settings))
    }

    /// So many calls at once; with a `max_queue` others wait.
    pub fn bulkhead(self, settings: bulkhead::ConfigBuilder) -> Compose<AtPlaces, Needs>
    where
        At: OutsideOf<AtPlaces>,
    {
        self.then(Policy::Bulkhead, |stack| stack.bulkhead = Some(settings))
    }

    /// As many calls at once as the upstream bears.
    pub fn adaptive(self, settings: adaptive::ConfigBuilder) -> Compose<AtPlaces, AttemptsEnd>
    where
        At: OutsideOf<AtPlaces>,
    {
        self.then(Policy::Adaptive, |stack| stack.adaptive = Some(settings))
    }

    /// So many attempts in a time, as the upstream allows.
    pub fn upstream_quota(self, permits: u32, per: Duration) -> Compose<AtUpstreamQuota, Needs>
    where
        At: OutsideOf<AtUpstreamQuota>,
    {
        let quota = Quota {
            permits,
            per,
            burst: None,
        };
        let policy = Policy::UpstreamQuota;
        self.then(policy, |stack| stack.upstream_quota = Some(quota))
    }

    /// When an attempt is given up.
    pub fn attempt_timeout(self, after: Duration) -> Compose<AtAttemptTimeout, Complete>
    where
        At: OutsideOf<AtAttemptTimeout>,
    {
        let timeout = AttemptTimeout { after };
        let policy = Policy::AttemptTimeout;
        self.then(policy, |stack| stack.attempt_timeout = Some(timeout))
    }
}

impl<Needs> Compose<AtDeadline, Needs> {
    /// More attempts, within the deadline.
    pub fn retry(self, settings: Retry) -> Compose<AtRetry, Needs> {
        self.then(Policy::Retry, |stack| stack.retry = Some(settings))
    }
}

impl<At> Compose<At, Complete> {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// The first setting out of its range, by its path.
    pub fn build(self) -> Result<Stack, DescriptionError> {
        Stack::from_description(&self.description)
    }
}
