//! Circuit breaker.
//!
//! ```text
//!            threshold crossed                    reset timeout over, next caller
//!  Closed ────────────────────────▶ Open ─────────────────────────────▶ HalfOpen
//!    ▲                               ▲                                   │  │
//!    │                               └── success threshold out of reach ─┘  │
//!    └───────────────────────────────── success threshold reached ──────────┘
//! ```
//!
//! A [`CircuitBreaker`] is a cheap handle; clones share one breaker. A call takes a [`Permit`],
//! which ends exactly once: by an [`Outcome`], or by being dropped, which gives it back. An outcome
//! decides only in the generation (the period between two changes of state) that admitted its
//! call; later ones are counted as stale and change nothing. In half-open a *lease* writes off
//! probes that never end, so that a lost probe cannot keep the breaker half-open for ever.
//!
//! There is no timer: the first caller after a deadline moves the breaker on.
//!
//! # Concurrency
//!
//! State is one word changed by compare-exchange; deadline and start of the window are words tagged
//! with their generation. Calls take no lock, and a thread that stops anywhere holds up no other
//! call: who meets an open breaker whose opener has not stored its deadline sets it. The lock of the
//! subscriber list is taken only to subscribe and at a change of state. A closed call makes one
//! shared `fetch_add`; a refusal counts itself in a stripe that it shares with few threads.

mod classify;
mod config;
#[cfg(feature = "serde")]
mod config_serde;
mod error;
mod events;
mod inner;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod permit;
mod snapshot;
mod state;
mod stripes;
mod window;

use std::{future::Future, sync::Arc};

use self::inner::Inner;
pub use self::{
    classify::{Classify, ClassifyFn, Outcome, ResultClassifier, classify_fn},
    config::{Config, ConfigBuilder, ConfigError, OnCancel},
    error::{Error, Reason, Rejected},
    events::{Cause, Subscription, Transition},
    permit::{OwnedPermit, Permit},
    snapshot::Snapshot,
    state::State,
};
use crate::clock::SharedClock;

/// A circuit breaker; clones are handles on the same one.
///
/// # Examples
///
/// ```
/// use resilience_core::breaker::{CircuitBreaker, Outcome};
///
/// let breaker = CircuitBreaker::new("payments");
/// let permit = breaker.try_acquire()?;
/// // … call the upstream …
/// permit.record(Outcome::Success);
/// # Ok::<(), resilience_core::breaker::Rejected>(())
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    inner: Arc<Inner>,
}

impl CircuitBreaker {
    /// A closed breaker with default settings on the operating system's clock.
    ///
    /// Any name is accepted; a [`Rejected`] shows at most its first 63 bytes.
    pub fn new(name: &str) -> Self {
        Self::with_config(name, Config::default())
    }

    /// A closed breaker on the operating system's clock.
    pub fn with_config(name: &str, config: Config) -> Self {
        Self::with_clock(name, config, SharedClock::std())
    }

    /// A closed breaker on a clock of one's own.
    pub fn with_clock(name: &str, config: Config, clock: impl Into<SharedClock>) -> Self {
        Self {
            inner: Arc::new(Inner::new(name, config, clock.into())),
        }
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The settings it was made with.
    pub fn config(&self) -> &Config {
        self.inner.config()
    }

    /// Admits a call or refuses it, at once. The clock is read only when the breaker is not closed.
    ///
    /// # Errors
    ///
    /// [`Rejected`] while open, and while half-open with all permits spent.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejected> {
        let admitted = self.inner.admit()?;
        Ok(Permit::new(&self.inner, admitted))
    }

    /// Like [`try_acquire`](Self::try_acquire), for futures that outlive the borrow; costs a
    /// clone of the handle.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Rejected> {
        let admitted = self.inner.admit()?;
        Ok(OwnedPermit::new(Arc::clone(&self.inner), admitted))
    }

    /// Runs `future` if the breaker admits it; `Ok` is a success, `Err` a failure.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when refused (`future` is then never polled), else the future's own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call gives its permit back and counts as [`Config::on_cancel`] says.
    pub async fn call<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error<E>> {
        self.call_with(&ResultClassifier, future).await
    }

    /// Like [`call`](Self::call), with the outcome decided by `classifier`.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn call_with<T, E>(
        &self,
        classifier: &impl Classify<T, E>,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error<E>> {
        let permit = self.try_acquire()?;
        let result = future.await;
        permit.record(classifier.classify(result.as_ref()));
        result.map_err(Error::Inner)
    }

    /// The current phase. Open stays open until a caller comes after the deadline.
    pub fn state(&self) -> State {
        self.inner.state()
    }

    /// State and counters, for metrics and tests. Read one after the other, not at one instant.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }

    /// Calls `callback` after each change of state, until the subscription is dropped.
    ///
    /// It runs in the thread that caused the change, once per change and outside any lock; keep it
    /// short (send to a channel). Two changes close together may be told by two threads out of
    /// order: [`Transition::generation`] gives the order. A panic in it is swallowed.
    pub fn subscribe(
        &self,
        callback: impl Fn(&Transition) + Send + Sync + 'static,
    ) -> Subscription {
        self.inner.events().subscribe(Box::new(callback))
    }
}
