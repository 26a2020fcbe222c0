//! The `gateway` program: a reverse proxy that needs only a configuration file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gateway_kit::config::{LogConfig, LogFormat, LogLevel, Source};
use gateway_kit::{Config, ConfigError, Gateway, Handle, ReloadTrigger};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

/// A reverse proxy with circuit breakers and rate limits.
///
/// SIGHUP reads the configuration again, SIGTERM and SIGINT stop in order.
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
        Some(Command::Check { file }) => match source(&file).load() {
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
        None => {
            let source = source(&cli.run.config);
            match source.load() {
                Ok(config) => run(config, source).await,
                Err(error) => refuse(&error),
            }
        }
    }
}

fn source(file: &Path) -> Source {
    Source::file(file).variables(|name| std::env::var(name).ok())
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("gateway: {error}");
    ExitCode::from(2)
}

async fn run(config: Config, source: Source) -> ExitCode {
    let set_level = start_log(&config.log);
    let started = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let gateway = Gateway::builder(config).source(source).bind().await?;
        tracing::info!(address = %gateway.local_addr(), "listening");
        tokio::spawn(reload_on(hangup, gateway.handle()));
        let mut configs = gateway.handle().configs();
        tokio::spawn(async move {
            while configs.changed().await.is_ok() {
                set_level(configs.borrow_and_update().log.level);
            }
        });
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

/// Reads the configuration again whenever the signal comes.
async fn reload_on(mut hangup: Signal, handle: Handle) {
    while hangup.recv().await.is_some() {
        let handle = handle.clone();
        // What comes of it is logged.
        let reload = move || handle.reload_source(ReloadTrigger::Signal);
        let _ = tokio::task::spawn_blocking(reload).await;
    }
}

/// Starts the log; the function changes its level.
fn start_log(log: &LogConfig) -> impl Fn(LogLevel) + Send + use<> {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(level);
    match log.format {
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true))
            .init(),
        LogFormat::Text => registry.with(fmt::layer()).init(),
    }
    move |level| {
        // The log is there as long as the program.
        let _ = handle.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
