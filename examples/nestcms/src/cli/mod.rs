//! The command line: `nestcms` (or `nestcms serve`), `nestcms app`,
//! `nestcms dead-letters`, `nestcms tour`.

mod dead_letters;
mod serve;
mod tour;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// NestCMS: content management and payments, behind a gateway, with a PayTabs sandbox.
///
/// Without a command it serves the whole set on loopback (`serve`).
#[derive(Debug, Parser)]
#[command(
    name = "nestcms",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve sandbox, application and gateway on loopback, with demonstration settings.
    Serve(ServeArguments),
    /// Serve the application alone, with settings from a file and NESTCMS_* variables.
    App(AppArguments),
    /// Events that were given up: list them, show one, put one back into the outbox.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Play the payment flows over real HTTP and check each step; non-zero if one fails.
    Tour(TourArguments),
}

#[derive(Args, Clone, Debug)]
struct TourArguments {
    /// Also play the data scenes on PostgreSQL and Redis, which must be installed; they are started
    /// on private ports and directories, and stopped.
    #[arg(long)]
    services: bool,
    /// Instead measure reads of the content, from the cache and from a store that takes 5 to 40 ms.
    #[arg(long, conflicts_with = "services")]
    latency: bool,
}

/// Where the set listens; port 0 takes a free port.
#[derive(Args, Clone, Debug)]
struct ServeArguments {
    /// Address of the gateway, where clients go.
    #[arg(long, default_value = "127.0.0.1:8080")]
    gateway: SocketAddr,
    /// Address of the application.
    #[arg(long, default_value = "127.0.0.1:9080")]
    app: SocketAddr,
    /// Address of the PayTabs sandbox.
    #[arg(long, default_value = "127.0.0.1:9090")]
    sandbox: SocketAddr,
}

#[derive(Args, Clone, Debug)]
struct AppArguments {
    /// Settings file (TOML) over the built-in defaults; NESTCMS_* variables win over it.
    #[arg(long, env = "NESTCMS_CONFIG")]
    config: Option<PathBuf>,
    /// PostgreSQL nodes in place of the embedded database: postgres://… URLs with commas between,
    /// the primary first.
    #[arg(long, value_delimiter = ',', hide_env_values = true)]
    database: Vec<String>,
    /// NATS servers with JetStream, of one cluster: nats://… URLs with commas between.
    #[arg(long, value_delimiter = ',', hide_env_values = true)]
    nats: Vec<String>,
}

type Outcome = Result<bool, Box<dyn std::error::Error + Send + Sync>>;

/// Runs the command that the program was started with.
pub async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        None => serve::all(&arguments.serve).await,
        Some(Command::Serve(serve)) => serve::all(&serve).await,
        Some(Command::App(app)) => serve::application(app).await,
        Some(Command::DeadLetters(command)) => dead_letters::run(command).await,
        Some(Command::Tour(arguments)) if arguments.latency => tour::latency().await,
        Some(Command::Tour(arguments)) => tour::run(arguments.services).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("nestcms: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
