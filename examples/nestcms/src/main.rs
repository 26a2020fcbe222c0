//! The `nestcms` program.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    nestcms::cli::run().await
}
