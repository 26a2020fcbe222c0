//! What goes wrong with a node, and what it says about the call.

use mysql_async::{DriverError, ServerError};
use resilience_core::route::ParseError;

use crate::read_write::Failure;

/// What goes wrong with a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There was no connection, so that nothing was sent.
    #[error("no connection: {0}")]
    Connect(#[source] mysql_async::Error),
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] mysql_async::Error),
    /// The caller's time for a statement was up.
    #[error("no answer in time")]
    Elapsed(#[from] tokio::time::error::Elapsed),
    /// A position is none.
    #[error("a position that is {0}")]
    Position(#[from] ParseError),
    /// The answer to a look has not the form it should have.
    #[error("an answer of another form")]
    Answer,
    /// A promotion was under way during a look.
    #[error("a promotion is under way")]
    Promotion,
    /// A setting of the server on which positions rest is not on.
    #[error("{name} is not on")]
    #[non_exhaustive]
    Setting {
        /// The setting.
        name: &'static str,
    },
    /// The name of a table that is none.
    #[error("not a table: letters, digits and _ only")]
    Table,
    /// What was committed holds, and its position was not told: there is no token for it.
    #[error("the position of the last commit was not told")]
    NoToken(#[source] Box<Self>),
    /// All connections of the pool are leased, and none was given back in time: see
    /// [`NodeBuilder::pool_wait`](super::NodeBuilder::pool_wait).
    #[error("all connections are leased")]
    Exhausted,
    /// The connection leads to another run of the server than was looked at, or to one that takes no
    /// writes any more.
    #[error("the node is not what it was when it was looked at")]
    Changed,
}

/// Inside an error of the driver: the server is another run than was looked at.
#[derive(Debug, thiserror::Error)]
#[error("another run of the server")]
pub(super) struct OtherRun;

impl Error {
    pub(super) fn of_connect(error: mysql_async::Error) -> Self {
        match &error {
            mysql_async::Error::Other(inner) if inner.is::<OtherRun>() => Self::Changed,
            _ => Self::Connect(error),
        }
    }

    /// What it says about the call.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Statement(error) => of_statement(error),
            Self::Connect(_) | Self::Table => Failure::NotSent,
            Self::Elapsed(_) => Failure::Lost,
            // The second says nothing of the node: it was not asked.
            Self::Changed | Self::Exhausted => Failure::Misrouted,
            // It must not run again.
            Self::NoToken(_) => Failure::Failed,
            Self::Position(_) | Self::Answer | Self::Promotion | Self::Setting { .. } => {
                Failure::Refused
            }
        }
    }
}

fn of_statement(error: &mysql_async::Error) -> Failure {
    use mysql_async::Error as Mysql;
    match error {
        Mysql::Server(error) => of_answer(error),
        Mysql::Driver(DriverError::PoolDisconnected) => Failure::NotSent,
        Mysql::Io(_)
        | Mysql::Driver(
            DriverError::ConnectionClosed
            | DriverError::PacketOutOfOrder
            | DriverError::PacketTooLarge
            | DriverError::BadCompressedPacketHeader
            | DriverError::UnexpectedPacket { .. },
        ) => Failure::Lost,
        _ => Failure::Failed,
    }
}

fn of_answer(error: &ServerError) -> Failure {
    match error.code {
        // ER_OPTION_PREVENTS_STATEMENT: of several options.
        1290 if error.message.contains("read-only") || error.message.contains("read_only") => {
            Failure::Misrouted
        }
        // ER_READ_ONLY_MODE
        1836 => Failure::Misrouted,
        // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
        1040 | 1203 | 1226 => Failure::Refused,
        // ER_SERVER_SHUTDOWN, ER_QUERY_INTERRUPTED, ER_CONNECTION_KILLED: a commit may have been done.
        1053 | 1317 | 1927 => Failure::Lost,
        _ => Failure::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_told_is_no_reason_to_write_again() {
        for error in [Error::Changed, Error::Answer] {
            assert_eq!(Error::NoToken(Box::new(error)).failure(), Failure::Failed);
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_may_be_that_of_a_commit() {
        for error in [
            DriverError::PacketTooLarge,
            DriverError::BadCompressedPacketHeader,
        ] {
            let error = Error::from(mysql_async::Error::Driver(error));
            assert_eq!(error.failure(), Failure::Lost, "{error}");
        }
    }

    #[test]
    fn an_error_of_the_server_says_what_became_of_the_statement() {
        let failure = |code, message: &str| {
            let (message, state) = (message.into(), "HY000".into());
            let error = ServerError {
                code,
                message,
                state,
            };
            Error::from(mysql_async::Error::Server(error)).failure()
        };
        let read_only = "The MariaDB server is running with the --read-only option so it cannot execute this statement";
        assert_eq!(failure(1290, read_only), Failure::Misrouted);
        let other = "The MariaDB server is running with the --secure-file-priv option so it cannot execute this statement";
        assert_eq!(failure(1290, other), Failure::Failed);
        assert_eq!(
            failure(1792, "Cannot execute statement in a READ ONLY transaction"),
            Failure::Failed
        );
        assert_eq!(failure(1062, "Duplicate entry"), Failure::Failed);
        assert_eq!(failure(1040, "Too many connections"), Failure::Refused);
        assert_eq!(failure(1053, "Server shutdown in progress"), Failure::Lost);
    }
}
