//! Whether a call may start.

use super::{
    counters::Counter,
    error::{Reason, Rejected},
    events::Cause,
    inner::{Inner, Judged, feature},
    permit::{Admitted, flag},
    state::{Admission, Gear, State, Word, nanos},
};

impl Inner {
    /// A call on a closed automatic breaker; `None` in every other state. Small enough to be
    /// inlined, and so that nothing travels through memory: the short path reads one word and no
    /// clock.
    #[inline(always)]
    pub(super) fn admit_closed(&self) -> Option<Admitted> {
        let packed = self.packed();
        if Word::is_plain_closed(packed) {
            return Some(Admitted::plain(packed));
        }
        if !Word::is_closed(packed) {
            return None;
        }
        let features = self.features();
        let mut admitted = Admitted::new(Word::generation_of(packed), flag::FULL);
        if features & feature::STAMP != 0 {
            admitted.stamp(self.clock.nanos());
        }
        if features & feature::SHADOW != 0 {
            self.shadow_admits(&mut admitted);
        }
        Some(admitted)
    }

    /// A call on a breaker that may be anything.
    #[inline(never)]
    pub(super) fn admit(&self) -> Result<Admitted, Rejected> {
        let packed = self.packed();
        if Word::is_open(packed) && self.features() & feature::SHADOW == 0 {
            let now = self.clock.nanos();
            let generation = Word::generation_of(packed);
            if let Some(deadline) = self.deadline(generation)
                && now < deadline
            {
                self.counters.add(Counter::Rejected);
                let retry_after = self.remaining(generation, deadline, now);
                return Err(self.rejected(State::Open, Reason::Open, retry_after));
            }
        }
        self.admit_slowly()
    }

    fn admit_slowly(&self) -> Result<Admitted, Rejected> {
        let now = self.clock.nanos();
        loop {
            let word = self.word();
            let deadline = match (word.gear, word.state) {
                (Gear::Disabled, _) => {
                    return Ok(self.admitted(word, flag::UNCOUNTED, now));
                }
                (Gear::ForcedOpen, _) => return self.refuse(word, Reason::ForcedOpen, now, None),
                (_, State::Closed) => return Ok(self.admitted(word, 0, now)),
                (_, State::Open) => {
                    let deadline = self.deadline_or_help(word, now);
                    if now < deadline {
                        return self.refuse(word, Reason::Open, now, Some(deadline));
                    }
                    deadline
                }
                (_, State::HalfOpen) => self.deadline_or_help(word, now),
            };
            let config = self.config.load();
            let (next, admission) = word.acquire(now, deadline, &config);
            match admission {
                Admission::Call => return Ok(self.admitted(word, 0, now)),
                Admission::Refused => {
                    return self.refuse(word, Reason::ProbesSpent, now, Some(deadline));
                }
                Admission::Probe => {
                    let lease = nanos(config.lease());
                    // Before the exchange: once this probe is counted as out, its lease stands,
                    // and an older one cannot write it off.
                    if next.generation == word.generation {
                        self.set_deadline(word.generation, now, lease);
                    }
                    if self.change(word, next) {
                        self.probe_begins(word, next, now, lease);
                        return Ok(self.admitted(next, flag::PROBE, now));
                    }
                }
            }
        }
    }

    fn probe_begins(&self, from: Word, to: Word, now: u64, lease: u64) {
        self.set_deadline(to.generation, now, lease);
        // Late outcomes of the closed generation leave holes from here on, and a close of this
        // period can tell its own tag from one that is 4096 generations old.
        self.begin_window(to.generation, to.generation);
        if from.generation != to.generation {
            let cause = match from.state {
                State::Open => Cause::ResetTimeout,
                _ => Cause::LeaseExpired,
            };
            self.emit(from, to, Judged::new(cause, 0, 0), None);
        }
    }

    fn admitted(&self, word: Word, flags: u64, now: u64) -> Admitted {
        let mut admitted = Admitted::new(word.generation, flags | flag::FULL);
        let features = self.features();
        if features & feature::STAMP != 0 {
            admitted.stamp(now);
        }
        if features & feature::SHADOW != 0 && flags & flag::UNCOUNTED == 0 {
            self.shadow_admits(&mut admitted);
        }
        admitted
    }

    /// Refuses, or while observing counts that it would have.
    fn refuse(
        &self,
        word: Word,
        reason: Reason,
        now: u64,
        deadline: Option<u64>,
    ) -> Result<Admitted, Rejected> {
        let retry_after = match deadline {
            Some(deadline) => self.remaining(word.generation, deadline, now),
            None => nanos(self.config.load().reset_timeout()),
        };
        if word.gear == Gear::Observe {
            self.counters.add(Counter::WouldHaveRefused);
            return Ok(self.admitted(word, flag::UNJUDGED, now));
        }
        self.counters.add(Counter::Rejected);
        if self.features() & feature::SHADOW != 0 {
            self.shadow_sees_refusal(now);
        }
        Err(self.rejected(word.state, reason, retry_after))
    }

    #[inline]
    fn rejected(&self, state: State, reason: Reason, retry_after: u64) -> Rejected {
        Rejected {
            name: self.short_name,
            state,
            reason,
            retry_after,
        }
    }
}
