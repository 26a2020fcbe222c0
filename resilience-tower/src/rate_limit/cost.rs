use std::fmt;

use resilience_core::rate_limit::{Check, Quota};

use super::{Admission, Ask, Limit, NoKey, Part, Quotas, Refusal};

/// A limit whose calls cost what a function finds in the request.
///
/// Nested ones multiply. The products stop at `u32::MAX`, which no burst exceeds.
#[derive(Clone)]
pub struct WithCost<L, F> {
    limit: L,
    cost: F,
}

impl<L, F> WithCost<L, F> {
    /// `limit`, each call at the cost that `cost`, a `Fn(&Request) -> u32`, finds. Cost 0 is always
    /// admitted; a cost above the burst never.
    pub fn new(limit: L, cost: F) -> Self {
        Self { limit, cost }
    }

    /// The limit.
    pub fn limit(&self) -> &L {
        &self.limit
    }

    #[cfg(feature = "redis")]
    pub(super) fn cost_of<Req>(&self, request: &Req) -> u32
    where
        F: Fn(&Req) -> u32,
    {
        (self.cost)(request)
    }
}

impl<Req, L, F> Limit<Req> for WithCost<L, F>
where
    L: Limit<Req>,
    F: Fn(&Req) -> u32,
{
    #[inline]
    fn admit(&self, request: &Req, ask: Ask) -> Result<Admission, Refusal> {
        self.limit.admit(request, ask.times((self.cost)(request)))
    }
}

impl<L: Quotas, F> Quotas for WithCost<L, F> {
    fn quotas(&self) -> Vec<Quota> {
        self.limit.quotas()
    }
}

impl<Req, L, F> Part<Req> for WithCost<L, F>
where
    L: Part<Req>,
    F: Fn(&Req) -> u32,
{
    fn with_check<T>(
        &self,
        request: &Req,
        n: u32,
        f: impl FnOnce(&dyn Check) -> T,
    ) -> Result<T, NoKey> {
        let cost = (self.cost)(request).saturating_mul(n);
        self.limit.with_check(request, cost, f)
    }

    fn quota_for(&self, request: &Req) -> Quota {
        self.limit.quota_for(request)
    }
}

// By hand: closures have no `Debug`.
impl<L: fmt::Debug, F> fmt::Debug for WithCost<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithCost")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
