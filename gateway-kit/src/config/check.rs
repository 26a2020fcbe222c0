//! How a configuration is checked: everything wrong is found in one go, and what a number or a time
//! may be stands in one place, for the check and for the schema.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::{ByteSize, ConfigError, ConfigProblem, Switch};

/// A place in a configuration, and all that is wrong so far.
pub(super) struct Place<'w> {
    path: String,
    wrong: &'w mut Vec<Wrong>,
}

/// Something that is wrong.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) problem: ConfigProblem,
    /// It is wrong whatever the other fields say.
    pub(super) alone: bool,
}

impl Place<'_> {
    /// The place `name` in this one; an index as `"name[3]"`.
    pub(super) fn at(&mut self, name: impl fmt::Display) -> Place<'_> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Place {
            path: format!("{}{dot}{name}", self.path),
            wrong: self.wrong,
        }
    }

    /// Something is wrong with this place.
    pub(super) fn refuse(&mut self, reason: impl Into<String>) {
        self.wrong.push(Wrong {
            problem: ConfigProblem::new(self.path.clone(), reason),
            alone: false,
        });
    }

    /// Each number and time by its [`BOUNDS`](Bounded::BOUNDS).
    pub(super) fn bounds(&mut self, section: &impl Bounded) {
        for (amount, (field, bounds)) in section.amounts().into_iter().zip(section.bounds()) {
            if amount.is_some_and(|amount| !bounds.contains(amount)) {
                let path = self.at(field).path;
                let problem = ConfigProblem::new(path, bounds.to_string());
                let alone = true;
                self.wrong.push(Wrong { problem, alone });
            }
        }
    }
}

/// All that `check` finds, from the top.
pub(super) fn all(check: impl FnOnce(&mut Place<'_>)) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    check(&mut Place {
        path: String::new(),
        wrong: &mut wrong,
    });
    wrong
}

/// Whether `check` finds nothing.
pub(super) fn good(check: impl FnOnce(&mut Place<'_>)) -> Result<(), ConfigError> {
    let wrong = all(check).into_iter();
    ConfigError::of(wrong.map(|wrong| wrong.problem).collect())
}

/// What can be compared with [`Bounds`]; always with those of its own kind.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) enum Amount {
    Whole(u64),
    Real(f64),
    Time(Duration),
    Bytes(ByteSize),
}

/// From where to where an amount may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) low: Amount,
    pub(super) high: Amount,
    /// Not `low` itself.
    pub(super) over: bool,
    /// Not `high` itself.
    pub(super) below: bool,
}

impl Bounds {
    pub(super) const fn whole(low: u64, high: u64) -> Self {
        Self::new(Amount::Whole(low), Amount::Whole(high))
    }

    pub(super) const fn real(low: f64, high: f64) -> Self {
        Self::new(Amount::Real(low), Amount::Real(high))
    }

    pub(super) const fn time(low: Duration, high: Duration) -> Self {
        Self::new(Amount::Time(low), Amount::Time(high))
    }

    pub(super) const fn bytes(low: u64, high: u64) -> Self {
        let (low, high) = (ByteSize::new(low), ByteSize::new(high));
        Self::new(Amount::Bytes(low), Amount::Bytes(high))
    }

    const fn new(low: Amount, high: Amount) -> Self {
        Self {
            low,
            high,
            over: false,
            below: false,
        }
    }

    pub(super) const fn over(mut self) -> Self {
        self.over = true;
        self
    }

    /// For settings that resilience-core checks.
    #[cfg(feature = "schema")]
    pub(super) const fn below(mut self) -> Self {
        self.below = true;
        self
    }

    pub(super) fn contains(&self, amount: Amount) -> bool {
        let low = amount > self.low || (amount == self.low && !self.over);
        low && (amount < self.high || (amount == self.high && !self.below))
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.low, self.high);
        match (low, self.over, self.below) {
            (Amount::Time(Duration::ZERO), false, false) => write!(f, "must be at most {high}"),
            (_, false, false) => write!(f, "must be from {low} to {high}"),
            (_, true, _) => write!(f, "must be over {low}, up to {high}"),
            (_, false, true) => write!(f, "must be from {low} up to, not including, {high}"),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
            Self::Time(time) => {
                let time = humantime_serde::re::humantime::format_duration(*time);
                write!(f, "\"{time}\"")
            }
            Self::Bytes(size) => write!(f, "\"{size}\""),
        }
    }
}

/// A time that something may take.
pub(super) const TIME: Bounds = Bounds::time(MILLISECOND, DAY);
/// A share of all.
pub(super) const SHARE: Bounds = Bounds::real(0.0, 1.0);
/// A share that may not be nothing.
pub(super) const SOME: Bounds = SHARE.over();
/// A weight among others.
pub(super) const WEIGHT: Bounds = Bounds::whole(0, 1000);

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// A section with numbers and times.
pub(super) trait Bounded {
    /// What they may be, by the names of the fields.
    const BOUNDS: &'static [(&'static str, Bounds)];

    /// What they are, in the same order; none where nothing is set.
    fn amounts(&self) -> Vec<Option<Amount>>;

    fn bounds(&self) -> &'static [(&'static str, Bounds)] {
        Self::BOUNDS
    }
}

/// Says what the numbers and times of a section may be. The schema of the section has
/// `schemars(transform = super::schema::narrow::<Self>)` to know of it.
macro_rules! bounds {
    ($section:ty { $($field:ident: $bounds:expr,)* }) => {
        impl $crate::config::check::Bounded for $section {
            const BOUNDS: &'static [(&'static str, $crate::config::check::Bounds)] =
                &[$((stringify!($field), $bounds),)*];

            fn amounts(&self) -> Vec<Option<$crate::config::check::Amount>> {
                vec![$($crate::config::check::Measured::amount(&self.$field),)*]
            }
        }
    };
}

pub(super) use bounds;

/// A type that is an [`Amount`], or none.
pub(super) trait Measured {
    fn amount(&self) -> Option<Amount>;
}

macro_rules! measured {
    ($($kind:ty: |$value:ident| $amount:expr;)*) => {
        $(impl Measured for $kind {
            fn amount(&self) -> Option<Amount> {
                let $value = *self;
                Some($amount)
            }
        })*
    };
}

measured! {
    u8: |value| Amount::Whole(value.into());
    u32: |value| Amount::Whole(value.into());
    u64: |value| Amount::Whole(value);
    usize: |value| Amount::Whole(value as u64);
    NonZeroU32: |value| Amount::Whole(value.get().into());
    std::num::NonZeroU64: |value| Amount::Whole(value.get());
    f64: |value| Amount::Real(value);
    Duration: |value| Amount::Time(value);
    ByteSize: |value| Amount::Bytes(value);
}

impl<T: Measured> Measured for Option<T> {
    fn amount(&self) -> Option<Amount> {
        self.as_ref()?.amount()
    }
}

impl<T: Measured> Measured for Switch<T> {
    fn amount(&self) -> Option<Amount> {
        self.on()?.amount()
    }
}
