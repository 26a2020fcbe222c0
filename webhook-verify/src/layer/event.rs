//! What the observer of the layer is told.

use std::net::IpAddr;

use crate::{Error, Verified};

/// A decision about one delivery.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// `WebhookValidated`: every step passed; the inner service is called next.
    Validated {
        /// Key id, source, age and more.
        verified: &'a Verified,
    },
    /// `WebhookRejected`: a step failed.
    Rejected {
        /// Step, reason and trace.
        error: &'a Error,
        /// The sender's address as far as it is known: what the IP policy found, else the
        /// peer.
        remote_ip: Option<IpAddr>,
    },
    /// Verified, but handled before or being handled now; the inner service is not called.
    Repeated {
        /// Key id, source, age and more.
        verified: &'a Verified,
        /// [`Reason::Duplicate`](crate::Reason::Duplicate) or
        /// [`Reason::InFlight`](crate::Reason::InFlight).
        error: &'a Error,
    },
}
