//! A bulkhead: at most so many calls at once, and a bounded line of those who wait.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | how many run at once? | at most the limit, whatever races |
//! | one more? | refused at once ([`Bulkhead::try_acquire`]), or a place in line ([`Bulkhead::enqueue`]) |
//! | who is next? | the highest [`Priority`]; among equals, who came first |
//! | may somebody overtake the line? | no: while somebody waits, `try_acquire` is refused |
//! | how long is the line? | at most `max_queue`. A newcomer to a full line takes the place of the last of the lowest priority, if that is lower than its own; else it is refused |
//! | how long does one wait? | until its deadline, at most `max_wait`; one whose time is up is refused, and never given a turn |
//! | and per tenant, per host? | a [`Registry`]: a bulkhead per key, at most so many |
//! | what if a waiter gives up? | its place closes; a turn that it was given and did not learn of goes to the next |
//! | a change of the limit? | a larger one lets the line in at once; a smaller one ends no call: it holds once enough have ended |
//! | a call that panics or is dropped? | its [`Permit`] comes back |
//! | who hears of it? | who [subscribed](Bulkhead::subscribe): once when a call is refused for want of room, and once when at most half of the limit runs and nobody waits; not of each refusal |
//!
//! # Concurrency
//!
//! Taking a permit while nobody waits is one compare-exchange, giving it back one subtraction. Those who
//! wait share a short lock, in which a place is found and given up in O(log n). What subscribers are
//! told of is in the same word.

mod change;
mod config;
mod line;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod permit;
mod refused;
mod registry;
mod wait;
mod word;

use std::{
    fmt, mem,
    sync::{Arc, mpsc::Receiver},
    task::Waker,
    time::Duration,
};

pub(crate) use self::word::{MOST, Word};
pub use self::{
    change::Change,
    config::{Config, ConfigBuilder},
    permit::{OwnedPermit, Permit},
    refused::{Reason, Refused},
    registry::{Full, Registry, RegistryBuilder},
    wait::{Turn, Waiter},
};
use self::{
    line::{Ended, Id, Line},
    word::Returned,
};
use crate::{
    clock::{Clock, SharedClock},
    events::Events,
    primitive::{AtomicU64, Lock, Ordering},
};
pub use crate::{events::Subscription, settings::ConfigError};

/// Who goes first: a higher one before a lower one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Priority {
    /// May wait longest: jobs, prefetching.
    Low,
    /// Everything else.
    #[default]
    Normal,
    /// Before all others: a customer who pays, an operator.
    High,
}

/// A limit on calls at once; clones are handles on the same one.
///
/// # Examples
///
/// ```
/// use resilience_core::bulkhead::{Bulkhead, Config};
///
/// let reports = Bulkhead::new(Config::builder().limit(1).build()?);
/// let permit = reports.try_acquire()?;
/// assert!(reports.try_acquire().is_err());
/// drop(permit);
/// assert!(reports.try_acquire().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bulkhead(Arc<Inner>);

struct Inner {
    word: Word,
    line: Lock<Line>,
    /// By [`Reason`].
    refused: [AtomicU64; Reason::ALL.len()],
    clock: SharedClock,
    events: Arc<Events<Change>>,
}

/// The figures of a bulkhead at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The most calls at once.
    pub limit: u32,
    /// Calls that run. More than the limit while calls of a larger one end.
    pub in_flight: u32,
    /// Calls that wait.
    pub queued: usize,
    /// Calls that were refused since the bulkhead was made.
    pub refused: u64,
    /// Whether a call was refused for want of room, and there was none since; see [`Change::Room`].
    pub full: bool,
    /// Events that did not fit the channel of a subscriber.
    pub lost_events: u64,
    by_reason: [u64; Reason::ALL.len()],
}

impl Snapshot {
    /// Calls that were refused for this reason, since the bulkhead was made.
    pub const fn refused_for(&self, reason: Reason) -> u64 {
        self.by_reason[reason as usize]
    }
}

