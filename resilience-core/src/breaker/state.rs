//! The state word and its transitions: values in, values out; no clock, no atomics.

use std::time::Duration;

use super::{config::Config, mode::Mode};
use crate::{random, settings::LONGEST};

/// A breaker's phase.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// A limited number of probes pass; their outcomes decide.
    HalfOpen,
    /// Calls are refused until the reset timeout has passed.
    Open,
}

impl State {
    /// `closed`, `half_open` or `open`, as used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

const GENERATION_BITS: u32 = 23;
const OPENINGS_BITS: u32 = 6;
/// Width of each of the three half-open counters.
const PERMIT_BITS: u32 = 10;

/// The most half-open permits that fit the word.
pub(super) const MAX_PERMITS: u32 = (1 << PERMIT_BITS) - 1;
/// The most openings in a row that are told apart; later ones count as this many.
pub(super) const MAX_OPENINGS: u32 = (1 << OPENINGS_BITS) - 1;
pub(super) const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// Everything that decides whether a call may start, except deadlines; packs into one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word {
    pub(super) state: State,
    /// Who decides.
    pub(super) gear: Gear,
    /// Goes up on every change of state or mode, on every reset and on every expired lease (wraps
    /// at 2^23), so that an outcome can be matched to the period that admitted its call.
    pub(super) generation: u32,
    /// Openings in a row without a close between them.
    pub(super) openings: u32,
    /// Half-open: permits handed out and not given back.
    pub(super) spent: u32,
    /// Half-open: permits whose call has not ended.
    pub(super) outstanding: u32,
    /// Half-open: probes that succeeded.
    pub(super) successes: u32,
}

/// The [`Mode`], and for the automatic one whether calls may take the short path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gear {
    /// Automatic; a call needs no clock, no time window and no shadow. A closed word is then its
    /// generation and nothing else.
    Plain,
    /// Automatic; a call looks at the settings.
    Full,
    ForcedOpen,
    ForcedClosed,
    Disabled,
    Observe,
}

impl Gear {
    /// `plain` matters in automatic mode only.
    pub(super) fn of(mode: Mode, plain: bool) -> Self {
        match mode {
            Mode::Automatic if plain => Self::Plain,
            Mode::Automatic => Self::Full,
            Mode::ForcedOpen => Self::ForcedOpen,
            Mode::ForcedClosed => Self::ForcedClosed,
            Mode::Disabled => Self::Disabled,
            Mode::ObserveOnly => Self::Observe,
        }
    }

    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Plain | Self::Full => Mode::Automatic,
            Self::ForcedOpen => Mode::ForcedOpen,
            Self::ForcedClosed => Mode::ForcedClosed,
            Self::Disabled => Mode::Disabled,
            Self::Observe => Mode::ObserveOnly,
        }
    }

    fn unpack(bits: u32) -> Self {
        match bits {
            0 => Self::Plain,
            1 => Self::Full,
            2 => Self::ForcedOpen,
            3 => Self::ForcedClosed,
            4 => Self::Disabled,
            _ => Self::Observe,
        }
    }
}

/// What a caller is told, beside the next word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// Closed: the call may start.
    Call,
    /// Half-open: the call may start, and its lease begins.
    Probe,
    /// Not before the deadline (or not before the probes have ended).
    Refused,
}

impl Word {
    pub(super) const NEW: Self = Self {
        state: State::Closed,
        gear: Gear::Plain,
        generation: 0,
        openings: 0,
        spent: 0,
        outstanding: 0,
        successes: 0,
    };

    /// `[state: 2 | gear: 3 | openings: 6 | spent: 10 | outstanding: 10 | successes: 10 |
    /// generation: 23]`, most significant first.
    pub(super) fn pack(self) -> u64 {
        let mut word = self.state as u64;
        for (bits, value) in [
            (3, self.gear as u32),
            (OPENINGS_BITS, self.openings),
            (PERMIT_BITS, self.spent),
            (PERMIT_BITS, self.outstanding),
            (PERMIT_BITS, self.successes),
            (GENERATION_BITS, self.generation),
        ] {
            debug_assert!(value < 1 << bits, "field out of range: {self:?}");
            word = word << bits | u64::from(value);
        }
        word
    }

    pub(super) fn unpack(mut word: u64) -> Self {
        let mut take = |bits: u32| {
            let value = (word & ((1 << bits) - 1)) as u32;
            word >>= bits;
            value
        };
        let generation = take(GENERATION_BITS);
        let successes = take(PERMIT_BITS);
        let outstanding = take(PERMIT_BITS);
        let spent = take(PERMIT_BITS);
        let openings = take(OPENINGS_BITS);
        let gear = Gear::unpack(take(3));
        let state = match take(2) {
            0 => State::Closed,
            1 => State::HalfOpen,
            _ => State::Open,
        };
        Self {
            state,
            gear,
            generation,
            openings,
            spent,
            outstanding,
            successes,
        }
    }

    /// Whether a packed word is closed and in plain gear; it is then its generation.
    #[inline]
    pub(super) fn is_plain_closed(word: u64) -> bool {
        word <= GENERATION_MASK as u64
    }

    /// Whether a packed word is closed and automatic.
    #[inline]
    pub(super) fn is_closed(word: u64) -> bool {
        word >> (u64::BITS - 4) == State::Closed as u64
    }

