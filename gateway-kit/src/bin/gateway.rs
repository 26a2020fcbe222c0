//! The `gateway` program: a reverse proxy that needs only a configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gateway_kit::config::{LogConfig, LogFormat, LogLevel};
use gateway_kit::{Config, ConfigError, Gateway};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

/// A reverse proxy with circuit breakers and rate limits.
///
/// Exit codes: 0 stopped in order or configuration good; 1 cannot run; 2 bad configuration,
/// variable or argument.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads a configuration file, says what is wrong with it, and exits.
    Check {
        /// The configuration file (TOML).
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// The configuration file (TOML). PORT, LOG_LEVEL and LOG_FORMAT override it.
    #[arg(
        long,
        value_name = "FILE",
        env = "GATEWAY_CONFIG",
        default_value = "gateway.toml"
    )]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Check { file }) => match load(&file) {
            Ok(config) => {
                let (routes, upstreams) = (config.routes.len(), config.upstreams.len());
                println!(
                    "{}: good; {routes} routes, {upstreams} upstreams",
                    file.display()
                );
                ExitCode::SUCCESS
            }
            Err(error) => refuse(&error),
        },
        None => match load(&cli.run.config) {
            Ok(config) => run(config).await,
            Err(error) => refuse(&error),
        },
    }
}

fn load(file: &std::path::Path) -> Result<Config, ConfigError> {
    let mut config = Config::from_file(file)?;
    config.apply_env(|name| std::env::var(name).ok())?;
    Ok(config)
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("gateway: {error}");
    ExitCode::from(2)
}

async fn run(config: Config) -> ExitCode {
    start_log(&config.log);
    let started = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let gateway = Gateway::bind(config).await?;
        tracing::info!(address = %gateway.local_addr(), "listening");
        gateway
            .serve(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await?;
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    match started.await {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(log: &LogConfig) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level);
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}
