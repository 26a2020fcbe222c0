//! What goes wrong with a node, and what it says about the call.

use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

use crate::read_write::Failure;

/// What goes wrong with a node, or with those who elect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that is none.
    #[error("not the address of a node: {0}")]
    Address(#[source] RedisError),
    /// There was no connection, so that nothing was sent.
    #[error("no connection: {0}")]
    Connect(#[source] RedisError),
    /// A command failed.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The caller's time for a command was up.
    #[error("no answer in time")]
    Elapsed(#[from] tokio::time::error::Elapsed),
    /// `INFO` does not tell what it should.
    #[error("INFO without {missing}")]
    #[non_exhaustive]
    Info {
        /// The field that is missing or malformed.
        missing: &'static str,
    },
    /// The connection leads to another run or another history of the node than was looked at, or to
    /// one that takes no writes any more.
    #[error("the node is not what it was when it was looked at")]
    Changed,
    /// What was written holds, and the position was not told: there is no token for it.
    #[error("the position of the last write was not told")]
    NoToken(#[source] Box<Self>),
    /// No sentinels were given.
    #[error("no sentinels")]
    NoSentinels,
    /// So few sentinels answer that another primary may have been elected.
    #[error("{answered} of {of} sentinels answer")]
    #[non_exhaustive]
    NoMajority {
        /// How many did.
        answered: usize,
        /// How many there are.
        of: usize,
    },
    /// Sentinels name different primaries of one epoch.
    #[error("sentinels name different primaries")]
    Disagreement,
}

impl Error {
    /// What it says about the call.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Redis(error) => of_command(error),
            Self::Address(_) | Self::Connect(_) | Self::NoSentinels => Failure::NotSent,
            Self::Elapsed(_) => Failure::Lost,
            Self::Changed => Failure::Misrouted,
            // It must not run again.
            Self::NoToken(_) => Failure::Failed,
            Self::Info { .. } | Self::NoMajority { .. } | Self::Disagreement => Failure::Refused,
        }
    }
}

fn of_command(error: &RedisError) -> Failure {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => {}
        ErrorKind::Io | ErrorKind::Parse => return Failure::Lost,
        ErrorKind::AuthenticationFailed => return Failure::NotSent,
        _ => return Failure::Failed,
    }
    let aborted = error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort);
    // Of several commands in a pipeline that is no transaction, others may have run; such an error has
    // neither code nor text of its own.
    let single = error.code().is_some() && error.detail().is_some();
    let errors: Arc<[(usize, ServerError)]> = match error.clone().into_server_errors() {
        Some(errors) if aborted || single => errors,
        _ => return Failure::Lost,
    };
    let mut failures = errors.iter().map(|(_, error)| of_answer(error));
    // A transaction was given up for the first of these, before any of it ran.
    let known = failures.find(|failure| *failure != Failure::Failed);
    known.unwrap_or(Failure::Failed)
}

/// The code of an error that stands for another, as of [`after_a_write`].
const AFTER_A_WRITE: &str = "AFTERWRITE";

/// A command for which this is the answer changed nothing.
pub(super) fn did_not_run(error: &RedisError) -> bool {
    let failure = of_command(error);
    matches!(
        failure,
        Failure::NotSent | Failure::Misrouted | Failure::Refused
    )
}

/// The error of a command on a connection where one that may write was answered before: that the
/// second did not run does not say that nothing has.
pub(super) fn after_a_write(error: RedisError) -> RedisError {
    match did_not_run(&error) {
        true => {
            let text = error.to_string();
            ::redis::make_extension_error(AFTER_A_WRITE.to_owned(), Some(text))
        }
        false => error,
    }
}

/// What a node's answer to one command says. None of these commands ran, but for `Failed` and `Lost`.
fn of_answer(error: &ServerError) -> Failure {
    let text = error.details().unwrap_or_default();
    match error.code() {
        "READONLY" | "MOVED" | "ASK" => Failure::Misrouted,
        // To `WAIT` as well, after a write that was done.
        "UNBLOCKED" | AFTER_A_WRITE => Failure::Lost,
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "NOREPLICAS"
        | "MISCONF" | "OOM" => Failure::Refused,
        // `EXEC`, of a transaction whose commands were taken: the code stands in the text.
        "EXECABORT" => match text.strip_prefix("Transaction discarded because of: ") {
            Some(text) if text.starts_with("READONLY") => Failure::Misrouted,
            Some(_) => Failure::Refused,
            None => Failure::Failed,
        },
        "ERR" if text.contains("max number of clients") => Failure::Refused,
        _ => Failure::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one command, to which the node answers so.
    fn answered(answer: &str) -> Failure {
        let value = ::redis::parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
        Error::from(value.extract_error().unwrap_err()).failure()
    }

    #[test]
    fn an_answer_says_what_became_of_the_command() {
        let read_only = "READONLY You can't write against a read only replica.";
        assert_eq!(answered(read_only), Failure::Misrouted);
        assert_eq!(answered("MOVED 3999 127.0.0.1:6381"), Failure::Misrouted);
        assert_eq!(
            answered(
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
            ),
            Failure::Lost
        );
        assert_eq!(
            answered("LOADING Redis is loading the dataset in memory"),
            Failure::Refused
        );
        assert_eq!(
            answered(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
            ),
            Failure::Refused
        );
        assert_eq!(
            answered("CLUSTERDOWN The cluster is down"),
            Failure::Refused
        );
        assert_eq!(
            answered("NOREPLICAS Not enough good replicas to write."),
            Failure::Refused
        );
        assert_eq!(
            answered("ERR max number of clients reached"),
            Failure::Refused
        );
        assert_eq!(answered("ERR unknown command 'FOO'"), Failure::Failed);
        assert_eq!(
            answered("WRONGTYPE Operation against a key holding the wrong kind of value"),
            Failure::Failed
        );
    }

    #[test]
    fn a_transaction_that_was_given_up_did_not_run() {
        let given_up = "EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.";
        assert_eq!(answered(given_up), Failure::Misrouted);
        let given_up = "EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.";
        assert_eq!(answered(given_up), Failure::Refused);
        assert_eq!(
            answered("EXECABORT Transaction discarded because of previous errors."),
            Failure::Failed
        );
    }

    #[test]
    fn what_did_not_run_after_a_write_does_not_run_again() {
        let after = |answer: &str| {
            let value = ::redis::parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
            after_a_write(value.extract_error().unwrap_err())
        };
        let read_only = after("READONLY You can't write against a read only replica.");
        assert!(read_only.to_string().contains("read only"), "{read_only}");
        assert_eq!(Error::from(read_only).failure(), Failure::Lost);
        let refused = after("OOM command not allowed when used memory > 'maxmemory'.");
        assert_eq!(Error::from(refused).failure(), Failure::Lost);
        let wrong = after("WRONGTYPE Operation against a key holding the wrong kind of value");
        assert_eq!(wrong.code(), Some("WRONGTYPE"));
        assert_eq!(Error::from(wrong).failure(), Failure::Failed);
    }

    #[test]
    fn a_token_that_is_not_told_is_no_reason_to_write_again() {
        for error in [Error::Changed, Error::Info { missing: "role" }] {
            assert_eq!(Error::NoToken(Box::new(error)).failure(), Failure::Failed);
        }
    }

    #[test]
    fn a_connection_that_broke_says_nothing_of_the_command() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(
            Error::from(RedisError::from(broken)).failure(),
            Failure::Lost
        );
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(Error::Connect(refused.into()).failure(), Failure::NotSent);
    }
}
