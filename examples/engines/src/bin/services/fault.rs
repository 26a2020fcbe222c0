//! What `services fault` can do to a server.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::running::{Node, Running, each};
use crate::{Failure, Place};

#[derive(Args, Debug)]
pub(crate) struct FaultArguments {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The server, as `services status` names it.
    name: String,
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// SIGSTOP to all its processes: connections stay, nothing answers.
    Freeze,
    /// The end of a freeze.
    Thaw,
    /// kill -9.
    Kill,
    /// A clean end.
    Stop,
    /// Start it again in the role it had.
    Start,
    /// Stop and start.
    Restart,
    /// Make a replica a primary (PostgreSQL, MariaDB, Redis).
    Promote,
    /// Make it a replica of another (PostgreSQL replicas, MariaDB, Redis).
    Follow {
        /// The name of the other.
        upstream: String,
    },
    /// Make a former primary a replica by `pg_rewind` (PostgreSQL).
    Rewind {
        /// The name of the present primary.
        upstream: String,
    },
    /// Make it a replica with nothing of its own (PostgreSQL, MariaDB).
    Rebuild {
        /// The name of the primary.
        upstream: String,
    },
    /// Close the stream from its upstream (PostgreSQL, MariaDB, Redis without sentinels).
    Cut,
    /// Let no byte of that stream pass.
    Stall,
    /// Open that stream again.
    Open,
    /// Receive and do not replay (PostgreSQL, MariaDB).
    Pause,
    /// The end of a pause.
    Resume,
    /// Replay so many seconds late; 0 ends it (PostgreSQL; MariaDB in whole seconds).
    Delay {
        /// Seconds, also 0.2.
        seconds: f64,
    },
    /// The end of its log.
    Log,
}

/// The request for the arguments of this process, words apart by a character that
/// no shell passes by accident.
pub(crate) fn request() -> String {
    let words = std::env::args_os().skip(1);
    let words: Vec<_> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(APART)
}

const APART: &str = "\u{1f}";

/// The arguments as the running program reads them again.
#[derive(Debug, Parser)]
struct Again {
    #[command(subcommand)]
    command: OnlyFault,
}

#[derive(Debug, Subcommand)]
enum OnlyFault {
    Fault(FaultArguments),
}

pub(crate) async fn run(running: &Running, request: &str) -> Result<String, Failure> {
    let words = std::iter::once("services").chain(request.split(APART));
    let OnlyFault::Fault(arguments) = Again::try_parse_from(words)?.command;
    let node = running.node(&arguments.name)?;
    if let Fault::Log = arguments.fault {
        return Ok(each!(node, node => node.log_tail()) + "\n");
    }
    inflict(running, node, &arguments.fault).await?;
    Ok(String::new())
}

async fn inflict(running: &Running, node: Node<'_>, fault: &Fault) -> Result<(), Failure> {
    let none = || Err(format!("{} has no such thing", node.name()).into());
    match (fault, node) {
        (Fault::Freeze, node) => each!(node, node => node.freeze().await?),
        (Fault::Thaw, node) => each!(node, node => node.thaw()?),
        (Fault::Kill, node) => each!(node, node => node.kill().await?),
        (Fault::Stop, node) => each!(node, node => node.stop().await?),
        (Fault::Start, node) => each!(node, node => node.start().await?),
        (Fault::Restart, node) => each!(node, node => node.restart().await?),
        (Fault::Promote, Node::Postgres(node)) => node.promote().await?,
        (Fault::Promote, Node::Mariadb(node)) => node.promote().await?,
        (Fault::Promote, Node::Redis(node)) => node.promote().await?,
        (Fault::Cut | Fault::Stall | Fault::Open, node) => {
            let stream = match node {
                Node::Postgres(node) => Some(node.stream()),
                Node::Mariadb(node) => Some(node.stream()),
                Node::Redis(node) => node.stream(),
                Node::Sentinel(_) | Node::Nats(_) => None,
            };
            match (fault, stream) {
                (_, None) => return none(),
                (Fault::Cut, Some(stream)) => stream.cut(),
                (Fault::Stall, Some(stream)) => stream.stall(),
                (_, Some(stream)) => stream.open(),
            }
        }
        (Fault::Follow { upstream }, node) => match (node, running.node(upstream)?) {
            (Node::Postgres(node), Node::Postgres(upstream)) => node.follow(upstream).await?,
            (Node::Mariadb(node), Node::Mariadb(upstream)) => node.follow(upstream).await?,
            (Node::Redis(node), Node::Redis(upstream)) => node.follow(upstream).await?,
            _ => return none(),
        },
        (Fault::Rewind { upstream }, Node::Postgres(node)) => match running.node(upstream)? {
            Node::Postgres(upstream) => node.rewind(upstream).await?,
            _ => return none(),
        },
        (Fault::Rebuild { upstream }, node) => match (node, running.node(upstream)?) {
            (Node::Postgres(node), Node::Postgres(upstream)) => node.rebuild(upstream).await?,
            (Node::Mariadb(node), Node::Mariadb(upstream)) => node.rebuild(upstream).await?,
            _ => return none(),
        },
        (Fault::Pause, Node::Postgres(node)) => node.pause_replay().await?,
        (Fault::Pause, Node::Mariadb(node)) => node.stop_sql_thread().await?,
        (Fault::Resume, Node::Postgres(node)) => node.resume_replay().await?,
        (Fault::Resume, Node::Mariadb(node)) => node.start_threads().await?,
        (Fault::Delay { seconds }, node) => {
            let delay = Duration::try_from_secs_f64(*seconds)?;
            match node {
                Node::Postgres(node) => node.set_apply_delay(delay).await?,
                Node::Mariadb(node) => node.set_apply_delay(delay).await?,
                _ => return none(),
            }
        }
        _ => return none(),
    }
    Ok(())
}
