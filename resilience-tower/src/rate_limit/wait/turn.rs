use resilience_core::rate_limit::RateLimiter;

/// A turn that came and is not used yet; dropped like that, it is put back.
#[derive(Debug)]
pub(super) struct Turn {
    limiter: RateLimiter,
    cost: u32,
}

impl Turn {
    pub(super) fn new(limiter: RateLimiter, cost: u32) -> Self {
        Self { limiter, cost }
    }

    /// The call begins: what it cost stays taken.
    pub(super) fn used(mut self) {
        self.cost = 0;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.cost > 0 {
            self.limiter.refund(self.cost);
        }
    }
}
