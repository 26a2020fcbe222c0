//! From a description to settings that are right.

use resilience_core::rate_limit;
use resilience_core::retry::{self, BudgetConfig};
use resilience_core::{adaptive, breaker, bulkhead, deadline, hedge};

use super::{Budget, Description, DescriptionError, Quota, Retry};
use crate::admission::Policy;
use crate::stack::order;

/// The settings of a whole stack; those of a policy that is not in the order are `None`.
#[derive(Clone, Debug)]
pub(in crate::stack) struct Checked {
    pub(in crate::stack) rate_limit: Option<rate_limit::Quota>,
    pub(in crate::stack) deadline: Option<deadline::Config>,
    pub(in crate::stack) retry: Option<(retry::Config, BudgetConfig)>,
    pub(in crate::stack) hedge: Option<hedge::Config>,
    pub(in crate::stack) breaker: Option<breaker::Config>,
    pub(in crate::stack) bulkhead: Option<bulkhead::Config>,
    pub(in crate::stack) adaptive: Option<adaptive::Config>,
    pub(in crate::stack) upstream_quota: Option<rate_limit::Quota>,
    pub(in crate::stack) attempt_timeout: Option<deadline::Config>,
}

impl TryFrom<&Description> for Checked {
    type Error = DescriptionError;

    fn try_from(description: &Description) -> Result<Self, DescriptionError> {
        order::check(&description.order)?;
        description.unused()?;
        let has = |policy| description.order.contains(&policy);
        let retry = has(Policy::Retry).then(|| description.retry.clone().unwrap_or_default());
        let breaker = has(Policy::Breaker).then(|| description.breaker.clone().unwrap_or_default());
        let hedge = has(Policy::Hedge).then(|| description.hedge.unwrap_or_default());
        let bulkhead = has(Policy::Bulkhead).then(|| description.bulkhead.unwrap_or_default());
        let adaptive = has(Policy::Adaptive).then(|| description.adaptive.unwrap_or_default());
        let in_section =
            |section: &'static str| move |error| DescriptionError::config(section, error);
        let checked = Self {
            rate_limit: description.quota(Policy::RateLimit, &description.rate_limit)?,
            deadline: description.total()?,
            retry: retry.map(checked_retry).transpose()?,
            hedge: hedge
                .map(|settings| settings.build().map_err(in_section("hedge")))
                .transpose()?,
            breaker: breaker
                .map(|settings| settings.build().map_err(in_section("breaker")))
                .transpose()?,
            bulkhead: bulkhead
                .map(|settings| settings.build().map_err(in_section("bulkhead")))
                .transpose()?,
            adaptive: adaptive
                .map(|settings| settings.build().map_err(in_section("adaptive")))
                .transpose()?,
            upstream_quota: description
                .quota(Policy::UpstreamQuota, &description.upstream_quota)?,
            attempt_timeout: description.attempt()?,
        };
        checked.attempt_within_total()?;
        Ok(checked)
    }
}

impl Checked {
    /// An attempt that may take as long as the call is never given up as an attempt.
    fn attempt_within_total(&self) -> Result<(), DescriptionError> {
        let total = self.deadline.and_then(|config| config.total());
        let attempt = self.attempt_timeout.and_then(|config| config.attempt());
        match (attempt, total) {
            (Some(attempt), Some(total)) if attempt >= total => Err(DescriptionError::setting(
                "attempt_timeout.after",
                format!("{attempt:?}"),
                format!("less than deadline.total, {total:?}"),
            )),
            _ => Ok(()),
        }
    }
}

impl Description {
    fn unused(&self) -> Result<(), DescriptionError> {
        let sections = [
            (Policy::RateLimit, self.rate_limit.is_some()),
            (Policy::Deadline, self.deadline.is_some()),
            (Policy::Retry, self.retry.is_some()),
            (Policy::Hedge, self.hedge.is_some()),
            (Policy::Breaker, self.breaker.is_some()),
            (Policy::Bulkhead, self.bulkhead.is_some()),
            (Policy::Adaptive, self.adaptive.is_some()),
            (Policy::UpstreamQuota, self.upstream_quota.is_some()),
            (Policy::AttemptTimeout, self.attempt_timeout.is_some()),
        ];
        for (policy, said) in sections {
            if said && !self.order.contains(&policy) {
                return Err(DescriptionError::Unused { policy });
            }
        }
        Ok(())
    }

    fn quota(
        &self,
        policy: Policy,
        section: &Option<Quota>,
    ) -> Result<Option<rate_limit::Quota>, DescriptionError> {
        if !self.order.contains(&policy) {
            return Ok(None);
        }
        let Some(Quota {
            permits,
            per,
            burst,
        }) = section
        else {
            let allowed = "how many (`permits`) in what time (`per`)";
            return Err(not_said(policy.as_str(), allowed));
        };
        let quota = rate_limit::Quota::new(*permits, *per).and_then(|quota| match burst {
            Some(burst) => quota.burst(*burst),
            None => Ok(quota),
        });
        match quota {
            Ok(quota) => Ok(Some(quota)),
            Err(error) => Err(DescriptionError::quota(policy, error)),
        }
    }

    fn total(&self) -> Result<Option<deadline::Config>, DescriptionError> {
        if !self.order.contains(&Policy::Deadline) {
            return Ok(None);
        }
        let Some(section) = &self.deadline else {
            return Err(not_said("deadline.total", "1ns to 1 day"));
        };
        let settings = deadline::Config::builder().total(section.total);
        let config = settings.least(section.least).build();
        let config = config.map_err(|error| DescriptionError::config("deadline", error))?;
        Ok(Some(config))
    }

    fn attempt(&self) -> Result<Option<deadline::Config>, DescriptionError> {
        if !self.order.contains(&Policy::AttemptTimeout) {
            return Ok(None);
        }
        let path = "attempt_timeout.after";
        let Some(section) = &self.attempt_timeout else {
            return Err(not_said(path, "1ns to 1 day"));
        };
        let config = deadline::Config::builder().attempt(section.after).build();
        let config =
            config.map_err(|error| DescriptionError::setting(path, error.value, error.allowed))?;
        Ok(Some(config))
    }
}

fn not_said(path: &str, allowed: &str) -> DescriptionError {
    DescriptionError::setting(path, "not said", allowed)
}

fn checked_retry(settings: Retry) -> Result<(retry::Config, BudgetConfig), DescriptionError> {
    let section = |section: &'static str| move |error| DescriptionError::config(section, error);
    let backoff = retry::Backoff::new(settings.backoff.base, settings.backoff.cap)
        .map_err(section("retry.backoff"))?
        .jitter(settings.backoff.jitter);
    let config = retry::Config::builder()
        .max_attempts(settings.max_attempts)
        .backoff(backoff)
        .max_retry_after(settings.max_retry_after)
        .build()
        .map_err(section("retry"))?;
    let budget = checked_budget(&settings.budget).map_err(section("retry.budget"))?;
    Ok((config, budget))
}

fn checked_budget(settings: &Budget) -> Result<BudgetConfig, retry::ConfigError> {
    let budget = BudgetConfig::new(settings.share, settings.floor_per_second)?;
    match settings.burst {
        Some(burst) => budget.burst(burst),
        None => Ok(budget),
    }
}
