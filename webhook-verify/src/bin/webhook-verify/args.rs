//! The arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{input::SecretArgs, schemes::SchemeArgs};

/// Signs and verifies webhooks, to find out why one is refused.
#[derive(Parser)]
#[command(name = "webhook-verify", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  signed, or accepted
  1  refused; the step and the reason are on standard error
  2  wrong usage, or the secret, body, header or another input cannot be read or used

Examples:
  webhook-verify sign --scheme stripe --secret-env KEY body.json
  webhook-verify verify --scheme github --secret-file key --headers-file headers body.json
  webhook-verify diagnose --scheme square --url https://example.com/hook --secret-env KEY \\
      --header 'x-square-hmacsha256-signature: ...' body.json";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sign a body: prints the headers to add. When the signature stands in the body, an empty
    /// line and the body to send follow, or it is written to the file of --out. A scheme that
    /// reads the body and was told no content-type takes it for JSON when it begins with `{`,
    /// else for a form.
    #[command(after_help = EXIT_CODES)]
    Sign(Sign),
    /// Say whether a delivery is accepted, and if not at which step and why.
    #[command(after_help = EXIT_CODES)]
    Verify(Verify),
    /// As verify, and look for the usual mistakes: a changed line feed, JSON that was written
    /// again, another form of the key, another scheme, a clock that is off.
    #[command(after_help = EXIT_CODES)]
    Diagnose(Verify),
    /// List the schemes, the form of their keys, and what else they need.
    Schemes,
}

#[derive(Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) scheme: SchemeArgs,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    /// The present in Unix seconds, in place of the clock.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) at: Option<u64>,
    /// The method of the request, for schemes that sign it or read it.
    #[arg(long, default_value = "POST")]
    pub(crate) method: String,
    /// A header of the request (`Name: value`); repeatable.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// File with a header of the request in each line.
    #[arg(long, value_name = "FILE")]
    pub(crate) headers_file: Option<PathBuf>,
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
    /// Where the body to send is written, signed or as it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How old, and how far ahead, the timestamp may be; the scheme's own when absent.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) tolerance: Option<u64>,
}