    /// Whether a packed word is open and automatic.
    #[inline]
    pub(super) fn is_open(word: u64) -> bool {
        word >> (u64::BITS - 4) == (State::Open as u64) << 2
    }

    /// The generation of a packed word.
    #[inline]
    pub(super) fn generation_of(word: u64) -> u32 {
        word as u32 & GENERATION_MASK
    }

    /// Failed probes of this half-open period.
    pub(super) fn failures(self) -> u32 {
        self.spent
            .saturating_sub(self.outstanding)
            .saturating_sub(self.successes)
    }

    /// Decides whether a call may start at `now`; `deadline` is the reset deadline of an open
    /// word or the lease of a half-open one. Nanoseconds. Knows the automatic mode only.
    pub(super) fn acquire(self, now: u64, deadline: u64, config: &Config) -> (Self, Admission) {
        let due = now >= deadline;
        match self.state {
            State::Closed => (self, Admission::Call),
            State::Open if due => (
                Self {
                    spent: 1,
                    outstanding: 1,
                    successes: 0,
                    ..self.next(State::HalfOpen)
                },
                Admission::Probe,
            ),
            State::HalfOpen if self.spent < config.half_open_permits() => (
                Self {
                    spent: self.spent + 1,
                    outstanding: self.outstanding + 1,
                    ..self
                },
                Admission::Probe,
            ),
            // Every permit is spent and the youngest has outlived its lease, so all that are
            // still out are lost: their outcomes will be of an older generation.
            State::HalfOpen if due && self.outstanding > 0 => (
                Self {
                    spent: self.spent.saturating_sub(self.outstanding) + 1,
                    outstanding: 1,
                    ..self.next(State::HalfOpen)
                },
                Admission::Probe,
            ),
            // None is out and none is left, and yet nothing is decided: the settings changed
            // under the period. It begins anew.
            State::HalfOpen if due => (
                Self {
                    spent: 1,
                    outstanding: 1,
                    successes: 0,
                    ..self.next(State::HalfOpen)
                },
                Admission::Probe,
            ),
            State::HalfOpen | State::Open => (self, Admission::Refused),
        }
    }

    /// A probe of this generation succeeded.
    pub(super) fn probe_succeeded(self, config: &Config) -> Self {
        let successes = self.successes + 1;
        if successes >= config.success_threshold() {
            return Self {
                openings: 0,
                ..self.next(State::Closed)
            }
            .cleared();
        }
        Self {
            successes,
            outstanding: self.outstanding.saturating_sub(1),
            ..self
        }
    }

    /// A probe of this generation failed.
    pub(super) fn probe_failed(self, config: &Config) -> Self {
        let after = Self {
            outstanding: self.outstanding.saturating_sub(1),
            ..self
        };
        if after.failures() > config.probe_failures() {
            return self.open();
        }
        after
    }

    /// A probe of this generation ended without an outcome; its permit is free again.
    pub(super) fn probe_abandoned(self) -> Self {
        Self {
            spent: self.spent.saturating_sub(1),
            outstanding: self.outstanding.saturating_sub(1),
            ..self
        }
    }

    /// Opens: from closed when a threshold is crossed, from half-open when probes fail.
    pub(super) fn open(self) -> Self {
        Self {
            openings: (self.openings + 1).min(MAX_OPENINGS),
            ..self.next(State::Open)
        }
        .cleared()
    }

    /// A mode is set by hand. Who lets go of a forced-open breaker lets probes decide; every
    /// other mode begins closed, forced open apart.
    pub(super) fn set_gear(self, gear: Gear) -> Self {
        let let_go = self.gear == Gear::ForcedOpen && gear.mode() == Mode::Automatic;
        let next = if gear == Gear::ForcedOpen {
            self.next(State::Open)
        } else if let_go {
            self.next(State::HalfOpen)
        } else {
            Self {
                openings: 0,
                ..self.next(State::Closed)
            }
        };
        Self { gear, ..next }.cleared()
    }

    /// Closed and automatic, as if nothing had happened.
    pub(super) fn reset(self, gear: Gear) -> Self {
        Self {
            gear,
            openings: 0,
            ..self.next(State::Closed)
        }
        .cleared()
    }

    fn cleared(self) -> Self {
        Self {
            spent: 0,
            outstanding: 0,
            successes: 0,
            ..self
        }
    }

    fn next(self, state: State) -> Self {
        Self {
            state,
            generation: self.generation.wrapping_add(1) & GENERATION_MASK,
            ..self
        }
    }
}

/// The time from opening to the first probe: base × 2^(openings in a row − 1) up to the cap,
/// ± jitter, never shorter than what an overloaded upstream asked for. Nanoseconds.
pub(super) fn open_for(config: &Config, openings: u32, seed: u64, asked: Option<Duration>) -> u64 {
    let doublings = openings.saturating_sub(1).min(31);
    let mut wait = config
        .reset_timeout()
        .saturating_mul(1 << doublings)
        .min(config.max_reset_timeout());
    // Without jitter the wait is exact: no detour over floating point.
    if config.jitter() > 0.0 {
        let unit = random::unit(random::mix(seed));
        let factor = 1.0 + config.jitter() * (2.0 * unit - 1.0);
        wait = Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(wait);
    }
    nanos(wait.max(asked.unwrap_or_default().min(LONGEST)))
}

/// Whole nanoseconds; the most that fit are 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
