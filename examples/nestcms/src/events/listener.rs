//! What the bus asks of a listener.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use crate::domain::event::{Event, EventData};

/// Why a listener could not do its work; logged and counted by the bus.
pub type ListenerError = Box<dyn std::error::Error + Send + Sync>;

/// Somebody who acts on events, one after the other, in a task of its own.
pub trait Listener: Debug + Send + Sync + 'static {
    /// Short name for logs and metrics.
    fn name(&self) -> &'static str;

    /// Whether an event of this kind is put into the queue. Runs in the emitter's task:
    /// it must neither wait nor do work.
    fn wants(&self, data: &EventData) -> bool;

    /// Acts on one event. A failure or a panic is logged and counted, and the next event
    /// follows; the bus does not repeat an event.
    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>>;
}
