//! A candidate configuration that runs beside the live one on the same outcomes.

use std::sync::Arc;

use super::{
    classify::Outcome,
    config::Config,
    counters::Counter,
    inner::Inner,
    permit::{Admitted, flag},
    snapshot::Snapshot,
    state::State,
};

/// What a shadow would have done.
///
/// The shadow sees the calls that the live breaker admits, and nothing of those that it refuses.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ShadowSnapshot {
    /// Its settings.
    pub config: Arc<Config>,
    /// Its state and counters, as if it decided.
    pub snapshot: Snapshot,
    /// Calls that both admitted, since the shadow was set.
    pub both_admitted: u64,
    /// Calls that the live breaker admitted and the shadow would have refused.
    pub shadow_refused: u64,
    /// Calls that the live breaker refused and the shadow would have admitted.
    pub live_refused: u64,
    /// Calls that both refused.
    pub both_refused: u64,
}

/// A breaker in observe-only mode.
#[derive(Debug)]
pub(super) struct Shadow(Inner);

impl Shadow {
    pub(super) fn new(inner: Inner) -> Self {
        Self(inner)
    }

    pub(super) fn features(&self) -> u64 {
        self.0.features()
    }

    pub(super) fn config(&self) -> Config {
        Config::clone(&self.0.config.load())
    }

    fn snapshot(&self) -> ShadowSnapshot {
        let sum = |counter| self.0.counters.sum(counter);
        ShadowSnapshot {
            config: self.0.config.load_full(),
            snapshot: self.0.snapshot(),
            both_admitted: sum(Counter::BothAdmitted),
            shadow_refused: sum(Counter::ShadowRefused),
            live_refused: sum(Counter::LiveRefused),
            both_refused: sum(Counter::BothRefused),
        }
    }

    /// Whether a call at `now` would be refused; takes nothing.
    fn would_refuse(&self, now: u64) -> bool {
        let word = self.0.word();
        match word.state {
            State::Closed => false,
            State::Open => self.0.deadline(word.generation).is_none_or(|at| now < at),
            State::HalfOpen => {
                let spent = word.spent >= self.0.config.load().half_open_permits();
                spent && self.0.deadline(word.generation).is_none_or(|at| now < at)
            }
        }
    }
}

impl Inner {
    pub(super) fn shadow_snapshot(&self) -> Option<ShadowSnapshot> {
        self.shadow.load().as_ref().map(|shadow| shadow.snapshot())
    }

    /// The live breaker admitted a call: the shadow is asked as well.
    #[cold]
    pub(super) fn shadow_admits(&self, live: &mut Admitted) {
        let shadow = self.shadow.load();
        let Some(shadow) = &*shadow else { return };
        // It observes, and therefore admits.
        let Ok(admitted) = shadow.0.admit() else {
            return;
        };
        live.key |= flag::SHADOW;
        live.shadow = admitted.generation().into();
        if admitted.has(flag::PROBE) {
            live.key |= flag::SHADOW_PROBE;
        }
        let counter = if admitted.has(flag::UNJUDGED) {
            live.key |= flag::SHADOW_UNJUDGED;
            Counter::ShadowRefused
        } else {
            Counter::BothAdmitted
        };
        shadow.0.counters.add(counter);
        // Its own reading of the clock serves both, if the live one has none.
        if !live.has(flag::STAMPED) && admitted.has(flag::STAMPED) {
            live.stamp(admitted.at);
        }
    }

    #[cold]
    pub(super) fn shadow_sees_refusal(&self, now: u64) {
        if let Some(shadow) = &*self.shadow.load() {
            let counter = if shadow.would_refuse(now) {
                Counter::BothRefused
            } else {
                Counter::LiveRefused
            };
            shadow.0.counters.add(counter);
        }
    }

    /// A call that the shadow admitted ended; `None`: it was dropped.
    #[cold]
    pub(super) fn shadow_ends(&self, live: Admitted, outcome: Option<Outcome>) {
        let shadow = self.shadow.load();
        let Some(shadow) = &*shadow else { return };
        let mut key = live.shadow | flag::FULL | live.key & flag::STAMPED;
        if live.has(flag::SHADOW_PROBE) {
            key |= flag::PROBE;
        }
        if live.has(flag::SHADOW_UNJUDGED) {
            key |= flag::UNJUDGED;
        }
        let admitted = Admitted {
            key,
            at: live.at,
            shadow: 0,
        };
        match outcome {
            Some(outcome) => shadow.0.settle(admitted, outcome),
            None => shadow.0.abandon(admitted),
        }
    }
}
