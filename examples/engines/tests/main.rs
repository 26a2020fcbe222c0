//! The harness on real engines.

mod common;
mod guard;
mod mariadb;
mod nats;
mod postgres;
mod redis;
mod services;