impl Bulkhead {
    /// An empty bulkhead on the default clock.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, SharedClock::default())
    }

    /// An empty bulkhead on a clock of one's own, by which deadlines are counted.
    pub fn with_clock(config: Config, clock: impl Into<SharedClock>) -> Self {
        Self(Arc::new(Inner {
            word: Word::new(config.limit()),
            line: Lock::new(Line::new(config)),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            clock: clock.into(),
            events: Arc::default(),
        }))
    }

    /// Admits a call now or refuses it. Its permit comes back when it is dropped.
    ///
    /// # Errors
    ///
    /// [`Reason::Full`]; also while somebody waits in line.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Refused> {
        if self.0.word.take() {
            Ok(Permit::new(&self.0))
        } else {
            Err(self.0.refuse(Reason::Full))
        }
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that can be stored.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Refused> {
        if self.0.word.take() {
            Ok(OwnedPermit::new(Arc::clone(&self.0)))
        } else {
            Err(self.0.refuse(Reason::Full))
        }
    }

    /// Takes a permit at once if one is free, else a place in line. Without a deadline of its own
    /// (by the bulkhead's clock) a call waits for [`Config::max_wait`] at most.
    ///
    /// # Errors
    ///
    /// [`Reason::QueueFull`], or [`Reason::Deadline`] when it is over already.
    pub fn enqueue(
        &self,
        priority: Priority,
        deadline: Option<Duration>,
    ) -> Result<Waiter, Refused> {
        self.wait_until(priority, |_| deadline)
    }

    /// As [`enqueue`](Self::enqueue), for a caller whose deadline is on another clock: `left` is the
    /// time until then, `None` for no deadline. One without any time is refused also if a permit is
    /// free: nobody is there for the answer.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    pub fn enqueue_within(
        &self,
        priority: Priority,
        left: Option<Duration>,
    ) -> Result<Waiter, Refused> {
        if left.is_some_and(|left| left.is_zero()) {
            return Err(self.0.count(Reason::Deadline));
        }
        self.wait_until(priority, |now| now.checked_add(left?))
    }

    fn wait_until(
        &self,
        priority: Priority,
        deadline: impl FnOnce(Duration) -> Option<Duration>,
    ) -> Result<Waiter, Refused> {
        let inner = &self.0;
        if inner.word.take() {
            return Ok(Waiter::admitted(Arc::clone(inner)));
        }
        let now = inner.clock.now();
        let deadline = deadline(now);
        let place = inner.with_line(|line| {
            let latest = line.config.max_wait().map(|wait| now.saturating_add(wait));
            let deadline = match (deadline, latest) {
                (Some(own), Some(latest)) => Some(own.min(latest)),
                (own, latest) => own.or(latest),
            };
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(Reason::Deadline);
            }
            let id = line.join(priority, deadline).ok_or(Reason::QueueFull)?;
            // A permit that came back before this gave nobody a turn.
            inner.word.set_waiting();
            line.advance(&inner.word, now);
            Ok((id, deadline))
        });
        match place {
            Ok((id, deadline)) => Ok(Waiter::waiting(Arc::clone(inner), id, deadline)),
            // Its time was up when it came.
            Err(Reason::Deadline) => Err(inner.count(Reason::Deadline)),
            Err(reason) => Err(inner.refuse(reason)),
        }
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        self.0.line.lock().config
    }

    /// Changes the settings, for all handles at once.
    ///
    /// | setting | what becomes of calls |
    /// |---|---|
    /// | `limit` | more: the line goes on at once; fewer: no call ends, and none is admitted until enough have ended |
    /// | `max_queue` | those in line stay, also above a smaller one |
    /// | `max_wait` | those in line keep their deadline |
    pub fn set_config(&self, config: Config) {
        let inner = &*self.0;
        let before = inner.with_lock(|line| {
            let before = mem::replace(&mut line.config, config);
            inner.word.set_limit(config.limit());
            line.advance(&inner.word, inner.clock.now());
            before
        });
        if before != config {
            inner.events.emit(&Change::Settings(config));
        }
        inner.tell_room();
    }

    /// Whether this is the only handle: nobody runs, waits, or may begin to.
    fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The clock by which deadlines are counted.
    pub fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        let queued = self.0.line.lock().len();
        let (in_flight, limit) = self.0.word.figures();
        let refused = &self.0.refused;
        let by_reason = std::array::from_fn(|reason| refused[reason].load(Ordering::Relaxed));
        Snapshot {
            limit,
            in_flight,
            queued,
            refused: by_reason.iter().sum(),
            full: self.0.word.is_full(),
            lost_events: self.0.events.lost(),
            by_reason,
        }
    }

    /// Calls `callback` after each [change](Change) until the subscription is dropped. It is run by the
    /// call that was refused, ended or gave up, or by who changed the settings, outside of any lock;
    /// what it panics is caught.
    ///
    /// It does not keep a bulkhead in its [`Registry`]: one that is evicted tells nothing any more.
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
    ///
    /// Nor does it keep a bulkhead in its [`Registry`]: one that nobody uses may be evicted. A way
    /// back that is taken at the very moment of the eviction still leads to the old bulkhead, and the
    /// next call for its key makes a new one beside it, with a limit and calls of its own, as after
    /// [`Registry::remove`]. Who calls by key asks the registry each time, and who must not meet this
    /// keeps a handle, which keeps the bulkhead in.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }
}

