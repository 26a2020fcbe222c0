//! How the level moves: a pure function of what the intervals show.

use super::{Config, class::STEPS};

/// What one interval showed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Shown {
    /// The shortest queue delay, in nanoseconds.
    pub(super) delay: Option<f64>,
    /// The fewest calls at once that a call found, and how many are borne.
    pub(super) calls: Option<(f64, f64)>,
    /// The share of the CPU that is used.
    pub(super) cpu: Option<f64>,
}

/// Which signal makes the level rise.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Even the shortest queue delay was above the target.
    QueueDelay,
    /// As many calls ran all the time as are borne.
    Concurrency,
    /// More of the CPU was used than is borne.
    Cpu,
    /// No signal showed overload: the level falls.
    Calm,
    /// Settings were changed.
    ByHand,
}

impl Cause {
    /// In the order of their declaration.
    pub(super) const ALL: [Self; 5] = [
        Self::QueueDelay,
        Self::Concurrency,
        Self::Cpu,
        Self::Calm,
        Self::ByHand,
    ];

    /// `queue_delay`, `concurrency`, `cpu`, `calm` or `by_hand`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueDelay => "queue_delay",
            Self::Concurrency => "concurrency",
            Self::Cpu => "cpu",
            Self::Calm => "calm",
            Self::ByHand => "by_hand",
        }
    }
}

/// The level, and what its next move depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Level {
    level: u32,
    /// The last rise, while overload lasts.
    step: u32,
    /// Falls in a row, without a rise between.
    falls: u32,
    /// By how much it fell the last time, if it has not risen since.
    fell: u32,
    /// It waits so many times as long as the settings say before a fall; 0 is 1.
    patience: u32,
    /// The same before the last fall.
    waited: u32,
    /// The level at which overload was seen the last time, unless calm was since; 0 for none.
    edge: u32,
    /// So many intervals show nothing of the last rise yet: their calls came before it.
    blind: u32,
    /// Calm intervals in a row.
    calm: u32,
    /// Intervals in a row that were not overloaded.
    quiet: u32,
    before: Shown,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sign {
    /// Above what is borne, and not about to be below.
    Over,
    /// Between what is borne and what is calm; or above and falling fast.
    Between,
    Calm,
}

/// The first rise of all is a quarter of a class.
const FIRST_RISE: u32 = STEPS / 4;
/// A delay of ten intervals or more hides a rise for ten.
const MOST_BLIND: u32 = 10;
/// The largest fall is half of a class.
pub(super) const MOST_FALL: u32 = STEPS / 2;
/// A queue that will be short in so many intervals, at its pace, is left to itself.
const DRAINS_IN: f64 = 16.0;
/// The wait before a fall is doubled up to so many times what the settings say.
const MOST_PATIENCE: u32 = 16;

impl Level {
    pub(super) const fn level(&self) -> u32 {
        self.level
    }

    /// The level after an interval; the cause of its move, if it moved.
    pub(super) fn on_interval(&mut self, shown: Shown, config: &Config) -> Option<Cause> {
        let target = config.target().as_nanos() as f64;
        let delay = sign(shown.delay, self.before.delay, target, target / 2.0);
        let found = |shown: Shown| shown.calls.map(|(calls, _)| calls);
        let borne = shown.calls.map_or(0.0, |(_, borne)| borne);
        // As many as are borne are one too many for the next.
        let calls = sign(found(shown), found(self.before), borne - 0.5, borne * 0.9);
        let most = config.cpu().unwrap_or(1.0);
        let used = |shown: Shown| shown.cpu.filter(|_| config.cpu().is_some());
        let cpu = sign(used(shown), used(self.before), most, most * 0.9);
        self.before = shown;
        let from = self.level;
        if delay == Sign::Over && self.blind > 0 {
            self.blind -= 1;
            (self.calm, self.quiet) = (0, 0);
            return None;
        }
        match (delay, calls, cpu) {
            (Sign::Over, ..) => {
                let lag = shown.delay.unwrap_or(0.0) / config.interval().as_nanos() as f64;
                self.blind = (lag as u32).min(MOST_BLIND);
                self.rise(Cause::QueueDelay, config)
            }
            (_, Sign::Over, _) => self.rise(Cause::Concurrency, config),
            (.., Sign::Over) => self.rise(Cause::Cpu, config),
            signs => self.wait(signs == (Sign::Calm, Sign::Calm, Sign::Calm), config),
        }
        .filter(|_| self.level != from)
    }

