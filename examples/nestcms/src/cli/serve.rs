//! `nestcms`, `nestcms serve` and `nestcms app`.

use tokio::net::TcpListener;

use super::{AppArguments, Outcome, ServeArguments};
use crate::app::{App, Deps};
use crate::logging;
use crate::settings::{LogFormat, LogLevel, Secret, Settings, SettingsError};
use crate::stack::{Stack, StackConfig};

/// Serves the whole set until Ctrl-C.
pub(super) async fn all(arguments: &ServeArguments) -> Outcome {
    let mut settings = Settings::demo();
    // The terminal is for the reader here: only trouble is logged, as text.
    settings.log.level = LogLevel::Warn;
    settings.log.format = LogFormat::Text;
    logging::init(&settings.log, "nestcms");
    let mut stack = Stack::start(StackConfig {
        gateway: arguments.gateway,
        application: arguments.app,
        sandbox: arguments.sandbox,
        ..StackConfig::new(settings)
    })
    .await?;
    println!("{}", welcome(&stack));
    let ended_early = tokio::select! {
        () = stop_signal() => false,
        () = stack.ended() => true,
    };
    println!("stopping");
    stack.stop().await;
    Ok(!ended_early)
}

/// Serves the application alone until Ctrl-C.
pub(super) async fn application(arguments: AppArguments) -> Outcome {
    let settings = settings(arguments)?;
    logging::init(&settings.log, "nestcms");
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", settings.listen))?;
    let address = listener.local_addr()?;
    let app = App::build(settings, Deps::default()).await?;
    println!("NestCMS application at http://{address} (Ctrl-C stops it)");
    app.serve(listener, stop_signal()).await?;
    Ok(true)
}

/// The settings of a file, of variables and of the command line.
pub(super) fn settings(arguments: AppArguments) -> Result<Settings, SettingsError> {
    let mut settings = Settings::load(arguments.config.as_deref())?;
    if !arguments.database.is_empty() {
        let nodes = arguments.database.into_iter().map(Secret::new);
        settings.database.nodes = nodes.collect();
    }
    if !arguments.nats.is_empty() {
        settings.nats.servers = arguments.nats.into_iter().map(Secret::new).collect();
    }
    Ok(settings)
}

/// Ctrl-C, or the signal that service managers send.
async fn stop_signal() {
    let interrupt = async {
        // Without signals the program cannot be asked to stop; it serves on.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

/// The URLs, the user, and three lines to try.
fn welcome(stack: &Stack) -> String {
    let gateway = &stack.gateway_url;
    let (email, password) = match &stack.settings.auth.demo_user {
        Some(user) => (user.email.as_str(), user.password.expose()),
        None => ("", ""),
    };
    format!(
        r#"NestCMS is up (Ctrl-C stops it):

  status page  {gateway}/status
  gateway      {gateway}
  application  {application}
  PayTabs      {sandbox} (sandbox)
  user         {email}, password {password}

Log in, create a payment, initiate it:

TOKEN=$(curl -s {gateway}/api/v1/auth/login -H 'content-type: application/json' -d '{{"email":"{email}","password":"{password}"}}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
ID=$(curl -s {gateway}/api/v2/payments -H "authorization: Bearer $TOKEN" -H "idempotency-key: try-$(date +%s)" -H 'content-type: application/json' -d '{{"amount":"49.50","currency":"SAR","order_ref":"try"}}' | sed 's/.*"id":"\([^"]*\)".*/\1/')
curl -si -X POST {gateway}/api/v2/payments/$ID/initiate -H "authorization: Bearer $TOKEN"

The last answer is a redirect: open its location in a browser and pay.
"#,
        application = stack.application_url,
        sandbox = stack.sandbox_url,
    )
}
