//! Polling a condition, with a bound.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;

/// How long an operation waits for its condition; far above what it takes, for
/// machines that do other things as well.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// One wait: `again` between two looks at the condition.
#[derive(Debug)]
pub(crate) struct Wait {
    what: String,
    bound: Duration,
    until: Instant,
    pause: Duration,
}

impl Wait {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::bounded(what, BOUND)
    }

    pub(crate) fn bounded(what: impl Into<String>, bound: Duration) -> Self {
        Self {
            what: what.into(),
            bound,
            until: Instant::now() + bound,
            pause: Duration::from_millis(2),
        }
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Sleeps a little, longer each time up to 50 ms; an error once the bound is
    /// over, with what `log` gives.
    pub(crate) async fn again(&mut self, log: impl FnOnce() -> String) -> Result<(), Error> {
        if Instant::now() >= self.until {
            return Err(Error::TimedOut {
                what: self.what.clone(),
                bound: self.bound,
                log: log(),
            });
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_millis(50));
        Ok(())
    }
}