impl Inner {
    /// Refuses a call for want of room.
    #[cold]
    fn refuse(&self, reason: Reason) -> Refused {
        let refused = self.count(reason);
        if self.word.set_full() {
            self.events.emit(&Change::Full);
        }
        refused
    }

    #[cold]
    fn count(&self, reason: Reason) -> Refused {
        // ORDERING: Relaxed. A count for people to read.
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        let (in_flight, limit) = self.word.figures();
        Refused {
            reason,
            limit,
            in_flight,
        }
    }

    #[inline]
    fn give_back(&self) {
        let returned = self.word.give_back();
        if returned.is_of_interest() {
            self.next(&returned);
        }
    }

    #[cold]
    fn next(&self, returned: &Returned) {
        if returned.is_awaited() {
            self.with_line(|line| line.advance(&self.word, self.clock.now()));
        } else if returned.is_room() {
            self.tell_room();
        }
    }

    /// Whoever may have made room looks whether there is.
    fn tell_room(&self) {
        if self.word.clear_full() {
            self.events.emit(&Change::Room);
        }
    }

    /// As [`with_lock`](Self::with_lock), after which nobody may wait.
    fn with_line<T>(&self, work: impl FnOnce(&mut Line) -> T) -> T {
        let done = self.with_lock(work);
        self.tell_room();
        done
    }

    /// Does `work` with the lock, and wakes whom it says without.
    fn with_lock<T>(&self, work: impl FnOnce(&mut Line) -> T) -> T {
        let mut line = self.line.lock();
        let done = work(&mut line);
        if line.len() == 0 {
            self.word.clear_waiting();
        }
        let wakers = line.wakers();
        drop(line);
        wakers.wake.into_iter().for_each(Waker::wake);
        drop(wakers.retired);
        done
    }

    /// How the wait of `id` ended, if it has; and the time of now.
    fn ask(&self, id: Id, waker: &Waker) -> (Option<Ended>, Duration) {
        let (now, waker) = (self.clock.now(), waker.clone());
        (self.with_line(|line| line.ask(id, now, waker)), now)
    }

    /// `id` does not wait any more; a turn that it was given goes to the next.
    fn leave(&self, id: Id) {
        let granted = self.with_line(|line| line.leave(id) == Some(Ended::Turn));
        if granted {
            self.give_back();
        }
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("Bulkhead")
            .field("limit", &snapshot.limit)
            .field("in_flight", &snapshot.in_flight)
            .field("queued", &snapshot.queued)
            .finish_non_exhaustive()
    }
}
