//! The time that an answer may take once it has begun: the longest pause inside its body, and the
//! end of the whole call.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The clock of one response body. Its timer is made when the body first has to be waited for,
/// which for a short one is never.
#[derive(Debug)]
pub(crate) struct Pace {
    pause: Duration,
    end: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer runs for the present pause.
    waiting: bool,
}

/// The body was waited for too long.
#[derive(Debug, thiserror::Error)]
#[error("the upstream did not send the rest of its answer in time")]
pub(crate) struct Late;

impl Pace {
    pub(crate) fn new(pause: Duration, end: Option<Instant>) -> Self {
        Self {
            pause,
            end,
            timer: None,
            waiting: false,
        }
    }

    /// There is nothing to read: ready when that lasts too long.
    pub(crate) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        if !self.waiting {
            self.waiting = true;
            let pause = Instant::now() + self.pause;
            let until = self.end.map_or(pause, |end| end.min(pause));
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(sleep_until(until))),
            }
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Late),
            None => Poll::Pending,
        }
    }

    /// Something was read; an answer that never pauses ends too.
    pub(crate) fn moved(&mut self) -> Result<(), Late> {
        self.waiting = false;
        match self.end {
            Some(end) if Instant::now() >= end => Err(Late),
            _ => Ok(()),
        }
    }
}
