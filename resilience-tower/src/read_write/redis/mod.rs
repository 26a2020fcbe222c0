//! Redis: a primary, its replicas, and the sentinels that elect them.
//!
//! | question | answer |
//! |---|---|
//! | which node is the primary | the one that says so, and that the sentinels name at their highest config epoch |
//! | epoch | that config epoch and 1; 0 for a node that is not of it: a primary that the sentinels do not name, a replica of another history |
//! | position | replication id and offset, of `INFO replication`, with the id before and where that ended ([`Offset`](resilience_core::route::Offset)) |
//! | incarnation | run id and replication id: a replica that was filled anew is not what it was |
//! | token | the offset of the primary, asked on the connection that wrote; it may be past the write, never before it |
//! | cluster | the hash of the name by which sentinels know the primary |
//!
//! A lease is a connection of its own, so that `WATCH` and `MULTI` are safe on it. Each checkout asks
//! `INFO` on that connection first, which costs a round trip: between a look and a lease a replica may
//! have been filled from another history within the same process. A connection that was given other
//! state than data (`MULTI`, `WATCH`, `SELECT`, `AUTH` and the like) or whose answer did not come is
//! closed at the end of the lease; all others are kept.
//!
//! # A lease with several writes
//!
//! They are several: what was answered holds, also if the next one is refused. Once a command that may
//! write was answered on a lease, an error by which another did not run has the code `AFTERWRITE`, and
//! its own in the text. It counts as lost: a write in `Cluster::run` is then
//! [`OutcomeUnknown`](super::Error::OutcomeUnknown), and not begun again. Writes that belong together
//! are a transaction (`pipe().atomic()`), of which all run or none.
//!
//! The code of an error is taken for the server's. A script that has written and returns an error reply
//! with such a code (`READONLY`, `BUSY`, `OOM`) is taken for one that did not run, and may run again.
//!
//! # Where the nodes are
//!
//! Either each is told, as a [`Node`]; or the sentinels tell them, and which come and go, by
//! [`Sentinels::discover`], to which their addresses and the name of the primary are enough.
//!
//! # What must be set
//!
//! - The user of this process may run `INFO` on the nodes; the sentinels' user `SENTINEL MASTER` and
//!   `SENTINEL GET-MASTER-ADDR-BY-NAME`, and to find nodes `SENTINEL REPLICAS` (Redis 5 or newer): `ACL
//!   SETUSER app +info …` there, `+sentinel|master +sentinel|get-master-addr-by-name
//!   +sentinel|replicas` here.
//! - A node is told apart by its address, as the sentinels call it. Where they call it otherwise than
//!   this process does, [`NodeBuilder::announced`].
//! - `replica-read-only yes` (the default). Redis has no read-only session: a write that is sent on a
//!   lease for reads is refused by a replica, but not by the primary, where such a lease may lead too.
//! - `min-replicas-to-write 1` and `min-replicas-max-lag 10` bound what a primary that is cut off goes
//!   on to accept. `WAIT 1 100` on the lease, after the write, tells how many replicas have it; neither
//!   makes a write safe from failover. A primary that becomes a replica meanwhile answers `UNBLOCKED`,
//!   which counts as lost.
//! - A look that finds no connection makes one, by TCP, TLS and `AUTH`, and asks, all within one
//!   `observe_timeout` of the cluster: set it accordingly.
//!
//! # What it cannot know
//!
//! Redis acknowledges a write before any replica has it, and a failover may lose it. Its token is then
//! [`Diverged`](resilience_core::route::Reason::Diverged), as long as the primary keeps the history
//! before its own. It keeps one: after two failovers a token from before both, lost or not, is
//! [`UnknownHistory`](resilience_core::route::Reason::UnknownHistory). So is one from before a restart of
//! the primary, unless that loaded an RDB file. Neither is ever answered by a read of older data.
//!
//! Who elects is asked, not guessed. While no more than half of the sentinels answer, nobody takes writes;
//! reads go on. Sentinels that were set up anew count from 0 again: start this process anew as well.
//!
//! Without sentinels ([`NodeBuilder::without_sentinels`]) all nodes are of epoch 1. Two primaries are a
//! [`Conflict`](resilience_core::route::Reason::Conflict), and nobody takes writes; but a primary that was
//! replaced and is back is not told from the one that replaced it while only one of them can be reached.

mod connection;
mod discovery;
mod error;
mod info;
mod node;
mod sentinels;

pub use self::{
    connection::Connection,
    discovery::Discovery,
    error::Error,
    node::{Node, NodeBuilder},
    sentinels::Sentinels,
};
