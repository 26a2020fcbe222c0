//! The `gateway` program: a reverse proxy that needs only a configuration file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gateway_kit::config::{LogConfig, LogFormat, LogLevel, Source, VARIABLES, Variable};
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
/// Exit codes: 0 stopped in order or configuration good; 1 cannot run, or `check` has found
/// something; 2 bad configuration, variable or argument.
#[derive(Debug, Parser)]
#[command(
    name = "gateway",
    version,
    args_conflicts_with_subcommands = true,
    after_help = variables()
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes the JSON Schema of a configuration file.
    Schema,
    /// Reads a configuration file and the files that it names, says all that is wrong, and exits.
    Check {
        /// The configuration file (TOML); default as without a command.
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// The configuration file (TOML); default gateway.toml, if there is one. The variables below
    /// override it, and say all without a file.
    #[arg(long, value_name = "FILE", env = "GATEWAY_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Check { file }) => check(&source(file)),
        Some(Command::Schema) => {
            println!("{:#}", Config::schema());
            ExitCode::SUCCESS
        }
        None => {
            let source = source(cli.run.config);
            match source.load() {
                Ok(config) => run(config, source).await,
                Err(error) => refuse(&error),
            }
        }
    }
}

/// Says all that is wrong, a line each that begins with file and line.
fn check(source: &Source) -> ExitCode {
    let found = source.load().map_err(|error| error.to_string());
    let found = found.and_then(|config| {
        let told = format!(
            "good; {} routes, {} upstreams",
            config.routes.len(),
            config.upstreams.len()
        );
        let checked = Gateway::builder(config).check();
        checked.map(|()| told).map_err(|error| error.to_string())
    });
    match found {
        Ok(told) => {
            let from = source.path().map(Path::display);
            let from = from.map_or_else(|| "variables".to_owned(), |from| from.to_string());
            println!("{from}: {told}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

/// The file that was named, or gateway.toml, or no file.
fn source(named: Option<PathBuf>) -> Source {
    let usual = Path::new("gateway.toml");
    let file = named.or_else(|| usual.exists().then(|| usual.to_owned()));
    let source = file.map_or_else(Source::without_file, Source::file);
    // What is not UTF-8 is a bad value, and not a missing one.
    source.variables(|name| {
        let text = std::env::var_os(name)?;
        Some(text.to_string_lossy().into_owned())
    })
}

/// For the help.
fn variables() -> String {
    let lines = VARIABLES.iter().map(|variable| {
        let Variable {
            name,
            default,
            meaning,
            ..
        } = variable;
        format!("  {name:<29} {meaning} [{default}]\n")
    });
    let lines: String = lines.collect();
    format!("Variables, with what they are without a file:\n{lines}")
}

fn refuse(error: &ConfigError) -> ExitCode {
    for problem in error.problems() {
        eprintln!("gateway: {problem}");
    }
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
