//! Shared parts of the benchmarks.
//!
//! A bench is named `policy/scenario/what/parameter`; the parameter is the number of threads,
//! unless the group says otherwise. Each group holds its own floor or a peer, measured in the
//! same rounds, because only ratios travel from one machine to another.

mod contest;
pub mod keys;
pub mod machine;
pub mod peers;
pub mod program;
pub mod proxies;
pub mod ratios;
pub mod results;
pub mod service;
pub mod stopwatch;
pub mod threads;

pub use contest::{Contest, ROUNDS, THREADS, criterion};
