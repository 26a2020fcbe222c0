//! Changes of policies as `tracing` events; their fields are those of the table in TELEMETRY.md.

use std::sync::Arc;
use std::time::Duration;

use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_core::balance::{Balancer, Change, Event};
use resilience_core::breaker::{CircuitBreaker, Registry, State, Subscription, Transition};
use resilience_core::bulkhead::{self, Bulkhead};
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::load_shed::{LevelChange, LoadShed};
use resilience_core::retry::{BudgetChange, RetryBudget};

/// Tells each change of state of `breaker` as an event, until the subscription is dropped.
///
/// At level `WARN` when the breaker opens and decides itself, else `INFO`.
pub fn breaker(breaker: &CircuitBreaker) -> Subscription {
    breaker.subscribe(transition)
}

/// As [`breaker`](breaker()), of all breakers of a registry, those to come included.
pub fn breakers<K>(registry: &Registry<K>) -> Subscription {
    registry.subscribe(transition)
}

fn transition(change: &Transition) {
    macro_rules! tell {
        ($level:ident) => {
            tracing::event!(
                name: "resilience.breaker.transition",
                target: "resilience_tower",
                tracing::Level::$level,
                resilience.policy = "breaker",
                resilience.name = &*change.breaker,
                resilience.breaker.from = change.from.as_str(),
                resilience.breaker.to = change.to.as_str(),
                resilience.breaker.mode = change.mode.as_str(),
                resilience.breaker.cause = change.cause.as_str(),
                resilience.breaker.generation = change.generation,
                resilience.breaker.calls = change.calls,
                resilience.breaker.failures = change.failures,
                resilience.breaker.slow_calls = change.slow_calls,
                resilience.breaker.open_for_s = change.open_for.map(|time| time.as_secs_f64()),
                resilience.breaker.observed = change.observed,
                resilience.breaker.shadow = change.shadow,
                "circuit breaker changed its state",
            )
        };
    }
    if change.to == State::Open && !change.observed {
        tell!(WARN);
    } else {
        tell!(INFO);
    }
}

/// Tells what becomes of the endpoints of `balancer`, until the subscription is dropped; `name` is
/// the balancer's in the events.
///
/// At level `WARN` when an endpoint is ejected or none is left, else `INFO`.
pub fn balancer<T>(name: impl Into<Arc<str>>, balancer: &Balancer<T>) -> Subscription {
    let name = name.into();
    balancer.subscribe(move |event| endpoint(&name, event))
}

fn endpoint(name: &str, event: &Event) {
    let (cause, ejected_for, weight) = match event.change {
        Change::Ejected { cause, time } => (Some(cause.as_str()), Some(time), None),
        Change::Weighted { weight } => (None, None, Some(weight)),
        _ => (None, None, None),
    };
    macro_rules! tell {
        ($level:ident) => {
            tracing::event!(
                name: "resilience.balance.endpoint",
                target: "resilience_tower",
                tracing::Level::$level,
                resilience.policy = "balance",
                resilience.name = name,
                resilience.balance.endpoint = &*event.endpoint,
                resilience.balance.change = event.change.as_str(),
                resilience.balance.cause = cause,
                resilience.balance.ejected_for_s = ejected_for.as_ref().map(Duration::as_secs_f64),
                resilience.balance.weight = weight,
                "an endpoint changed",
            )
        };
    }
    if matches!(event.change, Change::Ejected { .. } | Change::NoneLeft) {
        tell!(WARN);
    } else {
        tell!(INFO);
    }
}

/// Tells each change of level of `shedder`, until the subscription is dropped; `name` is the
/// shedder's in the events.
///
/// At level `WARN` when more is shed than before, else `INFO`.
pub fn load_shed(name: impl Into<Arc<str>>, shedder: &LoadShed) -> Subscription {
    let name = name.into();
    shedder.subscribe(move |change| level(&name, change))
}

fn level(name: &str, change: &LevelChange) {
    macro_rules! tell {
        ($level:ident) => {
            tracing::event!(
                name: "resilience.load_shed.level",
                target: "resilience_tower",
                tracing::Level::$level,
                resilience.policy = "load_shed",
                resilience.name = name,
                resilience.load_shed.from = change.from,
                resilience.load_shed.to = change.to,
                resilience.load_shed.cause = change.cause.as_str(),
                resilience.load_shed.delay_s = change.delay.as_ref().map(Duration::as_secs_f64),
                resilience.load_shed.in_flight = change.in_flight,
                resilience.load_shed.limit = change.limit,
                resilience.load_shed.cpu = change.cpu,
                "the level of load shedding changed",
            )
        };
    }
    if change.to > change.from {
        tell!(WARN);
    } else {
        tell!(INFO);
    }
}

/// Tells when the budget of retries and hedges is spent, has recovered or has other settings, until
/// the subscription is dropped; `name` is the budget's in the events. Who shares a budget says it
/// once.
///
/// At level `WARN` when it is spent, else `INFO`.
pub fn retry_budget(name: impl Into<Arc<str>>, budget: &RetryBudget) -> Subscription {
    let (name, back) = (name.into(), budget.downgrade());
    budget.subscribe(move |change| {
        let refused = back().map(|budget| budget.snapshot().refused);
        spending(&name, *change, refused);
    })
}

