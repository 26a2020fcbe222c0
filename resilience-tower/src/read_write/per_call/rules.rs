//! What requests ask for, and what answers say.

use std::{fmt, sync::Arc};

use crate::{
    read_write::{Checkout, Failure, Node, Why},
    retry::{CloneRequest, Replay},
};

/// A [`Node`] whose calls are those of a tower service.
pub trait Endpoint: Node {
    /// The service.
    type Service: Clone;

    /// The service of this node, which is cloned once per attempt.
    fn service(&self) -> &Self::Service;
}

/// What a request asks for.
pub trait Ask<Req, P> {
    /// How requests are kept for another attempt; cloned once per call.
    type Replay: Replay<Req> + Clone;

    /// That.
    fn replay(&self) -> &Self::Replay;

    /// What `request` asks for.
    fn checkout(&self, request: &Req) -> Checkout<P>;
}

/// What an answer says of the node that gave it.
pub trait Verdict<P, T, E> {
    /// What is given to the caller in place of the node's response.
    type Response;

    /// What an answer says against the node; `None`: nothing.
    fn failure(&self, result: Result<&T, &E>) -> Option<Failure>;

    /// The response for the caller, and where it is from.
    fn answer(&self, response: T, went: Went) -> Self::Response;
}

/// Where the answer of a call is from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Went {
    /// The node's name.
    pub node: Arc<str>,
    /// Why it was that node.
    pub why: Why,
    /// Attempts that were made, this one included.
    pub attempts: u32,
    /// The cluster that it is a node of.
    pub cluster: u64,
}

/// Rules of two functions: what a request asks for, and what an error says of the node. Requests are
/// cloned, and every response is an answer, which is given together with where it is [from](Went).
#[derive(Clone, Copy)]
pub struct Plain<F, G> {
    checkout: F,
    failure: G,
}

impl<F, G> Plain<F, G> {
    /// `checkout` is a `Fn(&Request) -> Checkout<P>`, `failure` a `Fn(&Error) -> Failure`.
    /// [`Lost`](Failure::Lost) is the safe answer for an error of which nothing is known.
    pub const fn new(checkout: F, failure: G) -> Self {
        Self { checkout, failure }
    }
}

impl<F, G, Req, P> Ask<Req, P> for Plain<F, G>
where
    F: Fn(&Req) -> Checkout<P>,
    Req: Clone,
{
    type Replay = CloneRequest;

    fn replay(&self) -> &CloneRequest {
        &CloneRequest
    }

    fn checkout(&self, request: &Req) -> Checkout<P> {
        (self.checkout)(request)
    }
}

impl<F, G, P, T, E> Verdict<P, T, E> for Plain<F, G>
where
    G: Fn(&E) -> Failure,
{
    type Response = (T, Went);

    fn failure(&self, result: Result<&T, &E>) -> Option<Failure> {
        result.err().map(&self.failure)
    }

    fn answer(&self, response: T, went: Went) -> (T, Went) {
        (response, went)
    }
}

// By hand: closures have no `Debug`.
impl<F, G> fmt::Debug for Plain<F, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}
