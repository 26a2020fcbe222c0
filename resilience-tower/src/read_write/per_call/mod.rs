//! Read/write split per call, over nodes that are services: each request goes to the right one.
//!
//! The rules of routing are those of [`resilience_core::route`]; what a request asks for, and what an
//! answer says of the node, is told by its rules: [`Ask`] and [`Verdict`].
//!
//! # How a call ends
//!
//! | the answer | a read | a write | one that may run twice |
//! |---|---|---|---|
//! | says nothing against the node | is given | is given | is given |
//! | says that the call did not run | elsewhere | where the primary is by then | likewise |
//! | is an error, and it may have run | elsewhere | [`OutcomeUnknown`](super::Error::OutcomeUnknown) | where the primary is by then |
//! | is a response that tells a failure of the node | elsewhere | is given | where the primary is by then |
//!
//! Elsewhere is within the attempts and the retry budget of the cluster, except for a read that was not
//! sent, and only if the request can be sent again ([`Replay`](crate::retry::Replay)). If it cannot, or
//! no other node will do, a response is given as it is. A write that may have run, and ends without a
//! response, is an `OutcomeUnknown` whatever happened last.
//!
//! # Where it stands
//!
//! As a balancer does: inside of what is kept for the store as a whole (deadline, rate limit), and in
//! place of retries, as it knows better than these what may be sent where.
//!
//! # What a clone shares
//!
//! The cluster. Each call clones the service of its node.
//!
//! # Why is it always ready?
//!
//! Which node a call needs is known only with the request. Its readiness is asked by the response
//! future, and the very clone that became ready is called.
//!
//! # What a call costs
//!
//! A call that is routed at once allocates nothing. One that has to wait, look or go elsewhere
//! allocates the future of that search.

mod future;
mod rules;
mod seek;
mod service;

pub use self::{
    future::ResponseFuture,
    rules::{Ask, Endpoint, Plain, Verdict, Went},
    service::ReadWrite,
};
