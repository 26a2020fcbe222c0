//! PayTabs over HTTP: the timeout inside, the breaker around it.

mod client;
mod wire;

pub use client::{PaytabsClient, PaytabsError};
pub use wire::Callback;
