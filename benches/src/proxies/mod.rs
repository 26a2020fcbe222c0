//! The gateway beside other proxies, as programs: CPU time per request, latency, memory.
//!
//! All share one upstream and one load generator. The proxy has the first core to itself, the
//! upstream and the load the second. Proxies take turns, and only ratios within a turn are kept.

mod client;
mod process;
mod programs;
mod table;

pub use self::{
    client::latency,
    process::{Running, cpu_seconds, resident},
    programs::{LOAD_CORE, Programs, Proxy, Setup, listen, upstream},
    table::{Figures, Row, table},
};

/// The line before the table.
pub const BEGIN: &str = "<!-- bench-gateway: begin, written by `make bench-gateway` -->";
/// The line after the table.
pub const END: &str = "<!-- bench-gateway: end -->";
