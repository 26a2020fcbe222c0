use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// Rings at a point in time; asks the runtime for a timer only when it is polled before.
#[pin_project]
#[derive(Debug)]
pub(super) struct Alarm {
    // `None` when beyond what the clock can count: never.
    at: Option<Instant>,
    // Made at the first poll that is pending: most calls that answer from memory, and
    // all that are refused below, never touch the runtime's timer.
    #[pin]
    timer: Option<Sleep>,
}

impl Alarm {
    pub(super) const fn new(at: Option<Instant>) -> Self {
        Self { at, timer: None }
    }

    /// # Panics
    ///
    /// Outside of a tokio runtime with its time driver enabled.
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(at) = *this.at else {
            return Poll::Pending;
        };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(at)));
        }
        let rang = this
            .timer
            .as_pin_mut()
            .is_some_and(|timer| timer.poll(cx).is_ready());
        // The clock is asked too: an inner future that uses up tokio's cooperative budget
        // at every poll would keep the timer from ever being looked at.
        if rang || Instant::now() >= at {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
