//! Settings from any JSON: an error or a breaker that works, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resilience_core::{
    breaker::{CircuitBreaker, Config},
    rate_limit::{Quota, RateLimiter},
};

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = serde_json::from_slice::<Config>(data)
        && config.count_window() <= 100_000
    {
        let breaker = CircuitBreaker::with_config("fuzz", config);
        while breaker.try_acquire().is_ok_and(|permit| {
            permit.failure();
            breaker.snapshot().failures < 1000
        }) {}
    }
    if let Ok(quota) = serde_json::from_slice::<Quota>(data) {
        let _ = RateLimiter::new(quota).try_acquire();
    }
});
