use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::Share;
use super::wakes::Wakes;

/// A call that several wait for; whoever of them is polled moves it on.
pub(crate) struct Flight<F: Future, V> {
    stage: Mutex<Stage<F, V>>,
    wakes: Arc<Wakes>,
    /// The one that began the call waits for it still.
    starter_waits: AtomicBool,
    /// Changed under the lock of the [`Group`](super::group::Group) alone.
    members: AtomicUsize,
    pub(super) began: Duration,
    pub(super) generation: u64,
}

enum Stage<F: Future, V> {
    /// Nobody was polled yet.
    Idle,
    /// Boxed: it is polled by several, so it must not move, and must be taken out of the lock.
    Resting(Pin<Box<F>>),
    /// Somebody polls it at this moment; `missed` when another one wanted to.
    Polled {
        missed: bool,
    },
    Shared(V),
    /// The result is for one alone: the one that began the call, for its request is gone; or, when
    /// that one is, the one that polled it. `None` once it has it.
    Alone(Option<F::Output>),
    Panicked,
}

/// The place of one that waits for a call.
#[derive(Debug, Default)]
pub(super) struct Seat {
    place: Option<usize>,
    /// It began the call.
    started: bool,
}

/// How a shared call ended for one that waited.
pub(crate) enum Landing<R> {
    /// By this result.
    Result(R),
    /// By a result that is another one's alone.
    Alone,
    Panicked,
}

/// What the poll of a call came to.
enum Polled<F, R> {
    Pending(Pin<Box<F>>),
    Ready(R),
    Panicked,
}

impl<F: Future, V> Flight<F, V> {
    pub(super) fn new(began: Duration, generation: u64) -> Self {
        Self {
            stage: Mutex::new(Stage::Idle),
            wakes: Arc::default(),
            starter_waits: AtomicBool::new(false),
            members: AtomicUsize::new(1),
            began,
            generation,
        }
    }

    /// How many wait for the call. ORDERING: Relaxed, here and below. The lock of the group orders
    /// the changes; without it the number is only a hint.
    pub(super) fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    pub(super) fn set_members(&self, members: usize) {
        self.members.store(members, Ordering::Relaxed);
    }

    /// Nobody waits in `seat` any more.
    pub(super) fn leave(&self, seat: &Seat) {
        if let Some(place) = seat.place {
            self.wakes.leave(place);
        }
        if seat.started {
            // ORDERING: Relaxed. Who does not see it keeps a result for nobody.
            self.starter_waits.store(false, Ordering::Relaxed);
        }
    }

    /// Moves the call on, or tells how it ended. `start` makes the call, if nobody has begun it;
    /// `close` keeps others from joining it once it has ended, and says whether others wait.
    pub(super) fn poll<T, E, H>(
        &self,
        cx: &mut Context<'_>,
        seat: &mut Seat,
        share: &H,
        start: impl FnOnce() -> F,
        close: impl FnOnce() -> bool,
    ) -> Poll<Landing<Result<T, E>>>
    where
        F: Future<Output = Result<T, E>>,
        H: Share<T, E, Kept = V>,
    {
        // Before the stage is looked at, so that no change of it goes unseen.
        self.wakes.note(&mut seat.place, cx.waker());
        let call = {
            let mut stage = self.stage.lock();
            match &mut *stage {
                Stage::Shared(kept) => return Poll::Ready(Landing::Result(share.give(kept))),
                Stage::Alone(result) => {
                    let own = result.take_if(|_| seat.started);
                    return Poll::Ready(own.map_or(Landing::Alone, Landing::Result));
                }
                Stage::Panicked => return Poll::Ready(Landing::Panicked),
                Stage::Polled { missed } => {
                    *missed = true;
                    return Poll::Pending;
                }
                // It would say the same as before.
                Stage::Resting(_) if !self.wakes.was_asked() => return Poll::Pending,
                Stage::Idle | Stage::Resting(_) => {}
            }
            match mem::replace(&mut *stage, Stage::Polled { missed: false }) {
                Stage::Resting(call) => Some(call),
                _ => {
                    seat.started = true;
                    self.starter_waits.store(true, Ordering::Relaxed);
                    None
                }
            }
        };
        // Without the lock: what is called may come back to this key.
        self.wakes.forget_asked();
        let waker = Waker::from(Arc::clone(&self.wakes));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut call = call.unwrap_or_else(|| Box::pin(start()));
            match call.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => Polled::Pending(call),
                Poll::Ready(result) => Polled::Ready(result),
            }
        }));
        let result = match polled.unwrap_or(Polled::Panicked) {
            Polled::Pending(call) => {
                let before = mem::replace(&mut *self.stage.lock(), Stage::Resting(call));
                // Who came while it was polled may have been woken for that alone, and would have gone
                // on in place of this one, should it not be polled any more.
                if matches!(before, Stage::Polled { missed: true }) && self.wakes.was_asked() {
                    self.wakes.wake_all();
                }
                return Poll::Pending;
            }
            Polled::Ready(result) => Some(result),
            Polled::Panicked => None,
        };
        // Nobody joins any more: what nobody waits for is not kept.
        let others_wait = close();
        let keep = || {
            result
                .as_ref()
                .and_then(|result| share.keep(result.as_ref()))
        };
        let kept = if others_wait {
            catch_unwind(AssertUnwindSafe(keep)).unwrap_or_default()
        } else {
            None
        };
        let (end, landing) = match (kept, result) {
            (Some(kept), Some(result)) => (Stage::Shared(kept), Landing::Result(result)),
            (_, None) => (Stage::Panicked, Landing::Panicked),
            (None, Some(result)) => {
                let for_other = !seat.started && self.starter_waits.load(Ordering::Relaxed);
                if for_other {
                    (Stage::Alone(Some(result)), Landing::Alone)
                } else {
                    (Stage::Alone(None), Landing::Result(result))
                }
            }
        };
        *self.stage.lock() = end;
        // This one is told here, and need not be woken.
        if let Some(place) = seat.place.take() {
            self.wakes.leave(place);
        }
        if others_wait {
            self.wakes.wake_all();
        }
        Poll::Ready(landing)
    }
}
