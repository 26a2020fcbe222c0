#![doc = include_str!("../README.md")]

pub mod adaptive;
pub mod balance;
pub mod breaker;
pub mod bulkhead;
pub mod cache;
pub mod chaos;
pub mod clock;
pub mod coalesce;
pub mod deadline;
mod events;
pub mod hedge;
pub mod load_shed;
mod primitive;
mod random;
pub mod rate_limit;
pub mod retry;
pub mod route;
mod settings;
mod shards;
mod stripe;
