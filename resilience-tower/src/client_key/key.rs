use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whom a request is counted for: an address cut to a prefix, or one key for all requests
/// without an address. At most 20 bytes, `Copy`, no heap.
///
/// It is shown as the first address of its range: `192.0.2.1`, `2001:db8:1:2::`, or `shared`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientKey(Repr);

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Repr {
    Net(IpAddr),
    Shared,
}

impl ClientKey {
    /// The key of all requests without a peer address.
    pub const SHARED: Self = Self(Repr::Shared);

    /// `address` (canonical) with all bits behind the prefix of its family cleared.
    pub(super) fn of(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> Self {
        Self(Repr::Net(match address {
            IpAddr::V4(v4) => {
                let cleared = u32::from(ipv4_prefix.min(32));
                // A shift by all bits is none at all to the processor, so it is checked.
                let mask = u32::MAX.checked_shl(32 - cleared).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let cleared = u32::from(ipv6_prefix.min(128));
                let mask = u128::MAX.checked_shl(128 - cleared).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }))
    }

    /// The first address of the range; `None` for the shared key.
    pub fn network(&self) -> Option<IpAddr> {
        match self.0 {
            Repr::Net(address) => Some(address),
            Repr::Shared => None,
        }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Repr::Net(address) => address.fmt(f),
            Repr::Shared => f.pad("shared"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str, ipv4: u8, ipv6: u8) -> String {
        ClientKey::of(address.parse().unwrap(), ipv4, ipv6).to_string()
    }

    #[test]
    fn bits_behind_the_prefix_are_cleared() {
        assert_eq!(key("192.0.2.129", 32, 64), "192.0.2.129");
        assert_eq!(key("192.0.2.129", 25, 64), "192.0.2.128");
        assert_eq!(key("192.0.2.129", 1, 64), "128.0.0.0");
        assert_eq!(key("2001:db8:1:2:3:4:5:6", 32, 64), "2001:db8:1:2::");
        assert_eq!(key("2001:db8:1:2ff::1", 32, 56), "2001:db8:1:200::");
        assert_eq!(key("2001:db8::1", 32, 128), "2001:db8::1");
    }
}
