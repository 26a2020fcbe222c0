use resilience_core::balance::Criteria;

/// What a request asks of the endpoint it goes to.
///
/// A function of the request to a key is one: calls of one key go to one endpoint under
/// [`Strategy::ConsistentHash`](resilience_core::balance::Strategy::ConsistentHash). Make the key by
/// [`hash_key`](resilience_core::balance::hash_key).
pub trait CriteriaOf<Req> {
    /// The criteria of `request`.
    fn criteria_of<'a>(&self, request: &'a Req) -> Criteria<'a>;
}

/// All requests are alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Any;

impl<Req> CriteriaOf<Req> for Any {
    #[inline]
    fn criteria_of<'a>(&self, _: &'a Req) -> Criteria<'a> {
        Criteria::default()
    }
}

impl<Req, F: Fn(&Req) -> u64> CriteriaOf<Req> for F {
    fn criteria_of<'a>(&self, request: &'a Req) -> Criteria<'a> {
        Criteria::default().key(self(request))
    }
}
