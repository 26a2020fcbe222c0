//! PostgreSQL 15 and later: streaming replicas, in one cluster or over several failovers.
//!
//! # What a look asks
//!
//! One message on a connection that is kept for looks, whose statements run one after the other:
//!
//! | | primary | replica |
//! |---|---|---|
//! | role | `pg_is_in_recovery()` | the same |
//! | position | `pg_current_wal_flush_lsn()` | `pg_last_wal_replay_lsn()` |
//! | epoch, after the position | timeline of `pg_walfile_name(pg_current_wal_lsn())` | `pg_stat_wal_receiver.received_tli` |
//! | cluster, incarnation: once per connection | system identifier; start of the server and of its statistics | the same |
//! | history: once per timeline | the timeline's history file | the same |
//!
//! The start of the statistics tells a crash of one server process, after which all others are begun
//! anew under the same postmaster: a replica then opens at the end of its last restart point, below
//! what it showed before.
//!
//! # Which timeline a replica is on, while it receives nothing
//!
//! Then nobody says it outright: `pg_control_checkpoint()` is late, and a timeline told too low takes a
//! lost write for one that is there. Two bounds are asked for. The replica is on no older timeline
//! than those of its last checkpoint and of its minimum recovery point, and than the one it received
//! in this run; and on no newer one than its log files. If both are the same, that is it. Otherwise
//! the look fails with [`Error::Timeline`], and the node is down until it receives again: this takes
//! a failover, and a replica that was killed since and has no primary.
//!
//! # Which privileges it needs
//!
//! | who | needs | without |
//! |---|---|---|
//! | looks | `GRANT pg_monitor`, for `pg_stat_wal_receiver` and `pg_ls_waldir()` | [`Error::Privilege`]: replicas are down |
//! | looks | the history of timelines, as below | tokens of an earlier timeline are refused as [`UnknownHistory`](super::Reason::UnknownHistory), and never read |
//! | leases | what the application needs; nothing more | |
//!
//! A history is read by `pg_read_file('pg_wal/00000002.history')`: of a superuser, or with `GRANT
//! EXECUTE ON FUNCTION pg_read_file(text)`, which opens all files of the data directory;
//! `pg_read_server_files` is not enough. Better is a function that reads those files only, on the
//! primary once, named by [`NodeBuilder::history_function`]:
//!
//! ```sql
//! CREATE FUNCTION timeline_history(timeline int) RETURNS text
//!     LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
//!     RETURN pg_read_file('pg_wal/' || upper(lpad(to_hex(timeline), 8, '0')) || '.history');
//! REVOKE ALL ON FUNCTION timeline_history(int) FROM public;
//! GRANT EXECUTE ON FUNCTION timeline_history(int) TO looks;
//! ```
//!
//! With two roles, give that of the looks to [`NodeBuilder::looks`]. One connection per node and
//! process is for looks, and a pool for leases that read, and one for those that write
//! ([`NodeBuilder::pool_size`] each), all of which count towards `max_connections`.
//!
//! # What a lease is
//!
//! A [`Connection`] of the run of the server that was looked at; one of an earlier run is closed and
//! never handed out. Those that read have `default_transaction_read_only`, so that a write that was
//! sent the wrong way fails (25006) also if the node has become the primary; a transaction that says
//! `READ WRITE` by itself may write there. The position was read
//! before the connection is handed out, and so before any snapshot of it: all that a token asks for
//! is there. In a `REPEATABLE READ` or `SERIALIZABLE` transaction all reads are as fresh as its
//! first.
//!
//! When it is dropped, a task looks whether a transaction was left open or the session may write
//! where it must not, and closes it then; otherwise it goes back to its pool with all else that it
//! has: settings (use `SET LOCAL`), advisory locks (`pg_advisory_xact_lock`), `LISTEN`, temporary
//! tables. Who leaves such a thing behind leaves it to the next lease.
//!
//! # Tokens
//!
//! | a write | its token is from |
//! |---|---|
//! | in a [`Transaction`] of ours | [`Transaction::commit`]: position and timeline come with the commit, in one message |
//! | by itself | `Lease::commit_token`: one more statement |
//!
//! With `synchronous_commit = off` (of the session or, by the former, of the transaction) it is the insert
//! position, which is ahead of what is flushed for up to three times `wal_writer_delay`. Say so to
//! [`NodeBuilder::asynchronous_commit`], or such a token counts as one of the
//! [future](super::Reason::Future) for as long. A crash of the primary loses such commits, and no
//! timeline ends there: later writes take their positions, and nothing tells that they are gone.
//! PostgreSQL promises nothing else.
//!
//! # What an error means
//!
//! | error | [`Failure`](super::Failure) |
//! |---|---|
//! | no connection, a connection to another run, no place in the pool | `NotSent`, `Misrouted`, `Misrouted` |
//! | no token for what was committed | `Failed`: it must not run again |
//! | 25006 | `Misrouted` |
//! | 57P01, 57P03, 57P05, class 53 (no connections or disk left) but for 53200 and 53400 (the statement's memory and temporary files), class 58 and XX001, XX002 (the node's disk) | `Refused`: rolled back, by the node's fault |
//! | 40001 as replay had to go on (a conflict with recovery) | `Refused` |
//! | 57P02, class 08, a connection that broke, a statement whose time was up, an answer that cannot be understood | `Lost` |
//! | all others, 40001 and 40P01 among them | `Failed` |
//!
//! A server that hangs answers nothing, and a statement that was sent to it waits. Where a read should
//! go elsewhere then, bound the statement: `timeout(limit, lease.query(..)).await??` is `Lost`.
//!
//! A serialization failure (40001) or a deadlock (40P01) has rolled back: begin the *whole*
//! transaction again, on the same lease; another node would not help.
//!
//! `Refused` speaks of the statement or transaction that ran. A closure for `Cluster::run` that
//! commits twice may have committed once.
//!
//! # Examples
//!
//! ```
//! use resilience_tower::read_write::postgres;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = "host=10.0.0.1 user=app dbname=shop".parse()?;
//! let looks = "host=10.0.0.1 user=looks dbname=shop".parse()?;
//! let node = postgres::Node::builder(app)
//!     .looks(looks)
//!     .history_function("timeline_history")
//!     .pool_size(32)
//!     .build();
//! # drop(node);
//! # Ok(())
//! # }
//! ```

mod builder;
mod connection;
mod error;
mod look;
mod node;
mod session;
mod transaction;

pub use self::{
    builder::NodeBuilder, connection::Connection, error::Error, node::Node,
    transaction::Transaction,
};
