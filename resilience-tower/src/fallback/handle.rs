use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Reason;

/// How often the fallback was needed; clones are handles on the same counts.
#[derive(Clone, Debug, Default)]
pub struct Fallbacks(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    failure: AtomicU64,
    overloaded: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
}

/// Counts since the handle was made. Each wraps at 2^64.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Fallbacks that were begun because of a failure.
    pub failure: u64,
    /// Fallbacks that were begun because the upstream has too much to do.
    pub overloaded: u64,
    /// Those of both that failed.
    pub failed: u64,
    /// Those of both that the caller did not wait for.
    pub abandoned: u64,
}

impl Fallbacks {
    /// The counts of now.
    pub fn snapshot(&self) -> Snapshot {
        // ORDERING: Relaxed. Counts on their own; nothing is published by them.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            failure: read(&self.0.failure),
            overloaded: read(&self.0.overloaded),
            failed: read(&self.0.failed),
            abandoned: read(&self.0.abandoned),
        }
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    pub(super) fn begin(&self, reason: Reason) -> Begun {
        count(match reason {
            Reason::Overloaded { .. } => &self.0.overloaded,
            Reason::Failure => &self.0.failure,
        });
        Begun {
            handle: self.clone(),
            ended: false,
        }
    }
}

/// A fallback under way.
#[derive(Debug)]
pub(super) struct Begun {
    handle: Fallbacks,
    ended: bool,
}

impl Begun {
    pub(super) fn end(&mut self, failed: bool) {
        self.ended = true;
        if failed {
            count(&self.handle.0.failed);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            count(&self.handle.0.abandoned);
        }
    }
}

fn count(counter: &AtomicU64) {
    // ORDERING: Relaxed, as above.
    counter.fetch_add(1, Ordering::Relaxed);
}
