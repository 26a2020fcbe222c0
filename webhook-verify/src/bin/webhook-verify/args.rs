//! The arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use webhook_verify::{Scheme, presets};

use crate::input::SecretArgs;

/// Signs and verifies webhooks, to find out why one is refused.
#[derive(Parser)]
#[command(name = "webhook-verify", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  signed, or verified
  1  refused; the reason is on standard error
  2  wrong usage
  3  the secret, body, header or another input cannot be read or used";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print the headers that sign a body.
    Sign(Sign),
    /// Say whether a delivery is accepted, and if not at which step and why.
    Verify(Verify),
    /// As verify, and look for the usual mistakes: a changed line feed, another form of the
    /// key, another scheme, a clock that is off.
    Diagnose(Verify),
    /// List the schemes.
    Schemes,
}

#[derive(Args)]
pub(crate) struct Common {
    /// The scheme; `webhook-verify schemes` lists them.
    #[arg(long, value_name = "NAME", value_parser = scheme)]
    pub(crate) scheme: Scheme,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    /// The present in Unix seconds, in place of the clock.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) at: Option<u64>,
    /// The method of the request, for schemes that sign it.
    #[arg(long, default_value = "POST")]
    pub(crate) method: String,
    /// The URL or path of the request, for schemes that sign it.
    #[arg(long, default_value = "/")]
    pub(crate) url: String,
    /// File of the body; standard input when absent or `-`.
    pub(crate) body: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The id of the delivery, for schemes that have one.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// A header of the request (`Name: value`), for schemes that sign it; repeatable.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A header of the delivery (`Name: value`); repeatable.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// File with a header of the delivery in each line.
    #[arg(long, value_name = "FILE")]
    pub(crate) headers_file: Option<PathBuf>,
    /// How old, and how far ahead, the timestamp may be; the scheme's own when absent.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) tolerance: Option<u64>,
}

fn scheme(name: &str) -> Result<Scheme, String> {
    presets::by_name(name).ok_or_else(|| {
        let names: Vec<_> = presets::names().collect();
        format!("the schemes are {}", names.join(", "))
    })
}
