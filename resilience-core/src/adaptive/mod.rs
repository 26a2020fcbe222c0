//! Adaptive concurrency: as many calls at once as the upstream bears, found out from how long they
//! take and how many it turns away.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | how many run at once? | at most the limit of the moment; one more is refused at once |
//! | when does the limit move? | once per window, by what the calls that ended in it say; not while less than half of it is used, except down when calls are overloaded |
//! | what is overload? | calls that end as [overloaded](Permit::overloaded) (turned away, timed out), from a share of [`drop_rate`](Config::drop_rate) on; for Vegas and Gradient2 also calls that take longer than they usually do |
//! | and a call that is dropped, or panics? | it says nothing, and its place comes back |
//! | a limit that falls? | ends no call: it holds once enough have ended |
//! | how low? | [`min_limit`](Config::min_limit): so many always run. There is no phase that lets fewer in to measure |
//! | who hears of it? | who [subscribed](AdaptiveLimit::subscribe): when the limit has moved by a quarter since it was told, or came to its minimum or maximum; not of each window |
//!
//! # Algorithms
//!
//! As in Netflix's [concurrency-limits]: `AIMDLimit` (commit 00f751f), `VegasLimit` (141214d),
//! `WindowedLimit` (25a05f1) and `Gradient2Limit` with the tolerance that pull request 125 gave it. Vegas
//! goes back to TCP Vegas (Brakmo and Peterson, 1995), AIMD to Chiu and Jain (1989).
//!
//! | algorithm | a window without queue | with a queue | overloaded |
//! |---|---|---|---|
//! | AIMD | + 1 | + 1, until calls take longer than [`timeout`](Config::timeout) | × 0.9 |
//! | Vegas | + 6 `s` | + `s` below 3 `s` queued calls, − `s` above 6 `s`; `s` is the decimal logarithm of the limit | × 0.9 |
//! | Gradient2 | + 0.8 | × 0.9 to 1, when calls take more than 1.5 times as long as usual | × 0.9 |
//!
//! Where we differ, and what for (linked: reports of users):
//!
//! | published | what comes of it | here |
//! |---|---|---|
//! | the usual time of a call is learned under load as well | it [grows with the queue][creep], and the limit with it | learned upwards only from times that no queue of ours can explain: less than half of the limit is in use; or the limit fell to half and calls take as long as before; or it can fall no further |
//! | hardly any calls run while the usual time is measured (Envoy) | [traffic is dropped][starve] every few minutes | no such phase: each fall of the limit is a measurement |
//! | Gradient2 does not look at timeouts | where [all calls time out][stable] alike, the limit rises to its maximum | overloaded windows lower the limit by a tenth under every algorithm, and teach no times |
//! | Vegas: the shortest time ever is the usual one | a [lucky call][lucky] brings the limit down | averages of windows, of which one that is a little shorter counts as a tenth |
//! | all windows are judged | of calls that begin together the shortest end first, and their time is learned | the first window is not, nor one that waited too long for calls |
//! | a single overloaded call makes an overloaded window | a stray timeout among thousands holds the limit down | a share of them |
//! | Gradient2 adds its queue always | it can rest far below what the upstream bears, once calls take longer for good | added only while calls take no longer than tolerated |
//!
//! What remains: an upstream whose other callers overload it looks like one that got slower, unless
//! it turns calls away or they time out. With Vegas, a limit below twelve may rest where it is when
//! calls take longer for good, until less than half of it is used for a while. And whoever begins
//! with a limit that the upstream does not bear, while it is overloaded, learns its queue as usual.
//!
//! [concurrency-limits]: https://github.com/Netflix/concurrency-limits
//! [lucky]: https://github.com/Netflix/concurrency-limits/issues/37
//! [creep]: https://github.com/Netflix/concurrency-limits/issues/165
//! [starve]: https://github.com/envoyproxy/envoy/issues/46532
//! [stable]: https://github.com/Netflix/concurrency-limits/issues/137
//!
//! # Concurrency
//!
//! Admission and return are one compare-exchange and one subtraction on the word that the
//! [bulkhead](crate::bulkhead) uses, lock-free. A call that ends as success or overloaded also takes
//! a short lock, in which it is added to five sums; the last of a window computes the limit there.
//! Refused and ignored calls take none. The clock is read when a call begins, and when it ends.

