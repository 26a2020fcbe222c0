//! Counts of what the sandbox was asked and what it sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        /// The counts at one moment.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
        #[non_exhaustive]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            // ORDERING: Relaxed. Independent counts that publish nothing else.
            fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            fn reset(&self) { $(self.$name.store(0, Ordering::Relaxed);)* }
        }
    };
}

counters! {
    /// Calls of `POST /payment/request`, failed and cut ones included.
    payment_request,
    /// Calls of `POST /payment/query`, failed and cut ones included.
    payment_query,
    /// API calls being answered now.
    api_in_flight,
    /// API calls answered by a switch: an error or a cut connection.
    api_faults,
    /// Payment pages shown.
    page_views,
    /// Payments approved by the bank.
    approved,
    /// Payments declined by the bank.
    declined,
    /// Refunds booked.
    refunds,
    /// Callbacks sent, repeats included.
    callbacks_sent,
    /// Callbacks acknowledged with a 2xx status.
    callbacks_acknowledged,
    /// Callbacks answered otherwise or not at all.
    callbacks_refused,
    /// Callbacks given up after the last repeat.
    callbacks_abandoned,
}

/// A cloneable handle to the counts of one sandbox.
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Counters>);

impl Stats {
    /// The counts now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    pub(crate) fn reset(&self) {
        self.0.reset();
    }

    pub(crate) fn add(&self, counter: impl FnOnce(&Counters) -> &AtomicU64) {
        counter(&self.0).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call as in flight until the guard goes.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.add(|c| &c.api_in_flight);
        InFlight(self.clone())
    }
}

/// One API call being answered.
#[derive(Debug)]
pub(crate) struct InFlight(Stats);

impl Drop for InFlight {
    fn drop(&mut self) {
        // Saturating: a reset may have come between.
        let _ = self
            .0
            .0
            .api_in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                Some(n.saturating_sub(1))
            });
    }
}
