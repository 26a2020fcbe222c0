//! `nestcms dead-letters`.

use std::io::ErrorKind;
use std::sync::Arc;

use clap::{Args, Subcommand};
use webhook_verify::clock::{SystemClock, WallClock};

use super::{AppArguments, Outcome, serve};
use crate::app;
use crate::ports::{DeadLetter, Outbox};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// The newest ones, each with its last reason.
    List {
        /// How many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        app: AppArguments,
    },
    /// One of them, with its history, as JSON.
    Show(One),
    /// Put one back into the outbox, from where the application publishes it.
    Replay(One),
}

#[derive(Args, Clone, Debug)]
pub(super) struct One {
    /// Its id, as `list` shows it.
    id: String,
    #[command(flatten)]
    app: AppArguments,
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::List { limit, app } => {
            let letters = open(app).await?.dead_letters(limit).await?;
            letters
                .iter()
                .for_each(|letter| println!("{}", line(letter)));
            eprintln!("{} dead letters", letters.len());
        }
        Command::Show(One { id, app }) => {
            let letter = open(app).await?.dead_letter(&id).await?;
            let letter = letter.ok_or_else(|| missing(&id))?;
            println!("{}", serde_json::to_string_pretty(&letter)?);
        }
        Command::Replay(One { id, app }) => {
            let found = open(app).await?.replay(&id, SystemClock.now()).await?;
            if !found {
                return Err(missing(&id).into());
            }
            println!("{id} is in the outbox again");
        }
    }
    Ok(true)
}

async fn open(arguments: AppArguments) -> Result<Arc<dyn Outbox>, Error> {
    let settings = serve::settings(arguments)?;
    if settings.database.nodes.is_empty() {
        // Nobody wants a new file.
        let path = &settings.database.path;
        std::fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no database {}", path.display()),
            _ => format!("database {}: {error}", path.display()),
        })?;
    }
    Ok(app::outbox(&settings).await?)
}

fn line(letter: &DeadLetter) -> String {
    let reason = letter
        .history
        .last()
        .map_or("", |last| last.reason.as_str());
    format!(
        "{}  {}  {}  {}  {} tries  {reason}",
        letter.id,
        letter.died_at,
        letter.source,
        letter.kind,
        letter.history.len()
    )
}

fn missing(id: &str) -> String {
    format!("there is no dead letter {id}; `nestcms dead-letters list` shows them")
}

type Error = Box<dyn std::error::Error + Send + Sync>;