mod change;
mod config;
mod estimate;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod permit;
mod usual;
mod window;

use std::{
    fmt,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

pub use self::{
    change::Change,
    config::{Algorithm, Config, ConfigBuilder},
    estimate::Estimate,
    permit::{OwnedPermit, Permit},
};
use self::{
    change::Told,
    window::{Ended, Window},
};
use crate::{
    bulkhead::Word,
    clock::SharedClock,
    events::Events,
    primitive::{AtomicU64, Lock, Ordering},
};
pub use crate::{events::Subscription, settings::ConfigError};

/// A limit on calls at once that finds itself; clones are handles on the same one.
///
/// # Examples
///
/// ```
/// use resilience_core::adaptive::{AdaptiveLimit, Config};
///
/// let search = AdaptiveLimit::new(Config::builder().max_limit(200).build()?);
/// let permit = search.try_acquire()?;
/// // … the call …
/// permit.success();
/// assert_eq!(search.snapshot().limit, 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AdaptiveLimit(Arc<Inner>);

struct Inner {
    word: Word,
    course: Lock<Course>,
    refused: AtomicU64,
    clock: SharedClock,
    events: Arc<Events<Change>>,
}

/// What moves the limit.
#[derive(Debug)]
struct Course {
    estimate: Estimate,
    window: Window,
    last_rtt: Option<Duration>,
    windows: u64,
    overloaded_windows: u64,
    told: Told,
}

/// A call was refused: as many run as the upstream bears.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("as many calls run as the upstream bears ({in_flight} run, {limit} may)")]
#[non_exhaustive]
pub struct Refused {
    /// The most calls at once, of that moment.
    pub limit: u32,
    /// Calls that ran at that moment.
    pub in_flight: u32,
}

/// The figures of an adaptive limit at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The most calls at once.
    pub limit: u32,
    /// Calls that run. More than the limit while it falls.
    pub in_flight: u32,
    /// Calls that were refused since the limit was made.
    pub refused: u64,
    /// How long calls took on average in the last window that was not overloaded.
    pub last_rtt: Option<Duration>,
    /// How long they take when they do not queue, as far as that is known; never under AIMD.
    pub usual_rtt: Option<Duration>,
    /// Windows that have ended.
    pub windows: u64,
    /// Those of them that were overloaded.
    pub overloaded_windows: u64,
    /// Events that did not fit the channel of a subscriber.
    pub lost_events: u64,
}

impl AdaptiveLimit {
    /// The initial limit, on the default clock.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, SharedClock::default())
    }

    /// The initial limit, on a clock of one's own, by which calls are timed.
    pub fn with_clock(config: Config, clock: impl Into<SharedClock>) -> Self {
        let clock = clock.into();
        Self(Arc::new(Inner {
            word: Word::new(config.initial_limit()),
            course: Lock::new(Course::new(config, clock.nanos())),
            refused: AtomicU64::new(0),
            clock,
            events: Arc::default(),
        }))
    }

    /// Admits a call now or refuses it.
    ///
    /// # Errors
    ///
    /// [`Refused`] while as many calls run as may.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Refused> {
        let inner = &*self.0;
        inner.admit().map(|began| Permit::new(inner, began))
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that can be stored.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Refused> {
        let began = self.0.admit()?;
        Ok(OwnedPermit::new(Arc::clone(&self.0), began))
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        *self.0.course.lock().estimate.config()
    }

    /// Changes the settings, for all handles at once.
    ///
    /// | setting | what becomes of it |
    /// |---|---|
    /// | `min_limit`, `max_limit` | a limit outside moves to the nearer one at once; no call ends |
    /// | `initial_limit` | holds for the next [`reset`](Self::reset) |
    /// | `algorithm` | goes on from the limit of the moment; the usual time is learned anew |
    /// | `window` | holds from the next window on |
    /// | all others | hold from the end of the window that runs |
    pub fn set_config(&self, config: Config) {
        let inner = &*self.0;
        let mut course = inner.course.lock();
        let before = *course.estimate.config();
        course.estimate.set_config(config);
        let moved = inner.move_limit(&mut course);
        drop(course);
        if before != config {
            inner.events.emit(&Change::Settings(config));
        }
        inner.tell(moved);
    }

    /// Goes back to the initial limit and forgets what was learned, after the upstream was
    /// replaced. No call ends.
    pub fn reset(&self) {
        let inner = &*self.0;
        let mut course = inner.course.lock();
        course.begin_anew(inner.clock.nanos());
        let moved = inner.move_limit(&mut course);
        drop(course);
        inner.tell(moved);
    }

    /// The most calls at once, of this moment; takes no lock.
    pub fn limit(&self) -> u32 {
        self.0.word.figures().1
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        let course = self.0.course.lock();
        let (in_flight, limit) = self.0.word.figures();
        Snapshot {
            limit,
            in_flight,
            refused: self.0.refused.load(Ordering::Relaxed),
            last_rtt: course.last_rtt,
            usual_rtt: course.estimate.usual_rtt(),
            windows: course.windows,
            overloaded_windows: course.overloaded_windows,
            lost_events: self.0.events.lost(),
        }
    }

    /// Calls `callback` after each [change](Change) until the subscription is dropped. It is run by the
    /// call that ended last in its window, or by who changed the settings, outside of any lock; what
    /// it panics is caught.
    pub fn subscribe(&self, callback: impl Fn(&Change) + Send + Sync + 'static) -> Subscription {
        self.0.events.subscribe(callback)
    }

    /// As [`subscribe`](Self::subscribe), by a channel that holds at most `capacity` events (at
    /// least 1). It never waits: an event that finds it full is dropped and
    /// [counted](Snapshot::lost_events).
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<Change>) {
        self.0.events.channel(capacity)
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }
}

