//! Those who wait, by priority and arrival; all under one lock.

use std::{cmp::Reverse, collections::BTreeMap, mem, task::Waker, time::Duration};

use super::{Config, Priority, word::Word};

/// A place: the highest priority first, then who came first.
pub(super) type Id = (Reverse<Priority>, u64);

#[derive(Debug)]
pub(super) struct Line {
    pub(super) config: Config,
    waiting: BTreeMap<Id, Place>,
    /// Those whose wait has ended and who do not know it yet.
    ended: BTreeMap<Id, Ended>,
    arrivals: u64,
    wakers: Wakers,
}

#[derive(Debug, Default)]
struct Place {
    deadline: Option<Duration>,
    waker: Option<Waker>,
}

/// Wakers run foreign code when they wake and when they are dropped: not under the lock.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    pub(super) wake: Vec<Waker>,
    pub(super) retired: Vec<Waker>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// The permit is taken for it.
    Turn,
    Deadline,
    Displaced,
}

impl Line {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            waiting: BTreeMap::new(),
            ended: BTreeMap::new(),
            arrivals: 0,
            wakers: Wakers::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whom to wake, once the lock is released.
    pub(super) fn wakers(&mut self) -> Wakers {
        mem::take(&mut self.wakers)
    }

    /// A place, which may be that of a lower one; `None` when the line is full.
    pub(super) fn join(&mut self, priority: Priority, deadline: Option<Duration>) -> Option<Id> {
        let priority = Reverse(priority);
        if self.waiting.len() >= self.config.max_queue() {
            let lower = |(id, _): (&Id, &Place)| (id.0 > priority).then_some(*id);
            let last = self.waiting.last_key_value().and_then(lower)?;
            self.end(last, Ended::Displaced);
        }
        let id = (priority, self.arrivals);
        self.arrivals += 1;
        let place = Place {
            deadline,
            waker: None,
        };
        self.waiting.insert(id, place);
        Some(id)
    }

    /// Gives the turns that are possible.
    pub(super) fn advance(&mut self, word: &Word, now: Duration) {
        while let Some((id, place)) = self.waiting.first_key_value() {
            let id = *id;
            if is_over(place.deadline, now) {
                self.end(id, Ended::Deadline);
            } else if word.take_in_turn() {
                self.end(id, Ended::Turn);
            } else {
                return;
            }
        }
    }

    /// How the wait of `id` ended, told once; `None` while it goes on, and then `waker` is kept.
    pub(super) fn ask(&mut self, id: Id, now: Duration, waker: Waker) -> Option<Ended> {
        let retired = &mut self.wakers.retired;
        if let Some(place) = self.waiting.get_mut(&id)
            && !is_over(place.deadline, now)
        {
            retired.extend(place.waker.replace(waker));
            return None;
        }
        retired.push(waker);
        match self.waiting.remove(&id) {
            Some(place) => {
                retired.extend(place.waker);
                Some(Ended::Deadline)
            }
            None => self.ended.remove(&id),
        }
    }

    /// `id` is not interested any more. How its wait had ended, if it had.
    pub(super) fn leave(&mut self, id: Id) -> Option<Ended> {
        if let Some(place) = self.waiting.remove(&id) {
            self.wakers.retired.extend(place.waker);
        }
        self.ended.remove(&id)
    }

    fn end(&mut self, id: Id, how: Ended) {
        if let Some(place) = self.waiting.remove(&id) {
            self.wakers.wake.extend(place.waker);
            self.ended.insert(id, how);
        }
    }
}

/// A turn that comes at the deadline comes too late.
fn is_over(deadline: Option<Duration>, now: Duration) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}
