//! The span of a call; its fields are those of the table in TELEMETRY.md.

use tracing::{Span, debug_span, field::Empty, info_span};

use super::outcome::{End, Ended};
use super::scope::{Scope, Shared};

/// `attempt` is which one of its call it is, 0 if that is not known.
pub(super) fn open(shared: &Shared, attempt: u32) -> Span {
    let name = &*shared.name;
    match shared.scope {
        Scope::Call => info_span!(
            target: "resilience_tower",
            "resilience.call",
            resilience.name = name,
            resilience.outcome = Empty,
            resilience.policy = Empty,
            resilience.reason = Empty,
            resilience.retry_after_s = Empty,
            resilience.attempts = Empty,
            "error.type" = Empty,
            otel.status_code = Empty,
        ),
        Scope::Attempt => debug_span!(
            target: "resilience_tower",
            "resilience.attempt",
            resilience.name = name,
            resilience.attempt = (attempt > 0).then_some(attempt),
            resilience.outcome = Empty,
            resilience.policy = Empty,
            resilience.reason = Empty,
            resilience.retry_after_s = Empty,
            "error.type" = Empty,
            otel.status_code = Empty,
        ),
    }
}

pub(super) fn close(span: &Span, end: End, attempts: u32) {
    if span.is_disabled() {
        return;
    }
    span.record("resilience.outcome", end.as_str());
    if attempts > 0 {
        span.record("resilience.attempts", attempts);
    }
    if let Some(refusal) = end.refusal() {
        span.record("resilience.policy", refusal.policy);
        span.record("resilience.reason", refusal.reason);
        if let Some(wait) = refusal.retry_after {
            span.record("resilience.retry_after_s", wait.as_secs_f64());
        }
    }
    if let Some(error) = error_type(end) {
        span.record("error.type", error);
        span.record("otel.status_code", "ERROR");
    }
}

/// `error.type` of OpenTelemetry: of few values, and absent when there is no error.
fn error_type(end: End) -> Option<&'static str> {
    match end {
        End::Judged(Ended::Success | Ended::Ignored) => None,
        End::Judged(Ended::Refused(refusal)) => Some(refusal.reason),
        // The word that OpenTelemetry has for it.
        End::Judged(Ended::TimeUp) => Some("timeout"),
        _ => Some(end.as_str()),
    }
}
