//! Who calls.

use std::time::Duration;

use super::random::{Stream, Times, nanos};

/// A call as the client makes it; what a stack under test gets.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The number of the call, from 0 on; attempts of the client's own have the same.
    pub call: u64,
    /// What is asked for; see [`Clients::keys`].
    pub key: u64,
    /// From 0 on; 0 for [open](Clients::open) arrivals.
    pub user: u64,
    /// Of which class it is, by its name; empty without [`Clients::classes`].
    pub class: &'static str,
}

/// A model of the clients.
///
/// Default of both kinds: they wait for ever, and try once; one key, and no classes.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Clients {
    pub(super) arrivals: Arrivals,
    pub(super) timeout: Option<Duration>,
    pub(super) attempts: u32,
    pub(super) wait: Duration,
    keys: Keys,
    /// With sums of the shares.
    classes: Vec<(&'static str, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arrivals {
    /// From when on how many per second, earliest first.
    Open(Vec<(u64, f64)>),
    Closed {
        users: u64,
        think: Times,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Keys {
    Even(u64),
    /// Sums of the weights.
    Zipf(Vec<f64>),
}

impl Clients {
    /// Calls that come whatever becomes of those before them, at random (Poisson), so many per
    /// second on average: the public, or callers with a queue of their own.
    ///
    /// # Panics
    ///
    /// When the rate is not above 0.
    pub fn open(per_second: f64) -> Self {
        Self::new(Arrivals::Open(Vec::new())).rate_from(Duration::ZERO, per_second)
    }

    /// So many users, each of whom thinks for a while after an answer, good or bad, and then makes
    /// the next call. They begin one after the other, spread over one time of thinking.
    ///
    /// # Panics
    ///
    /// Without users.
    pub fn closed(users: u64, think: Times) -> Self {
        assert!(users > 0, "somebody calls");
        Self::new(Arrivals::Closed { users, think })
    }

    const fn new(arrivals: Arrivals) -> Self {
        Self {
            arrivals,
            timeout: None,
            attempts: 1,
            wait: Duration::ZERO,
            keys: Keys::Even(1),
            classes: Vec::new(),
        }
    }

    /// From `time` on the calls come at another rate. Says nothing to closed clients.
    ///
    /// # Panics
    ///
    /// When the rate is not above 0, or `time` is before that of an earlier change.
    pub fn rate_from(mut self, time: Duration, per_second: f64) -> Self {
        assert!(per_second > 0.0, "a rate is above 0");
        if let Arrivals::Open(rates) = &mut self.arrivals {
            let time = nanos(time);
            assert!(
                rates.last().is_none_or(|(last, _)| *last <= time),
                "the changes are told in their order"
            );
            rates.push((time, per_second));
        }
        self
    }

    /// How long a client waits for an attempt; then it drops the call (`client_timeout` in
    /// reports).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How often the client itself tries, the first time included, and how long it waits before
    /// each further try: what callers do who have no policy. 0 is 1.
    pub const fn attempts(mut self, attempts: u32, wait: Duration) -> Self {
        self.attempts = attempts;
        self.wait = wait;
        self
    }

    /// The calls ask for so many things, each as often as the others.
    ///
    /// # Panics
    ///
    /// With 0.
    pub fn keys(mut self, keys: u64) -> Self {
        assert!(keys > 0, "a call asks for something");
        self.keys = Keys::Even(keys);
        self
    }

    /// The calls ask for so many things, the second half as often as the first, the third a third as
    /// often, and so on (Zipf's law).
    ///
    /// # Panics
    ///
    /// With 0.
    pub fn zipf_keys(mut self, keys: u32) -> Self {
        assert!(keys > 0, "a call asks for something");
        let sums = (1..=keys).scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        });
        self.keys = Keys::Zipf(sums.collect());
        self
    }

    /// The calls are of several classes: of the sum of all shares each has its own. Reports tell
    /// them apart ([`Bucket::classes`](super::Bucket::classes)).
    ///
    /// # Panics
    ///
    /// When a share is not above 0.
    pub fn classes(mut self, shares: &[(&'static str, f64)]) -> Self {
        let sums = shares.iter().scan(0.0, |sum, (class, share)| {
            assert!(*share > 0.0, "a class has a share of the calls");
            *sum += share;
            Some((*class, *sum))
        });
        self.classes = sums.collect();
        self
    }

    /// Of which class the next call is. Nothing is drawn where there are none.
    pub(super) fn class(&self, random: &mut Stream) -> &'static str {
        let Some((last, sum)) = self.classes.last() else {
            return "";
        };
        let part = random.unit() * sum;
        let drawn = self.classes.iter().find(|(_, sum)| part < *sum);
        drawn.map_or(last, |(class, _)| class)
    }

    /// What the next call asks for.
    pub(super) fn key(&self, random: &mut Stream) -> u64 {
        match &self.keys {
            Keys::Even(keys) => random.below(*keys),
            Keys::Zipf(sums) => {
                let part = random.unit() * sums.last().copied().unwrap_or(0.0);
                sums.partition_point(|sum| *sum <= part) as u64
            }
        }
    }
}

impl Arrivals {
    /// When the call after the one at `time` comes.
    pub(super) fn next(rates: &[(u64, f64)], time: u64, random: &mut Stream) -> u64 {
        // In calls at one per second; the rates that hold on the way use it up.
        let mut left = random.exponential();
        let mut time = time;
        let mut at = rates.partition_point(|(from, _)| *from <= time).max(1) - 1;
        loop {
            let rate = rates[at].1;
            let next = time.saturating_add((left * 1e9 / rate) as u64);
            match rates.get(at + 1) {
                Some((from, _)) if *from < next => {
                    left -= (from - time) as f64 * rate / 1e9;
                    time = *from;
                    at += 1;
                }
                _ => return next,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_follow_a_change_of_rate() {
        let clients = Clients::open(100.0).rate_from(Duration::from_secs(100), 1_000.0);
        let Arrivals::Open(rates) = &clients.arrivals else {
            panic!("open")
        };
        let (mut random, mut time) = (Stream::new(1, 0), 0);
        let (mut before, mut after) = (0, 0);
        while time < 200_000_000_000 {
            time = Arrivals::next(rates, time, &mut random);
            if time < 100_000_000_000 {
                before += 1;
            } else {
                after += 1;
            }
        }
        assert!((9_700..10_300).contains(&before), "{before}");
        assert!((99_000..101_000).contains(&after), "{after}");
    }

    #[test]
    fn keys_are_as_frequent_as_they_should_be() {
        let mut random = Stream::new(1, 0);
        let count = |clients: &Clients, random: &mut Stream| {
            let mut seen = [0; 4];
            for _ in 0..25_000 {
                seen[clients.key(random) as usize] += 1;
            }
            seen
        };
        let even = count(&Clients::open(1.0).keys(4), &mut random);
        assert!(even.iter().all(|n| (6_000..6_500).contains(n)), "{even:?}");
        // 12 : 6 : 4 : 3
        let zipf = count(&Clients::open(1.0).zipf_keys(4), &mut random);
        let ideal = [12_000, 6_000, 4_000, 3_000];
        let close = |(seen, ideal): (&i32, i32)| (seen - ideal).abs() < 300;
        assert!(zipf.iter().zip(ideal).all(close), "{zipf:?}");
    }
}
