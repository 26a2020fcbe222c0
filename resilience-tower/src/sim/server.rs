//! When an upstream answers a call, and what: no runtime, time as an argument, in nanoseconds.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::{
    random::Stream,
    service::Failure,
    upstream::{Fault, Upstream},
};

/// The state of an upstream.
///
/// All that will go wrong is known beforehand, but for a death of a full line. So the answer to a
/// call is known when it comes.
#[derive(Debug)]
pub(super) struct Server {
    model: Upstream,
    random: Stream,
    /// When each server is free; as many as work or will.
    busy: BinaryHeap<Reverse<u64>>,
    /// When the work on those in line begins.
    line: VecDeque<u64>,
    /// Since when it is up.
    up_since: u64,
    /// Until when it is down, of a full line.
    dead_until: u64,
    deaths: u64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    At(u64, Result<(), Failure>),
    Never,
}

impl Server {
    pub(super) fn new(model: Upstream, random: Stream) -> Self {
        Self {
            model,
            random,
            busy: BinaryHeap::new(),
            line: VecDeque::new(),
            up_since: 0,
            dead_until: 0,
            deaths: 0,
        }
    }

    /// How often it has died; calls of an earlier life are cut off.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths
    }

    /// A call comes.
    pub(super) fn arrive(&mut self, now: u64) -> Fate {
        // Drawn in any case, so that the calls after it do not depend on how this one ends.
        let work = self.model.service.draw(&mut self.random);
        let luck = self.random.unit();
        self.restart(now);
        if now < self.dead_until || self.is(now, Fault::Down) {
            return Fate::At(now, Err(Failure::Down));
        }
        if self.is(now, Fault::Silent) {
            return Fate::Never;
        }
        while self.line.front().is_some_and(|begin| *begin <= now) {
            self.line.pop_front();
        }
        let free = self.free(now);
        if free > now && self.line.len() >= self.model.line {
            return match self.model.restart {
                Some(restart) => self.die(now, restart),
                None => Fate::At(now, Err(Failure::Full)),
            };
        }
        self.busy.pop();
        let done = free + (work as f64 * self.slowness(free)) as u64;
        self.busy.push(Reverse(done));
        if free > now {
            self.line.push_back(free);
        }
        self.end(now, done, luck)
    }

    /// When a server is free for one more call.
    fn free(&mut self, now: u64) -> u64 {
        if self.busy.len() < self.model.servers {
            self.busy.push(Reverse(now));
        }
        let Reverse(free) = self.busy.peek().copied().unwrap_or(Reverse(now));
        free.max(now)
    }

    fn is(&self, now: u64, what: Fault) -> bool {
        self.faults(now).any(|fault| fault == what)
    }

    fn faults(&self, now: u64) -> impl Iterator<Item = Fault> {
        let at = self.model.faults.iter();
        at.filter(move |(span, _)| span.contains(&now))
            .map(|(_, fault)| *fault)
    }

    /// What it had before it was down is gone.
    fn restart(&mut self, now: u64) {
        let ends = self.model.faults.iter().filter_map(|(span, fault)| {
            (*fault == Fault::Down && span.end <= now).then_some(span.end)
        });
        let back = ends.max().unwrap_or(0);
        let back = back.max(if self.dead_until <= now {
            self.dead_until
        } else {
            0
        });
        if back > self.up_since {
            self.up_since = back;
            self.busy.clear();
            self.line.clear();
        }
    }

    fn die(&mut self, now: u64, restart: u64) -> Fate {
        self.deaths += 1;
        self.dead_until = now.saturating_add(restart);
        Fate::At(now, Err(Failure::Down))
    }

    /// How many times as long the work takes that begins at `time`.
    fn slowness(&self, time: u64) -> f64 {
        let faults = self.faults(time).map(|fault| match fault {
            Fault::Slow(factor) => factor,
            _ => 1.0,
        });
        let cold = match self.model.warm_up {
            Some((lasts, factor)) if self.up_since > 0 && time - self.up_since < lasts => {
                let left = 1.0 - (time - self.up_since) as f64 / lasts as f64;
                1.0 + (factor - 1.0) * left
            }
            _ => 1.0,
        };
        faults.product::<f64>() * cold
    }

    /// What the answer is that is ready at `done`.
    fn end(&self, now: u64, done: u64, luck: f64) -> Fate {
        let begins = |what: Fault| {
            let faults = self.model.faults.iter();
            let later = faults.filter(move |(span, fault)| {
                *fault == what && (now..=done).contains(&span.start) && !span.is_empty()
            });
            later.map(|(span, _)| span.start).min()
        };
        if let Some(cut) = begins(Fault::Down) {
            return Fate::At(cut, Err(Failure::Cut));
        }
        if self.is(done, Fault::Silent) {
            return Fate::Never;
        }
        let fails = self.faults(done).any(|fault| match fault {
            Fault::Failing(share) => luck < share,
            _ => false,
        });
        let answer = if fails { Err(Failure::Failed) } else { Ok(()) };
        Fate::At(done, answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::random::Times;
    use super::*;

    #[test]
    fn who_stood_in_line_before_it_was_down_is_not_there_after() {
        const SECOND: u64 = 1_000_000_000;
        let down = Duration::from_secs(1)..Duration::from_secs(2);
        let model = Upstream::new()
            .servers(1)
            .line(1)
            .service_time(Times::exactly(Duration::from_secs(10)))
            .fault(down, Fault::Down);
        let mut server = Server::new(model, Stream::new(1, 0));
        for _ in 0..2 {
            assert_eq!(server.arrive(0), Fate::At(SECOND, Err(Failure::Cut)));
        }
        for done in [13, 23] {
            assert_eq!(server.arrive(3 * SECOND), Fate::At(done * SECOND, Ok(())));
        }
        assert_eq!(
            server.arrive(3 * SECOND),
            Fate::At(3 * SECOND, Err(Failure::Full))
        );
    }
}
