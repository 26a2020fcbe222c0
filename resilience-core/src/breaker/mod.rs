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
//! decides only in the *generation* that admitted its call: the period between two changes of
//! state or mode, resets, or expired leases.
//!
//! There is no timer: the first caller after a deadline moves the breaker on.
//!
//! # Questions and answers
//!
//! | question | answer |
//! |---|---|
//! | What is judged? | The last n calls ([`count_window`], exact, it slides), the calls that ended in the last span ([`time_window`], in tenths), or both, each on its own; and failures in a row. |
//! | What opens? | In this order: [`consecutive_failures`], [`failure_count`], [`failure_rate`], [`slow_call_rate`]; the count window before the time window. The first that holds is the [`Cause`]. |
//! | When is it judged? | At each failure and each slow call, and at the success that makes the calls of a window [`minimum_calls`]. At no other success, though older calls may have left the window. |
//! | Exactly at the threshold? | Opens: shares and counts compare by `>=`. A call as long as [`slow_call`] is not slow, a longer one is. A wait is over at `>=` its deadline. |
//! | Below minimum calls? | Rates are `None` and open nothing; counts and failures in a row do. |
//! | Minimum calls above the count window? | A build error. |
//! | A slow failure? | Is one call, one failure and one slow call. A slow success is a success and a slow call: it ends a run of failures, and may open. |
//! | An outcome after a change of state? | Is [stale](Snapshot::stale): counted, nothing more. |
//! | How many probes? | At most [`half_open_permits`] per half-open period in total, not at once. |
//! | What closes and reopens? | [`success_threshold`] successes close. It reopens as soon as these are out of reach, or after more failures than [`probe_failures`]; [`half_open_failure_rate`] says the same as a share. A slow probe is a failed one. |
//! | A probe that never ends? | When all permits are spent and the youngest probe has outlived its [`lease`], all that are out are written off ([`Cause::LeaseExpired`]), and each makes room for another. |
//! | A dropped call? | Its permit comes back. [`on_cancel`] says what it counts as: nothing, a failure, or a failure if it ran for so long. |
//! | A panic? | A permit dropped while its thread panics is a failure. |
//! | How long is it open? | [`reset_timeout`] × 2^(openings in a row − 1), at most [`max_reset_timeout`], ± [`jitter`], and never less than an outcome of the period that it ends asked for ([`Outcome::Overloaded`], at most a day), counted from that outcome. Closing takes it back to the base. |
//! | What does a refusal say? | Name, state, [`Reason`] and [`retry_after`](Rejected::retry_after). |
//! | By hand? | [`set_mode`](CircuitBreaker::set_mode): forced open, forced closed, disabled, observe only; [`reset`](CircuitBreaker::reset); [`set_config`](CircuitBreaker::set_config), with a rule for each setting. |
//! | Trying new settings? | [`set_shadow`](CircuitBreaker::set_shadow) runs them beside the live ones; [`promote_shadow`](CircuitBreaker::promote_shadow) makes them live in one step. |
//! | Who is told? | [`subscribe`](CircuitBreaker::subscribe) and [`subscribe_channel`](CircuitBreaker::subscribe_channel): once per change, by the thread that won it, after it, outside any lock. A slow callback delays the one call that won; a channel delays none. |
//! | A clock that steps back? | A wait that is then longer than it was in all begins anew. The time window goes on from the segment that it had reached. A call that ended before it began took no time. |
//!
//! [`count_window`]: ConfigBuilder::count_window
//! [`time_window`]: ConfigBuilder::time_window
//! [`consecutive_failures`]: ConfigBuilder::consecutive_failures
//! [`failure_count`]: ConfigBuilder::failure_count
//! [`failure_rate`]: ConfigBuilder::failure_rate
//! [`slow_call_rate`]: ConfigBuilder::slow_call_rate
//! [`slow_call`]: ConfigBuilder::slow_call
//! [`minimum_calls`]: ConfigBuilder::minimum_calls
//! [`half_open_permits`]: ConfigBuilder::half_open_permits
//! [`success_threshold`]: ConfigBuilder::success_threshold
//! [`probe_failures`]: ConfigBuilder::probe_failures
//! [`half_open_failure_rate`]: ConfigBuilder::half_open_failure_rate
//! [`lease`]: ConfigBuilder::lease
//! [`on_cancel`]: ConfigBuilder::on_cancel
//! [`reset_timeout`]: ConfigBuilder::reset_timeout
//! [`max_reset_timeout`]: ConfigBuilder::max_reset_timeout
//! [`jitter`]: ConfigBuilder::jitter
//!
//! # Concurrency
//!
//! State is one word changed by compare-exchange; deadline, start of the window and the place
//! counter are words tagged with their generation. Calls take no lock, and a thread that stops
//! anywhere holds up no other call: who meets an open breaker whose opener has not stored its
//! deadline sets it. Locks are taken only to subscribe, at a change of state (the list of
//! subscribers) and by those who change modes, settings or the shadow.
//!
//! A closed call makes one shared `fetch_add` if places are counted (count window, failures in a
//! row), and reads no clock. The time window is counted in a line of the calling thread, and reads
//! the clock once per call; slow calls read it twice. A refusal reads the clock and writes only the
//! calling thread's line. The first call of a thread that needs such a line makes it, which
//! allocates; after that no call does. In a process with more than 31 such threads at once the rest
//! share one line.

