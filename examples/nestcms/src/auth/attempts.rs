//! Counts failed logins per account and per address.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use parking_lot::Mutex;

/// Whom a failure is counted for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Key {
    Account(String),
    /// For IPv6 the /64 network: one client has a whole one to itself.
    Address(IpAddr),
}

/// A sliding window of failures for each account and address.
#[derive(Debug)]
pub(super) struct Attempts {
    max: usize,
    window: Duration,
    failures: Mutex<HashMap<Key, VecDeque<Duration>>>,
}

/// More keys than this, and the one that failed longest ago is forgotten. Each key costs
/// the attacker a password hash of ours and, per address, one of few attempts.
const MAX_KEYS: usize = 20_000;

impl Attempts {
    pub(super) fn new(max: u32, window: Duration) -> Self {
        Self {
            max: max.max(1) as usize,
            window,
            failures: Mutex::default(),
        }
    }

    /// Counts one attempt as failed before its outcome is known, so that attempts in
    /// parallel cannot pass the limit together.
    ///
    /// # Errors
    ///
    /// The time until the next attempt is allowed.
    pub(super) fn begin(
        &self,
        account: &str,
        address: Option<IpAddr>,
        now: Duration,
    ) -> Result<(), Duration> {
        let mut failures = self.failures.lock();
        let keys = keys(account, address);
        for key in &keys {
            let Some(times) = failures.get_mut(key) else {
                continue;
            };
            // A clock that went back must not lock anybody out for long.
            times.retain(|at| *at <= now && now - *at < self.window);
            if times.len() >= self.max
                && let Some(oldest) = times.front()
            {
                return Err(self.window - (now - *oldest));
            }
        }
        for key in keys {
            if failures.len() >= MAX_KEYS && !failures.contains_key(&key) {
                self.make_room(&mut failures, now);
            }
            failures.entry(key).or_default().push_back(now);
        }
        Ok(())
    }

    /// Takes back what [`begin`](Self::begin) counted at `at`, and forgives the account.
    pub(super) fn succeeded(&self, account: &str, address: Option<IpAddr>, at: Duration) {
        let mut failures = self.failures.lock();
        for key in keys(account, address) {
            match (&key, failures.get_mut(&key)) {
                (Key::Address(_), Some(times)) if times.len() > 1 => {
                    if let Some(index) = times.iter().position(|time| *time == at) {
                        times.remove(index);
                    }
                }
                _ => {
                    failures.remove(&key);
                }
            }
        }
    }

    /// Takes back what [`begin`](Self::begin) counted at `at`: the attempt had no outcome.
    pub(super) fn abandoned(&self, account: &str, address: Option<IpAddr>, at: Duration) {
        let mut failures = self.failures.lock();
        for key in keys(account, address) {
            if let Some(times) = failures.get_mut(&key) {
                if let Some(index) = times.iter().position(|time| *time == at) {
                    times.remove(index);
                }
                if times.is_empty() {
                    failures.remove(&key);
                }
            }
        }
    }

    fn make_room(&self, failures: &mut HashMap<Key, VecDeque<Duration>>, now: Duration) {
        failures.retain(|_, times| {
            times
                .back()
                .is_some_and(|last| now.saturating_sub(*last) < self.window)
        });
        if failures.len() >= MAX_KEYS {
            let oldest = failures
                .iter()
                .min_by_key(|(_, times)| times.back().copied())
                .map(|(key, _)| key.clone());
            if let Some(key) = oldest {
                failures.remove(&key);
            }
        }
    }
}

fn keys(account: &str, address: Option<IpAddr>) -> Vec<Key> {
    let mut keys = vec![Key::Account(account.to_owned())];
    keys.extend(address.map(|ip| Key::Address(network(ip))));
    keys
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_account_is_free_again_when_the_oldest_failure_leaves_the_window() {
        let attempts = Attempts::new(2, 15 * MINUTE);
        assert_eq!(attempts.begin("a", None, MINUTE), Ok(()));
        assert_eq!(attempts.begin("a", None, 2 * MINUTE), Ok(()));
        assert_eq!(attempts.begin("a", None, 3 * MINUTE), Err(13 * MINUTE));
        assert_eq!(attempts.begin("b", None, 3 * MINUTE), Ok(()));
        assert_eq!(attempts.begin("a", None, 16 * MINUTE), Ok(()));
    }

    #[test]
    fn a_success_forgives_the_account_but_not_the_address() {
        let attempts = Attempts::new(2, 15 * MINUTE);
        let ip = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(attempts.begin("victim", ip, MINUTE), Ok(()));
        assert_eq!(attempts.begin("own", ip, 2 * MINUTE), Ok(()));
        attempts.succeeded("own", ip, 2 * MINUTE);
        assert_eq!(attempts.begin("victim", ip, 3 * MINUTE), Ok(()));
        assert!(attempts.begin("other", ip, 3 * MINUTE).is_err());
    }

    #[test]
    fn addresses_of_one_v6_network_count_together() {
        let attempts = Attempts::new(1, MINUTE);
        let ip = |text: &str| Some(text.parse().expect("an address"));
        assert!(attempts.begin("a", ip("2001:db8::1"), MINUTE).is_ok());
        assert!(attempts.begin("b", ip("2001:db8::2"), MINUTE).is_err());
        assert!(attempts.begin("c", ip("2001:db8:0:1::2"), MINUTE).is_ok());
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let attempts = Attempts::new(5, 15 * MINUTE);
        for n in 0..MAX_KEYS + 10 {
            assert!(attempts.begin(&format!("user-{n}"), None, MINUTE).is_ok());
        }
        assert!(attempts.failures.lock().len() <= MAX_KEYS);
    }
}
