//! For any history the line equals the plainest code that could be right, and nobody in it sleeps
//! past a turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    clock::ManualClock,
    rate_limit::{wait::*, *},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    /// Cost and the longest wait.
    Join(u32, Option<u64>),
    /// The waiter at this place of those there are, modulo their number.
    Poll(usize),
    Leave(usize),
    /// A call that does not wait.
    Call(u32),
    Refund(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let max_wait = prop::option::of(0..80_u64);
    prop_oneof![
        3 => (0..40_u64).prop_map(Step::Wait),
        5 => (0..6_u32, max_wait).prop_map(|(n, wait)| Step::Join(n, wait)),
        5 => any::<usize>().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => (0..4_u32).prop_map(Step::Call),
        1 => (1..4_u32).prop_map(Step::Refund),
    ]
}

/// One permit per ten nanoseconds.
const INTERVAL: u64 = 10;

/// A bucket and a line, without any cleverness.
#[derive(Default)]
struct Model {
    burst: u32,
    max: usize,
    now: u64,
    full_at: u64,
    /// Id, cost, deadline.
    line: Vec<(u32, u32, Option<u64>)>,
    /// Turns that nobody has come for: id, cost, admitted.
    called: Vec<(u32, u32, bool)>,
    /// Those given on arrival; who comes for one does not ask the line.
    at_once: Vec<u32>,
}

impl Model {
    fn take(&mut self, n: u32) -> bool {
        let next = self.full_at.max(self.now) + INTERVAL * u64::from(n);
        let fits = n <= self.burst && next - self.now <= INTERVAL * u64::from(self.burst);
        if fits || n == 0 {
            self.full_at = if n == 0 { self.full_at } else { next };
        }
        fits || n == 0
    }

