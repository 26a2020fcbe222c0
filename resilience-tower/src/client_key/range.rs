use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::ClientKeyError;

/// An address or a CIDR range, in canonical form.
pub(super) fn parse(field: &'static str, text: &str) -> Result<IpNet, ClientKeyError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let range: IpNet = text
        .parse()
        .map_err(|_| ClientKeyError::new(field, text, "IP addresses and CIDR ranges"))?;
    let network = range.trunc();
    if network != range {
        // Which range was meant is a guess, and a wrong one trusts strangers.
        let allowed = format!("ranges without host bits, as {network}");
        return Err(ClientKeyError::new(field, text, allowed));
    }
    Ok(canonical(range))
}

/// A range of mapped addresses becomes the IPv4 range, as the addresses do.
fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(v6) = range else {
        return range;
    };
    let Some(bits) = v6.prefix_len().checked_sub(96) else {
        return range;
    };
    let v4 = v6.addr().to_ipv4_mapped();
    v4.and_then(|v4| Ipv4Net::new(v4, bits).ok())
        .map_or(range, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_with_host_bits_are_refused_with_the_range_meant() {
        let error = parse("trusted_proxies", "10.0.0.1/8").unwrap_err();
        assert_eq!(
            error.to_string(),
            "trusted_proxies is 10.0.0.1/8, allowed: ranges without host bits, as 10.0.0.0/8"
        );
        for text in ["", "x", "300.0.0.1", "10.0.0.0/33", "10.0.0.0/8 ", "::/129"] {
            assert!(parse("trusted_proxies", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn mapped_ranges_are_ipv4_ranges() {
        for (text, range) in [
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(parse("trusted_proxies", text).unwrap().to_string(), range);
        }
    }
}
