//! Control by hand.

/// Who decides: the breaker, or a person.
///
/// | mode | admits | counts | changes state by itself |
/// |---|---|---|---|
/// | `Automatic` | by state | yes | yes |
/// | `ForcedOpen` | nothing | nothing | no |
/// | `ForcedClosed` | everything | yes | no |
/// | `Disabled` | everything | nothing | no |
/// | `ObserveOnly` | everything | what would have been admitted | yes, as `observed` events |
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// Outcomes and deadlines decide. The default.
    #[default]
    Automatic,
    /// Every call is refused, until another mode is set.
    ForcedOpen,
    /// Every call is admitted and counted; nothing opens the breaker.
    ForcedClosed,
    /// Every call is admitted and nothing is counted, as if there were no breaker.
    Disabled,
    /// Every call is admitted; the breaker changes its state as if it decided, so that settings
    /// can be tried without harm. A call that would have been refused is counted as such, and its
    /// outcome is not judged. [`reset`](super::CircuitBreaker::reset) ends it.
    ObserveOnly,
}

impl Mode {
    /// Snake case name, as used in metric labels and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
            Self::ObserveOnly => "observe_only",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
