//! The policies of a stack.

use std::sync::Arc;

use parking_lot::Mutex;
use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::breaker::CircuitBreaker;
use resilience_core::bulkhead::Bulkhead;
use resilience_core::clock::SharedClock;
use resilience_core::deadline::Deadlines;
use resilience_core::hedge::HedgePolicy;
use resilience_core::rate_limit::RateLimiter;
use resilience_core::retry::{BudgetConfig, RetryBudget, RetryPolicy};

use super::describe::Checked;
use super::places::Limit;
use super::{Description, DescriptionError};

/// What all services of a stack share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) parts: Parts,
    /// The settings in force; held by those who read or change them, not by calls.
    described: Mutex<Described>,
}

/// A description, and what it says.
#[derive(Clone, Debug)]
struct Described {
    description: Description,
    settings: Checked,
}

/// The policies that are there.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) rate_limit: Option<RateLimiter>,
    pub(super) deadline: Option<Deadlines>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) hedge: Option<HedgePolicy>,
    pub(super) breaker: Option<CircuitBreaker>,
    pub(super) bulkhead: Option<Bulkhead>,
    pub(super) adaptive: Option<AdaptiveLimit>,
    pub(super) upstream_quota: Option<RateLimiter>,
    pub(super) attempt_timeout: Option<Deadlines>,
    /// Whether those that the bulkhead does not admit stand in line.
    waits: bool,
}

impl Parts {
    fn new(
        name: &str,
        settings: Checked,
        clock: &SharedClock,
        budget: Option<&RetryBudget>,
    ) -> Self {
        let waits = waits(&settings);
        let limiter = |quota| RateLimiter::with_clock(quota, clock.clone());
        let retry = settings.retry.map(|(config, own)| {
            let own = || RetryBudget::with_clock(own, clock.clone());
            let budget = budget.cloned().unwrap_or_else(own);
            RetryPolicy::with_clock(config, budget, clock.clone())
        });
        let hedge = settings.hedge.map(|config| match &retry {
            // What earns is the call, and it has earned there.
            Some(retry) => HedgePolicy::inside_retry(config, retry.budget().clone(), clock.clone()),
            None => {
                let own = || RetryBudget::with_clock(BudgetConfig::default(), clock.clone());
                let budget = budget.cloned().unwrap_or_else(own);
                HedgePolicy::with_clock(config, budget, clock.clone())
            }
        });
        Self {
            rate_limit: settings.rate_limit.map(limiter),
            deadline: settings.deadline.map(Deadlines::new),
            retry,
            hedge,
            breaker: settings
                .breaker
                .map(|config| CircuitBreaker::with_clock(name, config, clock.clone())),
            waits,
            bulkhead: settings
                .bulkhead
                .map(|config| Bulkhead::with_clock(config, clock.clone())),
            adaptive: settings
                .adaptive
                .map(|config| AdaptiveLimit::with_clock(config, clock.clone())),
            upstream_quota: settings.upstream_quota.map(limiter),
            attempt_timeout: settings.attempt_timeout.map(Deadlines::new),
        }
    }

    pub(super) fn places(&self) -> Limit {
        match (&self.bulkhead, &self.adaptive) {
            (Some(bulkhead), _) if self.waits => Limit::Waiting(bulkhead.clone()),
            (Some(bulkhead), _) => Limit::Refusing(bulkhead.clone()),
            (None, Some(limit)) => Limit::Adaptive(limit.clone()),
            (None, None) => Limit::None,
        }
    }

