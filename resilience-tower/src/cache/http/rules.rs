use std::fmt;

use ::http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use resilience_core::breaker::{Classify, Outcome};

use crate::breaker::http::HttpClassifier;
use crate::cache::{CacheStatus, Keep, Rules};
use crate::coalesce::http::{HttpKey, HttpShare, SharedBody, Size};
use crate::coalesce::{Share, ShareAll};

/// What a rule sees of a response.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Head<'a> {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// Rules for HTTP from a function of the response's head, a `Fn(&Head) -> Keep`.
///
/// Failures are those of the [`HttpClassifier`]; of them nothing but a negative answer is kept, and
/// of errors nothing.
#[derive(Clone)]
pub struct HttpRules<F, H = ShareAll> {
    rule: F,
    share: HttpShare<H>,
}

impl<F, H> HttpRules<F, H> {
    /// Keeps what is for all callers with the same `key`, as `rule` says.
    pub const fn new(key: HttpKey, rule: F) -> Self {
        let share = HttpShare::new(key);
        Self { rule, share }
    }
}

impl<F, H, T, E, V> Share<T, E> for HttpRules<F, H>
where
    HttpShare<H>: Share<T, E, Kept = V>,
    V: Size,
{
    type Kept = V;

    fn keep(&self, result: Result<&T, &E>) -> Option<V> {
        // It may stay for long, and takes no more than it weighs then.
        self.share.keep(result).map(Size::detached)
    }

    fn give(&self, kept: &V) -> Result<T, E> {
        self.share.give(kept)
    }
}

impl<F, H, B, E, V> Rules<Response<SharedBody<B>>, E> for HttpRules<F, H>
where
    F: Fn(&Head<'_>) -> Keep,
    B: Body,
    HttpShare<H>: Share<Response<SharedBody<B>>, E, Kept = V>,
    V: Size + Send + Sync + 'static,
{
    fn outcome(&self, result: Result<&Response<SharedBody<B>>, &E>) -> Outcome {
        HttpClassifier.classify(result)
    }

    fn keep_for(&self, result: Result<&Response<SharedBody<B>>, &E>) -> Keep {
        let Ok(response) = result else {
            return Keep::not();
        };
        (self.rule)(&Head {
            status: response.status(),
            headers: response.headers(),
        })
    }

    fn weigh(&self, kept: &V, keep: &Keep) -> u64 {
        keep.weight.saturating_add(kept.size() as u64)
    }

    fn mark(&self, answer: &mut Response<SharedBody<B>>, status: CacheStatus) {
        answer.extensions_mut().insert(status);
    }
}

// By hand: closures have no `Debug`.
impl<F, H> fmt::Debug for HttpRules<F, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpRules")
    }
}
