use std::time::Duration;

/// What a call asks of the line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Terms {
    pub(super) cost: u32,
    pub(super) max_wait: Option<Duration>,
}

impl Default for Terms {
    /// Cost 1, any wait.
    fn default() -> Self {
        Self {
            cost: 1,
            max_wait: None,
        }
    }
}

impl Terms {
    /// Cost 1, any wait.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the call costs; 0 never waits, more than the burst is refused.
    pub fn cost(mut self, n: u32) -> Self {
        self.cost = n;
        self
    }

    /// The longest that the call may wait for its turn, from `call` on: what is left until its
    /// deadline, say. 0 does not wait. `None`: as long as it takes, which the places in the
    /// line bound.
    pub fn max_wait(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.max_wait = wait.into();
        self
    }
}

/// Finds the terms of a request; [`Terms`], the same for all, or any `Fn(&Request) -> Terms`.
pub trait TermsOf<Req> {
    /// What `request` asks of the line.
    fn terms_of(&self, request: &Req) -> Terms;
}

impl<Req> TermsOf<Req> for Terms {
    fn terms_of(&self, _: &Req) -> Terms {
        *self
    }
}

impl<Req, F: Fn(&Req) -> Terms> TermsOf<Req> for F {
    fn terms_of(&self, request: &Req) -> Terms {
        self(request)
    }
}
