//! The application services around a payment.
//!
//! `create` → `initiate` → `callback` (verify, settle) is the life of a payment;
//! `jobs` finishes what a request could not. All of them see the world through ports.

mod callback;
mod create;
mod error;
mod initiate;
mod jobs;
mod service;
mod settle;
mod view;

pub use callback::{CallbackOutcome, Delivery};
pub use create::NewPayment;
pub use error::Error;
pub use service::{PaymentService, Ports, Rules};
pub use view::PaymentView;
