//! Who may send requests at all.

use std::net::IpAddr;

use http::StatusCode;

use crate::config::{IpFilterConfig, Network};
use crate::problem::Problem;

/// Networks that are let in, and networks that are not.
#[derive(Debug)]
pub(crate) struct IpFilter {
    /// Empty: all.
    allow: Vec<Network>,
    deny: Vec<Network>,
}

impl IpFilter {
    pub(crate) fn new(config: &IpFilterConfig) -> Self {
        Self {
            allow: config.allow.clone(),
            deny: config.deny.clone(),
        }
    }

    /// 403 for those that are not let in; who is in both lists is not.
    pub(crate) fn check(&self, client: IpAddr) -> Result<(), Problem> {
        let is_in = |networks: &[Network]| networks.iter().any(|one| one.contains(client));
        if is_in(&self.deny) || !(self.allow.is_empty() || is_in(&self.allow)) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "address_refused",
                "Forbidden",
                "requests from this address are not taken",
            ));
        }
        Ok(())
    }
}
