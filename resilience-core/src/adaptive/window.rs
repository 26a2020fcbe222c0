//! Calls that ended since the limit moved last.

use std::time::Duration;

use super::config::Config;

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    Success,
    Overloaded,
}

/// Sums over one window. Times are nanoseconds of the limit's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    ends: u64,
    lasts: u64,
    /// The first one is not judged: only the shortest calls have ended by then.
    first: bool,
    successes: u32,
    overloaded: u32,
    /// Of successes; 2^64 ns are 584 years of calls.
    time: u64,
    shortest: u64,
    in_flight: u32,
}

/// What [`Estimate::on_sample`](super::Estimate::on_sample) asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sample {
    pub(super) rtt: Duration,
    pub(super) in_flight: u32,
    pub(super) dropped: bool,
}

/// A window lasts at most so many times as long as the settings say.
const LONGEST: u64 = 100;

/// For so many times its length a window waits for enough calls.
const PATIENCE: u64 = 10;

impl Window {
    pub(super) fn begin(now: u64, config: &Config) -> Self {
        Self {
            first: true,
            ..Self::after(now, 0, config)
        }
    }

    fn after(now: u64, shortest: u64, config: &Config) -> Self {
        let window = nanos(config.window());
        let longest = window.saturating_mul(LONGEST);
        Self::lasting(now, shortest.saturating_mul(2).clamp(window, longest))
    }

    fn lasting(now: u64, lasts: u64) -> Self {
        Self {
            ends: now.saturating_add(lasts),
            lasts,
            ..Self::default()
        }
    }

    /// Books a call. If the window ends with it, the next one begins.
    pub(super) fn add(
        &mut self,
        now: u64,
        rtt: u64,
        in_flight: u32,
        ended: Ended,
        config: &Config,
    ) -> Option<Sample> {
        let late = self.lasts.saturating_mul(PATIENCE - 1);
        // Also if the clock stepped back: the window would stay open until it has caught up.
        if now >= self.ends.saturating_add(late) || self.ends.saturating_sub(now) > self.lasts {
            *self = Self {
                first: self.first,
                ..Self::lasting(now, self.lasts)
            };
        }
        match ended {
            Ended::Success => {
                let first = self.successes == 0;
                self.shortest = if first { rtt } else { self.shortest.min(rtt) };
                self.successes = self.successes.saturating_add(1);
                self.time = self.time.saturating_add(rtt);
            }
            Ended::Overloaded => self.overloaded = self.overloaded.saturating_add(1),
        }
        self.in_flight = self.in_flight.max(in_flight);
        let calls = self.successes.saturating_add(self.overloaded);
        if now < self.ends || calls < config.min_samples() {
            return None;
        }
        let first = self.first;
        let share = f64::from(self.overloaded) / f64::from(calls);
        let sample = Sample {
            rtt: Duration::from_nanos(self.time / u64::from(self.successes.max(1))),
            in_flight: self.in_flight,
            dropped: self.successes == 0 || share >= config.drop_rate(),
        };
        *self = Self::after(now, self.shortest, config);
        (!first).then_some(sample)
    }
}

