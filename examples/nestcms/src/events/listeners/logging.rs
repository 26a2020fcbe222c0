//! What operators read first: the log, with a copy in the audit log.

use futures_util::future::BoxFuture;

use super::AuditLog;
use crate::{
    domain::event::{Event, EventData},
    events::{Listener, ListenerError},
};

/// Writes a structured log line for system events and opened breakers, and a copy of the
/// event into the audit log.
#[derive(Debug)]
pub struct Logging {
    audit: AuditLog,
}

impl Logging {
    /// Copies into `audit`.
    #[must_use]
    pub fn new(audit: AuditLog) -> Self {
        Self { audit }
    }
}

impl Listener for Logging {
    fn name(&self) -> &'static str {
        "logging"
    }

    fn wants(&self, data: &EventData) -> bool {
        matches!(
            data,
            EventData::CircuitOpened { .. }
                | EventData::SystemStarted { .. }
                | EventData::SystemStopping { .. }
                | EventData::ConfigChanged { .. }
                | EventData::HealthChanged { .. }
        )
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            let data = serde_json::to_string(&event.data)?;
            tracing::info!(
                event = event.event_type(),
                event_id = event.id,
                source = event.source.as_str(),
                correlation_id = event.correlation_id,
                data,
                "event"
            );
            self.audit.append(event).await?;
            Ok(())
        })
    }
}
