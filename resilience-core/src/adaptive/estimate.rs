//! The three rules, as pure functions of a window.

use std::time::Duration;

use super::{
    config::{Algorithm, Config},
    usual::{Seen, Usual},
};

/// The limit as an algorithm sees it: all its state, no clock, no threads.
///
/// [`AdaptiveLimit`](super::AdaptiveLimit) keeps one and feeds it windows. By itself it serves
/// simulations and limits of one's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    config: Config,
    /// From `min_limit` to `max_limit`.
    limit: f64,
    usual: Usual,
}

impl Estimate {
    /// The initial limit; nothing is known.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            limit: config.initial_limit().into(),
            usual: Usual::default(),
        }
    }

    /// Calls that may run at once: the limit, rounded down.
    pub fn limit(&self) -> u32 {
        // At most 2^30.
        self.limit as u32
    }

    /// How long a call takes when it does not queue, as far as that is known; AIMD does not ask.
    pub fn usual_rtt(&self) -> Option<Duration> {
        self.usual
            .rtt()
            .map(|nanos| Duration::from_nanos(nanos as u64))
    }

    /// The settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Goes on by other settings. The limit is moved into their bounds; what was learned is
    /// forgotten if the algorithm is another.
    pub fn set_config(&mut self, config: Config) {
        if self.config.algorithm() != config.algorithm() {
            self.usual = Usual::default();
        }
        self.config = config;
        self.limit = self.bounded(self.limit);
    }

    /// The limit after a window in which calls took `rtt` on average, at most `in_flight` ran at
    /// once, and which was overloaded if `dropped`. Then `rtt` does not matter to the limit.
    ///
    /// A time of 0 counts as 1 ns.
    pub fn on_sample(&mut self, rtt: Duration, in_flight: u32, dropped: bool) -> u32 {
        // 2^53 ns are 104 days; beyond that the last digits do not matter.
        let rtt = (rtt.as_nanos() as f64).max(1.0);
        let seen = Seen {
            rtt,
            limit: self.limit,
            pressed: 2.0 * f64::from(in_flight) >= self.limit,
            lowest: self.limit() <= self.config.min_limit(),
        };
        let next = match self.config.algorithm() {
            Algorithm::Aimd => self.aimd(seen, dropped),
            _ if dropped => self.backed_off(),
            Algorithm::Vegas => self.vegas(seen),
            Algorithm::Gradient2 => self.gradient2(seen),
        };
        self.limit = self.bounded(next);
        self.limit()
    }

    /// Additive increase, multiplicative decrease.
    fn aimd(&self, seen: Seen, dropped: bool) -> f64 {
        let longest = self.config.timeout();
        let late = longest.is_some_and(|longest| seen.rtt > longest.as_nanos() as f64);
        if dropped || late {
            self.backed_off()
        } else if seen.pressed {
            self.limit + 1.0
        } else {
            self.limit
        }
    }

    /// The queue is what `limit` calls hold beyond what the usual time needs.
    fn vegas(&mut self, seen: Seen) -> f64 {
        let usual = self.usual.shortest(seen, self.weight());
        if !seen.pressed {
            return self.limit;
        }
        let queue = (self.limit * (1.0 - usual / seen.rtt)).ceil();
        let step = self.step();
        if queue <= step {
            self.limit + 6.0 * step
        } else if queue < 3.0 * step {
            self.limit + step
        } else if queue > 6.0 * step {
            self.limit - step
        } else {
            self.limit
        }
    }

    /// The limit times how much longer than usual calls take, or a little more.
    fn gradient2(&mut self, seen: Seen) -> f64 {
        let usual = self.usual.averaged(seen, self.weight());
        if !seen.pressed {
            return self.limit;
        }
        let gradient = (self.config.tolerance() * usual / seen.rtt).max(0.5);
        // Published is `gradient × limit + queue` throughout. That rests where the two terms
        // balance, at any ratio: a limit that fell in vain would rest there too.
        let target = if gradient < 1.0 {
            self.limit * gradient
        } else {
            self.limit + f64::from(self.config.queue_size())
        };
        let smoothing = self.config.smoothing();
        self.limit * (1.0 - smoothing) + target * smoothing
    }

    /// At least one less.
    fn backed_off(&self) -> f64 {
        let share = self.limit * self.config.backoff_ratio();
        let less = match self.config.algorithm() {
            Algorithm::Vegas => self.limit - self.step(),
            Algorithm::Aimd | Algorithm::Gradient2 => self.limit - 1.0,
        };
        share.min(less)
    }

    /// The decimal logarithm of the limit, whole and at least 1.
    fn step(&self) -> f64 {
        self.limit.log10().floor().max(1.0)
    }

    fn weight(&self) -> f64 {
        2.0 / (f64::from(self.config.long_window()) + 1.0)
    }

    fn bounded(&self, limit: f64) -> f64 {
        let (low, high) = (self.config.min_limit(), self.config.max_limit());
        limit.clamp(low.into(), high.into())
    }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn estimate(algorithm: Algorithm, initial: u32) -> Estimate {
        let config = Config::builder().algorithm(algorithm);
        let config = config.initial_limit(initial).min_limit(2).max_limit(300);
        Estimate::new(config.build().unwrap())
    }

    #[test]
    fn aimd_adds_one_and_takes_a_tenth() {
        let mut aimd = estimate(Algorithm::Aimd, 100);
        assert_eq!(aimd.on_sample(MS, 50, false), 101);
        assert_eq!(aimd.on_sample(MS, 50, false), 101, "less than half in use");
        assert_eq!(aimd.on_sample(MS, 0, true), 90);
        assert_eq!(aimd.on_sample(5000 * MS, 90, false), 91);
        assert_eq!(aimd.on_sample(5001 * MS, 90, false), 82);
    }

    #[test]
    fn vegas_keeps_a_queue_of_three_to_six() {
        // Without a queue, six more; then by the queue that the limit of the moment holds.
        for (queue, next) in [(0, 56), (1, 56), (2, 51), (3, 50), (6, 50), (7, 49)] {
            let mut vegas = estimate(Algorithm::Vegas, 50);
            vegas.usual.shortest(
                Seen {
                    rtt: 1e6,
                    limit: 50.0,
                    pressed: true,
                    lowest: false,
                },
                1.0,
            );
            // queue = limit × (1 − usual / rtt), a little less than whole.
            let rtt = 1.0 / (1.0 - (f64::from(queue) - 0.01).max(0.0) / 50.0);
            assert_eq!(vegas.on_sample(MS.mul_f64(rtt), 50, false), next, "{queue}");
        }
        let mut vegas = estimate(Algorithm::Vegas, 200);
        assert_eq!(vegas.on_sample(MS, 99, false), 200, "less than half in use");
        assert_eq!(vegas.on_sample(MS, 200, false), 212);
        assert_eq!(vegas.on_sample(MS, 200, true), 190);
    }

    #[test]
    fn gradient2_follows_the_ratio_and_grows_by_a_share_of_its_queue() {
        let mut gradient2 = estimate(Algorithm::Gradient2, 100);
        gradient2.on_sample(MS, 100, false);
        assert!((gradient2.limit - 100.8).abs() < 1e-9);
        gradient2.on_sample(MS + MS / 2, 100, false);
        assert!((gradient2.limit - 101.6).abs() < 1e-2, "within tolerance");
        gradient2.limit = 100.0;
        gradient2.on_sample(2 * MS, 100, false);
        assert!((gradient2.limit - 95.0).abs() < 0.1, "1.5 / 2");
        gradient2.limit = 100.0;
        gradient2.on_sample(50 * MS, 100, false);
        assert!((gradient2.limit - 90.0).abs() < 1e-9, "at most by half");
        gradient2.on_sample(MS, 100, true);
        assert!((gradient2.limit - 81.0).abs() < 1e-9);
    }

    /// With the published queue term it rests where 0.88 × limit + 4 is the limit: at 34.
    #[test]
    fn gradient2_does_not_rest_below_where_calls_got_slower_for_good() {
        let mut gradient2 = estimate(Algorithm::Gradient2, 40);
        for _ in 0..10 {
            gradient2.on_sample(MS, gradient2.limit(), false);
        }
        for _ in 0..300 {
            gradient2.on_sample(MS.mul_f64(1.7), gradient2.limit(), false);
        }
        assert!(gradient2.limit() > 100, "{gradient2:?}");
    }

    #[test]
    fn a_limit_stays_in_its_bounds_and_moves_into_new_ones() {
        for algorithm in [Algorithm::Aimd, Algorithm::Vegas, Algorithm::Gradient2] {
            let mut estimate = estimate(algorithm, 20);
            for _ in 0..500 {
                estimate.on_sample(MS, 300, false);
            }
            assert_eq!(estimate.limit(), 300, "{algorithm:?}");
            for _ in 0..500 {
                estimate.on_sample(MS, 300, true);
            }
            assert_eq!(estimate.limit(), 2, "{algorithm:?}");
            let more = Config::builder().algorithm(algorithm).min_limit(7);
            estimate.set_config(more.build().unwrap());
            assert_eq!(estimate.limit(), 7, "{algorithm:?}");
        }
    }
}
