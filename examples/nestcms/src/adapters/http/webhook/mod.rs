//! The webhook endpoint and the checks in front of it.
//!
//! `guard` builds one verifier per scheme and picks it by the signature header;
//! `rejects` counts refusals per address; `handler` reads the body under the verifier's
//! limit and hands the payment service what passed.

mod guard;
mod handler;
mod rejects;

pub use guard::{GuardError, WebhookGuard};
pub(super) use handler::{Context, receive};
pub use rejects::Rejects;
