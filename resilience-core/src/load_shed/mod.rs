//! Load shedding: when there is more to do than can be done, the calls that matter least are refused
//! first.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | what is overload? | an interval in which even the shortest queue delay was above the target ([`LoadShed::report`]), in which every call found as many calls running as are borne ([`Config::limit`], [`LoadShed::follow`]), or at whose end more of the CPU was used than is borne ([`Config::cpu`], off by default) |
//! | why the shortest? | a burst makes some calls wait; a standing queue makes all of them wait ([RFC 8289], section 3.2: CoDel) |
//! | who is shed? | the lowest [`Class`] first, a sixteenth of it at a time. Never `Critical`; never a lower one admitted while a higher one is shed |
//! | how fast? | a quarter of a class after the first overloaded interval, or a sixteenth where calls are shed already; twice as much after each further one, up to a class. Not before the last rise can be seen (who comes out of the queue now came in before it), and not while the queue shrinks fast enough to be gone in sixteen intervals |
//! | and back? | after [`hold`](Config::hold) calm intervals by a sixteenth of a class, then by two, up to half a class; by one over the level at which there was overload. A fall that is followed by overload is undone, and the next one waits twice as long, up to sixteen times |
//! | between calm and overloaded? | the level stays, for sixteen times `hold` at most |
//! | nobody calls? | intervals without calls are calm |
//! | which of a class? | evenly spread: with four sixteenths shed, every fourth call |
//!
//! The level goes from 0 (nobody is shed) to 16 for each class that may be. With no calls above
//! calm, it is back at 0 after at most 45 × `hold` intervals: 22.5 s by default.
//!
//! # The CPU
//!
//! A server whose work is all CPU has a queue that no layer sees: the run queue of the operating
//! system. Its use of the CPU says that it is there, but not how long it is, and a server may well
//! run at 100 % with nobody waiting; so this signal is off unless [`Config::cpu`] says what is
//! borne. It is told by somebody else: by [`LoadShed::report_cpu`], whenever there is a figure, or by
//! [`LoadShed::follow_cpu`], which is asked once per interval. What is told counts until the next, and
//! for [`hold`](Config::hold) intervals at most. What is not told, too old, not a number, negative or
//! infinite sheds nobody.
//!
//! # Where we differ from CoDel
//!
//! CoDel drops packets at the head of its queue, ever faster (the interval through the square root of the
//! count), and any of them. A call that was admitted is worth finishing; so newcomers are shed, by
//! class, and the level stays where it is while nothing changes. Levels by class are those of DAGOR
//! (Zhou et al., Overload Control for Scaling WeChat Microservices, 2018), which sheds by queue
//! delay as well, but moves its level by counts of a histogram.
//!
//! # What it cannot see
//!
//! A queue that does not move at all reports no delays. The concurrency signal sees that: give it a
//! limit too.
//!
//! # Concurrency
//!
//! Admission and return are lock-free: one addition and one subtraction on the count of calls, and
//! counters in a stripe of the thread. The clock is read once per call and once per report. The first
//! of them after the end of an interval takes a short lock, in which the level moves.
//!
//! [RFC 8289]: https://www.rfc-editor.org/rfc/rfc8289

mod class;
mod config;
mod interval;
mod level;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod permit;
mod shed;

