use std::time::Duration;

use tower_layer::Layer;

use super::Timeout;

/// Puts a [`Timeout`] around a service.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct TimeoutLayer {
    after: Duration,
}

impl TimeoutLayer {
    /// A layer that gives each call the time `after`.
    ///
    /// With zero, only an answer at the first poll is in time. With a duration beyond what
    /// the clock can count ([`Duration::MAX`]) there is no limit.
    pub fn new(after: Duration) -> Self {
        Self { after }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout::new(inner, self.after)
    }
}
