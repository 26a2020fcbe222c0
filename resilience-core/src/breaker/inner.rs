//! The shared part of a breaker: its words, and what all of its parts need.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;

use super::{
    config::{Config, OnCancel},
    counters::Counters,
    error::ShortName,
    events::{Cause, Events, Transition},
    places::Places,
    shadow::Shadow,
    state::{Gear, State, Word, nanos},
    tagged::{VALUE_BITS, VALUE_MASK, tag, tagged},
    time::{Counts, Face, SEGMENTS, TimeWindow},
    window::Marks,
};
use crate::{
    clock::SharedClock,
    primitive::{AtomicU64, Lock, Ordering, fence},
};

/// What a call must do, as bits of [`Words::features`].
pub(super) mod feature {
    /// Take a place: count window or failures in a row.
    pub(in super::super) const PLACES: u64 = 1;
    /// Count in the time window.
    pub(in super::super) const TIME: u64 = 2;
    /// Compare the duration with the slow threshold.
    pub(in super::super) const SLOW: u64 = 4;
    /// Remember when it was admitted.
    pub(in super::super) const STAMP: u64 = 8;
    /// Ask the shadow as well.
    pub(in super::super) const SHADOW: u64 = 16;
}

/// Words that every call reads and that seldom change: one line, and a second for what only some
/// calls read.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) state: AtomicU64,
    pub(super) features: AtomicU64,
    /// `[generation: 12 | place: 52]`: the place whose owner judges even if it is a success, because
    /// it makes the calls of the window minimum calls.
    pub(super) evaluate_at: AtomicU64,
    /// A call that takes more nanoseconds is slow.
    pub(super) slow: AtomicU64,
    pub(super) face: Face,
    /// `[number of a segment | 1 if low]`: what the time window was when it was last looked at. A
    /// success looks once per segment, and always while it is low: something adverse is in it, and
    /// fewer than minimum calls.
    pub(super) watch: AtomicU64,
    /// `[generation: 12 | place: 52]`: where the window of a closed generation begins.
    pub(super) start: AtomicU64,
    /// `[generation: 12 | microseconds: 52]`: reset deadline of an open generation, lease of a
    /// half-open one. 52 bits of microseconds last 142 years.
    pub(super) deadline: AtomicU64,
    /// `[generation: 12 | microseconds: 52]`: how long the wait for the deadline was when it was
    /// set.
    pub(super) wait: AtomicU64,
    /// `[generation: 12 | microseconds: 52]`: until when the upstream of the calls of a generation
    /// asked to be left alone.
    pub(super) asked: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) words: CachePadded<Words>,
    pub(super) places: CachePadded<Places>,
    pub(super) time: TimeWindow,
    pub(super) counters: Counters,
    pub(super) events: Arc<Events>,
    pub(super) config: ArcSwap<Config>,
    pub(super) shadow: ArcSwapOption<Shadow>,
    /// Held while a person changes something; never by a call. The generation in which the next
    /// shadow begins.
    pub(super) control: Lock<u32>,
    pub(super) clock: SharedClock,
    pub(super) name: Arc<str>,
    pub(super) short_name: ShortName,
    pub(super) seed: u64,
    /// This is a shadow, and says so in its events.
    is_shadow: bool,
}

/// What made the breaker change its state.
#[derive(Clone, Copy)]
pub(super) struct Judged {
    pub(super) cause: Cause,
    pub(super) counts: Counts,
    pub(super) failure_rate: Option<f64>,
    pub(super) slow_call_rate: Option<f64>,
}

impl Inner {
    pub(super) fn new(name: &str, config: Config, clock: SharedClock) -> Self {
        let word = Word {
            gear: Gear::of(super::Mode::Automatic, is_plain(features(&config))),
            ..Word::NEW
        };
        Self::with_word(name.into(), config, clock, Arc::default(), word)
    }

