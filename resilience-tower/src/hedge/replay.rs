use std::fmt;

use crate::retry::Replay;

/// Clones the requests that a function says yes to: those that may be done twice at the same time.
/// The others are sent once.
#[derive(Clone, Copy)]
pub struct CloneIf<P>(pub P);

impl<P> fmt::Debug for CloneIf<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CloneIf")
    }
}

impl<P, Req> Replay<Req> for CloneIf<P>
where
    P: Fn(&Req) -> bool,
    Req: Clone,
{
    type Request = Req;
    type Kept = Req;

    fn first(&self, request: Req, again: bool) -> (Req, Option<Req>) {
        let kept = (again && (self.0)(&request)).then(|| request.clone());
        (request, kept)
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        Some(kept.clone())
    }
}
