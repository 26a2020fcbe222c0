//! The proof that a delivery passed.

use std::{net::IpAddr, sync::Arc};

use crate::{error::Trace, replay::ReplayKey};

/// A delivery that passed every step; handlers should require it.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(super) key_id: Arc<str>,
    pub(super) scheme: &'static str,
    pub(super) source: Option<IpAddr>,
    pub(super) timestamp: Option<u64>,
    pub(super) age: Option<i64>,
    pub(super) replay_key: ReplayKey,
    pub(super) trace: Trace,
}

impl Verified {
    /// The id of the secret that signed.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The name of the scheme.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The address of the sender: what the IP policy found, else the peer.
    #[must_use]
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The signed timestamp in Unix seconds, rounded down, if the scheme has one.
    #[must_use]
    pub const fn timestamp(&self) -> Option<u64> {
        self.timestamp
    }

    /// Seconds since the timestamp; negative when it lies in the future.
    #[must_use]
    pub const fn age_seconds(&self) -> Option<i64> {
        self.age
    }

    /// What names this delivery in a replay store; see
    /// [`ReplayBasis`](crate::ReplayBasis).
    #[must_use]
    pub const fn replay_key(&self) -> &ReplayKey {
        &self.replay_key
    }

    /// The steps that ran.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }
}
