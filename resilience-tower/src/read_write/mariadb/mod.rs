//! MariaDB: a primary and replicas that follow it by global transaction ids.
//!
//! | question | answer |
//! |---|---|
//! | which node is the primary | the one that follows nobody and whose `read_only` is off |
//! | epoch | the newest row of a table that is replicated with the data: [`Epochs`] |
//! | position | `@@gtid_binlog_state`, on a replica as far as `@@gtid_current_pos` says that it is applied ([`GtidSet::state`](resilience_core::route::GtidSet::state)); of a replica without `log_slave_updates` `@@gtid_slave_pos` |
//! | history | where each epoch began, of the same table |
//! | incarnation | when the server started, and which it is |
//! | token | `@@last_gtid` of the session that wrote |
//! | cluster | the hash of a name |
//!
//! The state of the binary log alone may be ahead of what a query sees: a transaction is in the log
//! before it is committed in the engine.
//!
//! Leases come out of pools of `mysql_async`, one for writes and one for reads, whose sessions are
//! read-only (`SET SESSION TRANSACTION READ ONLY`). A connection is reset when it is given back, which rolls
//! back what was left open. The pools end with the run of the server.
//!
//! `Cluster::run` runs a closure again on the word of its last statement. What was committed before,
//! each statement by itself, holds: statements that belong together are a transaction.
//!
//! # What must be set
//!
//! - On all nodes: `log_bin`, `log_slave_updates = ON`, `gtid_strict_mode = ON`, a `server_id` of its
//!   own; replicas follow with `MASTER_USE_GTID = slave_pos`.
//! - `read_only = ON` on all but the primary, in the configuration too, so that one that is back takes
//!   no writes. The users of applications must not have `READ ONLY ADMIN` (`SUPER` before 10.11 includes it).
//! - The user of this process: `REPLICA MONITOR` (`SHOW ALL SLAVES STATUS`), and `SELECT` on the table of
//!   epochs.
//! - A look that finds no connection makes one, authenticates and asks, all within one
//!   `observe_timeout` of the cluster: set it accordingly.
//! - Whoever promotes a node runs [`Epochs::begin`] on it: after `STOP SLAVE` and `RESET SLAVE ALL`, before
//!   `read_only = OFF`.
//! - `sync_binlog = 1` and `innodb_flush_log_at_trx_commit = 1` on the primary: otherwise a crash of the
//!   machine loses acknowledged writes, later ones take their numbers, and nothing tells.
//! - `rpl_semi_sync_master_enabled` with `rpl_semi_sync_master_wait_point = AFTER_SYNC` lowers the risk
//!   that failover loses an acknowledged write. Without it each failover may.
//!
//! # What it cannot know
//!
//! Without a table ([`NodeBuilder::without_epochs`]) all nodes are of epoch 1. Two primaries are a
//! [`Conflict`](resilience_core::route::Reason::Conflict), and nobody takes writes; but one that was replaced and
//! is back with `read_only = OFF` is not told from the one that replaced it while only one of them can be
//! reached. A lost write is told by the state of the new primary, until the server that lost it is
//! the primary again and has written past it.
//!
//! The table counts promotions that it has seen. If two nodes are promoted one after the other, and the
//! second never had the row of the first, both are of one epoch: a conflict, which an operator ends. A
//! failover manager that counts by itself inserts its own number instead.
//!
//! A server that is filled anew from a logical dump while it runs keeps its incarnation, and may be behind
//! what it showed before: take it out of the cluster meanwhile, and restart it afterwards.
//!
//! `@@last_gtid` is one id: of a lease that writes to several replication domains only the last write
//! is in its token.

mod connection;
mod epochs;
mod error;
mod node;
mod seen;

pub use self::{
    connection::Connection,
    epochs::Epochs,
    error::Error,
    node::{Node, NodeBuilder},
};