    /// Changes all settings; those of policies that are not there are ignored.
    fn set(&self, settings: Checked) {
        let Checked {
            rate_limit,
            deadline,
            retry,
            hedge,
            breaker,
            bulkhead,
            adaptive,
            upstream_quota,
            attempt_timeout,
        } = settings;
        for (limiter, quota) in [
            (&self.rate_limit, rate_limit),
            (&self.upstream_quota, upstream_quota),
        ] {
            if let (Some(limiter), Some(quota)) = (limiter, quota) {
                limiter.set_quota(quota);
            }
        }
        for (deadlines, config) in [
            (&self.deadline, deadline),
            (&self.attempt_timeout, attempt_timeout),
        ] {
            if let (Some(deadlines), Some(config)) = (deadlines, config) {
                deadlines.set_config(config);
            }
        }
        if let (Some(policy), Some((config, budget))) = (&self.retry, retry) {
            policy.set_config(config);
            policy.budget().set_config(budget);
        }
        if let (Some(policy), Some(config)) = (&self.hedge, hedge) {
            policy.set_config(config);
        }
        if let (Some(breaker), Some(config)) = (&self.breaker, breaker) {
            breaker.set_config(config);
        }
        if let (Some(bulkhead), Some(config)) = (&self.bulkhead, bulkhead) {
            bulkhead.set_config(config);
        }
        if let (Some(limit), Some(config)) = (&self.adaptive, adaptive) {
            limit.set_config(config);
        }
    }
}

fn waits(settings: &Checked) -> bool {
    let bulkhead = settings.bulkhead.as_ref();
    bulkhead.is_some_and(|config| config.max_queue() > 0)
}

impl Described {
    /// With a budget that is shared, its settings are those in force.
    fn pay_from(&mut self, budget: Option<&RetryBudget>) {
        if let (Some(budget), Some((_, own))) = (budget, &mut self.settings.retry) {
            *own = budget.config();
            let retry = self.description.retry.get_or_insert_default();
            retry.budget = (*own).into();
        }
    }
}

impl Shared {
    pub(super) fn new(
        description: Description,
        clock: &SharedClock,
        budget: Option<&RetryBudget>,
    ) -> Result<Self, DescriptionError> {
        let settings = Checked::try_from(&description)?;
        let mut described = Described {
            description,
            settings,
        };
        described.pay_from(budget);
        Ok(Self::of(described, clock, budget))
    }

    fn of(described: Described, clock: &SharedClock, budget: Option<&RetryBudget>) -> Self {
        let name = described.description.name.as_str();
        Self {
            name: name.into(),
            parts: Parts::new(name, described.settings.clone(), clock, budget),
            described: Mutex::new(described),
        }
    }

    /// The same policies once more, on this clock and this budget.
    pub(super) fn again(&self, clock: &SharedClock, budget: Option<&RetryBudget>) -> Self {
        let mut described = self.described.lock().clone();
        described.pay_from(budget);
        Self::of(described, clock, budget)
    }

    pub(super) fn description(&self) -> Description {
        self.described.lock().description.clone()
    }

    pub(super) fn apply(&self, description: &Description) -> Result<(), DescriptionError> {
        // Held to the end: two changes at once would else leave some of each.
        let mut described = self.described.lock();
        let settings = Checked::try_from(description)?;
        let made = &described.description;
        if description.name != made.name {
            let allowed = format!("{:?}, as it was made", made.name);
            let value = format!("{:?}", description.name);
            return Err(DescriptionError::setting("name", value, allowed));
        }
        if description.order != made.order {
            let allowed = format!("{}, as it was made", names(made));
            let value = names(description);
            return Err(DescriptionError::setting("order", value, allowed));
        }
        if let Some(config) = settings.bulkhead
            && waits(&settings) != self.parts.waits
        {
            let allowed = if self.parts.waits {
                "1 or more, as it was made with a line"
            } else {
                "0, as it was made without a line"
            };
            let value = config.max_queue();
            let path = "bulkhead.max_queue";
            return Err(DescriptionError::setting(path, value, allowed));
        }
        // Nothing fails from here on.
        self.parts.set(settings.clone());
        *described = Described {
            description: description.clone(),
            settings,
        };
        Ok(())
    }
}

fn names(description: &Description) -> String {
    let names: Vec<_> = description
        .order
        .iter()
        .map(|policy| policy.as_str())
        .collect();
    format!("[{}]", names.join(", "))
}