mod admission;
mod builder;
mod classify;
mod config;
mod control;
mod counters;
mod deadline;
mod error;
mod events;
mod group;
mod handle;
mod inner;
mod judge;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod mode;
mod outcomes;
mod permit;
mod places;
mod registry;
mod shadow;
mod snapshot;
mod state;
mod tagged;
mod time;
mod window;

use std::{
    future::Future,
    sync::{Arc, mpsc::Receiver},
};

pub use self::{
    builder::ConfigBuilder,
    classify::{Classify, ClassifyFn, Outcome, ResultClassifier, classify_fn},
    config::{Config, OnCancel},
    error::{Error, Reason, Rejected},
    events::{Cause, Subscription, Transition},
    group::Group,
    mode::Mode,
    permit::{OwnedPermit, Permit},
    registry::{Full, Registry, RegistryBuilder},
    shadow::ShadowSnapshot,
    snapshot::{OpenedBy, Snapshot, WindowCounts},
    state::State,
};
use self::{handle::Shared, inner::Inner};
use crate::clock::SharedClock;
pub use crate::settings::ConfigError;

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
    shared: Arc<Shared>,
}

impl CircuitBreaker {
    /// A closed breaker with default settings on the [default clock](SharedClock::default).
    ///
    /// Any name is accepted; a [`Rejected`] shows at most its first 63 bytes.
    pub fn new(name: &str) -> Self {
        Self::with_config(name, Config::default())
    }

    /// A closed breaker on the [default clock](SharedClock::default).
    pub fn with_config(name: &str, config: Config) -> Self {
        Self::with_clock(name, config, SharedClock::default())
    }

    /// A closed breaker on a clock of one's own.
    pub fn with_clock(name: &str, config: Config, clock: impl Into<SharedClock>) -> Self {
        Self {
            shared: Arc::new(Shared::new(Inner::new(name, config, clock.into()))),
        }
    }

    /// As [`with_clock`](Self::with_clock), with the same jitter for the same seed. For
    /// simulations.
    #[cfg(feature = "test-util")]
    pub fn with_seed(name: &str, config: Config, clock: impl Into<SharedClock>, seed: u64) -> Self {
        let mut inner = Inner::new(name, config, clock.into());
        inner.seed = seed;
        Self {
            shared: Arc::new(Shared::new(inner)),
        }
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.shared.inner.name
    }

    /// The settings of this moment.
    pub fn config(&self) -> Arc<Config> {
        self.shared.inner.config.load_full()
    }