fn nanos(span: Duration) -> u64 {
    // At most a day.
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::*;

    fn config() -> Config {
        let builder = Config::builder().window(Duration::from_millis(1));
        builder.min_samples(4).drop_rate(0.25).build().unwrap()
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn a_window_ends_when_its_time_is_over_and_it_has_enough_calls() {
        let config = config();
        let mut window = Window::after(0, 0, &config);
        for (now, rtt) in [(1, 3), (2, 4), (MS - 1, 5), (MS - 1, 8)] {
            assert_eq!(window.add(now, rtt, 7, Ended::Success, &config), None);
        }
        let sample = window.add(MS, 10, 6, Ended::Success, &config);
        let expected = Sample {
            rtt: Duration::from_nanos(6),
            in_flight: 7,
            dropped: false,
        };
        assert_eq!(sample, Some(expected));
        for _ in 0..3 {
            assert_eq!(window.add(9 * MS, 1, 1, Ended::Success, &config), None);
        }
        assert!(window.add(9 * MS, 1, 1, Ended::Success, &config).is_some());
    }

    #[test]
    fn a_window_lasts_twice_as_long_as_the_shortest_call_before_up_to_a_hundred_times() {
        let config = config();
        for (shortest, lasts) in [(3 * MS, 6 * MS), (80 * MS, 100 * MS), (1, MS)] {
            let mut window = Window::after(MS, shortest, &config);
            for _ in 0..9 {
                let early = window.add(MS + lasts - 1, 1, 1, Ended::Success, &config);
                assert_eq!(early, None);
            }
            let on_time = window.add(MS + lasts, 1, 1, Ended::Success, &config);
            assert!(on_time.is_some());
        }
    }

    #[test]
    fn a_share_of_overloaded_calls_makes_an_overloaded_window_and_no_time() {
        let config = config();
        for (overloaded, dropped) in [(1, false), (2, true), (5, true)] {
            let mut window = Window::after(0, 0, &config);
            for call in 0..4 {
                let ended = if call < overloaded {
                    Ended::Overloaded
                } else {
                    Ended::Success
                };
                window.add(0, if call < overloaded { 99 } else { 5 }, 1, ended, &config);
            }
            let sample = window.add(MS, 5, 1, Ended::Success, &config).unwrap();
            assert_eq!(sample.dropped, dropped, "{overloaded} of 5");
            assert_eq!(sample.rtt, Duration::from_nanos(5));
        }
    }

    #[test]
    fn the_first_window_is_not_judged() {
        let config = config();
        let mut window = Window::begin(0, &config);
        for _ in 0..4 {
            assert_eq!(window.add(MS, 1, 1, Ended::Success, &config), None);
        }
        for now in [MS, MS, MS] {
            assert_eq!(window.add(now, 1, 1, Ended::Success, &config), None);
        }
        let second = window.add(2 * MS, 1, 1, Ended::Success, &config);
        assert!(second.is_some());
    }

    /// A limit is often made long before its first call.
    #[test]
    fn the_first_window_is_not_judged_after_a_pause_either() {
        let config = config();
        let mut window = Window::begin(0, &config);
        for now in [50 * MS, 50 * MS, 50 * MS, 51 * MS] {
            assert_eq!(window.add(now, 1, 1, Ended::Success, &config), None);
        }
        for now in [51 * MS, 51 * MS, 51 * MS] {
            assert_eq!(window.add(now, 1, 1, Ended::Success, &config), None);
        }
        let second = window.add(52 * MS, 1, 1, Ended::Success, &config);
        assert!(second.is_some());
    }

    /// The first calls that end after a pause are the shortest ones.
    #[test]
    fn a_window_that_waited_too_long_for_calls_begins_anew() {
        let config = config();
        let mut window = Window::after(0, 0, &config);
        for now in [0, 1, 2, 10 * MS, 10 * MS, 10 * MS] {
            assert_eq!(window.add(now, 1, 1, Ended::Success, &config), None);
        }
        let full = window.add(11 * MS, 1, 1, Ended::Success, &config);
        assert!(full.is_some());
        for now in [11 * MS, 12 * MS, 13 * MS] {
            assert_eq!(window.add(now, 1, 1, Ended::Success, &config), None);
        }
        let in_time = window.add(21 * MS - 1, 1, 1, Ended::Success, &config);
        assert!(in_time.is_some());
    }

    #[test]
    fn a_clock_that_steps_back_does_not_hold_a_window_open() {
        let config = config();
        let mut window = Window::after(1_000_000 * MS, 0, &config);
        for _ in 0..4 {
            assert_eq!(window.add(5, 1, 1, Ended::Success, &config), None);
        }
        let next = window.add(5 + MS, 1, 1, Ended::Success, &config);
        assert!(next.is_some());
    }
}