    fn refund(&mut self, n: u32) {
        if self.full_at > self.now {
            let back = INTERVAL * u64::from(n);
            self.full_at = self.full_at.saturating_sub(back).max(self.now);
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(&(id, n, deadline)) = self.line.first() {
            let late = deadline.is_some_and(|deadline| self.now > deadline);
            if !late && !self.take(n) {
                break;
            }
            self.line.remove(0);
            self.called.push((id, n, !late));
        }
    }

    /// The wait of a call of `n` behind the first `ahead` of the line.
    fn wait(&self, ahead: usize, n: u32) -> u64 {
        let costs: u32 = self.line[..ahead].iter().map(|place| place.1).sum();
        let next = self.full_at.max(self.now) + INTERVAL * u64::from(costs + n);
        (next - self.now).saturating_sub(INTERVAL * u64::from(self.burst))
    }

    fn join(&mut self, id: u32, n: u32, max_wait: Option<u64>) -> Result<(), WaitReason> {
        if n == 0 {
            self.called.push((id, n, true));
            self.at_once.push(id);
            return Ok(());
        }
        self.advance();
        if self.line.is_empty() && self.take(n) {
            self.called.push((id, n, true));
            self.at_once.push(id);
            return Ok(());
        }
        let deadline = max_wait.map(|wait| self.now + wait);
        let comes = self.now + self.wait(self.line.len(), n);
        if n > self.burst {
            Err(WaitReason::Cost)
        } else if self.line.len() >= self.max {
            Err(WaitReason::QueueFull)
        } else if deadline.is_some_and(|deadline| comes > deadline) {
            Err(WaitReason::Deadline)
        } else {
            self.line.push((id, n, deadline));
            Ok(())
        }
    }

    /// Admitted, refused, or the wait.
    fn poll(&mut self, id: u32) -> Result<bool, u64> {
        if !self.at_once.contains(&id) {
            self.advance();
        }
        if let Some(at) = self.called.iter().position(|place| place.0 == id) {
            let (_, _, admitted) = self.called.remove(at);
            return Ok(admitted);
        }
        let at = self.line.iter().position(|place| place.0 == id).unwrap();
        let (_, n, deadline) = self.line[at];
        let wait = self.wait(at, n);
        if deadline.is_some_and(|deadline| self.now + wait > deadline) {
            self.line.remove(at);
            self.advance();
            return Ok(false);
        }
        Err(wait)
    }

    fn leave(&mut self, id: u32) {
        self.line.retain(|place| place.0 != id);
        if let Some(at) = self.called.iter().position(|place| place.0 == id) {
            let (_, n, admitted) = self.called.remove(at);
            if admitted {
                self.refund(n);
            }
        }
        self.advance();
    }
}

fn queue(burst: u32, max: usize) -> (WaitQueue, ManualClock) {
    let clock = ManualClock::new();
    let quota = Quota::new(1, Duration::from_nanos(INTERVAL)).unwrap();
    let limiter = RateLimiter::with_clock(quota.burst(burst).unwrap(), clock.clone());
    (limiter.wait_queue(max), clock)
}

proptest! {
    #[test]
    fn the_line_equals_a_list_and_a_bucket(
        burst in 1..6_u32, max in 0..6_usize, steps in prop::collection::vec(step(), 1..150),
    ) {
        let (queue, clock) = queue(burst, max);
        let mut model = Model { burst, max, ..Model::default() };
        let mut waiters: Vec<(u32, Waiter)> = Vec::new();
        for (id, step) in (0..).zip(steps) {
            match step {
                Step::Wait(by) => {
                    model.now += by;
                    clock.set(Duration::from_nanos(model.now));
                }
                Step::Join(n, max_wait) => {
                    let joined = queue.enqueue(n, max_wait.map(Duration::from_nanos));
                    let expected = model.join(id, n, max_wait);
                    prop_assert_eq!(joined.as_ref().err().map(|e| e.reason), expected.err());
                    waiters.extend(joined.ok().map(|waiter| (id, waiter)));
                }
                Step::Poll(at) if !waiters.is_empty() => {
                    let at = at % waiters.len();
                    let (id, waiter) = &mut waiters[at];
                    match (waiter.poll(Waker::noop()), model.poll(*id)) {
                        (Turn::Admitted(_), Ok(true)) | (Turn::Refused(_), Ok(false)) => {
                            drop(waiters.remove(at));
                        }
                        (Turn::Wait(told), Err(wait)) => {
                            prop_assert_eq!(told, Duration::from_nanos(wait));
                        }
                        (turn, expected) => prop_assert!(false, "{turn:?} {expected:?}"),
                    }
                }
                Step::Leave(at) if !waiters.is_empty() => {
                    let (id, waiter) = waiters.remove(at % waiters.len());
                    drop(waiter);
                    model.leave(id);
                }
                Step::Poll(_) | Step::Leave(_) => {}
                Step::Call(n) => {
                    let call = queue.limiter().try_acquire_n(n);
                    let wait = model.wait(model.line.len(), n);
                    let admitted = (n == 0 || model.line.is_empty()) && model.take(n);
                    prop_assert_eq!(call.is_ok(), admitted);
                    if let Err(limited) = call {
                        let wait = (n <= burst).then(|| Duration::from_nanos(wait.max(1)));
                        prop_assert_eq!(limited.retry_after, wait);
                    }
                }
                Step::Refund(n) => {
                    queue.limiter().refund(n);
                    model.refund(n);
                }
            }
            prop_assert_eq!(queue.waiting(), model.line.len());
            let queued: u32 = model.line.iter().map(|place| place.1).sum();
            prop_assert_eq!(queue.limiter().snapshot().queued, u64::from(queued));
        }
        // All that is left in line leaves it without a trace.
        drop(waiters);
        prop_assert_eq!(queue.waiting(), 0);
        clock.set(Duration::from_nanos(model.now + INTERVAL * u64::from(burst)));
        prop_assert!(queue.limiter().try_acquire_n(burst).is_ok());
    }

    // Whoever is polled only when its time has come or its waker was called has its turn to the
    // nanosecond: each takes up its share of time after those before it, and no other.
    #[test]
    fn nobody_sleeps_past_a_turn_whoever_gives_up(
        burst in 1..4_u32,
        joins in prop::collection::vec((1..4_u32, prop::option::of(0..200_u64)), 1..30),
    ) {
        let (queue, clock) = queue(burst, usize::MAX);
        let mut tasks: Vec<Task> = Vec::new();
        for (n, gives_up) in joins {
            if n <= burst {
                tasks.push(Task::new(queue.enqueue(n, None).unwrap(), n, gives_up));
            }
        }
        // When the bucket is full again, by those who were admitted.
        let (mut full_at, mut now) = (0, 0);
        while !tasks.is_empty() {
            clock.set(Duration::from_nanos(now));
            // Those who give up go first, so that what they leave is there at this moment.
            tasks.retain(|task| task.gives_up != Some(now));
            while let Some(at) = tasks.iter().position(|task| task.is_due(now)) {
                if tasks[at].poll(now) {
                    let task = tasks.remove(at);
                    prop_assert_eq!(at, 0, "the first in line");
                    let next = u64::max(full_at, now) + INTERVAL * u64::from(task.n);
                    let full = INTERVAL * u64::from(burst);
                    // Not too early; and not late: it could not have been earlier by one.
                    prop_assert!(next - now <= full);
                    full_at = next;
                }
            }
            if let Some(first) = tasks.first() {
                let next = full_at.max(now) + INTERVAL * u64::from(first.n);
                prop_assert!(next - now > INTERVAL * u64::from(burst), "the first is due");
            }
            let next = tasks.iter().flat_map(|task| [Some(task.timer), task.gives_up]);
            let next = next.flatten().filter(|&at| at > now).min();
            prop_assert!(next.is_some() || tasks.is_empty(), "a task without a timer");
            now = next.unwrap_or(now);
        }
        prop_assert_eq!(queue.waiting(), 0);
    }
}

/// A task that runs when its timer is due or it was woken.
struct Task {
    waiter: Waiter,
    n: u32,
    gives_up: Option<u64>,
    timer: u64,
    woken: Arc<Flag>,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Task {
    fn new(waiter: Waiter, n: u32, gives_up: Option<u64>) -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        Self {
            waiter,
            n,
            gives_up,
            timer: u64::MAX,
            woken,
        }
    }

    fn is_due(&self, now: u64) -> bool {
        self.timer <= now || self.woken.0.load(Ordering::SeqCst)
    }

    /// Whether it was admitted.
    fn poll(&mut self, now: u64) -> bool {
        self.woken.0.store(false, Ordering::SeqCst);
        match self.waiter.poll(&Waker::from(Arc::clone(&self.woken))) {
            Turn::Wait(wait) => {
                self.timer = now + wait.as_nanos() as u64;
                false
            }
            turn => matches!(turn, Turn::Admitted(_)),
        }
    }
}
