//! Tests that are small enough for Miri, which takes minutes to begin a program as large as `main`.

mod breaker_call;
mod bulkhead;
mod check_all;
mod races;