    /// Moves a level above `max` down to it. Whether it moved.
    pub(super) fn bound(&mut self, max: u32) -> bool {
        let above = self.level > max;
        self.level = self.level.min(max);
        above
    }

    fn rise(&mut self, cause: Cause, config: &Config) -> Option<Cause> {
        let step = if self.fell > 0 {
            // One fall too many: it is undone, and the next one comes later.
            self.patience = (self.waited * 2).min(MOST_PATIENCE);
            self.fell
        } else {
            self.step = match (self.step, self.level) {
                (0, 0) => FIRST_RISE,
                (0, _) => 1,
                (last, _) => (last * 2).min(STEPS),
            };
            self.step
        };
        self.edge = self.level;
        (self.calm, self.quiet, self.fell, self.falls) = (0, 0, 0, 0);
        self.level = (self.level + step).min(config.max_level());
        Some(cause)
    }

    fn wait(&mut self, calm: bool, config: &Config) -> Option<Cause> {
        (self.step, self.blind) = (0, 0);
        self.calm = if calm { self.calm + 1 } else { 0 };
        self.quiet += 1;
        // A signal that stays between the two for ever must not hold the level for ever.
        let long = self.quiet >= config.hold() * MOST_PATIENCE;
        if self.level == 0 {
            if long {
                *self = Self::default();
            }
            return None;
        }
        if self.calm < config.hold() * self.patience() && !long {
            return None;
        }
        (self.calm, self.quiet) = (0, 0);
        self.waited = self.patience();
        self.patience = self.waited / 2;
        self.falls = (self.falls + 1).min(MOST_FALL);
        if self.level <= self.edge {
            // It was calm where it was not before.
            (self.edge, self.falls) = (0, 1);
        }
        // First beside the edge, then a small step over it.
        let most = match self.level - self.edge {
            above if self.edge == 0 => above,
            above => (above - 1).max(1),
        };
        self.fell = self.falls.min(most);
        self.level -= self.fell;
        Some(Cause::Calm)
    }

    fn patience(&self) -> u32 {
        self.patience.max(1)
    }
}

