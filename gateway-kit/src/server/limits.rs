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