    /// A breaker that observes beside another, from `generation` on.
    pub(super) fn shadow_of(live: &Self, config: Config, generation: u32) -> Self {
        let word = Word {
            gear: Gear::Observe,
            generation,
            ..Word::NEW
        };
        let (clock, events) = (live.clock.clone(), Arc::clone(&live.events));
        Self {
            is_shadow: true,
            ..Self::with_word(Arc::clone(&live.name), config, clock, events, word)
        }
    }

    fn with_word(
        name: Arc<str>,
        config: Config,
        clock: SharedClock,
        events: Arc<Events>,
        word: Word,
    ) -> Self {
        let own = tag(word.generation);
        let zero = || AtomicU64::new(tagged(word.generation, 0));
        let features = features(&config);
        let inner = Self {
            words: CachePadded::new(Words {
                state: AtomicU64::new(word.pack()),
                features: AtomicU64::new(features),
                evaluate_at: zero(),
                slow: AtomicU64::new(slow(&config)),
                face: Face::new(own, segment(&config), &clock),
                watch: AtomicU64::new(u64::MAX),
                start: zero(),
                deadline: zero(),
                wait: zero(),
                asked: zero(),
            }),
            places: CachePadded::new(Places::new(marks(&config), own)),
            time: TimeWindow::default(),
            counters: Counters::default(),
            events,
            config: ArcSwap::from_pointee(config),
            shadow: ArcSwapOption::empty(),
            control: Lock::default(),
            clock,
            short_name: ShortName::new(&name),
            // Random, so that processes whose breakers have one name and open together do not probe
            // together.
            seed: RandomState::new().hash_one(&name),
            name,
            is_shadow: false,
        };
        inner.aim();
        inner
    }