fn spending(name: &str, change: BudgetChange, refused: Option<u64>) {
    macro_rules! tell {
        ($level:ident) => {
            tracing::event!(
                name: "resilience.retry_budget.change",
                target: "resilience_tower",
                tracing::Level::$level,
                resilience.policy = "retry_budget",
                resilience.name = name,
                resilience.retry_budget.change = change.as_str(),
                resilience.retry_budget.refused = refused,
                "the retry budget changed",
            )
        };
    }
    if change == BudgetChange::Spent {
        tell!(WARN);
    } else {
        tell!(INFO);
    }
}

/// Tells when the delay of the hedges of `policy` was learned or lost, or has doubled or halved, until
/// the subscription is dropped; `name` is the policy's in the events. Its budget is told by
/// [`retry_budget`].
///
/// At level `INFO`.
pub fn hedge(name: impl Into<Arc<str>>, policy: &HedgePolicy) -> Subscription {
    let name = name.into();
    policy.subscribe(move |change| {
        if let hedge::Change::Delay { from, to } = change {
            tracing::event!(
                name: "resilience.hedge.delay",
                target: "resilience_tower",
                tracing::Level::INFO,
                resilience.policy = "hedge",
                resilience.name = &*name,
                resilience.hedge.from_s = from.as_ref().map(Duration::as_secs_f64),
                resilience.hedge.to_s = to.as_ref().map(Duration::as_secs_f64),
                "the delay of hedges changed",
            );
        }
    })
}

/// Tells what becomes of the nodes of `cluster`, until the subscription is dropped; `name` is the
/// cluster's in the events.
///
/// At level `WARN` when a node is down, foreign, fenced, lagging or set back, nobody takes writes, or a
/// write that was acknowledged is lost, else `INFO`.
#[cfg(feature = "read-write")]
pub fn read_write<N: crate::read_write::Node>(
    name: impl Into<Arc<str>>,
    cluster: &crate::read_write::Cluster<N>,
) -> Subscription {
    let name = name.into();
    cluster.router().subscribe(move |event| node(&name, event))
}

#[cfg(feature = "read-write")]
fn node(name: &str, event: &resilience_core::route::Event) {
    use resilience_core::route::Change;
    macro_rules! tell {
        ($level:ident) => {
            tracing::event!(
                name: "resilience.read_write.change",
                target: "resilience_tower",
                tracing::Level::$level,
                resilience.policy = "read_write",
                resilience.name = name,
                resilience.read_write.node = &*event.node,
                resilience.read_write.change = event.change.as_str(),
                resilience.read_write.epoch = event.epoch,
                "a node changed",
            )
        };
    }
    match event.change {
        Change::Up | Change::Promoted | Change::Primary | Change::CaughtUp => tell!(INFO),
        _ => tell!(WARN),
    }
}

/// Tells when a call was refused by `bulkhead` for want of room, when there is room again, and when it
/// has other settings, until the subscription is dropped; `name` is the bulkhead's in the events.
///
/// At level `WARN` when it is full, else `INFO`.
pub fn bulkhead(name: impl Into<Arc<str>>, bulkhead: &Bulkhead) -> Subscription {
    let (name, back) = (name.into(), bulkhead.downgrade());
    bulkhead.subscribe(move |change| {
        let figures = back().map(|bulkhead| bulkhead.snapshot());
        room(&name, *change, figures);
    })
}

fn room(name: &str, change: bulkhead::Change, figures: Option<bulkhead::Snapshot>) {
    macro_rules! tell {
        ($level:ident) => {
            tracing::event!(
                name: "resilience.bulkhead.change",
                target: "resilience_tower",
                tracing::Level::$level,
                resilience.policy = "bulkhead",
                resilience.name = name,
                resilience.bulkhead.change = change.as_str(),
                resilience.bulkhead.limit = figures.map(|figures| figures.limit),
                resilience.bulkhead.refused = figures.map(|figures| figures.refused),
                "the bulkhead changed",
            )
        };
    }
    if change == bulkhead::Change::Full {
        tell!(WARN);
    } else {
        tell!(INFO);
    }
}

/// Tells when the limit of `limit` has moved by a quarter since it was told, or came to its minimum or
/// maximum, until the subscription is dropped; `name` is the limit's in the events.
///
/// At level `INFO`: it is there to move.
pub fn adaptive(name: impl Into<Arc<str>>, limit: &AdaptiveLimit) -> Subscription {
    let name = name.into();
    limit.subscribe(move |change| {
        if let adaptive::Change::Limit { from, to } = *change {
            tracing::event!(
                name: "resilience.adaptive.limit",
                target: "resilience_tower",
                tracing::Level::INFO,
                resilience.policy = "adaptive",
                resilience.name = &*name,
                resilience.adaptive.from = from,
                resilience.adaptive.to = to,
                "the adaptive limit changed",
            );
        }
    })
}
