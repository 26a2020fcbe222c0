//! PostgreSQL nodes, on real servers. A test starts them once, and its scenarios follow one another.

#![cfg(feature = "postgres")]

mod adapter;
mod faults;
mod rig;
mod shop;
