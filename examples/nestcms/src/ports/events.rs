//! Where events go.

use std::fmt::Debug;

use crate::domain::event::{Event, EventData, Source};

/// Takes events; never blocks and never fails.
pub trait EventSink: Debug + Send + Sync {
    /// Emits one event; the sink adds id and time.
    fn emit(&self, source: Source, correlation_id: &str, data: EventData);

    /// Hands on an event that has its id and time.
    fn forward(&self, event: Event);
}