    /// For the macro of the permits.
    #[inline]
    pub(super) fn me<'a>(this: &'a &Self) -> &'a Self {
        this
    }

    pub(super) fn state(&self) -> State {
        self.word().state
    }

    pub(super) fn word(&self) -> Word {
        Word::unpack(self.packed())
    }

    #[inline]
    pub(super) fn packed(&self) -> u64 {
        // ORDERING: Acquire, pairs with the Release of `change`: who sees a generation sees all
        // words that were tagged for it.
        self.words.state.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn features(&self) -> u64 {
        // ORDERING: Relaxed. A call that races a change of settings goes by the old or the new.
        self.words.features.load(Ordering::Relaxed)
    }

    pub(super) fn change(&self, from: Word, to: Word) -> bool {
        self.words
            .state
            .compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    pub(super) fn stands(&self, generation: u32) -> bool {
        Word::generation_of(self.packed()) == generation
    }

    // ---- words of a generation

    /// Gives the words of the window the tag of `generation`, so that what they count begins here.
    /// Only while the state is still of generation `valid`, which is `generation` or the one before;
    /// who comes first for a tag decides, and a word that has the next tag already keeps it: one who
    /// is late to tag `valid` must not undo what another has prepared for the change that ends it.
    ///
    /// The state is looked at after the word and before its exchange: if it still stands, all
    /// words of later generations are written after this look, and make the exchange fail.
    pub(super) fn begin_window(&self, valid: u32, generation: u32) {
        let next = tag(valid.wrapping_add(1));
        let wanted = |seen: u64| {
            let begun = seen >> VALUE_BITS == tag(generation) || seen >> VALUE_BITS == next;
            !begun && self.stands(valid)
        };
        let place = self.places.retag(tag(generation), wanted);
        let start = tagged(generation, place);
        loop {
            let seen = self.words.start.load(Ordering::Acquire);
            if !wanted(seen) || exchange(&self.words.start, seen, start) {
                break;
            }
        }
        self.words.face.begin(tag(generation), wanted);
        self.aim();
    }

    /// Where the window begins.
    pub(super) fn start(&self) -> u64 {
        self.words.start.load(Ordering::Acquire) & VALUE_MASK
    }

    /// The window begins no earlier than at `place`. The caller holds `control`.
    pub(super) fn begin_at_least(&self, place: u64) {
        loop {
            let seen = self.words.start.load(Ordering::Acquire);
            let next = seen & !VALUE_MASK | place;
            if seen & VALUE_MASK >= place || exchange(&self.words.start, seen, next) {
                return;
            }
        }
    }

    /// Sets `evaluate_at` from the start of the window and minimum calls.
    pub(super) fn aim(&self) {
        loop {
            // ORDERING: SeqCst fence, pairs with the one of `set_config`: of a new start and new
            // settings, who comes second sees the other.
            fence();
            let seen = self.words.evaluate_at.load(Ordering::Acquire);
            let start = self.words.start.load(Ordering::Acquire);
            let config = self.config.load();
            let place = match config.count_window() {
                Some(_) => (start & VALUE_MASK) + u64::from(config.minimum_calls()) - 1,
                None => VALUE_MASK,
            };
            let next = start & !VALUE_MASK | place.min(VALUE_MASK);
            if seen == next {
                return;
            }
            // Once more, in case start or settings are new again.
            let _ = exchange(&self.words.evaluate_at, seen, next);
        }
    }

    // ---- events

    /// To be called by the winner of the change to `to`, after it.
    pub(super) fn opened(&self, from: Word, to: Word, judged: Judged) {
        self.counters.opened(judged.cause);
        let now = self.clock.nanos();
        let wait = self.open_for(to, now);
        self.set_deadline(to.generation, now, wait);
        self.emit(from, to, judged, Some(Duration::from_nanos(wait)));
    }

    pub(super) fn emit(&self, from: Word, to: Word, judged: Judged, open_for: Option<Duration>) {
        self.events.emit(&Transition {
            breaker: Arc::clone(&self.name),
            from: from.state,
            to: to.state,
            mode: to.gear.mode(),
            generation: to.generation,
            cause: judged.cause,
            calls: judged.counts.calls,
            failures: judged.counts.failures,
            slow_calls: judged.counts.slow,
            failure_rate: judged.failure_rate,
            slow_call_rate: judged.slow_call_rate,
            open_for,
            observed: to.gear == Gear::Observe,
            shadow: self.is_shadow,
        });
    }
}

impl Judged {
    /// Not judged by a rate.
    pub(super) fn new(cause: Cause, calls: u64, failures: u64) -> Self {
        Self {
            cause,
            counts: Counts {
                calls,
                failures,
                slow: 0,
            },
            failure_rate: None,
            slow_call_rate: None,
        }
    }
}

pub(super) fn exchange(at: &AtomicU64, seen: u64, next: u64) -> bool {
    // ORDERING: AcqRel. Who sees the word sees what its writer had seen, the state among it.
    at.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
}

// ---- settings as words

pub(super) fn features(config: &Config) -> u64 {
    let timed_cancel = matches!(
        config.on_cancel(),
        OnCancel::FailureAfter(_) | OnCancel::FailureWhenSlow
    );
    let slow = config.slow_call().is_some();
    // Without any window places are taken as well: the plain path takes them always, and a window
    // that is switched on later must not find some marked and others not.
    let places = config.count_window().is_some()
        || config.consecutive_failures().is_some()
        || config.time_window().is_none();
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    bit(places, feature::PLACES)
        | bit(config.time_window().is_some(), feature::TIME)
        | bit(slow, feature::SLOW)
        | bit(slow || timed_cancel, feature::STAMP)
}

/// Whether calls may take the short path.
pub(super) fn is_plain(features: u64) -> bool {
    features == feature::PLACES
}

pub(super) fn slow(config: &Config) -> u64 {
    config.slow_call().map_or(u64::MAX, nanos)
}

/// Nanoseconds of a segment, rounded up; one second if there is no time window.
pub(super) fn segment(config: &Config) -> u64 {
    let window = config.time_window().unwrap_or(Duration::from_secs(10));
    nanos(window).div_ceil(SEGMENTS)
}

fn marks(config: &Config) -> Marks {
    Marks::new(config.places(), config.slow_call().is_some())
}
