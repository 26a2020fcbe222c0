//! Read/write split: each call goes to the right node of a replicated store.
//!
//! The rules (who is the primary, which replica is fresh enough, what a token says) are those of
//! [`resilience_core::route`]. This module looks at the nodes, keeps what the rules ask for (a look, a
//! wait, a place in line), connects, and learns from how calls end. What a node is, an adapter says:
//! [`Node`]. Nodes that are services, without connections to lease, are called by [`per_call`].
//!
//! # What becomes of a call
//!
//! | the router says | what is done | not longer than |
//! |---|---|---|
//! | go | a connection is made, if the node's breaker lets it | `connect_timeout` |
//! | look at one, at all | looks that begin after the call are awaited, shared by all who want them; the first that decides is enough | two `observe_timeout` |
//! | wait | so, and then as above | `max_wait`, and as above |
//! | nobody takes writes | the write waits in line until a look sees a primary | `write_wait` |
//! | no node, and some were never looked at | their first look is awaited | two `observe_timeout` |
//! | no node | the read waits until a look sees one, unless it was on all of them: a promotion hides them for a moment | `read_wait` |
//! | no node still | [`Error::NoRoute`] | |
//!
//! All of it ends at the deadline of the call. A node that was fenced, ejected, drained or started anew
//! while it was connected to is not used: the search goes on.
//!
//! # What is tried again
//!
//! | the call | failed | is tried |
//! |---|---|---|
//! | reads | to get a connection | at every other node that will do, each once, whatever the budget |
//! | reads | with a connection, before it ran or without an answer | elsewhere, within the budget and `max_attempts` |
//! | writes | before it ran | where the primary is after another look, within both |
//! | writes | without an answer | never: [`Error::OutcomeUnknown`]; one that may run twice as above |
//!
//! A node that [`Cluster::set_nodes`] has just put in the place of one of its name may know nothing of
//! itself before its first look: a call that it sends away waits for that look, and asks again.
//!
//! # Who is spared
//!
//! The balancer's ejections and the breakers learn the same of a node: connections that fail and calls
//! whose answer is lost are failures; a call that its own deadline ends says nothing; an error that is about the call is an answer, and a success. An
//! ejection moves reads to other replicas, never away from the last one, and ends by time. A breaker
//! refuses, the only node and the primary too, and lets probes through. Reads pass over an open one
//! without a retry; a write is refused with [`Error::Breaker`]. When another run of a node answers, or in
//! another role, its breaker begins anew.
//!
//! # Where it stands
//!
//! In the place of the pool of connections, innermost, with the adapter's pools within. Retries of the
//! whole operation go around it: they know what a transaction may repeat. A deadline goes in by
//! [`Checkout::deadline`]; it and a timeout around drop the call, which then says nothing about the node.
//!
//! # What a clone shares
//!
//! Everything. The looks end with the last handle; leases and their verdicts stay good.
//!
//! # What an operator must know
//!
//! - Each process looks at each node every `poll_interval` (50 ms), one look at a time whatever calls
//!   ask for: with p processes a node answers 20 p looks a second, and not more than one per round trip
//!   and process.
//! - `observation_ttl` (1 s) is shorter than the failover takes, or a primary that hangs is written to by
//!   processes that cannot see the new one.
//! - A write that waits holds its caller for `write_wait` (10 s) in each of its attempts: more than a
//!   failover usually takes, less than callers wait. Of 1024 such, one more is refused at once. Its
//!   deadline bounds all of it.
//! - Writes that wait go on in their order, as one burst, when the primary is there.
//! - A token that leaves the process is signed: [`Signer`].
//! - [`Error::OutcomeUnknown`] is for a person, or for a look at what the write would have left. A key
//!   that is unique in the store makes the write `idempotent`.
//! - Before a process ends, [`drain`](Cluster::drain) it.
//!
//! # What a lease costs
//!
//! On the short way (a node is known, its connection is at hand) a lease allocates nothing beyond the
//! connection, and takes no lock. A look that is waited for, a retry, a write in line and the future of
//! the tower service allocate.
//!
//! # Examples
//!
//! ```
//! # use resilience_tower::read_write::{Failure, Intent, Node, Observation, Role};
//! # struct Memory(Role);
//! # impl Node for Memory {
//! #     type Position = resilience_core::route::Counter;
//! #     type Connection = Vec<&'static str>;
//! #     type Error = std::io::Error;
//! #     async fn observe(&self, at: std::time::Duration) -> std::io::Result<Observation<Self::Position>> {
//! #         Ok(Observation::new(self.0, 7, 1, resilience_core::route::Counter(0), at))
//! #     }
//! #     async fn connect(&self, _: u64, _: Intent) -> std::io::Result<Self::Connection> {
//! #         Ok(Vec::new())
//! #     }
//! #     async fn position(&self, _: &mut Self::Connection) -> std::io::Result<(u64, Self::Position)> {
//! #         Ok((1, resilience_core::route::Counter(0)))
//! #     }
//! #     fn failure(&self, _: &Self::Error) -> Failure {
//! #         Failure::Lost
//! #     }
//! # }
//! use resilience_tower::read_write::{Checkout, Cluster};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (a, b) = (Memory(Role::Primary), Memory(Role::Replica));
//! let cluster = Cluster::builder([("a", a), ("b", b)]).spawn()?;
//! let mut lease = cluster.lease(&Checkout::write()).await?;
//! lease.push("insert into orders …");
//! let token = lease.commit_token().await?;
//! lease.succeeded();
//!
//! // Wherever it goes, it sees the order; should a node fail, it is tried elsewhere.
//! let read = Checkout::read(token);
//! let node = cluster.run(&read, |lease| async move { Ok(lease.node().to_owned()) }).await?;
//! # let _ = node;
//! # Ok(())
//! # }
//! ```

mod buffer;
mod builder;
mod checkout;
mod cluster;
mod error;
mod future;
#[cfg(feature = "http")]
pub mod http;
mod lease;
#[cfg(feature = "mariadb")]
pub mod mariadb;
mod member;
mod node;
pub mod per_call;
mod poll;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "http")]
mod refusal;
mod search;
mod shared;
mod signed;
mod stats;

use resilience_core::route::Request;
pub use resilience_core::route::{
    Change, Config, ConfigBuilder, ConfigError, Disposition, Event, Failure, Fork, Freshness,
    Intent, NoRoute, Observation, Position, Reason, Role, Token, Why,
};

#[cfg(feature = "http")]
pub use self::refusal::{Refuse, problem, status};
#[cfg(feature = "http")]
pub use self::signed::{NameError, TokenCookie, TokenHeader};
pub use self::{
    builder::Builder,
    checkout::{Checkout, ReadFreshness},
    cluster::{Cluster, StillRunning},
    error::{Error, Refusal},
    future::ResponseFuture,
    lease::Lease,
    node::Node,
    signed::{Signer, SigningKey, SigningKeyError, VerifyError},
    stats::{NodeFigures, Snapshot},
};