use std::{
    cmp, fmt,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use crossbeam_utils::CachePadded;

pub use self::{
    class::Class,
    config::{Config, ConfigBuilder},
    level::Cause,
    permit::{OwnedPermit, Permit},
    shed::{LevelChange, Shed, Snapshot},
};
use self::{
    class::{Verdict, is_in, verdict},
    interval::{Interval, known},
    level::{Level, MOST_FALL, Shown},
};
use crate::{
    clock::SharedClock,
    events::Events,
    primitive::{AtomicU64, Lock, Ordering},
    stripe::Striped,
};
pub use crate::{events::Subscription, settings::ConfigError};

/// Sheds calls by class while there is overload; clones are handles on the same one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use resilience_core::load_shed::{Class, Config, LoadShed};
///
/// let shed = LoadShed::new(Config::builder().target(Duration::from_millis(10)).build()?);
/// let permit = shed.try_acquire(Class::Normal)?;
/// // … when a worker takes the call up: how long it lay there …
/// shed.report(Duration::from_millis(2));
/// drop(permit);
/// assert_eq!(shed.snapshot().level, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct LoadShed(Arc<Inner>);

struct Inner {
    /// What calls read, `[cause: 32 | level: 32]`; written under the lock.
    level: AtomicU64,
    /// How long calm must last before the level falls, in nanoseconds; likewise.
    calm: AtomicU64,
    in_flight: CachePadded<AtomicU64>,
    interval: Interval,
    /// Whose turn it is within a class of which a share is shed.
    turns: [AtomicU64; SHEDDABLE],
    counts: Striped<Counts>,
    course: Lock<Course>,
    live_limit: ArcSwapOption<Limit>,
    live_cpu: ArcSwapOption<Share>,
    events: Arc<Events<LevelChange>>,
    clock: SharedClock,
}

/// What moves the level.
#[derive(Debug)]
struct Course {
    config: Config,
    level: Level,
    delay: Option<Duration>,
    limit: Option<u32>,
    cpu: Option<f64>,
    rises: u64,
    falls: u64,
}

// Statistics decide nothing, and are std's in the model checker as well.
#[derive(Debug, Default)]
struct Counts {
    admitted: [std::sync::atomic::AtomicU64; Class::ALL.len()],
    shed: [std::sync::atomic::AtomicU64; Class::ALL.len()],
}

type Limit = Box<dyn Fn() -> u32 + Send + Sync>;
type Share = Box<dyn Fn() -> f64 + Send + Sync>;

/// After so many times `hold` calm intervals the level is 0, and all is forgotten.
const FORGOTTEN: u64 = 64;

/// All classes but the critical one.
const SHEDDABLE: usize = Class::ALL.len() - 1;

impl LoadShed {
    /// Nobody is shed yet; on the default clock.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, SharedClock::default())
    }

    /// Nobody is shed yet; on a clock of one's own, by which intervals are counted.
    pub fn with_clock(config: Config, clock: impl Into<SharedClock>) -> Self {
        let clock = clock.into();
        Self(Arc::new(Inner {
            level: AtomicU64::new(word(0, Cause::Calm)),
            calm: AtomicU64::new(calm(&config)),
            in_flight: CachePadded::new(AtomicU64::new(0)),
            interval: Interval::new(clock.nanos(), config.interval()),
            turns: std::array::from_fn(|_| AtomicU64::new(0)),
            counts: Striped::default(),
            course: Lock::new(Course {
                config,
                level: Level::default(),
                delay: None,
                limit: config.limit(),
                cpu: None,
                rises: 0,
                falls: 0,
            }),
            live_limit: ArcSwapOption::empty(),
            live_cpu: ArcSwapOption::empty(),
            events: Arc::default(),
            clock,
        }))
    }

    /// Admits a call of a class or sheds it.
    ///
    /// # Errors
    ///
    /// [`Shed`]; never for [`Class::Critical`].
    #[inline]
    pub fn try_acquire(&self, class: Class) -> Result<Permit<'_>, Shed> {
        self.0.admit(class)?;
        Ok(Permit::new(&self.0))
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that can be stored.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_owned(&self, class: Class) -> Result<OwnedPermit, Shed> {
        self.0.admit(class)?;
        Ok(OwnedPermit::new(Arc::clone(&self.0)))
    }

    /// A call was taken out of a queue in which it lay so long. For any queue between admission and
    /// the work, one's own too; each call that is taken out is to be reported, also after no delay.
    #[inline]
    pub fn report(&self, delay: Duration) {
        self.0.tick();
        self.0.interval.see_delay(delay);
    }

    /// Asks `limit`, once per interval, how many calls at once are borne, for example an
    /// [adaptive limit](crate::adaptive::AdaptiveLimit::limit); that of the settings does not count
    /// from then on. 0 counts as 1. It is asked outside of any lock; of calls that end an interval
    /// at once each may ask.
    pub fn follow(&self, limit: impl Fn() -> u32 + Send + Sync + 'static) {
        let limit: Limit = Box::new(limit);
        self.0.live_limit.store(Some(Arc::new(limit)));
    }

    /// The CPU is used to this share, from 0 to 1, on average since it was told before. More than 1
    /// counts as 1; not a number, a negative or an infinite one as not known. See [the
    /// module](self#the-cpu); counts only with [`Config::cpu`].
    pub fn report_cpu(&self, share: f64) {
        self.0.tick();
        self.0.interval.see_cpu(share, self.0.clock.nanos());
    }

    /// Asks `share`, once per interval, what [`report_cpu`](Self::report_cpu) is told; that does not
    /// count from then on. It is asked outside of any lock, by a call: it should take some
    /// microseconds. Of calls that end an interval at once each may ask.
    pub fn follow_cpu(&self, share: impl Fn() -> f64 + Send + Sync + 'static) {
        let share: Share = Box::new(share);
        self.0.live_cpu.store(Some(Arc::new(share)));
    }

    /// Calls `callback` after each move of the level until the subscription is dropped. It is run by
    /// the call that ended the interval, outside of any lock; what it panics is caught.
    pub fn subscribe(
        &self,
        callback: impl Fn(&LevelChange) + Send + Sync + 'static,
    ) -> Subscription {
        self.0.events.subscribe(callback)
    }

    /// As [`subscribe`](Self::subscribe), by a channel that holds at most `capacity` events (at
    /// least 1). It never waits: an event that finds it full is dropped and
    /// [counted](Snapshot::lost_events).
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<LevelChange>) {
        self.0.events.channel(capacity)
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        self.0.course.lock().config
    }

    /// Changes the settings, for all handles at once.
    ///
    /// | setting | what becomes of it |
    /// |---|---|
    /// | `highest` | a level above the new highest one falls to it at once |
    /// | `interval` | holds for the interval that runs |
    /// | `target`, `limit`, `cpu`, `hold` | hold from the end of the interval that runs |
    pub fn set_config(&self, config: Config) {
        let inner = &*self.0;
        let mut course = inner.course.lock();
        let from = course.level.level();
        course.config = config;
        inner.interval.set_length(config.interval());
        inner.calm.store(calm(&config), Ordering::Relaxed);
        let moved = course.level.bound(config.max_level());
        let event = moved.then(|| inner.publish(&mut course, from, Cause::ByHand));
        drop(course);
        inner.tell(event);
    }

    /// Admits all again and forgets what was learned. Counts stay.
    pub fn reset(&self) {
        let inner = &*self.0;
        let mut course = inner.course.lock();
        let from = course.level.level();
        course.level = Level::default();
        let event = (from > 0).then(|| inner.publish(&mut course, from, Cause::ByHand));
        drop(course);
        inner.tell(event);
    }

    /// The figures of now. The level is that of the last call or report, which may be long ago.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let (mut admitted, mut shed) = ([0_u64; Class::ALL.len()], [0_u64; Class::ALL.len()]);
        for counts in inner.counts.iter() {
            for (class, sum) in admitted.iter_mut().enumerate() {
                *sum = sum.wrapping_add(counts.admitted[class].load(Ordering::Relaxed));
            }
            for (class, sum) in shed.iter_mut().enumerate() {
                *sum = sum.wrapping_add(counts.shed[class].load(Ordering::Relaxed));
            }
        }
        let course = inner.course.lock();
        Snapshot {
            level: course.level.level(),
            max_level: course.config.max_level(),
            in_flight: inner.in_flight(),
            limit: course.limit,
            delay: course.delay,
            cpu: course.cpu,
            rises: course.rises,
            falls: course.falls,
            lost_events: inner.events.lost(),
            admitted,
            shed,
        }
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }
}

