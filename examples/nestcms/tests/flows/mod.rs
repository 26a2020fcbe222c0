//! The payment flows over real HTTP: application and PayTabs sandbox on loopback, time
//! under the test's control.

mod callback;
mod create;
mod expiry;
mod outage;
mod security;
pub(crate) mod store;
pub(crate) mod support;
