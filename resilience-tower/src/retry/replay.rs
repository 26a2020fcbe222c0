/// How a request is kept, so that it can be sent again.
pub trait Replay<Req> {
    /// What the inner service takes.
    type Request;
    /// What is kept while an attempt runs.
    type Kept;

    /// The request of the first attempt; and what is kept of it, or nothing when it must not or
    /// cannot be sent again. `again` is false when there will be no second attempt anyway.
    fn first(&self, request: Req, again: bool) -> (Self::Request, Option<Self::Kept>);

    /// The request once more; `None` when it has turned out that it cannot be sent again.
    fn again(&self, kept: &mut Self::Kept) -> Option<Self::Request>;
}

/// Clones every request: whatever it does, doing it twice must be harmless.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest;

impl<Req: Clone> Replay<Req> for CloneRequest {
    type Request = Req;
    type Kept = Req;

    fn first(&self, request: Req, again: bool) -> (Req, Option<Req>) {
        let kept = again.then(|| request.clone());
        (request, kept)
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        Some(kept.clone())
    }
}
