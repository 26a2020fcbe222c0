use std::time::Duration;

use tokio::time::Instant;

/// When the answer to a request is of no use any more, on tokio's clock.
///
/// In the extensions of an HTTP request (feature `http`), or wherever another request keeps it
/// ([`HasDeadline`]). Deadlines compare: the lesser is the earlier one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline at a point in time.
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// A deadline so far from now; `None` when that is beyond what the clock can count: no
    /// deadline.
    pub fn after(time: Duration) -> Option<Self> {
        Instant::now().checked_add(time).map(Self)
    }

    /// When it is.
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// How much time is left; zero when it is over.
    pub fn left(self) -> Duration {
        self.left_at(Instant::now())
    }

    pub(super) fn left_at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

/// A request that can carry a [`Deadline`].
pub trait HasDeadline {
    /// The deadline that it carries.
    fn deadline(&self) -> Option<Deadline>;

    /// Replaces the deadline, by an earlier one: the [layer](super::DeadlineLayer) never sets a later
    /// one.
    fn set_deadline(&mut self, deadline: Deadline);
}

#[cfg(feature = "http")]
impl<B> HasDeadline for ::http::Request<B> {
    fn deadline(&self) -> Option<Deadline> {
        self.extensions().get().copied()
    }

    fn set_deadline(&mut self, deadline: Deadline) {
        self.extensions_mut().insert(deadline);
    }
}
