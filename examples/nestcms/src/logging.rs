//! Logs: one line per request, JSON for machines, text for development.
//!
//! A JSON line has `time`, `level`, `service`, `target`, `message`, the correlation id of
//! the request that is being served, and the fields of its event. Paths are logged as
//! route templates; tokens, bodies, queries and addresses of people are not logged.

use std::{fmt, io};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use resilience_core::clock::{Clock, SharedClock};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};
use webhook_verify::clock::{SystemClock, WallClock};

use crate::{
    correlation,
    domain::event::Timestamp,
    metrics::{method, route},
    settings::{LogFormat, LogLevel, LogSettings},
};

/// Logs to standard error for the rest of the program. When a subscriber is set already,
/// that one stays.
pub fn init(settings: &LogSettings, service: &'static str) {
    let subscriber = subscriber(settings, service, io::stderr);
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// A subscriber that writes lines to `writer`.
pub fn subscriber<W>(
    settings: &LogSettings,
    service: &'static str,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(settings.level))
        .with_writer(writer);
    match settings.format {
        LogFormat::Json => Box::new(builder.event_format(JsonLines { service }).finish()),
        LogFormat::Text => Box::new(builder.with_ansi(false).finish()),
    }
}

/// Middleware that logs one line per request, inside the layer that sets the correlation
/// id: `layer(from_fn_with_state(SharedClock::std(), logging::log_requests))`.
pub async fn log_requests(
    State(clock): State<SharedClock>,
    request: Request,
    next: Next,
) -> Response {
    let method = method(request.method());
    let route = route(&request);
    let started = clock.now();
    let response = next.run(request).await;
    let took = clock.now().saturating_sub(started);
    let status = response.status();
    tracing::info!(
        target: "nestcms::http",
        correlation_id = correlation::current(),
        method,
        route,
        status = status.as_u16(),
        duration_ms = took.as_secs_f64() * 1000.0,
        error_kind = error_kind(status.as_u16()),
        "request"
    );
    response
}

/// Who failed, or nothing.
fn error_kind(status: u16) -> Option<&'static str> {
    match status {
        400..=499 => Some("client"),
        500..=599 => Some("server"),
        _ => None,
    }
}

/// Our own crates at `level`, all others at `warn` or quieter.
fn filter(level: LogLevel) -> EnvFilter {
    let (level, others) = match level {
        LogLevel::Error => ("error", "error"),
        LogLevel::Warn => ("warn", "warn"),
        LogLevel::Info => ("info", "warn"),
        LogLevel::Debug => ("debug", "warn"),
        LogLevel::Trace => ("trace", "warn"),
    };
    let ours = [
        "nestcms",
        "gateway_kit",
        "paytabs_sandbox",
        "webhook_verify",
    ];
    let mut filter = others.to_owned();
    for name in ours {
        filter.push_str(&format!(",{name}={level}"));
    }
    EnvFilter::new(filter)
}

/// Writes each event as one JSON object.
#[derive(Clone, Copy, Debug)]
struct JsonLines {
    service: &'static str,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Fields(Map::new());
        line.text("time", Timestamp::from_unix(SystemClock.now()).to_string());
        let meta = event.metadata();
        line.text("level", meta.level().as_str().to_lowercase());
        line.text("service", self.service.to_owned());
        line.text("target", meta.target().to_owned());
        line.text("correlation_id", correlation::current());
        event.record(&mut line);
        // JSON escapes line ends: no value can forge a second line.
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// Collects an event's fields; a field overrides a member of the same name, but for the
/// first four.
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), Value::String(value));
    }

    fn add(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let taken = ["time", "level", "service", "target"].contains(&name);
        let name = if taken {
            format!("field_{name}")
        } else {
            name.to_owned()
        };
        self.0.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}
