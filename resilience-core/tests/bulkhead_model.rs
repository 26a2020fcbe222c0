//! The bulkhead beside a plain model, over any sequence of calls.

use std::{task::Waker, time::Duration};

use proptest::prelude::*;
use resilience_core::{
    bulkhead::{Bulkhead, Config, OwnedPermit, Priority, Reason, Turn, Waiter},
    clock::ManualClock,
};

/// Who waits, in order of arrival; and who was given a turn and does not know it.
#[derive(Debug, Default)]
struct Model {
    limit: usize,
    max_queue: usize,
    running: usize,
    waiting: Vec<(usize, Priority, u64)>,
    ended: Vec<(usize, Option<Reason>)>,
}

impl Model {
    fn advance(&mut self, now: u64) {
        loop {
            let best = self.waiting.iter().map(|(_, priority, _)| *priority).max();
            let Some(best) = best else { return };
            let at = self
                .waiting
                .iter()
                .position(|(_, priority, _)| *priority == best);
            let at = at.expect("the best is one of them");
            let (id, _, deadline) = self.waiting[at];
            if deadline <= now {
                self.ended.push((id, Some(Reason::Deadline)));
            } else if self.running < self.limit {
                self.running += 1;
                self.ended.push((id, None));
            } else {
                return;
            }
            self.waiting.remove(at);
        }
    }

    fn enqueue(
        &mut self,
        id: usize,
        priority: Priority,
        deadline: u64,
        now: u64,
    ) -> Option<Reason> {
        if self.waiting.is_empty() && self.running < self.limit {
            self.running += 1;
            self.ended.push((id, None));
            return None;
        }
        if deadline <= now {
            return Some(Reason::Deadline);
        }
        if self.waiting.len() >= self.max_queue {
            let lowest = self.waiting.iter().map(|(_, priority, _)| *priority).min();
            let Some(lowest) = lowest.filter(|lowest| *lowest < priority) else {
                return Some(Reason::QueueFull);
            };
            let last = self
                .waiting
                .iter()
                .rposition(|(_, priority, _)| *priority == lowest);
            let (id, ..) = self
                .waiting
                .remove(last.expect("the lowest is one of them"));
            self.ended.push((id, Some(Reason::Displaced)));
        }
        self.waiting.push((id, priority, deadline));
        self.advance(now);
        None
    }

    /// `None` while it waits.
    fn ask(&mut self, id: usize, now: u64) -> Option<Option<Reason>> {
        if let Some(at) = self.ended.iter().position(|(ended, _)| *ended == id) {
            return Some(self.ended.remove(at).1);
        }
        let at = self
            .waiting
            .iter()
            .position(|(waiting, ..)| *waiting == id)?;
        let late = self.waiting[at].2 <= now;
        late.then(|| {
            self.waiting.remove(at);
            Some(Reason::Deadline)
        })
    }

    fn leave(&mut self, id: usize, now: u64) {
        self.waiting.retain(|(waiting, ..)| *waiting != id);
        if let Some(at) = self.ended.iter().position(|(ended, _)| *ended == id)
            && self.ended.remove(at).1.is_none()
        {
            self.give_back(now);
        }
    }

    fn give_back(&mut self, now: u64) {
        self.running -= 1;
        self.advance(now);
    }
}

fn config(limit: usize, max_queue: usize) -> Config {
    let builder = Config::builder().limit(limit as u32).max_queue(max_queue);
    builder.max_wait(Duration::from_secs(20)).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_does_what_a_plain_model_does(
        limit in 1..4_usize,
        max_queue in 0..4_usize,
        steps in prop::collection::vec((0..7_u8, 0..8_usize, 0..30_u64), 1..120),
    ) {
        let clock = ManualClock::new();
        let bulkhead = Bulkhead::with_clock(config(limit, max_queue), clock.clone());
        let mut model = Model { limit, max_queue, ..Model::default() };
        let mut now = 0_u64;
        let mut waiters: Vec<(usize, Waiter)> = Vec::new();
        let mut permits: Vec<OwnedPermit> = Vec::new();
        for (id, (kind, which, amount)) in steps.into_iter().enumerate() {
            match kind {
                0 => match bulkhead.try_acquire_owned() {
                    Ok(permit) => {
                        prop_assert!(model.waiting.is_empty() && model.running < model.limit);
                        model.running += 1;
                        permits.push(permit);
                    }
                    Err(refused) => {
                        prop_assert!(!model.waiting.is_empty() || model.running >= model.limit);
                        prop_assert_eq!(refused.reason, Reason::Full);
                    }
                },
                1 | 2 => {
                    let priority = [Priority::Low, Priority::Normal, Priority::High][which % 3];
                    let deadline = (now + amount).min(now + 20);
                    let own = Some(Duration::from_secs(now + amount));
                    let refused = model.enqueue(id, priority, deadline, now);
                    match bulkhead.enqueue(priority, own) {
                        Ok(waiter) => {
                            prop_assert_eq!(refused, None);
                            waiters.push((id, waiter));
                        }
                        Err(error) => prop_assert_eq!(Some(error.reason), refused),
                    }
                }
                3 if !permits.is_empty() => {
                    drop(permits.swap_remove(which % permits.len()));
                    model.give_back(now);
                }
                4 if !waiters.is_empty() => {
                    let (id, mut waiter) = waiters.swap_remove(which % waiters.len());
                    match (waiter.poll(Waker::noop()), model.ask(id, now)) {
                        (Turn::Admitted(permit), Some(None)) => permits.push(permit),
                        (Turn::Refused(refused), Some(Some(reason))) => {
                            prop_assert_eq!(refused.reason, reason);
                        }
                        (Turn::Wait(_), None) => waiters.push((id, waiter)),
                        (seen, right) => prop_assert!(false, "{seen:?} but the model {right:?}"),
                    }
                }
                5 if !waiters.is_empty() => {
                    let (id, waiter) = waiters.swap_remove(which % waiters.len());
                    drop(waiter);
                    model.leave(id, now);
                }
                6 if which < 3 => {
                    (model.limit, model.max_queue) = (which + 1, amount as usize % 4);
                    bulkhead.set_config(config(model.limit, model.max_queue));
                    model.advance(now);
                }
                _ => {
                    now += amount;
                    clock.set(Duration::from_secs(now));
                }
            }
            let snapshot = bulkhead.snapshot();
            prop_assert_eq!(snapshot.in_flight as usize, model.running);
            prop_assert_eq!(snapshot.queued, model.waiting.len());
        }
        drop((waiters, permits));
        prop_assert_eq!(bulkhead.snapshot().in_flight, 0);
        prop_assert!(bulkhead.try_acquire().is_ok());
    }
}
