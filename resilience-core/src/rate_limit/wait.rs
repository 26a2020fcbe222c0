//! Waiting for a limit in line, without a runtime.
//!
//! [`WaitQueue::enqueue`] takes a place, [`Waiter::poll`] asks for its turn, and dropping the
//! [`Waiter`] gives it up. Timers are the caller's: `poll` says when to come back, and wakes the
//! task when that moment has moved up.
//!
//! # Rules
//!
//! - First come, first served. While somebody waits, [`RateLimiter::try_acquire`] and
//!   [`check_all`](super::check_all()) refuse (the wait they tell is that behind the line); only
//!   calls of cost 0 pass.
//! - A turn is given when the bucket has enough for the front of the line, by whichever waiter is
//!   polled then. A front that is not polled keeps its turn, and holds up nobody behind it.
//! - What is admitted keeps to burst + rate × span, as without waiting. Turns are given when somebody
//!   polls, not when they are due: with a timer of 1 ms, choose a burst that the rate does not exceed
//!   in 1 ms, or less than the rate is used.
//! - The time of a turn is known on arrival. Who cannot have it by its deadline is refused at once,
//!   and so is who finds the line full or costs more than the burst. A change of quota, or a clock
//!   that steps back, may move it; then a waiter is refused on its next poll.
//! - Who gives up before its turn leaves no gap; who was given a turn and never learned of it (its
//!   `Waiter` was dropped, or never polled again before that) has what it took put back.
//!
//! # Concurrency
//!
//! Those who wait share a short lock, in which a place is found in O(log n) and given up in O(n)
//! of those who wait. Those who do not wait never take it, unless they give permits back while
//! somebody waits. Wakers are called outside of it. A call that does not wait, and comes at the very
//! moment at which the first waiter takes its place, may be refused for a permit that this waiter
//! then cannot use.

use std::{fmt, sync::Arc, task::Waker, time::Duration};

use super::{
    Admitted, Limited, RateLimiter,
    limiter::Inner,
    line::{Answer, Granted, Joined},
};

/// A bounded line in front of a [`RateLimiter`]; clones are handles on the same one, and so are
/// all queues of one limiter, each with a bound of its own.
///
/// # Examples
///
/// ```
/// use std::task::Waker;
/// use resilience_core::rate_limit::{Quota, RateLimiter, wait::Turn};
///
/// let limiter = RateLimiter::new(Quota::per_second(1)?);
/// let queue = limiter.wait_queue(100);
/// let mut first = queue.enqueue(1, None)?;
/// let mut second = queue.enqueue(1, None)?;
/// assert!(matches!(first.poll(Waker::noop()), Turn::Admitted(_)));
/// // To be polled again in a second, or when woken.
/// assert!(matches!(second.poll(Waker::noop()), Turn::Wait(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WaitQueue {
    limiter: RateLimiter,
    max: usize,
}

impl WaitQueue {
    pub(super) fn new(limiter: RateLimiter, max: usize) -> Self {
        Self { limiter, max }
    }

    /// The limiter.
    pub fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    /// Those who wait now, in all queues of this limiter.
    pub fn waiting(&self) -> usize {
        self.limiter.inner.line.lock().waiting()
    }

    /// Takes a place for a call of cost `n`: a turn at once if nobody waits and there is enough,
    /// else the last place of the line. Cost 0 has its turn at once.
    ///
    /// With `max_wait` the turn has to come within that time (0: at once); without, the wait is
    /// bounded only by those in front.
    ///
    /// # Errors
    ///
    /// [`WaitRefused`], with the wait that would have been: the line is full, the turn would come
    /// too late, or the cost is above the burst.
    pub fn enqueue(&self, n: u32, max_wait: Option<Duration>) -> Result<Waiter, WaitRefused> {
        let inner = &self.limiter.inner;
        let now = inner.now();
        let waiter = |state| Waiter {
            inner: Arc::clone(inner),
            state,
        };
        if let Ok(granted) = inner.bucket.take_under(n, now) {
            return Ok(waiter(State::Granted(granted)));
        }
        let deadline = max_wait.map(|wait| now.saturating_add(nanos(wait)));
        let joined = inner.with_line(|line, bucket| line.join(bucket, n, now, deadline, self.max));
        Ok(waiter(match joined? {
            Joined::Granted(granted) => State::Granted(granted),
            Joined::Place(id) => State::Waiting(id),
        }))
    }
}

/// A place in the line, or a turn that was given.
///
/// # Cancel safety
///
/// Dropping it gives the place up, and puts a turn back that [`poll`](Self::poll) has not told
/// of. A turn that it has told of is the caller's, and stays taken.
#[must_use = "dropping a waiter gives its place up"]
pub struct Waiter {
    inner: Arc<Inner>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Waiting(u64),
    Granted(Granted),
    Told(Turn),
}

/// What became of a place in the line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Turn {
    /// The call is admitted.
    Admitted(Admitted),
    /// The turn comes in this time; until then polling again changes nothing unless the task was
    /// woken. Over 0.
    Wait(Duration),
    /// The turn will not come in time, or never; the place is given up.
    Refused(WaitRefused),
}

/// A call was refused a place in line, or lost it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {limited}", .reason.as_str())]
#[non_exhaustive]
pub struct WaitRefused {
    /// Why.
    pub reason: WaitReason,
    /// The figures; `retry_after` is the wait until it would have had its turn, with all who are
    /// in front, and `None` when it never would.
    pub limited: Limited,
}

/// Why a call was not given a turn.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum WaitReason {
    /// As many as may wait already.
    QueueFull,
    /// The turn would come after the deadline.
    Deadline,
    /// The cost is above the burst.
    Cost,
}

impl WaitReason {
    /// A stable name, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::Cost => "cost",
        }
    }
}

impl Waiter {
    /// Whether the turn has come. If not, `waker` is woken when it comes, or may come earlier than
    /// told; and the caller is to poll again after the time told, for no timer runs here. A waker
    /// of an earlier poll is forgotten.
    ///
    /// Once it has answered [`Admitted`](Turn::Admitted) or [`Refused`](Turn::Refused) it answers
    /// the same for ever.
    pub fn poll(&mut self, waker: &Waker) -> Turn {
        let turn = match self.state {
            State::Told(turn) => turn,
            State::Granted(granted) => Turn::Admitted(granted.admitted),
            State::Waiting(id) => match self.ask(id, waker) {
                Answer::In(wait) => return Turn::Wait(Duration::from_nanos(wait)),
                Answer::Turn(Ok(granted)) => Turn::Admitted(granted.admitted),
                Answer::Turn(Err(refused)) => Turn::Refused(refused),
            },
        };
        self.state = State::Told(turn);
        turn
    }

    fn ask(&self, id: u64, waker: &Waker) -> Answer {
        let inner = &*self.inner;
        let now = inner.now();
        inner
            .with_line(|line, bucket| line.ask(bucket, id, now, waker))
            // A place leaves the line only with its answer or its waiter.
            .unwrap_or(Answer::In(1))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let inner = &*self.inner;
        match self.state {
            State::Told(_) => {}
            State::Granted(granted) => inner.give_back(granted.taken),
            State::Waiting(id) => {
                let now = inner.now();
                inner.with_line(|line, bucket| line.give_up(bucket, id, now));
            }
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting(_) => "waiting",
            State::Granted(_) => "granted",
            State::Told(_) => "told",
        };
        f.debug_tuple("Waiter").field(&state).finish()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
