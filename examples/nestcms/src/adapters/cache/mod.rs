//! The cache in memory, behind its breaker.

mod guarded;
mod memory;

pub use guarded::GuardedCache;
pub use memory::MemoryCache;
