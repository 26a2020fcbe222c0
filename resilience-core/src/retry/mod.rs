//! Retries: how often, when, and how many for all calls together.
//!
//! | type | for |
//! |---|---|
//! | [`RetryPolicy`] | attempts, waits, deadlines: one per kind of call |
//! | [`RetryBudget`] | the most that retries and hedges may add to an upstream's load: one per upstream |
//! | [`Backoff`] | the waits alone |
//!
//! A retry helps a call that met a passing fault, and harms an upstream that is overloaded: three
//! attempts per call are three times the load, just then. So every policy has a budget.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | how many attempts has one call? | `max_attempts`, the first included |
//! | how many retries have all? | in any span of t seconds with n first attempts at most burst + share × n + floor × t, whatever races; see [`RetryBudget`] |
//! | who earns? | every first attempt when it begins; retries and hedges earn nothing, so that they cannot feed themselves |
//! | how long is the wait? | base × 2^(retry − 1) up to the cap, with jitter; see [`Jitter`] |
//! | `Retry-After`? | that, and the backoff on top; above `max_retry_after` the call is not tried again |
//! | a deadline? | a retry whose wait ends at it or later is not begun, and takes nothing from the budget |
//! | which failures? | what the caller says: the tower layer takes the classifier of the breaker |
//! | a change of settings? | for the next decision of every call; what is saved up keeps its proportion |
//! | a retry that was granted and not made? | stays taken; see [`RetryBudget::refund`] |
//! | who hears of it? | who [subscribed](RetryPolicy::subscribe): once when the budget is spent, and once when half of its burst is there again; not of each refusal |

mod backoff;
mod budget;
mod change;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod pace;
mod policy;

pub use self::{
    backoff::{Backoff, Jitter},
    budget::{BudgetConfig, BudgetSnapshot, BudgetSpent, RetryBudget},
    change::{BudgetChange, Change},
    policy::{Attempts, Config, ConfigBuilder, RetryPolicy, Snapshot, Stop, Stopped},
};
pub use crate::{events::Subscription, settings::ConfigError};