    /// Admits a call or refuses it, at once. The clock is read only when the settings or the state need it.
    ///
    /// # Errors
    ///
    /// [`Rejected`] while open, and while half-open with all permits spent.
    #[inline(always)]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejected> {
        let inner = &*self.shared.inner;
        match inner.admit_closed() {
            Some(admitted) => Ok(Permit::new(inner, admitted)),
            None => inner.admit().map(|admitted| Permit::new(inner, admitted)),
        }
    }

    /// Like [`try_acquire`](Self::try_acquire), for futures that outlive the borrow; costs
    /// counting a reference that only this thread counts.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline(always)]
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Rejected> {
        match self.shared.inner.admit_closed() {
            Some(admitted) => Ok(OwnedPermit::new(self.shared.stub(), admitted)),
            None => {
                let admitted = self.shared.inner.admit()?;
                Ok(OwnedPermit::new(self.shared.stub(), admitted))
            }
        }
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
        self.shared.inner.state()
    }

    /// State and counters, for metrics and tests. Read one after the other, not at one instant.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.inner.snapshot()
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
        self.shared.inner.events.subscribe(callback)
    }

    /// Like [`subscribe`](Self::subscribe), into a channel: what does not fit it is dropped and
    /// counted in [`Snapshot::lost_events`]; nothing ever waits for the receiver. A capacity of 0
    /// counts as 1.
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<Transition>) {
        self.shared.inner.events.channel(capacity)
    }

    /// Who decides: the breaker, or a person.
    pub fn mode(&self) -> Mode {
        self.shared.inner.word().gear.mode()
    }

    /// Sets who decides. Nothing happens if the mode is set already; else a generation begins, and
    /// the outcomes of calls that are under way are stale.
    ///
    /// | to | state after it |
    /// |---|---|
    /// | `ForcedOpen` | open |
    /// | `Automatic`, from `ForcedOpen` | half-open: probes decide, traffic is not let loose |
    /// | any other | closed, with an empty window and no openings |
    pub fn set_mode(&self, mode: Mode) {
        self.shared.inner.set_mode(mode);
    }

    /// Closes at once: automatic, an empty window, no openings. A generation begins even if it was
    /// closed before; the outcomes of calls that are under way are stale.
    pub fn reset(&self) {
        self.shared.inner.reset();
    }

    /// Changes the settings in place. State, openings and permits stay as they are, and nothing
    /// opens or closes by the change itself: the next outcome or caller meets the new settings.
    ///
    /// | setting | what happens to what is under way |
    /// |---|---|
    /// | thresholds, rates, minimum calls | hold from the next judgement on, for what the windows hold already; the next success may judge the time window once |
    /// | `count_window` | the calls that both sizes can hold stay |
    /// | `time_window` | begins empty; unchanged, it stays |
    /// | `slow_call` | holds from the next outcome on; calls counted stay fast or slow as they were; calls admitted while it was off are never slow |
    /// | `half_open_permits` | hold from the next caller on; probes that are out stay out. If a period is left without a way to end, it begins anew when the lease is over |
    /// | `success_threshold`, `probe_failures`, `half_open_failure_rate` | hold from the next outcome of a probe on |
    /// | `reset_timeout`, its cap, `jitter` | a running wait keeps its deadline; the next opening waits by the new ones |
    /// | `lease` | holds from the next probe on |
    /// | `on_cancel` | holds for the next call that is dropped; one without a start time (no setting needed it when it was admitted) is no failure by its time |
    ///
    /// # Concurrency
    ///
    /// Changes wait for each other, calls never wait for one. Each judgement reads the settings
    /// once, all old or all new.
    pub fn set_config(&self, config: Config) {
        self.shared.inner.set_config(config);
    }

    /// Runs `config` beside the live settings on the same outcomes, in place of an earlier shadow.
    ///
    /// The shadow begins closed and observes: it refuses nothing, and its changes of state go to
    /// the same subscribers, as [`Transition::shadow`]. While there is one, calls take a longer path.
    /// [`set_mode`](Self::set_mode) and [`reset`](Self::reset) leave it as it is; while the breaker is
    /// disabled it sees nothing, while it is forced open only that calls are refused.
    pub fn set_shadow(&self, config: Config) {
        self.shared.inner.set_shadow(config);
    }

    /// Ends the shadow.
    pub fn clear_shadow(&self) {
        self.shared.inner.clear_shadow();
    }

    /// What the shadow would have done, if there is one.
    pub fn shadow(&self) -> Option<ShadowSnapshot> {
        self.shared.inner.shadow_snapshot()
    }

    /// The shadow's settings become the live ones, as by [`set_config`](Self::set_config), and the
    /// shadow ends; false if there is none. Of two who promote at once one does.
    pub fn promote_shadow(&self) -> bool {
        self.shared.inner.promote_shadow()
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone. A
    /// [`Registry`] does not count it as a handle: the breaker may have made room for another.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.shared);
        move || weak.upgrade().map(|shared| Self { shared })
    }

    /// Whether this is the only handle, and no owned permit is out. Both may change at once if
    /// another thread can reach this handle.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.shared) == 1 && !self.shared.permits_out()
    }
}
