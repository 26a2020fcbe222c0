//! Who waits for a limit, in the order they came: the rules, without the lock around them.

use std::{collections::VecDeque, task::Waker};

use super::{
    Admitted, Limited,
    check::Taken,
    wait::{WaitReason, WaitRefused},
    word::Bucket,
};

/// Ids go up from the front to the back. Turns come to the front only, so the places whose turn
/// has come, and whose waiter has not yet asked, all stand before those that still wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    places: VecDeque<Place>,
    /// Places at the front whose turn has come.
    called: usize,
    /// The `upto` of the last place that left the waiting part by its front.
    passed: u64,
    next_id: u64,
    /// To be woken once the lock is given up.
    wake: Vec<Waker>,
    /// To be dropped then: the last waker of a task may drop the task, and with it a waiter.
    retired: Vec<Waker>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    n: u32,
    /// The costs of all that came before, and its own; less `passed` is what has to be served
    /// until it has had its turn.
    upto: u64,
    /// The latest time at which it wants its turn.
    deadline: Option<u64>,
    /// The time it was told to come back at.
    told: u64,
    waker: Option<Waker>,
    turn: Option<Result<Granted, WaitRefused>>,
}

/// What a turn gave: the answer, and what to put back if it is never used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) admitted: Admitted,
    pub(super) taken: Taken,
}

/// What became of a place.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has left the line.
    Turn(Result<Granted, WaitRefused>),
    /// It comes in so many nanoseconds.
    In(u64),
}

impl Line {
    pub(super) fn waiting(&self) -> usize {
        self.places.len() - self.called
    }

    /// The costs that wait.
    fn queued(&self) -> u64 {
        match self.places.back() {
            Some(last) if self.waiting() > 0 => last.upto - self.passed,
            _ => 0,
        }
    }

    /// Gives turns to the front while the bucket has enough, and notes whom to wake: those, and the
    /// new front if it may come earlier than it was told.
    pub(super) fn advance(&mut self, bucket: &Bucket, now: u64) {
        if self.waiting() == 0 {
            return;
        }
        while let Some(front) = self.places.get_mut(self.called) {
            let Some(turn) = front.turn_at(bucket, now) else {
                break;
            };
            front.turn = Some(turn);
            self.wake.extend(front.waker.take());
            self.passed = front.upto;
            self.called += 1;
        }
        if let Some(front) = self.places.get_mut(self.called) {
            let comes = bucket.turn_after(0, front.n, now);
            if comes.is_none_or(|wait| now.saturating_add(wait) < front.told) {
                self.wake.extend(front.waker.take());
            }
        }
        self.publish(bucket);
    }

    /// Those to be woken, and those to be dropped.
    pub(super) fn wakers(&mut self) -> (Vec<Waker>, Vec<Waker>) {
        let (wake, retired) = (&mut self.wake, &mut self.retired);
        (std::mem::take(wake), std::mem::take(retired))
    }

    /// Takes a turn at once if nobody waits and there is enough, else the last place; refuses if
    /// more than `max` would wait then or its turn came after `deadline`.
    pub(super) fn join(
        &mut self,
        bucket: &Bucket,
        n: u32,
        now: u64,
        deadline: Option<u64>,
        max: usize,
    ) -> Result<Joined, WaitRefused> {
        self.advance(bucket, now);
        if let Some(granted) = self.take_if_first(bucket, n, now) {
            return Ok(Joined::Granted(granted));
        }
        self.admits(bucket, n, now, deadline, max)?;
        if self.waiting() == 0 {
            // From here on nobody else takes: what is true now stays so.
            bucket.set_queued(n.into());
            bucket.set_line(true);
        }
        let joined = self.join_closed(bucket, n, now, deadline, max);
        self.publish(bucket);
        joined
    }

    fn join_closed(
        &mut self,
        bucket: &Bucket,
        n: u32,
        now: u64,
        deadline: Option<u64>,
        max: usize,
    ) -> Result<Joined, WaitRefused> {
        if let Some(granted) = self.take_if_first(bucket, n, now) {
            return Ok(Joined::Granted(granted));
        }
        let told = self.admits(bucket, n, now, deadline, max)?;
        let id = self.next_id;
        self.next_id += 1;
        self.places.push_back(Place {
            id,
            n,
            upto: self.passed + self.queued() + u64::from(n),
            deadline,
            told,
            waker: None,
            turn: None,
        });
        Ok(Joined::Place(id))
    }

    fn take_if_first(&self, bucket: &Bucket, n: u32, now: u64) -> Option<Granted> {
        if self.waiting() > 0 {
            return None;
        }
        bucket.take_in_turn(n, now).ok()
    }

