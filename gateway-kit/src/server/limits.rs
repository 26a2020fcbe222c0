//! How many connections may be open, in all and per client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

/// Connections per client address; IPv6 addresses count by their /64.
#[derive(Debug, Default)]
pub(crate) struct PerClient {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _process: OwnedSemaphorePermit,
    client: Option<(Arc<PerClient>, IpAddr)>,
}

impl Slot {
    /// `None` when `client` has `most` connections open already.
    pub(super) fn take(
        process: OwnedSemaphorePermit,
        clients: &Arc<PerClient>,
        client: IpAddr,
        most: Option<usize>,
    ) -> Option<Self> {
        let Some(most) = most else {
            return Some(Self {
                _process: process,
                client: None,
            });
        };
        let key = key(client);
        let mut open = clients.open.lock();
        let count = open.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self {
            _process: process,
            client: Some((Arc::clone(clients), key)),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((clients, key)) = &self.client else {
            return;
        };
        let mut open = clients.open.lock();
        if let Some(count) = open.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                open.remove(key);
            }
        }
    }
}

/// A subscriber has a whole /64.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_subscriber_has_one_count() {
        let places = Arc::new(Semaphore::new(100));
        let clients = Arc::<PerClient>::default();
        let take = |client: &str| {
            let place = Arc::clone(&places).try_acquire_owned().unwrap();
            Slot::take(place, &clients, client.parse().unwrap(), Some(2))
        };
        for (first, second, same, other) in [
            (
                "2001:db8::1",
                "2001:db8:0:0:ffff::",
                "2001:db8::2",
                "2001:db8:0:1::1",
            ),
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ] {
            let held = [take(first), take(second)];
            assert!(held.iter().all(Option::is_some));
            assert!(take(same).is_none());
            assert!(take(other).is_some());
            drop(held);
            // Nothing is remembered of those who left.
            assert!(clients.open.lock().is_empty());
            assert!(take(same).is_some());
        }
        assert_eq!(places.available_permits(), 100);
    }
}