impl Inner {
    #[inline]
    fn admit(&self) -> Result<u64, Refused> {
        if self.word.take() {
            Ok(self.clock.nanos())
        } else {
            Err(self.refuse())
        }
    }

    #[cold]
    fn refuse(&self) -> Refused {
        // ORDERING: Relaxed. A count for people to read.
        self.refused.fetch_add(1, Ordering::Relaxed);
        let (in_flight, limit) = self.word.figures();
        Refused { limit, in_flight }
    }

    /// Books a call that began at `began` and still holds its place.
    fn book(&self, began: u64, ended: Ended) {
        let (in_flight, _) = self.word.figures();
        let now = self.clock.nanos();
        let mut course = self.course.lock();
        if course.book(began, now, in_flight, ended) {
            let moved = self.move_limit(&mut course);
            drop(course);
            self.tell(moved);
        }
    }

    /// Lets the limit of `course` hold. What subscribers should know, once its lock is released.
    fn move_limit(&self, course: &mut Course) -> Option<Change> {
        let limit = course.estimate.limit();
        self.word.set_limit(limit);
        course.told.move_to(limit, course.estimate.config())
    }

    #[inline]
    fn tell(&self, moved: Option<Change>) {
        if let Some(change) = moved {
            self.events.emit(&change);
        }
    }

    #[inline]
    fn give_back(&self) {
        // Nobody waits here.
        let _nobody = self.word.give_back();
    }
}

impl Course {
    fn new(config: Config, now: u64) -> Self {
        Self {
            estimate: Estimate::new(config),
            window: Window::begin(now, &config),
            last_rtt: None,
            windows: 0,
            overloaded_windows: 0,
            told: Told::new(config.initial_limit()),
        }
    }

    /// With what counts and what was told kept.
    fn begin_anew(&mut self, now: u64) {
        let config = *self.estimate.config();
        self.estimate = Estimate::new(config);
        self.window = Window::begin(now, &config);
        self.last_rtt = None;
    }

    /// Whether the limit may have moved.
    fn book(&mut self, began: u64, now: u64, in_flight: u32, ended: Ended) -> bool {
        let rtt = now.saturating_sub(began);
        let config = *self.estimate.config();
        let Some(sample) = self.window.add(now, rtt, in_flight, ended, &config) else {
            return false;
        };
        self.windows += 1;
        if sample.dropped {
            self.overloaded_windows += 1;
        } else {
            self.last_rtt = Some(sample.rtt);
        }
        self.estimate
            .on_sample(sample.rtt, sample.in_flight, sample.dropped);
        true
    }
}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("AdaptiveLimit")
            .field("limit", &snapshot.limit)
            .field("in_flight", &snapshot.in_flight)
            .finish_non_exhaustive()
    }
}
