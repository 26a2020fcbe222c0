//! A line to wait in, on a clock that is moved by hand, and what its tests ask of it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use resilience_core::{
    clock::ManualClock,
    rate_limit::{wait::*, *},
};

/// One permit per second.
pub fn queue(burst: u32, max: usize) -> (WaitQueue, ManualClock) {
    let clock = ManualClock::new();
    let quota = Quota::per_second(1).unwrap().burst(burst).unwrap();
    let limiter = RateLimiter::with_clock(quota, clock.clone());
    (limiter.wait_queue(max), clock)
}

/// Counts how often it was woken.
#[derive(Default)]
pub struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (Arc::clone(&woken), Waker::from(woken))
}

impl Woken {
    pub fn times(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn poll(waiter: &mut Waiter) -> Turn {
    waiter.poll(Waker::noop())
}

pub fn is_admitted(waiter: &mut Waiter) -> bool {
    matches!(poll(waiter), Turn::Admitted(_))
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn wait(seconds: u64) -> Turn {
    Turn::Wait(Duration::from_secs(seconds))
}
