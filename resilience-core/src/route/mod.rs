//! Read/write split: how far the nodes of a replicated store are, and what a reader asks of them.
//!
//! | question | answer |
//! |---|---|
//! | how far is a node? | a [`Position`]: [`Lsn`] of PostgreSQL, [`GtidSet`] of MariaDB, [`Offset`] of Redis, [`Counter`] of whatever counts up |
//! | does it have a write? | [`Position::covers`]: yes, not yet, never, or nobody can tell |
//! | after a failover? | a write is lost if it is past one of the [`Fork`]s since its epoch |
//! | what does a reader hold of a write? | a [`Token`], of 512 bytes at most, without a signature |
//!
//! All of it is values: nothing here asks a node.

mod fork;
mod position;
mod token;

pub use self::{
    fork::Fork,
    position::{
        Counter, Coverage, Gtid, GtidSet, Lsn, Offset, ParseError, Position, parse_history,
        parse_timeline,
    },
    token::{MAX_TOKEN, Token, TokenError},
};
