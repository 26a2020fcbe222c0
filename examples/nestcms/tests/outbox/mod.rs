//! The outbox: in each store, on its way to the consumers, and what was given up.

mod api;
mod cli;
mod contract;
mod dispatcher;
mod nats;
mod postgres;
