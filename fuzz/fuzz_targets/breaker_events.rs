//! Any sequence of events: the invariants of half-open and of the counters hold.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resilience_core::{
    breaker::{CircuitBreaker, Config, State},
    clock::ManualClock,
};

fuzz_target!(|data: &[u8]| {
    let clock = ManualClock::new();
    let Ok(config) = Config::builder()
        .count_window(16)
        .minimum_calls(4)
        .consecutive_failures(5)
        .half_open_permits(3)
        .success_threshold(2)
        .build()
    else {
        return;
    };
    let breaker = CircuitBreaker::with_clock("fuzz", config, clock.clone());
    let mut permits = Vec::new();
    for byte in data {
        let which = usize::from(byte >> 3);
        match byte & 7 {
            0..=2 => {
                let open = breaker.state() == State::Open
                    && breaker.snapshot().retry_after > Some(Duration::ZERO);
                let permit = breaker.try_acquire();
                assert!(!(open && permit.is_ok()), "admitted before the deadline");
                permits.extend(permit);
            }
            3 if which < permits.len() => permits.swap_remove(which).success(),
            4 if which < permits.len() => permits.swap_remove(which).failure(),
            5 if which < permits.len() => drop(permits.swap_remove(which)),
            6 => clock.advance(Duration::from_secs(u64::from(byte >> 3))),
            7 => clock.set(Duration::from_secs(u64::from(byte >> 3) * 10)),
            _ => {}
        }
        let snapshot = breaker.snapshot();
        assert!(
            snapshot.permits_out <= 3
                && snapshot.failures <= snapshot.calls
                && snapshot.calls <= 16
        );
    }
});
