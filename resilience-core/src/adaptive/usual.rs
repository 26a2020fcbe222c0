//! How long a call takes when it does not queue.
//!
//! Published are, for Vegas, the shortest time seen, replaced now and then by a time of now; for
//! Gradient2 a long average of all times. Under a lasting overload both learn the queue: the
//! replacement and the average are times of queued calls, the limit rises with them, and so does
//! the queue. Measuring with hardly any calls let in (Envoy) does not, but refuses the others
//! meanwhile.
//!
//! Here a time is learned upwards only when it cannot be a queue of our own making:
//!
//! - less than half of the limit is used: nobody waits for us;
//! - the limit has fallen to half, and the calls take nearly as long as before: a queue would have
//!   got shorter with it. So each fall that latency causes is itself the measurement;
//! - the limit can fall no further.

/// Times are nanoseconds, as `f64`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usual {
    /// `None` until the first window.
    rtt: Option<f64>,
    /// How far the average may rise while calls may queue.
    ceiling: f64,
    /// The highest limit since the last decision, and the longest time at or below it.
    peak: Option<Peak>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Peak {
    limit: f64,
    rtt: f64,
}

/// What a window says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) rtt: f64,
    pub(super) limit: f64,
    /// At least half of the limit was in use.
    pub(super) pressed: bool,
    /// The limit can fall no further.
    pub(super) lowest: bool,
}

impl Usual {
    pub(super) fn rtt(&self) -> Option<f64> {
        self.rtt
    }

    /// Vegas: near the shortest times. A time that is clearly shorter counts at once, others with a
    /// tenth: the shortest of many windows is luck, and a limit by it refuses what could run.
    pub(super) fn shortest(&mut self, seen: Seen, weight: f64) -> f64 {
        let usual = self.rtt.unwrap_or(seen.rtt);
        let weight = if seen.rtt < 0.75 * usual {
            1.0
        } else if seen.rtt < usual {
            weight.max(0.1)
        } else {
            weight
        };
        self.learn(seen, weight)
    }

    /// Gradient2: a long average.
    pub(super) fn averaged(&mut self, seen: Seen, weight: f64) -> f64 {
        let next = self.learn(seen, weight);
        if next <= 2.0 * seen.rtt {
            return next;
        }
        // As published: after a long overload, back faster than the average.
        let next = next * 0.95;
        self.rtt = Some(next);
        next
    }

    fn learn(&mut self, seen: Seen, weight: f64) -> f64 {
        let usual = self.rtt.unwrap_or(seen.rtt);
        let mut next = average(usual, seen.rtt, weight);
        if self.rtt.is_none() || self.unqueued(seen) {
            self.ceiling = self.ceiling.max(next);
        }
        // Bounded by its past, and not one-sided: by falls alone it would sink to the luckiest
        // windows. The bound itself sinks too, more slowly.
        next = next.min(self.ceiling);
        self.ceiling = average(self.ceiling, next, weight.min(0.01) / 10.0);
        if self.fell_in_vain(seen) && seen.rtt > next {
            self.ceiling = seen.rtt;
            next = seen.rtt;
        }
        self.rtt = Some(next);
        next
    }

    fn unqueued(&self, seen: Seen) -> bool {
        !seen.pressed || seen.lowest
    }

    /// Whether the limit fell to half and calls take nearly as long. A queue's time is in
    /// proportion to the limit; less than half of that change counts as none.
    fn fell_in_vain(&mut self, seen: Seen) -> bool {
        let Seen { rtt, limit, .. } = seen;
        if !seen.pressed {
            self.peak = None;
            return false;
        }
        let here = Peak { limit, rtt };
        let Some(peak) = self.peak.filter(|peak| limit < peak.limit) else {
            self.peak = Some(here);
            return false;
        };
        let longest = peak.rtt.max(rtt);
        if limit > peak.limit / 2.0 {
            self.peak = Some(Peak {
                rtt: longest,
                ..peak
            });
            return false;
        }
        self.peak = Some(here);
        rtt > longest * f64::midpoint(1.0, limit / peak.limit)
    }
}

fn average(old: f64, new: f64, weight: f64) -> f64 {
    old + (new - old) * weight
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::*;

    fn seen(rtt: f64, limit: f64) -> Seen {
        Seen {
            rtt,
            limit,
            pressed: true,
            lowest: false,
        }
    }

    #[test]
    fn a_queue_is_never_learned() {
        let mut usual = Usual::default();
        usual.shortest(seen(1.0, 50.0), 0.1);
        for limit in [100.0, 90.0, 70.0, 50.0, 49.0, 30.0, 25.0, 24.0] {
            // The capacity has fallen to a fifth: all of it is queue.
            let rtt = limit / 10.0;
            assert_eq!(usual.shortest(seen(rtt, limit), 0.1), 1.0, "{limit}");
        }
    }

    #[test]
    fn a_time_that_half_the_limit_does_not_shorten_is_learned() {
        let mut usual = Usual::default();
        usual.shortest(seen(1.0, 60.0), 0.1);
        assert_eq!(usual.shortest(seen(3.6, 60.0), 0.1), 1.0);
        assert_eq!(usual.shortest(seen(3.0, 31.0), 0.1), 1.0);
        assert_eq!(usual.shortest(seen(3.0, 30.0), 0.1), 3.0);
    }

    #[test]
    fn what_half_used_limits_show_is_averaged() {
        let mut usual = Usual::default();
        usual.averaged(seen(1.0, 60.0), 0.5);
        assert_eq!(
            usual.averaged(seen(3.0, 60.0), 0.5),
            1.0,
            "a queue, perhaps"
        );
        let idle = Seen {
            pressed: false,
            ..seen(3.0, 60.0)
        };
        assert_eq!(usual.averaged(idle, 0.5), 2.0);
    }

    #[test]
    fn what_the_lowest_limit_shows_is_averaged() {
        let lowest = Seen {
            lowest: true,
            ..seen(3.0, 5.0)
        };
        for learn in [Usual::shortest, Usual::averaged] {
            let mut usual = Usual::default();
            learn(&mut usual, seen(1.0, 5.0), 0.5);
            assert_eq!(learn(&mut usual, lowest, 0.5), 2.0);
        }
    }

    #[test]
    fn a_lucky_window_does_not_last_in_the_average() {
        let mut usual = Usual::default();
        usual.averaged(seen(1.0, 60.0), 0.1);
        let lucky = usual.averaged(seen(0.6, 60.0), 0.1);
        assert!((lucky - 0.96).abs() < 1e-9, "{lucky}");
        let mut now = lucky;
        for _ in 0..100 {
            now = usual.averaged(seen(1.0, 60.0), 0.1);
        }
        assert!((0.98..=1.0).contains(&now), "{now}");
    }
}
