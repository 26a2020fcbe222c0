#![doc = include_str!("../README.md")]

pub mod breaker;
pub mod clock;
mod primitive;
pub mod rate_limit;
mod stripe;
