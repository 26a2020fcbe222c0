//! A node, and the looks at it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use resilience_core::breaker::{CircuitBreaker, Mode, State};
use tokio::sync::{Notify, watch};

use super::{Node, Observation};

/// A node with all that is kept for it.
pub(super) struct Member<N> {
    pub(super) name: Arc<str>,
    pub(super) node: N,
    pub(super) breaker: CircuitBreaker,
    pub(super) looks: Looks,
}

/// The looks at a node: one at a time, by the task of the node, for all who want one.
#[derive(Debug)]
pub(super) struct Looks {
    begun: AtomicU64,
    /// The latest that somebody wants.
    asked: AtomicU64,
    /// When the latest began, in nanoseconds of the router's clock.
    at: AtomicU64,
    failed: AtomicU64,
    reachable: AtomicBool,
    wanted: Notify,
    /// How many have ended. Closed when there will be no more.
    ended: watch::Receiver<u64>,
}

/// A look that somebody wants.
#[derive(Debug)]
pub(super) struct Wanted {
    number: u64,
    ended: watch::Receiver<u64>,
}

impl<N> Member<N> {
    /// A member, and what its task tells the ends of looks by.
    pub(super) fn new(
        name: Arc<str>,
        node: N,
        breaker: CircuitBreaker,
    ) -> (Arc<Self>, watch::Sender<u64>) {
        let (tell, ended) = watch::channel(0);
        let looks = Looks {
            begun: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            at: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            reachable: AtomicBool::new(false),
            wanted: Notify::new(),
            ended,
        };
        let member = Self {
            name,
            node,
            breaker,
            looks,
        };
        (Arc::new(member), tell)
    }
}

impl<N: Node> Member<N> {
    /// Another run of the node answers, or in another role: what its breaker knows is of the one
    /// before. A mode that was set by hand stays.
    pub(super) fn forgive(&self) {
        let breaker = &self.breaker;
        if breaker.mode() == Mode::Automatic && breaker.state() != State::Closed {
            breaker.reset();
        }
    }

    /// One look; `None` if there was no answer. A panic of the adapter is none.
    pub(super) async fn look(&self, at: Duration) -> Option<Observation<N::Position>> {
        let observed = catch_unwind(AssertUnwindSafe(|| self.node.observe(at))).ok()?;
        let mut observed = pin!(observed);
        std::future::poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| observed.as_mut().poll(cx)));
            polled.map_or(Poll::Ready(None), |polled| polled.map(Result::ok))
        })
        .await
    }
}

impl Looks {
    /// A look begins; its number.
    pub(super) fn begin(&self) -> u64 {
        // ORDERING: SeqCst. Before the clock is read for the look: who asked for one and saw the
        // number before counts on a later time.
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    // ORDERING of the rest: Relaxed. Statistics, and hints.
    pub(super) fn begins_at(&self, at: Duration) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.at.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn note(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
        if !reachable {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The last look was answered.
    pub(super) fn reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Looks that began, and those that had no answer.
    pub(super) fn counts(&self) -> (u64, u64) {
        let begun = self.begun.load(Ordering::Relaxed);
        (begun, self.failed.load(Ordering::Relaxed))
    }

    /// Waits until somebody wants a look.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The next look is to begin at once; its number.
    pub(super) fn hurry(&self) -> u64 {
        // ORDERING: SeqCst, as in `begin`.
        let number = self.begun.load(Ordering::SeqCst) + 1;
        // One for all who want the same.
        if self.asked.fetch_max(number, Ordering::SeqCst) < number {
            self.wanted.notify_one();
        }
        number
    }

    /// A look is to begin at once, unless one did after `at`.
    pub(super) fn hurry_since(&self, at: Duration) {
        if u128::from(self.at.load(Ordering::Relaxed)) < at.as_nanos() {
            self.hurry();
        }
    }

    /// A look that begins after this.
    pub(super) fn want(&self) -> Wanted {
        Wanted {
            number: self.hurry(),
            ended: self.ended.clone(),
        }
    }

    /// The first look of all.
    pub(super) fn first(&self) -> Wanted {
        Wanted {
            number: 1,
            ended: self.ended.clone(),
        }
    }
}

impl Wanted {
    /// It has ended, or will never begin.
    pub(super) fn is_over(&self) -> bool {
        *self.ended.borrow() >= self.number || self.ended.has_changed().is_err()
    }
}
