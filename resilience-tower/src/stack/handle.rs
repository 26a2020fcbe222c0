use std::sync::Arc;

use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::breaker::CircuitBreaker;
use resilience_core::bulkhead::Bulkhead;
use resilience_core::deadline::Deadlines;
use resilience_core::hedge::HedgePolicy;
use resilience_core::rate_limit::RateLimiter;
use resilience_core::retry::RetryPolicy;

use super::parts::Shared;
use super::{Description, DescriptionError};

/// The policies of a stack: their figures, and their settings while calls run.
///
/// Clones are handles on the same stack. A policy that the stack does not have is `None`.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// The stack's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many calls in a time, whoever makes them.
    pub fn rate_limit(&self) -> Option<&RateLimiter> {
        self.shared.parts.rate_limit.as_ref()
    }

    /// The time of calls in all.
    pub fn deadline(&self) -> Option<&Deadlines> {
        self.shared.parts.deadline.as_ref()
    }

    /// Retries, and their budget.
    pub fn retry(&self) -> Option<&RetryPolicy> {
        self.shared.parts.retry.as_ref()
    }

    /// Attempts beside slow ones; their budget is that of the retries, if there are any.
    pub fn hedge(&self) -> Option<&HedgePolicy> {
        self.shared.parts.hedge.as_ref()
    }

    /// The breaker: its state, its mode, its events.
    pub fn breaker(&self) -> Option<&CircuitBreaker> {
        self.shared.parts.breaker.as_ref()
    }

    /// How many calls run at once, and how many wait.
    pub fn bulkhead(&self) -> Option<&Bulkhead> {
        self.shared.parts.bulkhead.as_ref()
    }

    /// As many calls at once as the upstream bears.
    pub fn adaptive(&self) -> Option<&AdaptiveLimit> {
        self.shared.parts.adaptive.as_ref()
    }

    /// How many attempts in a time the upstream allows.
    pub fn upstream_quota(&self) -> Option<&RateLimiter> {
        self.shared.parts.upstream_quota.as_ref()
    }

    /// The time of attempts.
    pub fn attempt_timeout(&self) -> Option<&Deadlines> {
        self.shared.parts.attempt_timeout.as_ref()
    }

    /// The description that the stack was made of, or that was last applied. What was changed at a
    /// policy's own handle is not in it.
    pub fn description(&self) -> Description {
        self.shared.description()
    }

    /// Changes the settings of all policies to those of `description`, for all services of the stack
    /// at once: all of them, or none when one is wrong. What a change does to calls under way is said
    /// at each policy's `set_config`; no call is ended by it, and no count is lost.
    ///
    /// Name and order stay as they are, and so does whether the bulkhead has a line: those make
    /// another stack. A budget that is shared with other stacks is changed for them, too.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, by its path; nothing has changed then.
    ///
    /// # Concurrency
    ///
    /// Changes wait for each other, calls for none. A call that begins beside a change may meet one
    /// policy with the old settings and the next with the new ones.
    pub fn apply(&self, description: &Description) -> Result<(), DescriptionError> {
        self.shared.apply(description)
    }
}
