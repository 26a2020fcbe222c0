//! The cache in memory, behind its breaker.
