//! What goes wrong with a node, and what that says of the call.

use tokio_postgres::error::{DbError, SqlState};

use crate::read_write::Failure;

/// An error of a PostgreSQL node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A statement failed, or its answer did not come.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// There is no connection: nothing was sent.
    #[error("no connection")]
    NotConnected(#[source] tokio_postgres::Error),
    /// The pool gives none.
    #[error("the pool of connections is closed")]
    Closed,
    /// All connections of the pool are leased, and none was given back in time: see
    /// [`NodeBuilder::pool_wait`](super::NodeBuilder::pool_wait).
    #[error("all connections are leased")]
    Exhausted,
    /// The server has restarted since it was looked at.
    #[error("the server has restarted since it was looked at")]
    Restarted,
    /// Asked for the position of a commit, a replica answered.
    #[error("not a primary")]
    NotPrimary,
    /// What was committed holds, and its position was not told: there is no token for it.
    #[error("the position of the last commit was not told")]
    NoToken(#[source] Box<Self>),
    /// A statement was given up: its time was up.
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// The role may not see the receiver of a replica; it needs `pg_monitor`.
    #[error("the role of the looks needs pg_monitor")]
    Privilege,
    /// A replica that receives nothing may be on any of these timelines.
    #[error("the replica receives nothing, and is on a timeline from {least} to {most}")]
    Timeline {
        /// The oldest.
        least: u64,
        /// The newest.
        most: u64,
    },
    /// An answer that is none.
    #[error("{what} cannot be understood")]
    Answer {
        /// What was asked for.
        what: &'static str,
    },
}

impl Error {
    pub(super) const fn answer(what: &'static str) -> Self {
        Self::Answer { what }
    }

    /// What it says of the call and the node.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::NotConnected(error) => match error.as_db_error() {
                Some(_) => Failure::Refused,
                None => Failure::NotSent,
            },
            Self::Closed | Self::Timeline { .. } | Self::Privilege => Failure::NotSent,
            // The last says nothing of the node: it was not asked.
            Self::Restarted | Self::NotPrimary | Self::Exhausted => Failure::Misrouted,
            // It must not run again.
            Self::NoToken(_) => Failure::Failed,
            Self::Answer { .. } | Self::Timeout(_) => Failure::Lost,
            Self::Postgres(error) => match error.as_db_error() {
                Some(error) => told(error),
                None if is_ours(error) => Failure::Failed,
                None => Failure::Lost,
            },
        }
    }
}

/// What the server said.
fn told(error: &DbError) -> Failure {
    let code = error.code();
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Failure::Misrouted;
    }
    // The statement itself wants more memory or temporary files than it may have, anywhere.
    if [
        SqlState::OUT_OF_MEMORY,
        SqlState::CONFIGURATION_LIMIT_EXCEEDED,
    ]
    .contains(code)
    {
        return Failure::Failed;
    }
    // 57P02 is sent while all processes are told to quit, in the middle of a commit as well.
    if *code == SqlState::CRASH_SHUTDOWN {
        return Failure::Lost;
    }
    let refused = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::DATA_CORRUPTED,
        SqlState::INDEX_CORRUPTED,
    ];
    let class = code.code().get(..2);
    match class {
        _ if refused.contains(code) || code.code() == IDLE_SESSION_TIMEOUT => Failure::Refused,
        _ if *code == SqlState::T_R_SERIALIZATION_FAILURE && by_recovery(error) => Failure::Refused,
        Some("53" | "58") => Failure::Refused,
        Some("08") => Failure::Lost,
        _ => Failure::Failed,
    }
}

const IDLE_SESSION_TIMEOUT: &str = "57P05";

/// Replay had to go on: 40001 from the handling of interrupts, and not from a serializable
/// transaction. The message is in the server's language; the name of the routine is not.
fn by_recovery(error: &DbError) -> bool {
    error
        .routine()
        .is_some_and(|name| name.contains("Interrupt"))
}

/// It is of our own making: a parameter or a column of a type that does not fit. `tokio_postgres` tells
/// it by its text only; what is not known by it counts as lost.
fn is_ours(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    let known = [
        "error serializing parameter",
        "error deserializing column",
        "invalid column",
        "query returned an unexpected number of",
        "error encoding message to server",
    ];
    known.iter().any(|known| text.starts_with(known))
        || (text.starts_with("expected ") && text.contains(" parameters but got "))
}
