//! The `paytabs-sandbox` program: one sandbox on a fixed address.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use paytabs_sandbox::{RetryPolicy, Sandbox, SandboxConfig};

/// Plays the PayTabs payment API on loopback, for development and tests.
///
/// Endpoints: POST /payment/request, POST /payment/query, GET /payment/page/{id},
/// GET and PUT /sandbox/switches, GET /sandbox/stats, POST /sandbox/reset.
#[derive(Debug, Parser)]
#[command(name = "paytabs-sandbox", version, max_term_width = 100)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9400", env = "PAYTABS_SANDBOX_LISTEN")]
    listen: SocketAddr,
    /// The merchant profile that requests must name.
    #[arg(long, default_value_t = 4242, env = "PAYTABS_SANDBOX_PROFILE_ID")]
    profile_id: u64,
    /// The profile's server key: expected in `authorization`, signs the callbacks.
    #[arg(
        long,
        default_value = "sandbox-server-key",
        env = "PAYTABS_SANDBOX_SERVER_KEY",
        hide_env_values = true
    )]
    server_key: String,
    /// How the sandbox is reached from outside, if not by the listening address.
    #[arg(long, env = "PAYTABS_SANDBOX_PUBLIC_URL")]
    public_url: Option<String>,
    /// Milliseconds before an unacknowledged callback is sent again; doubles each time.
    #[arg(long, default_value_t = 1000)]
    retry_base_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paytabs-sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::bind(SandboxConfig {
        listen: arguments.listen,
        profile_id: arguments.profile_id,
        server_key: arguments.server_key,
        public_url: arguments.public_url,
        retry: RetryPolicy {
            base_delay: Duration::from_millis(arguments.retry_base_ms),
            ..RetryPolicy::default()
        },
        ..SandboxConfig::default()
    })
    .await?;
    println!("PayTabs sandbox at {} (Ctrl-C stops it)", sandbox.url());
    sandbox
        .serve(async {
            // Without signals the program cannot be asked to stop; it serves on.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    Ok(())
}