/// No value is a calm one: nobody was there to wait.
fn sign(now: Option<f64>, before: Option<f64>, borne: f64, calm: f64) -> Sign {
    let Some(now) = now else { return Sign::Calm };
    let drains = before.is_some_and(|before| now - borne <= (before - now) * DRAINS_IN);
    if now > borne {
        if drains { Sign::Between } else { Sign::Over }
    } else if now <= calm {
        Sign::Calm
    } else {
        Sign::Between
    }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OVER: Shown = delay(50.0);
    const BETWEEN: Shown = delay(4.0);
    const CALM: Shown = delay(1.0);

    /// In milliseconds; the target is 5.
    const fn delay(millis: f64) -> Shown {
        Shown {
            delay: Some(millis * 1e6),
            calls: None,
            cpu: None,
        }
    }

    fn levels(level: &mut Level, shown: &[Shown]) -> Vec<u32> {
        let config = Config::default();
        let mut after = |shown: &Shown| {
            level.on_interval(*shown, &config);
            level.level()
        };
        shown.iter().map(&mut after).collect()
    }

    #[test]
    fn it_rises_faster_and_faster_up_to_the_highest() {
        let rises = levels(&mut Level::default(), &[OVER; 8]);
        assert_eq!(rises, [4, 12, 28, 44, 60, 64, 64, 64]);
    }

    #[test]
    fn a_queue_that_soon_will_be_gone_is_left_to_itself() {
        let mut level = Level::default();
        let draining = [50.0, 44.0, 38.0, 32.0, 26.0, 20.0, 14.0, 8.0, 2.0].map(delay);
        assert_eq!(levels(&mut level, &draining), [4; 9]);
        // At this pace it would take too long.
        let slow = [50.0, 49.0, 48.0].map(delay);
        assert_eq!(levels(&mut level, &slow), [5, 7, 11]);
    }

    /// A call that is taken out of the queue tells of the time when it came.
    #[test]
    fn it_rises_again_only_when_the_last_rise_can_be_seen() {
        let growing = [90.0, 190.0, 290.0, 390.0, 490.0, 590.0, 690.0, 790.0].map(delay);
        let mut level = Level::default();
        assert_eq!(
            levels(&mut level, &growing),
            [4, 12, 12, 28, 28, 28, 28, 44]
        );
    }

    #[test]
    fn it_falls_after_calm_intervals_alone_and_faster_and_faster() {
        let mut level = Level::default();
        levels(&mut level, &[OVER; 3]);
        assert_eq!(levels(&mut level, &[CALM; 4]), [28; 4]);
        assert_eq!(levels(&mut level, &[BETWEEN]), [28]);
        assert_eq!(levels(&mut level, &[CALM; 5])[4], 27);
        assert_eq!(levels(&mut level, &[CALM; 5])[4], 25);
        assert_eq!(levels(&mut level, &[CALM; 5])[4], 22);
    }

    #[test]
    fn where_calls_are_shed_already_it_rises_by_little_at_first() {
        let mut level = Level::default();
        levels(&mut level, &[OVER, BETWEEN]);
        assert_eq!(levels(&mut level, &[OVER; 5]), [5, 7, 11, 19, 35]);
    }

    #[test]
    fn a_fall_too_many_is_undone_and_the_next_one_waits_twice_as_long() {
        let mut level = Level::default();
        levels(&mut level, &[OVER; 3]);
        for wait in [5, 10, 20, 40, 80, 80] {
            let waits = levels(&mut level, &vec![CALM; wait]);
            assert_eq!(waits[wait - 2..], [28, 27], "after {wait}");
            assert_eq!(levels(&mut level, &[OVER]), [28]);
        }
        // A fall that holds shows that it is over: each next one comes in half the time.
        for (wait, to) in [
            (80, 27),
            (40, 26),
            (20, 24),
            (10, 21),
            (5, 17),
            (5, 12),
            (5, 6),
            (5, 0),
        ] {
            let waits = levels(&mut level, &vec![CALM; wait]);
            assert_eq!(waits[wait - 1], to);
            assert!(waits[wait - 2] > to);
        }
    }

    /// The last rise but one was to 4.
    #[test]
    fn it_falls_by_one_over_the_level_at_which_there_was_overload_and_goes_on_from_there() {
        let mut level = Level::default();
        levels(&mut level, &[OVER; 2]);
        let falls: Vec<u32> = (0..8).map(|_| levels(&mut level, &[CALM; 5])[4]).collect();
        assert_eq!(falls, [11, 9, 6, 5, 4, 3, 1, 0]);
    }

    #[test]
    fn what_was_learned_is_forgotten_after_a_long_time_with_nobody_shed() {
        let config = Config::default();
        let forgets = config.hold() * MOST_PATIENCE;
        for (quiet, rise) in [(forgets - 1, 1), (forgets, FIRST_RISE)] {
            let mut level = Level::default();
            levels(&mut level, &[OVER]);
            assert_eq!(levels(&mut level, &[CALM; 15])[14], 0);
            levels(&mut level, &vec![CALM; quiet as usize]);
            assert_eq!(levels(&mut level, &[OVER]), [rise], "{quiet}");
        }
    }

    #[test]
    fn a_signal_that_stays_between_does_not_hold_the_level_for_ever() {
        let mut level = Level::default();
        levels(&mut level, &[OVER]);
        let held = levels(&mut level, &[BETWEEN; 80]);
        assert_eq!(held[78..], [4, 3]);
    }

    #[test]
    fn as_many_calls_as_are_borne_are_overload_and_nine_tenths_are_calm() {
        let calls = |found: f64| Shown {
            delay: None,
            calls: Some((found, 10.0)),
            cpu: None,
        };
        let sign_of = |found: f64| {
            let mut level = Level::default();
            levels(&mut level, &[calls(found)])[0]
        };
        assert_eq!([sign_of(9.0), sign_of(10.0), sign_of(11.0)], [0, 4, 4]);
        let mut level = Level::default();
        levels(&mut level, &[calls(20.0)]);
        assert_eq!(levels(&mut level, &[calls(9.0); 5])[4], 3);
        let alone = Shown {
            delay: None,
            calls: Some((1.0, 1.0)),
            cpu: None,
        };
        assert_eq!(levels(&mut Level::default(), &[alone]), [4]);
    }

    #[test]
    fn more_of_the_cpu_than_is_borne_is_overload_and_nine_tenths_of_that_are_calm() {
        let config = Config::builder().cpu(0.8).build().unwrap();
        let cpu = |share| Shown {
            cpu: Some(share),
            ..Shown::default()
        };
        let mut level = Level::default();
        let mut after = |share, config: &Config| level.on_interval(cpu(share), config);
        assert_eq!(after(0.8, &config), None);
        assert_eq!(after(0.81, &config), Some(Cause::Cpu));
        // Between the two it stays.
        assert!((0..20).all(|_| after(0.75, &config).is_none()));
        assert!((0..4).all(|_| after(0.72, &config).is_none()));
        assert_eq!(after(0.72, &config), Some(Cause::Calm));
        // Switched off, it says nothing.
        let off = Config::default();
        assert!((0..4).all(|_| after(1.0, &off).is_none()));
        assert_eq!(after(1.0, &off), Some(Cause::Calm));
    }

    proptest! {
        /// It cannot flap: whatever is shown, it falls only after `hold` calm intervals in a row (or
        /// many that were not overloaded), and never twice within them.
        #[test]
        fn between_two_falls_nothing_but_calm_was_shown_for_so_long(
            shown in prop::collection::vec((0..3_usize, 1..40_usize), 1..60),
            hold in 1..6_u32,
        ) {
            let config = Config::builder().hold(hold).build().unwrap();
            let mut level = Level::default();
            let (mut calm, mut quiet) = (0, 0);
            for (kind, times) in shown {
                for _ in 0..times {
                    let kinds = [OVER, BETWEEN, CALM];
                    let before = level.level();
                    level.on_interval(kinds[kind], &config);
                    calm = if kind == 2 { calm + 1 } else { 0 };
                    quiet = if kind == 0 { 0 } else { quiet + 1 };
                    if level.level() < before {
                        prop_assert!(calm >= hold || quiet >= hold * MOST_PATIENCE);
                        prop_assert!(before - level.level() <= MOST_FALL);
                        (calm, quiet) = (0, 0);
                    }
                    if level.level() > before {
                        prop_assert!(level.level() - before <= STEPS);
                        // At 50 ms after 50 ms nothing drains; after less it grows.
                        prop_assert_eq!(kind, 0);
                    }
                    prop_assert!(level.level() <= config.max_level());
                }
            }
        }

        /// From wherever it is, calm brings it back in a bounded time.
        #[test]
        fn calm_brings_it_back_to_nothing_in_a_bounded_time(
            shown in prop::collection::vec(0..3_usize, 0..400),
            hold in 1..6_u32,
        ) {
            let config = Config::builder().hold(hold).build().unwrap();
            let mut level = Level::default();
            for kind in shown {
                level.on_interval([OVER, BETWEEN, CALM][kind], &config);
            }
            for _ in 0..45 * hold {
                level.on_interval(CALM, &config);
            }
            prop_assert_eq!(level.level(), 0);
        }
    }
}