impl Inner {
    #[inline]
    fn admit(&self, class: Class) -> Result<(), Shed> {
        self.tick();
        // ORDERING: Relaxed throughout. A stale level admits or sheds one call as if it had come a
        // moment earlier; the count of calls publishes nothing.
        let word = self.level.load(Ordering::Relaxed);
        let level = word as u32;
        let sheds = match verdict(level, class) {
            Verdict::Admit => false,
            Verdict::Shed => true,
            Verdict::Share(share) => {
                // PANIC-FREE: the critical class is always admitted.
                let turn = self.turns[class as usize].fetch_add(1, Ordering::Relaxed);
                is_in(share, turn)
            }
        };
        let (counts, stripe) = self.counts.mine();
        if sheds {
            self.interval
                .see_calls(self.in_flight.load(Ordering::Relaxed));
            stripe.count(&counts.shed[class as usize]);
            return Err(self.shed(class, word));
        }
        let found = self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.interval.see_calls(found);
        stripe.count(&counts.admitted[class as usize]);
        Ok(())
    }

    #[inline]
    fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    #[cold]
    fn shed(&self, class: Class, word: u64) -> Shed {
        let level = word as u32;
        let falls = (level - class.floor()).div_ceil(MOST_FALL);
        let calm = Duration::from_nanos(self.calm.load(Ordering::Relaxed));
        Shed {
            class,
            level,
            cause: Cause::ALL[(word >> 32) as usize],
            retry_after: calm.saturating_mul(falls).max(Duration::from_secs(1)),
        }
    }

