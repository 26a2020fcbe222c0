//! What stands behind the ports, and in front of the services.

pub mod breakers;
pub mod cache;
pub mod http;
pub mod nats;
pub mod paytabs;
pub mod postgres;
pub mod slow;
pub mod sqlite;
mod tables;
