//! Read/write split over HTTP backends that tell a version: any store behind HTTP can be split.
//!
//! # What a backend tells
//!
//! | header | value | where |
//! |---|---|---|
//! | `x-node-role` | `primary` or `replica` | in the answer to a look |
//! | `x-node-epoch` | a whole number that goes up with every change of the primary | in the answer to a look, and to a write |
//! | `x-node-position` | a whole number that goes up with every write: the version that the node has | in the answer to a look, and to a write: the version with that write |
//! | `x-node-cluster` | a whole number, the same on all nodes of a store; 0 if it is absent | in the answer to a look |
//! | `x-node-incarnation` | a whole number, another after each start; 0 if it is absent | in the answer to a look |
//! | `x-node-history` | each epoch before and where it ended, oldest first: `1:100, 2:250` | of a primary after a change, in the answer to a look |
//!
//! Numbers have no sign and no leading zeros, and are below 2^64. A look is a `HEAD` of a path
//! ([`Node::path`]), answered with 2xx; anything else is no answer, and the node is down.
//!
//! A backend that takes over tells an epoch that is newer than all before. It must not tell a position
//! before the version can be read there, nor answer a write before the position that it tells is its
//! own. Without a history, tokens of an epoch before are refused as
//! [`UnknownHistory`](super::Reason::UnknownHistory): nobody says whether the write is there.
//!
//! # What a request asks for
//!
//! By [`ByMethod`]: safe methods (GET, HEAD, OPTIONS, TRACE) read, all others write; a read that has a
//! token, in its extensions, its header or its cookie, sees at least that write. The response to a
//! write has the token in its extensions, and in header and cookie.
//!
//! # Who does the I/O
//!
//! Any service of `http::Request`, such as the pooled client of hyper-util: one for all nodes, as
//! [`Origin`] puts the address of the node into each request. `Host` is left as it is; clients set it
//! by the address where it is absent.

mod error;
mod node;
mod origin;
mod rules;

pub use self::{
    error::Error,
    node::Node,
    origin::{Origin, OriginError},
    rules::{ByMethod, Lost, OnError},
};
