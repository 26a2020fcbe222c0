use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use resilience_core::breaker::{Classify, Outcome, ResultClassifier};
use resilience_core::cache::Terms;

use super::CacheStatus;
use crate::coalesce::{Share, ShareAll, ShareAnswers};

/// Whether, for how long, and under which tags a result is kept.
#[derive(Clone, Debug)]
#[must_use]
pub struct Keep {
    pub(super) terms: Option<Terms>,
    pub(super) weight: u64,
    pub(super) tags: Vec<Arc<str>>,
}

impl Keep {
    /// Not at all. An older entry of the same key goes as well.
    pub const fn not() -> Self {
        Self {
            terms: None,
            weight: 1,
            tags: Vec::new(),
        }
    }

    /// On these terms, with the weight 1 and no tags.
    pub const fn on(terms: Terms) -> Self {
        Self {
            terms: Some(terms),
            weight: 1,
            tags: Vec::new(),
        }
    }

    /// Fresh for so long, then stale as the settings say.
    pub const fn fresh_for(time: Duration) -> Self {
        Self::on(Terms::fresh_for(time))
    }

    /// As a negative answer, for so long.
    pub const fn negative_for(time: Duration) -> Self {
        Self::on(Terms::negative_for(time))
    }

    pub(super) fn is_negative(&self) -> bool {
        self.terms.is_some_and(|terms| terms.is_negative())
    }

    /// What it weighs, by the measure of `max_weight`, beside its tags and
    /// [`ENTRY`](super::ENTRY), which are added. HTTP responses are weighed in bytes, to
    /// which this is added.
    pub const fn weight(mut self, weight: u64) -> Self {
        self.weight = weight;
        self
    }

    /// The entry goes with [`Store::invalidate_tag`](super::Store::invalidate_tag) of this tag.
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// What a cache does with results.
pub trait Rules<T, E>: Share<T, E, Kept: Send + Sync + 'static> {
    /// How the call ended: on a failure a stale entry stands in, if there is one. A result that says
    /// nothing about the upstream (ignored) is passed on and changes no entry.
    fn outcome(&self, result: Result<&T, &E>) -> Outcome;

    /// Whether the result is kept, and how. Of a failure only a negative answer is, and that only
    /// if no stale entry can stand in.
    fn keep_for(&self, result: Result<&T, &E>) -> Keep;

    /// What an entry weighs.
    fn weigh(&self, kept: &Self::Kept, keep: &Keep) -> u64 {
        let _ = kept;
        keep.weight
    }

    /// Notes in an answer where it came from. Nothing by default.
    fn mark(&self, answer: &mut T, status: CacheStatus) {
        let _ = (answer, status);
    }
}

/// Rules from a function of the result.
#[derive(Clone, Copy)]
pub struct ByRule<F, C = ResultClassifier, H = ShareAll> {
    rule: F,
    classifier: C,
    share: H,
}

impl<F> ByRule<F> {
    /// Keeps results as `rule`, a `Fn(Result<&T, &E>) -> Keep`, says. Each `Err` is a failure.
    pub const fn new(rule: F) -> Self {
        Self {
            rule,
            classifier: ResultClassifier,
            share: ShareAll,
        }
    }
}

impl<F, C, H> ByRule<F, C, H> {
    /// Failures are what `classifier` says, which may be the breaker's.
    pub fn classify<D>(self, classifier: D) -> ByRule<F, D, H> {
        ByRule {
            rule: self.rule,
            classifier,
            share: self.share,
        }
    }

    /// Keeps and shares answers only, for errors that are not `Clone`.
    pub fn answers_only(self) -> ByRule<F, C, ShareAnswers> {
        ByRule {
            rule: self.rule,
            classifier: self.classifier,
            share: ShareAnswers,
        }
    }
}

impl<F, C, H: Share<T, E>, T, E> Share<T, E> for ByRule<F, C, H> {
    type Kept = H::Kept;

    fn keep(&self, result: Result<&T, &E>) -> Option<H::Kept> {
        self.share.keep(result)
    }

    fn give(&self, kept: &H::Kept) -> Result<T, E> {
        self.share.give(kept)
    }
}

impl<F, C, H, T, E> Rules<T, E> for ByRule<F, C, H>
where
    F: Fn(Result<&T, &E>) -> Keep,
    C: Classify<T, E>,
    H: Share<T, E, Kept: Send + Sync + 'static>,
{
    fn outcome(&self, result: Result<&T, &E>) -> Outcome {
        self.classifier.classify(result)
    }

    fn keep_for(&self, result: Result<&T, &E>) -> Keep {
        (self.rule)(result)
    }
}

// By hand: closures have no `Debug`.
impl<F, C, H> fmt::Debug for ByRule<F, C, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByRule")
    }
}
