//! A stand-in for the PayTabs payment API (PT2), for development and tests.
//!
//! It is a real HTTP server: it takes payment requests, shows a hosted payment page,
//! plays the bank, posts signed callbacks, sends the browser back to the shop, and
//! answers verification queries. No card number is asked for or stored.
//! [`Switches`] make it slow, failing, absent, lying or forgetful while it runs.
//!
//! It knows none of the libraries it is used to test: it signs by itself, so that a bug
//! shared by a signer and its verifier cannot hide.
//!
//! ```
//! use paytabs_sandbox::{Sandbox, SandboxConfig};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let sandbox = Sandbox::bind(SandboxConfig::default()).await?;
//! println!("PayTabs is played at {}", sandbox.url());
//! sandbox.switches().update(|switches| switches.outage = true);
//! sandbox.serve(async {}).await?; // until the future given resolves
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod api;
mod callback;
mod clock;
mod config;
mod control;
mod cut;
mod error;
mod faults;
mod fields;
mod ledger;
mod money;
mod page;
mod server;
mod signature;
mod stats;
mod switches;

pub use clock::Clock;
pub use config::{ConfigError, RetryPolicy, SandboxConfig};
pub use server::{Error, Sandbox};
pub use signature::{hex_hmac_sha256, return_signature};
pub use stats::{Snapshot as StatsSnapshot, Stats};
pub use switches::{CallbackScheme, SwitchSet, Switches};
