//! What the business rules are made of: values and state machines, no I/O.

pub mod content;
pub mod event;
pub mod money;
pub mod payment;
pub mod task;
