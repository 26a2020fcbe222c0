//! What counts for all endpoints of a service together: its breaker, places for calls, and retries.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::poll_fn;
use http::StatusCode;
use metrics::Histogram;
use parking_lot::Mutex;
use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_core::breaker::{self, CircuitBreaker};
use resilience_core::bulkhead::{self, Bulkhead, OwnedPermit, Priority, Turn};
use resilience_core::clock::SharedClock;
use resilience_core::retry::{BudgetConfig, RetryBudget};
use tokio::time::{Instant, Sleep, sleep};

use crate::config::UpstreamConfig;
use crate::metrics::{BreakerMetrics, ServiceMetrics, Wait};
use crate::problem::Problem;

/// The limits of one service; whether they are in force is for the settings to say.
#[derive(Debug)]
pub(crate) struct Limits {
    bulkhead: Bulkhead,
    adaptive: AdaptiveLimit,
    /// As configured; what is set at run time holds until that changes.
    configured: Mutex<Option<bulkhead::Config>>,
    budget: RetryBudget,
    breaker: CircuitBreaker,
    breaker_metrics: BreakerMetrics,
    metrics: ServiceMetrics,
    clock: SharedClock,
}

/// Told to a client that found no place; when one comes free is not known.
const RETRY_FULL: Duration = Duration::from_secs(1);

impl Limits {
    pub(crate) fn new(name: &str, metrics: ServiceMetrics, clock: &SharedClock) -> Self {
        let breaker = CircuitBreaker::with_clock(name, Default::default(), clock.clone());
        Self {
            breaker_metrics: BreakerMetrics::new(&breaker),
            breaker,
            bulkhead: Bulkhead::with_clock(Default::default(), clock.clone()),
            adaptive: AdaptiveLimit::with_clock(Default::default(), clock.clone()),
            configured: Mutex::default(),
            budget: RetryBudget::with_clock(BudgetConfig::default(), clock.clone()),
            metrics,
            clock: clock.clone(),
        }
    }

    /// Puts settings in force; what runs and what was saved up stays counted.
    pub(crate) fn configure(&self, config: &UpstreamConfig) {
        let mut configured = self.configured.lock();
        let before = std::mem::replace(&mut *configured, config.bulkhead);
        if let Some(bulkhead) = config.bulkhead
            && before != config.bulkhead
        {
            self.bulkhead.set_config(bulkhead);
        }
        drop(configured);
        if let Some(adaptive) = config.adaptive
            && adaptive != self.adaptive.config()
        {
            self.adaptive.set_config(adaptive);
        }
        if let Some(breaker) = &config.service_breaker
            && *breaker != *self.breaker.config()
        {
            self.breaker.set_config(breaker.clone());
        }
        if let Some(budget) = config.retry.on()
            && *budget != self.budget.config()
        {
            self.budget.set_config(*budget);
        }
    }

    /// The bulkhead, and whether it is not as configured; `None` without one.
    pub(crate) fn bulkhead(&self) -> Option<(&Bulkhead, bool)> {
        let configured = (*self.configured.lock())?;
        let changed = configured != self.bulkhead.config();
        Some((&self.bulkhead, changed))
    }

    /// Gives the bulkhead other settings until the configured ones change; whether there is one.
    pub(crate) fn set_bulkhead(&self, config: bulkhead::Config) -> bool {
        let configured = self.configured.lock();
        if configured.is_some() {
            self.bulkhead.set_config(config);
        }
        configured.is_some()
    }

    /// A place for one call until its answer has ended; waits in line if there is one.
    pub(crate) async fn enter(
        &self,
        config: &UpstreamConfig,
    ) -> Result<Option<OwnedPermit>, Problem> {
        if config.bulkhead.is_none() {
            return Ok(None);
        }
        if let Ok(permit) = self.bulkhead.try_acquire_owned() {
            return Ok(Some(permit));
        }
        let permit = Box::pin(self.wait()).await;
        if permit.is_none() {
            self.metrics.full.increment(1);
        }
        permit.map(Some).ok_or_else(overloaded)
    }

    /// Waits in line, on tokio's timer.
    async fn wait(&self) -> Option<OwnedPermit> {
        if self.bulkhead.config().max_queue() == 0 {
            return None;
        }
        let mut waiter = self.bulkhead.enqueue(Priority::Normal, None).ok()?;
        let _wait = Wait::begin(&self.metrics.place, &self.clock);
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        poll_fn(move |cx| {
            loop {
                let left = match waiter.poll(cx.waker()) {
                    Turn::Admitted(permit) => return Poll::Ready(Some(permit)),
                    Turn::Wait(left) => left,
                    _ => return Poll::Ready(None),
                };
                let Some(left) = left else {
                    return Poll::Pending;
                };
                let timer = timer.get_or_insert_with(|| Box::pin(sleep(left)));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // The bulkhead's clock decides; tokio's only says when to ask it again.
                timer.as_mut().reset(Instant::now() + left.max(TICK));
            }
        })
        .await
    }

    /// Where waits for a connection are recorded.
    pub(crate) fn connection_waits(&self) -> Histogram {
        self.metrics.connection.clone()
    }

    /// A place among the calls that wait for the head of their answer.
    pub(crate) fn trial(&self, config: &UpstreamConfig) -> Result<Option<Trial>, Problem> {
        if config.adaptive.is_none() {
            return Ok(None);
        }
        match self.adaptive.try_acquire_owned() {
            Ok(permit) => Ok(Some(Trial(permit))),
            Err(_) => {
                self.metrics.refused.increment(1);
                Err(overloaded())
            }
        }
    }

    /// The breaker's leave for one call, if there is one.
    pub(crate) fn ask(
        &self,
        config: &UpstreamConfig,
    ) -> Result<Option<breaker::OwnedPermit>, Problem> {
        if config.service_breaker.is_none() {
            return Ok(None);
        }
        self.breaker.try_acquire_owned().map(Some).map_err(|open| {
            self.breaker_metrics.rejected.increment(1);
            circuit_open(open.retry_after())
        })
    }

    pub(crate) fn breaker(&self) -> (&CircuitBreaker, &BreakerMetrics) {
        (&self.breaker, &self.breaker_metrics)
    }

    pub(crate) fn adaptive_limit(&self) -> u32 {
        self.adaptive.limit()
    }

    /// Books a first try.
    pub(crate) fn first_try(&self) {
        self.budget.deposit();
    }

    /// Takes one retry from the budget.
    pub(crate) fn may_retry(&self) -> bool {
        let may = self.budget.try_withdraw().is_ok();
        if may {
            self.metrics.retries.increment(1);
        } else {
            self.metrics.budget_spent.increment(1);
        }
        may
    }
}

/// 503: a breaker refuses.
pub(crate) fn circuit_open(wait: Duration) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "circuit_open",
        "Service unavailable",
        "the service behind this route is failing and is given time to recover",
    )
    .retry_after(wait)
}

fn overloaded() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        "Service unavailable",
        "the service behind this route has as many requests as it may have at once",
    )
    .retry_after(RETRY_FULL)
}

/// One call by which the adaptive limit finds out what the service bears. Dropped without an
/// answer it says nothing.
pub(crate) struct Trial(adaptive::OwnedPermit);

impl Trial {
    /// The head of the answer, or what came in its place.
    pub(crate) fn ended(self, status: StatusCode) {
        match status {
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS => self.0.overloaded(),
            _ => self.0.success(),
        }
    }
}

/// The least time between two looks at a clock that is not tokio's.
const TICK: Duration = Duration::from_millis(1);
