use resilience_core::rate_limit::{AllAdmitted, Check, NotAll, Quota, check_all};

use super::{Admission, Ask, Limit, NoKey, Part, Quotas, Refusal};

/// Several limits at once: a call counts against every one of them, or, refused by any, against
/// none.
///
/// Of a tuple of two to four limits; their places are those in the tuple. A request that has no
/// key for one of them is refused. The wait that a refusal tells is the longest of all. Each
/// limit is asked first and taken from then, in an order that is the same everywhere; see
/// [`check_all`] for what that means under races.
///
/// # Examples
///
/// 10 per second for each tenant, 100 for all of them, and a listing counts five times:
///
/// ```
/// use resilience_core::rate_limit::{KeyedRateLimiter, Quota, RateLimiter};
/// use resilience_tower::rate_limit::keyed::Keyed;
/// use resilience_tower::rate_limit::{All, RateLimitLayer};
///
/// struct Request {
///     tenant: u64,
///     listing: bool,
/// }
///
/// let tenants = KeyedRateLimiter::<u64>::new(Quota::per_second(10)?, 10_000);
/// let everybody = RateLimiter::new(Quota::per_second(100)?);
/// let layer = RateLimitLayer::new(All::of((
///     Keyed::new(tenants, |request: &Request| request.tenant),
///     everybody,
/// )))
/// .cost(|request: &Request| if request.listing { 5 } else { 1 });
/// # let _ = layer;
/// # Ok::<(), resilience_core::rate_limit::QuotaError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct All<T> {
    limits: T,
}

impl<T> All<T> {
    /// All of a tuple of limits.
    pub fn of(limits: T) -> Self {
        Self { limits }
    }

    /// The limits.
    pub fn limits(&self) -> &T {
        &self.limits
    }
}

/// What `check_all` answered, or the place of the limit that has no key.
type Answer = Result<Result<Option<AllAdmitted>, NotAll>, usize>;

/// Turns the answer into this module's terms; `quota` finds the one of a place.
fn told(answer: Answer, ask: Ask, quota: impl Fn(usize) -> Quota) -> Result<Admission, Refusal> {
    let quota = |place| ask.quota.then(|| quota(place));
    match answer {
        Ok(Ok(Some(all))) => Ok(Admission::new(
            all.tightest,
            all.admitted,
            quota(all.tightest),
            ask.cost,
        )),
        Ok(Err(not)) => {
            let by = not.refused_by;
            Err(Refusal::limited(by, not.limited, quota(by)))
        }
        Err(place) => Err(Refusal::no_key(place)),
        // PANIC-FREE: `None` is the answer to an empty list, and no tuple below is empty.
        Ok(Ok(None)) => Err(Refusal::no_key(0)),
    }
}

/// Nests `with_check`, so that all checks and their keys live on the stack.
macro_rules! nested {
    ($request:ident, $n:ident, [$($check:ident)*]) => {
        Ok(check_all(&[$($check),*]))
    };
    ($request:ident, $n:ident, [$($check:ident)*] $limit:ident = $place:literal $($rest:tt)*) => {
        $limit
            .with_check($request, $n, |$limit: &dyn Check| {
                nested!($request, $n, [$($check)* $limit] $($rest)*)
            })
            .unwrap_or_else(|NoKey| Err($place))
    };
}

macro_rules! all_of {
    ($($type:ident $limit:ident = $place:literal),*) => {
        impl<Req, $($type),*> Limit<Req> for All<($($type,)*)>
        where
            $($type: Part<Req>),*
        {
            fn admit(&self, request: &Req, ask: Ask) -> Result<Admission, Refusal> {
                let n = ask.cost;
                let ($($limit,)*) = &self.limits;
                let answer: Answer = nested!(request, n, [] $($limit = $place)*);
                told(answer, ask, |place| match place {
                    $($place => $limit.quota_for(request),)*
                    _ => self.limits.0.quota_for(request),
                })
            }
        }

        impl<$($type: Quotas),*> Quotas for All<($($type,)*)> {
            fn quotas(&self) -> Vec<Quota> {
                let ($($limit,)*) = &self.limits;
                [$($limit.quotas()),*].concat()
            }
        }
    };
}

all_of!(A a = 0, B b = 1);
all_of!(A a = 0, B b = 1, C c = 2);
all_of!(A a = 0, B b = 1, C c = 2, D d = 3);
