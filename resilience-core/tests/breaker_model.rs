//! C.c9: for any history the breaker equals the plainest code that could be right.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;
use resilience_core::{breaker::*, clock::ManualClock};

const WINDOW: usize = 12;
const PERMITS: u32 = 3;
const NEEDED: u32 = 2;
const RESET: u64 = 100;

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    End(usize, bool),
    Drop(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Acquire),
        6 => (0..8_usize, any::<bool>()).prop_map(|(i, ok)| Step::End(i, ok)),
        1 => (0..8_usize).prop_map(Step::Drop),
        1 => (0..150_u64).prop_map(Step::Wait),
    ]
}

struct Model {
    state: State,
    era: u64,
    window: VecDeque<bool>,
    until: u64,
    openings: u32,
    spent: u32,
    out: u32,
    good: u32,
}

impl Model {
    fn acquire(&mut self, now: u64) -> Option<u64> {
        match self.state {
            State::Open if now >= self.until => {
                self.era += 1;
                self.state = State::HalfOpen;
                (self.spent, self.out, self.good) = (0, 0, 0);
            }
            State::HalfOpen if self.spent == PERMITS && self.out > 0 && now >= self.until => {
                self.era += 1;
                self.spent -= self.out;
                self.out = 0;
            }
            _ => {}
        }
        match self.state {
            State::HalfOpen if self.spent < PERMITS => {
                self.spent += 1;
                self.out += 1;
                self.until = now + RESET;
            }
            State::Closed => {}
            _ => return None,
        }
        Some(self.era)
    }

    fn end(&mut self, era: u64, ok: Option<bool>, now: u64) {
        if era != self.era {
            return;
        }
        match (self.state, ok) {
            (State::Closed, Some(ok)) => {
                self.window.push_back(ok);
                if self.window.len() > WINDOW {
                    self.window.pop_front();
                }
                let bad = self.window.iter().filter(|ok| !**ok).count();
                let row = self.window.iter().rev().take_while(|ok| !**ok).count();
                let full = self.window.len() == 6 || !ok;
                let rate = self.window.len() >= 6 && bad * 2 >= self.window.len();
                if full && rate || row >= 4 {
                    self.open(now);
                }
            }
            (State::HalfOpen, None) => {
                self.spent -= 1;
                self.out -= 1;
            }
            (State::HalfOpen, Some(ok)) => {
                self.out -= 1;
                self.good += u32::from(ok);
                if self.good == NEEDED {
                    self.era += 1;
                    self.state = State::Closed;
                    self.openings = 0;
                    self.window.clear();
                } else if self.spent - self.out - self.good > PERMITS - NEEDED {
                    self.open(now);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, now: u64) {
        self.era += 1;
        self.state = State::Open;
        self.until = now + (RESET << self.openings).min(RESET * 4);
        self.openings += 1;
    }
}

proptest! {
    #[test]
    fn the_breaker_equals_a_plain_model(steps in prop::collection::vec(step(), 0..400)) {
        let clock = ManualClock::new();
        let config = Config::builder()
            .count_window(WINDOW as u32)
            .minimum_calls(6)
            .consecutive_failures(4)
            .half_open_permits(PERMITS)
            .success_threshold(NEEDED)
            .reset_timeout(Duration::from_millis(RESET))
            .max_reset_timeout(Duration::from_millis(RESET * 4))
            .build()
            .unwrap();
        let breaker = CircuitBreaker::with_clock("model", config, clock.clone());
        let mut model = Model {
            state: State::Closed,
            era: 0,
            window: VecDeque::new(),
            until: 0,
            openings: 0,
            spent: 0,
            out: 0,
            good: 0,
        };
        let mut permits: Vec<(Permit<'_>, u64)> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Acquire => match (breaker.try_acquire(), model.acquire(now)) {
                    (Ok(permit), Some(era)) => permits.push((permit, era)),
                    (Err(rejected), None) => prop_assert_eq!(
                        rejected.retry_after(),
                        Duration::from_millis(model.until.saturating_sub(now))
                    ),
                    (real, model) => prop_assert!(false, "{real:?} but the model {model:?}"),
                },
                Step::End(index, ok) if index < permits.len() => {
                    let (permit, era) = permits.swap_remove(index);
                    permit.record(if ok { Outcome::Success } else { Outcome::Failure });
                    model.end(era, Some(ok), now);
                }
                Step::Drop(index) if index < permits.len() => {
                    let (permit, era) = permits.swap_remove(index);
                    drop(permit);
                    model.end(era, None, now);
                }
                Step::Wait(millis) => {
                    now += millis;
                    clock.set(Duration::from_millis(now));
                }
                _ => {}
            }
            let snapshot = breaker.snapshot();
            prop_assert_eq!(snapshot.state, model.state);
            if model.state == State::Closed {
                prop_assert_eq!(snapshot.calls as usize, model.window.len());
                let bad = model.window.iter().filter(|ok| !**ok).count();
                prop_assert_eq!(snapshot.failures as usize, bad);
            }
            if model.state == State::HalfOpen {
                prop_assert_eq!(snapshot.permits_out, model.out);
            }
        }
    }
}
