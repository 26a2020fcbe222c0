//! What an adapter of an engine is.

use std::{error::Error, time::Duration};

use resilience_core::route::{Failure, Intent, Observation, Position};

/// One node of a replicated store, as the adapter of its engine reaches it.
///
/// All futures may be dropped at any await: an adapter keeps no connection whose state it does not
/// know.
pub trait Node: Send + Sync + 'static {
    /// How far a node is, in the words of the engine.
    type Position: Position;
    /// What a lease gives its holder. Dropped, it is given back to a pool, or closed.
    type Connection: Send + 'static;
    /// What goes wrong with a node.
    type Error: Error + Send + Sync + 'static;

    /// Looks at the node. `at` is the time of the router's clock before the question was sent, and
    /// is put into the answer.
    ///
    /// It needs no bound in time: whoever asks gives it one, and drops the future.
    ///
    /// # Errors
    ///
    /// The node did not answer, or not in a way that can be understood.
    fn observe(
        &self,
        at: Duration,
    ) -> impl Future<Output = Result<Observation<Self::Position>, Self::Error>> + Send;

    /// A connection to the run of the node that was looked at; see
    /// [`Observation::incarnation`]. One that cannot write is best told so by the engine
    /// (a read-only session) for an `intent` that only reads.
    ///
    /// # Errors
    ///
    /// There is none, or it leads to another run of the node; [`failure`](Self::failure) says which.
    fn connect(
        &self,
        incarnation: u64,
        intent: Intent,
    ) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// The epoch and the position of the node after the last commit on `connection`: what the token
    /// of that commit says.
    ///
    /// # Errors
    ///
    /// The node did not answer. [`failure`](Self::failure) says [`Failure::Failed`] of each of them,
    /// whatever the engine said: the commit holds, and a call of
    /// [`Cluster::run`](super::Cluster::run) that asks for its token would have its effect twice.
    fn position(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(u64, Self::Position), Self::Error>> + Send;

    /// What an error says about the call and the node.
    fn failure(&self, error: &Self::Error) -> Failure;
}
