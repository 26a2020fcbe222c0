//! What a layer tells the recorder.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram, Label};

use super::family as of;
use super::outcome::End;
use super::scope::Scope;

/// The handles of one layer. Each is registered when it is first needed, and held from then on.
#[derive(Debug, Default)]
pub(super) struct Meters {
    durations: Handles<&'static str, Histogram, OUTCOMES>,
    attempts: OnceLock<Histogram>,
    refusals: Handles<Refused, Counter, REFUSALS>,
}

/// As many as `End::as_str` has answers, and the place of what is one too many.
const OUTCOMES: usize = 8 + 1;

/// More than the policies of this crate have. Whoever makes up policies and reasons by the thousand
/// gets no more series than this.
const REFUSALS: usize = 48;

/// Policy and reason.
type Refused = (&'static str, &'static str);

const OTHER: &str = "other";

impl Meters {
    pub(super) fn tell(
        &self,
        scope: Scope,
        name: &Arc<str>,
        end: End,
        took: Duration,
        attempts: u32,
    ) {
        let name = || Label::new("name", Arc::clone(name));
        let (durations, refused) = match scope {
            Scope::Call => (&of::CALL_DURATION, &of::CALL_REFUSED),
            Scope::Attempt => (&of::ATTEMPT_DURATION, &of::ATTEMPT_REFUSED),
        };
        let duration = self.durations.get(end.as_str(), OTHER, |outcome| {
            let labels = vec![name(), Label::from_static_parts("outcome", outcome)];
            metrics::with_recorder(|recorder| {
                durations.describe(recorder);
                durations.histogram(recorder, labels)
            })
        });
        duration.record(took);
        if let Some(refusal) = end.refusal() {
            let pair = (refusal.policy, refusal.reason);
            let counter = self.refusals.get(pair, (OTHER, OTHER), |(policy, reason)| {
                let policy = Label::from_static_parts("policy", policy);
                let labels = vec![policy, name(), Label::from_static_parts("reason", reason)];
                metrics::with_recorder(|recorder| {
                    refused.describe(recorder);
                    refused.counter(recorder, labels)
                })
            });
            counter.increment(1);
        }
        if attempts > 0 {
            let made = self.attempts.get_or_init(|| {
                metrics::with_recorder(|recorder| {
                    of::CALL_ATTEMPTS.describe(recorder);
                    of::CALL_ATTEMPTS.histogram(recorder, vec![name()])
                })
            });
            made.record(attempts);
        }
    }
}

/// Handles by key, in the order in which they were needed first. The last place is for all keys that
/// found none.
#[derive(Debug)]
struct Handles<K, H, const N: usize>([OnceLock<(K, H)>; N]);

impl<K, H, const N: usize> Default for Handles<K, H, N> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; N])
    }
}

impl<K: Copy + PartialEq, H, const N: usize> Handles<K, H, N> {
    fn get(&self, key: K, other: K, register: impl Fn(K) -> H) -> &H {
        let (last, places) = self.0.split_last().expect("there is a place for others");
        for place in places {
            // Of two that come for one place the other goes on to the next.
            let (held, handle) = place.get_or_init(|| (key, register(key)));
            if *held == key {
                return handle;
            }
        }
        &last.get_or_init(|| (other, register(other))).1
    }
}