    /// Ends the interval if its time is over.
    #[inline]
    fn tick(&self) {
        let now = self.clock.nanos();
        if self.interval.is_over(now) {
            self.next_interval(now);
        }
    }

    #[cold]
    fn next_interval(&self, now: u64) {
        let live = self.live_limit.load();
        let live = live.as_ref().map(|limit| limit().max(1));
        let share = self.live_cpu.load();
        let share = share.as_ref().map(|share| known(share()));
        let mut course = self.course.lock();
        // Another call may have been faster.
        if !self.interval.is_over(now) {
            return;
        }
        course.limit = live.or_else(|| course.config.limit());
        let counts = course.config.interval() * course.config.hold();
        course.cpu = share.unwrap_or_else(|| self.interval.cpu(now, counts));
        let (shown, missed) = self.interval.next(now, course.limit, course.cpu);
        let from = course.level.level();
        let cause = course.on_interval(shown, missed);
        let event = cause.map(|cause| self.publish(&mut course, from, cause));
        drop(course);
        self.tell(event);
    }

    /// Lets calls see the new level, under the lock.
    fn publish(&self, course: &mut Course, from: u32, cause: Cause) -> LevelChange {
        let to = course.level.level();
        let rose = to > from;
        let moves = if rose {
            &mut course.rises
        } else {
            &mut course.falls
        };
        *moves = moves.wrapping_add(1);
        // Calls are told why it rose, also while it falls.
        let told = if rose {
            cause
        } else {
            Cause::ALL[(self.level.load(Ordering::Relaxed) >> 32) as usize]
        };
        self.level.store(word(to, told), Ordering::Relaxed);
        LevelChange {
            from,
            to,
            cause,
            delay: course.delay,
            in_flight: self.in_flight(),
            limit: course.limit,
            cpu: course.cpu,
        }
    }

    fn tell(&self, event: Option<LevelChange>) {
        if let Some(event) = event {
            self.events.emit(&event);
        }
    }
}

impl Course {
    /// After an interval, and after `missed` more in which nobody came; the cause if the level moved.
    fn on_interval(&mut self, shown: Shown, missed: u64) -> Option<Cause> {
        if let Some(delay) = shown.delay {
            self.delay = Some(Duration::from_nanos(delay as u64));
        }
        let from = self.level.level();
        let first = self.level.on_interval(shown, &self.config);
        // After so many calm ones nothing changes any more.
        let most = u64::from(self.config.hold()) * FORGOTTEN;
        let mut last = None;
        for _ in 0..missed.min(most) {
            let next = self.level.on_interval(Shown::default(), &self.config);
            last = next.or(last);
        }
        match self.level.level().cmp(&from) {
            // What fell since does not make it calm that it rose.
            cmp::Ordering::Greater => first,
            cmp::Ordering::Equal => None,
            cmp::Ordering::Less => last.or(first),
        }
    }
}

const fn word(level: u32, cause: Cause) -> u64 {
    (cause as u64) << 32 | level as u64
}

/// How long calm must last before the level falls, in nanoseconds.
fn calm(config: &Config) -> u64 {
    let calm = config.interval().saturating_mul(config.hold());
    u64::try_from(calm.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for LoadShed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("LoadShed")
            .field("level", &snapshot.level)
            .field("in_flight", &snapshot.in_flight)
            .finish_non_exhaustive()
    }
}
