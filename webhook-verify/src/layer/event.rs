//! What the observer of the layer is told.

use std::net::IpAddr;

use crate::{Error, Verified, replay::StoreError};

/// A decision about one delivery.
///
/// No event holds a header's value, a byte of the body or a key. What the sender chose is in
/// it only as what it was read as: an address, a time, and a name for the replay store.
///
/// For metrics: [`name`](Self::name), [`Error::step`](crate::Error::step) and
/// [`Verified::scheme`](crate::Verified::scheme) have few values; addresses and reasons have
/// as many as senders like.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// `webhook.validated`: every step passed; the inner service is called next.
    Validated {
        /// Key id, source, age and more.
        verified: &'a Verified,
    },
    /// `webhook.rejected`: a step failed, or the replay store could not be asked.
    Rejected {
        /// Step, reason and trace.
        error: &'a Error,
        /// The sender's address as far as it is known: what the IP policy found, else the
        /// peer.
        remote_ip: Option<IpAddr>,
    },
    /// `webhook.repeated`: verified, but handled before or being handled now; the inner
    /// service is not called.
    Repeated {
        /// Key id, source, age and more.
        verified: &'a Verified,
        /// [`Reason::Duplicate`](crate::Reason::Duplicate) or
        /// [`Reason::InFlight`](crate::Reason::InFlight).
        error: &'a Error,
    },
    /// `webhook.unguarded`: every step passed, but the replay store is out of order and the
    /// verifier was told to [accept then]: this may be a replay. [`Validated`](Self::Validated)
    /// comes next.
    ///
    /// [accept then]: crate::Builder::insecure_accept_on_replay_outage
    Unguarded {
        /// Key id, source, age and more.
        verified: &'a Verified,
    },
    /// `webhook.not_remembered`: handled with a 2xx answer, but the replay store could not
    /// keep it. After the lease the same delivery would be handled again.
    NotRemembered {
        /// Key id, source, age and more.
        verified: &'a Verified,
        /// What the store said.
        error: StoreError,
    },
}

impl Event<'_> {
    /// The name used in logs and metric labels, such as `webhook.rejected`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Validated { .. } => "webhook.validated",
            Self::Rejected { .. } => "webhook.rejected",
            Self::Repeated { .. } => "webhook.repeated",
            Self::Unguarded { .. } => "webhook.unguarded",
            Self::NotRemembered { .. } => "webhook.not_remembered",
        }
    }
}
