//! How much a call matters, and who is shed at which level.

use std::fmt;

/// How much a call matters; the lowest is shed first.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Class {
    /// Nobody waits for it: jobs, prefetching, crawlers.
    Background,
    /// Somebody waits for it and can do without: suggestions, statistics.
    Low,
    /// Everything else.
    #[default]
    Normal,
    /// What the service is there for: a customer who pays.
    High,
    /// Never shed: health checks, operators. Keep it rare: nothing protects the service from it.
    Critical,
}

impl Class {
    /// From the lowest to the highest.
    pub const ALL: [Self; 5] = [
        Self::Background,
        Self::Low,
        Self::Normal,
        Self::High,
        Self::Critical,
    ];

    /// `background`, `low`, `normal`, `high` or `critical`, as used in settings and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The level from which on calls of this class are shed.
    pub(super) const fn floor(self) -> u32 {
        self as u32 * STEPS
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Levels per class: a class is shed by sixteenths.
pub(super) const STEPS: u32 = 16;

/// What a level says of a class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Admit,
    /// So many of [`STEPS`] calls are shed.
    Share(u32),
    Shed,
}

/// All classes below the one that a level is in are shed, and a share of that one.
#[inline]
pub(super) const fn verdict(level: u32, class: Class) -> Verdict {
    let (whole, share) = (level / STEPS, level % STEPS);
    let rank = class as u32;
    if matches!(class, Class::Critical) || rank > whole || (rank == whole && share == 0) {
        Verdict::Admit
    } else if rank < whole {
        Verdict::Shed
    } else {
        Verdict::Share(share)
    }
}

/// Whether the call of that turn is among the `share` of [`STEPS`] that are shed; evenly spread.
#[inline]
pub(super) const fn is_in(share: u32, turn: u64) -> bool {
    // The bits of 0 to 15 in reverse order: any share is spread as wide as can be.
    let turn = (turn % STEPS as u64) as u32;
    (turn.reverse_bits() >> (u32::BITS - STEPS.trailing_zeros())) < share
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_shed_all_lower_ones_are() {
        for level in 0..=Class::Critical.floor() {
            for (at, class) in Class::ALL.into_iter().enumerate() {
                if verdict(level, class) != Verdict::Admit {
                    let lower = &Class::ALL[..at];
                    assert!(
                        lower
                            .iter()
                            .all(|lower| verdict(level, *lower) == Verdict::Shed)
                    );
                }
            }
        }
    }

    #[test]
    fn each_level_sheds_a_sixteenth_of_a_class_more() {
        let shed = |level: u32| -> u32 {
            let shares = Class::ALL.map(|class| match verdict(level, class) {
                Verdict::Admit => 0,
                Verdict::Share(share) => share,
                Verdict::Shed => STEPS,
            });
            shares.into_iter().sum()
        };
        for level in 0..=Class::Critical.floor() {
            assert_eq!(shed(level), level);
        }
    }

    #[test]
    fn critical_calls_are_shed_at_no_level() {
        for level in (0..1_000).chain([u32::MAX / 2, u32::MAX]) {
            assert_eq!(verdict(level, Class::Critical), Verdict::Admit);
        }
    }

    #[test]
    fn a_share_of_a_class_is_exact_and_evenly_spread() {
        for share in 0..=STEPS {
            let shed: Vec<bool> = (0..64).map(|turn| is_in(share, turn)).collect();
            for window in shed.windows(STEPS as usize) {
                let count = window.iter().filter(|shed| **shed).count();
                assert_eq!(count as u32, share);
            }
        }
        // Half of them is every other one.
        assert!((0..64).all(|turn| is_in(8, turn) == (turn % 2 == 0)));
    }
}
