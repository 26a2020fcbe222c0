//! The harness on real engines.

mod common;
mod guard;
mod postgres;
mod redis;
