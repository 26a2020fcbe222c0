//! The latency of an endpoint as one word: quick to rise, slow to fall.

use crate::primitive::{AtomicU64, Ordering};

/// `[time of the last sample: 32 | latency in ns as f32: 32]`; 0 while nothing was measured.
///
/// The time is in units of 2^20 ns (1.05 ms) and wraps after 52 days. Whoever was not asked for
/// more than half of that keeps its last latency until the half is over: it is forgotten later.
#[derive(Debug)]
pub(super) struct Latency(AtomicU64);

/// Time in the unit of the word.
const UNIT: u32 = 20;

/// The least share of an estimate that a shorter sample replaces; 16 steps of a single-precision
/// number near 1. Of samples that come faster than that, most change nothing, not even the time.
/// Else each would move the time on and the estimate by less than it can tell: under many calls
/// and a long decay it would never fall.
const LEAST: f32 = 1e-6;

impl Latency {
    pub(super) fn unmeasured() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The latency at `now`, in ns, less by the time since the last sample if it `fades`; `None`
    /// while nothing was measured.
    #[inline]
    pub(super) fn at(&self, now: u64, decay: f32, fades: bool) -> Option<f32> {
        // ORDERING: Relaxed here and below. The word is the whole estimate and publishes nothing.
        let word = self.0.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        let (stamp, latency) = unpack(word);
        Some(match fades {
            true => latency * fade(stamp, ticks(now), decay),
            false => latency,
        })
    }

    pub(super) fn is_unmeasured(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// A call took `sample` ns, or `at_least` so: then it can only raise the estimate.
    #[inline]
    pub(super) fn observe(&self, sample: f32, at_least: bool, now: u64, decay: f32) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let next = observed(word, sample, at_least, ticks(now), decay);
            if next == word {
                return;
            }
            let swap =
                self.0
                    .compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed);
            match swap {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }
}

/// The word after a sample: the sample if it is longer than the estimate, else a mean of the two by
/// how long ago the last sample was.
fn observed(word: u64, sample: f32, at_least: bool, now: u32, decay: f32) -> u64 {
    let (stamp, latency) = unpack(word);
    let left = fade(stamp, now, decay);
    // Less than 1 ns would be read as not measured.
    let sample = sample.max(1.0);
    if at_least {
        let raises = sample > latency * left;
        return if raises { pack(now, sample) } else { word };
    }
    if sample >= latency {
        return pack(now, sample);
    }
    if 1.0 - left < LEAST {
        return word;
    }
    pack(now, latency * left + sample * (1.0 - left))
}

/// The share of an estimate of `stamp` that is left at `now`: e^(-elapsed / decay).
#[inline]
fn fade(stamp: u32, now: u32, decay: f32) -> f32 {
    // As a signed number: a stamp of another thread may be a little later than this call's now.
    let elapsed = now.wrapping_sub(stamp) as i32;
    if elapsed <= 0 {
        return 1.0;
    }
    (-(elapsed as f32) / decay).exp()
}

/// `decay` in the unit of [`Latency`].
pub(super) fn decay(nanos: u64) -> f32 {
    nanos as f32 / (1_u64 << UNIT) as f32
}

fn ticks(nanos: u64) -> u32 {
    (nanos >> UNIT) as u32
}

fn pack(stamp: u32, latency: f32) -> u64 {
    u64::from(stamp) << 32 | u64::from(latency.to_bits())
}

fn unpack(word: u64) -> (u32, f32) {
    ((word >> 32) as u32, f32::from_bits(word as u32))
}