    /// The time at which a last place would have its turn, if it may be taken.
    fn admits(
        &self,
        bucket: &Bucket,
        n: u32,
        now: u64,
        deadline: Option<u64>,
        max: usize,
    ) -> Result<u64, WaitRefused> {
        let wait = bucket.turn_after(self.queued(), n, now);
        let refused = |reason| Err(refused(bucket, reason, now, wait));
        let Some(comes) = wait.map(|wait| now.saturating_add(wait)) else {
            return refused(WaitReason::Cost);
        };
        if self.waiting() >= max {
            return refused(WaitReason::QueueFull);
        }
        if deadline.is_some_and(|deadline| comes > deadline) {
            return refused(WaitReason::Deadline);
        }
        Ok(comes)
    }

    /// What became of `id`; leaves a waker if it still waits. `None` if it is not in the line.
    pub(super) fn ask(
        &mut self,
        bucket: &Bucket,
        id: u64,
        now: u64,
        waker: &Waker,
    ) -> Option<Answer> {
        let index = self.index(id)?;
        // Who asks needs no waking.
        let old = self.places.get_mut(index)?.waker.take();
        self.retired.extend(old);
        self.advance(bucket, now);
        let place = self.places.get_mut(index)?;
        if place.turn.is_some() {
            return self.leave(bucket, id, now).map(Answer::Turn);
        }
        let ahead = place.upto - u64::from(place.n) - self.passed;
        let wait = bucket.turn_after(ahead, place.n, now);
        let reason = match wait.map(|wait| now.saturating_add(wait)) {
            None => WaitReason::Cost,
            Some(comes) if place.deadline.is_some_and(|deadline| comes > deadline) => {
                WaitReason::Deadline
            }
            Some(comes) => {
                place.told = comes;
                place.waker = Some(waker.clone());
                return wait.map(Answer::In);
            }
        };
        self.leave(bucket, id, now);
        Some(Answer::Turn(Err(refused(bucket, reason, now, wait))))
    }

    /// Takes `id` out of the line; those behind move up. Answers its turn if it had come and it is in
    /// the line at all.
    fn leave(
        &mut self,
        bucket: &Bucket,
        id: u64,
        now: u64,
    ) -> Option<Result<Granted, WaitRefused>> {
        let index = self.index(id)?;
        let place = self.places.remove(index)?;
        self.retired.extend(place.waker);
        if index < self.called {
            self.called -= 1;
            return place.turn;
        }
        for behind in self.places.range_mut(index..) {
            behind.upto -= u64::from(place.n);
        }
        self.publish(bucket);
        self.advance(bucket, now);
        None
    }

    /// As [`leave`](Self::leave), for one who gives up: its turn is put back if it had come.
    pub(super) fn give_up(&mut self, bucket: &Bucket, id: u64, now: u64) {
        if let Some(Ok(granted)) = self.leave(bucket, id, now) {
            let taken = granted.taken;
            // Whoever waits for it is asked next.
            let _ = bucket.give_back(taken.nanos, taken.fill, now);
        }
        self.advance(bucket, now);
    }

    /// Tells the calls that do not wait whether somebody does, and for how much.
    fn publish(&self, bucket: &Bucket) {
        bucket.set_queued(self.queued());
        if self.waiting() == 0 {
            bucket.set_line(false);
        }
    }

    fn index(&self, id: u64) -> Option<usize> {
        self.places.binary_search_by_key(&id, |place| place.id).ok()
    }
}

/// What came of joining the line.
#[derive(Debug)]
pub(super) enum Joined {
    Granted(Granted),
    Place(u64),
}

impl Place {
    /// What its turn gives at `now`, if it is the front; `None` while it has to wait.
    fn turn_at(&self, bucket: &Bucket, now: u64) -> Option<Result<Granted, WaitRefused>> {
        if self.deadline.is_some_and(|deadline| now > deadline) {
            let wait = bucket.turn_after(0, self.n, now);
            return Some(Err(refused(bucket, WaitReason::Deadline, now, wait)));
        }
        match bucket.take_in_turn(self.n, now) {
            Ok(granted) => Some(Ok(granted)),
            Err(limited) if limited.retry_after.is_none() => Some(Err(WaitRefused {
                reason: WaitReason::Cost,
                limited,
            })),
            Err(_) => None,
        }
    }
}

fn refused(bucket: &Bucket, reason: WaitReason, now: u64, wait: Option<u64>) -> WaitRefused {
    WaitRefused {
        reason,
        limited: Limited {
            remaining: 0,
            ..bucket.limited(now, wait)
        },
    }
}
