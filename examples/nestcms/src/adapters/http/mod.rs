//! The HTTP interface.

mod content;
mod content_request;
mod create_request;
mod dead_letters;
mod detached;
mod drain;
mod fields;
mod layers;
mod payments;
pub mod problem;
mod routes;
pub mod status;
mod tasks;
pub mod webhook;

pub use routes::router;
