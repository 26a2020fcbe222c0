//! Counts refusals per address, and blocks who collects too many.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use parking_lot::Mutex;

/// Refusals per address. Bounded: when full, the addresses that were quiet longest go.
#[derive(Debug)]
pub struct Rejects {
    addresses: Mutex<HashMap<IpAddr, Address>>,
}

#[derive(Debug, Default)]
struct Address {
    recent: VecDeque<Duration>,
    blocked_until: Option<Duration>,
}

impl Default for Rejects {
    fn default() -> Self {
        Self::new()
    }
}

impl Rejects {
    /// So many refusals within [`Self::WINDOW`] raise the alarm.
    pub const THRESHOLD: usize = 10;
    /// The span in which refusals are counted.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// How long an address is blocked then.
    pub const BLOCK: Duration = Duration::from_secs(300);
    /// Addresses remembered at most.
    const CAPACITY: usize = 10_000;

    /// No refusals yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            addresses: Mutex::default(),
        }
    }

    /// The rest of the address's block, if it is blocked.
    #[must_use]
    pub fn blocked(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let addresses = self.addresses.lock();
        let until = addresses.get(&address)?.blocked_until?;
        until.checked_sub(now).filter(|rest| !rest.is_zero())
    }

    /// Counts one refusal; `true` when it is the one that raises the alarm. The address
    /// is blocked from then on, and its count starts again.
    pub fn record(&self, address: IpAddr, now: Duration) -> bool {
        let mut addresses = self.addresses.lock();
        if addresses.len() >= Self::CAPACITY && !addresses.contains_key(&address) {
            make_room(&mut addresses, now);
        }
        let entry = addresses.entry(address).or_default();
        let oldest = now.saturating_sub(Self::WINDOW);
        entry.recent.retain(|at| *at > oldest);
        entry.recent.push_back(now);
        if entry.recent.len() < Self::THRESHOLD {
            return false;
        }
        entry.recent.clear();
        entry.blocked_until = Some(now.saturating_add(Self::BLOCK));
        true
    }
}

fn make_room(addresses: &mut HashMap<IpAddr, Address>, now: Duration) {
    let oldest = now.saturating_sub(Rejects::WINDOW);
    addresses.retain(|_, a| {
        a.blocked_until.is_some_and(|until| until > now)
            || a.recent.back().is_some_and(|at| *at > oldest)
    });
    if addresses.len() < Rejects::CAPACITY {
        return;
    }
    let quiet = addresses
        .iter()
        .min_by_key(|(_, a)| (a.blocked_until, a.recent.back().copied()))
        .map(|(address, _)| *address);
    if let Some(address) = quiet {
        addresses.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn the_tenth_refusal_within_a_minute_raises_the_alarm_once_and_blocks() {
        let rejects = Rejects::new();
        for second in 0..9 {
            assert!(!rejects.record(IP, at(second)));
        }
        assert_eq!(rejects.blocked(IP, at(9)), None);
        assert!(rejects.record(IP, at(9)));
        assert_eq!(rejects.blocked(IP, at(9)), Some(Rejects::BLOCK));
        assert!(!rejects.record(IP, at(10)));
        assert_eq!(rejects.blocked(IP, at(9 + 300)), None);
    }

    #[test]
    fn refusals_older_than_a_minute_do_not_count() {
        let rejects = Rejects::new();
        for n in 0..100 {
            assert!(!rejects.record(IP, at(n * 7)), "{n}");
        }
    }

    #[test]
    fn memory_stays_bounded_under_many_addresses() {
        let rejects = Rejects::new();
        for n in 0..(u32::try_from(Rejects::CAPACITY).unwrap() + 50) {
            rejects.record(IpAddr::from(n.to_be_bytes()), at(0));
        }
        assert!(rejects.addresses.lock().len() <= Rejects::CAPACITY);
    }
}
