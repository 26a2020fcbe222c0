//! A token bucket filled by hand: the plainest code that could be right.
//!
//! Included by the fuzz targets that compare a limiter with it.

/// The rate and the burst of a quota.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Nanoseconds in which one permit comes back.
    pub interval: u64,
    /// The most at once.
    pub burst: u32,
}

impl Rate {
    /// Nanoseconds in which an empty bucket fills.
    pub fn fill(self) -> u128 {
        u128::from(self.interval) * u128::from(self.burst)
    }
}

/// What a call is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// `Err` holds the wait in nanoseconds; `Err(None)` is never.
    pub answer: Result<(), Option<u128>>,
    /// What would be admitted at once after it.
    pub remaining: u32,
    /// Nanoseconds until the whole burst is back.
    pub reset_after: u128,
}

/// What was missing from a bucket, in nanoseconds of filling, when it was last touched.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    missing: u128,
    touched: u128,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            missing: 0,
            touched: 0,
        }
    }

    /// The quota in force.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// What is missing at `now`. A clock that has stepped back has to make up for that first.
    pub fn missing(&self, now: u128) -> u128 {
        if now < self.touched {
            self.missing + (self.touched - now)
        } else {
            self.missing.saturating_sub(now - self.touched)
        }
    }

    /// What a call of cost `n` would be told, with nothing taken.
    pub fn peek(&self, n: u32, now: u128) -> Told {
        let mut copy = *self;
        copy.take(n, now)
    }

    /// Takes `n` if they are there.
    pub fn take(&mut self, n: u32, now: u128) -> Told {
        let missing = self.missing(now) + u128::from(self.rate.interval) * u128::from(n);
        let answer = if n == 0 {
            Ok(())
        } else if n > self.rate.burst {
            Err(None)
        } else if missing > self.rate.fill() {
            Err(Some(missing - self.rate.fill()))
        } else {
            (self.missing, self.touched) = (missing, now);
            Ok(())
        };
        let reset_after = self.missing(now);
        let left = self.rate.fill().saturating_sub(reset_after) / u128::from(self.rate.interval);
        Told {
            answer,
            remaining: u32::try_from(left).expect("at most the burst"),
            reset_after,
        }
    }

    /// Gives `n` back; a bucket is never more than full.
    pub fn refund(&mut self, n: u32, now: u128) {
        let missing = self.missing(now);
        if missing > 0 {
            let back = u128::from(self.rate.interval) * u128::from(n);
            (self.missing, self.touched) = (missing.saturating_sub(back), now);
        }
    }

    /// So much is missing.
    pub fn adopt(&mut self, missing: u128, now: u128) {
        (self.missing, self.touched) = (missing, now);
    }

    /// Empties it.
    pub fn exhaust(&mut self, now: u128) {
        (self.missing, self.touched) = (self.rate.fill().max(self.missing(now)), now);
    }

    /// Changes the quota: the share that is missing stays, rounded up. What is missing beyond the
    /// whole bucket (the clock has stepped back) stays as it is.
    pub fn set_rate(&mut self, rate: Rate, now: u128) {
        if rate == self.rate {
            return;
        }
        let missing = self.missing(now);
        let from = self.rate.fill();
        if missing > 0 {
            let share = (missing.min(from) * rate.fill()).div_ceil(from);
            (self.missing, self.touched) = (share + missing.saturating_sub(from), now);
        } else {
            // A bucket at rest is at rest since a nanosecond later, which shows only if the clock
            // steps back behind it.
            let full_at = self.touched + self.missing;
            (self.missing, self.touched) = (0, (full_at + 1).min(now));
        }
        self.rate = rate;
    }
}

/// What was admitted less what was refunded, as shares of the burst in force, against what any span
/// may admit: 1 plus the time over the fill time. Knows nothing of words, waits and rounding.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    /// The largest excess of all spans that end now (Lindley's recursion): what was admitted in
    /// the span, less what the time in it gives.
    excess: f64,
    fill: f64,
}

impl Ledger {
    /// Nothing is admitted yet.
    pub fn new(rate: Rate) -> Self {
        Self {
            excess: 0.0,
            fill: rate.fill() as f64,
        }
    }

    /// Time moved forward by nanoseconds; a step back is not time.
    pub fn advance(&mut self, by: u64) {
        self.excess = (self.excess - by as f64 / self.fill).max(0.0);
    }

    /// The quota changed.
    pub fn set_rate(&mut self, rate: Rate) {
        self.fill = rate.fill() as f64;
    }

    /// This share of the burst was admitted; whether all spans that end now keep to the bound.
    ///
    /// A keyed limiter may lose 1 in 16 384 of a burst with each of `changes` of the quota.
    #[must_use]
    pub fn admitted(&mut self, share: f64, changes: u32) -> bool {
        self.excess += share;
        self.excess <= 1.0 + 1e-6 + f64::from(changes) / 16_384.0
    }

    /// This share of the burst came back.
    pub fn refunded(&mut self, share: f64) {
        self.excess = (self.excess - share).max(0.0);
    }
}
