//! The caches, in memory and in Redis, and the breaker before them.

mod guarded;
mod memory;
mod redis;

pub use guarded::GuardedCache;
pub use memory::MemoryCache;
pub use redis::RedisCache;
