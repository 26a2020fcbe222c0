//! Request logs. One test in a program of its own: which log lines are enabled is a
//! property of the whole process, and tests beside it would change it.

use std::{
    io::{self, Write},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    middleware::from_fn_with_state,
    routing::get,
};
use nestcms::{
    correlation, logging,
    settings::{LogFormat, LogLevel, LogSettings},
};
use parking_lot::Mutex;
use resilience_core::clock::SharedClock;
use serde_json::Value;
use tower::ServiceExt;

/// What a subscriber wrote.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// L3; the log shows neither path nor query, so no token in them.
#[tokio::test]
async fn each_request_is_one_line_of_json_without_its_secrets() {
    let router = Router::new()
        .route("/items/{id}", get(async || "an item"))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .layer(from_fn_with_state(
            SharedClock::std(),
            logging::log_requests,
        ));
    let send = |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        router.clone().oneshot(request)
    };
    let lines = Lines::default();
    let writer = lines.clone();
    let settings = LogSettings {
        level: LogLevel::Info,
        format: LogFormat::Json,
    };
    let subscriber = logging::subscriber(&settings, "nestcms", move || writer.clone());
    let guard = tracing::subscriber::set_default(subscriber);
    for (id, path) in [
        ("corr-9", "/items/demo@nestcms.test?token=secret-token"),
        ("corr-10", "/broken"),
    ] {
        let response = correlation::scope(id.to_owned(), send(path)).await;
        drop(response.expect("infallible"));
    }
    tracing::debug!(target: "nestcms", "too quiet to be written");
    tracing::info!(target: "nestcms", value = "two\nlines", time = "forged", "message");
    drop(guard);
    let text = String::from_utf8(lines.0.lock().clone()).expect("UTF-8");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0]["service"], "nestcms");
    assert_eq!(lines[0]["level"], "info");
    assert_eq!(lines[0]["correlation_id"], "corr-9");
    assert_eq!(lines[0]["method"], "GET");
    assert_eq!(lines[0]["route"], "/items/{id}");
    assert_eq!(lines[0]["status"], 200);
    assert!(lines[0]["duration_ms"].is_number());
    assert!(lines[0].get("error_kind").is_none(), "{text}");
    assert_eq!(lines[1]["error_kind"], "server");
    assert_eq!(lines[2]["value"], "two\nlines");
    assert_eq!(lines[2]["field_time"], "forged");
    for secret in ["secret-token", "demo@nestcms.test"] {
        assert!(!text.contains(secret), "{text}");
    }
}
