//! The event bus and its listeners.
//!
//! ```text
//! emitter ──emit──▶ EventBus ─┬─▶ queue ─▶ task: notification
//!   (never waits)             ├─▶ queue ─▶ task: analytics
//!                             ├─▶ …
//!                             └─▶ tap (status page), recorders (tests)
//! ```
//!
//! Who listens to what stands in [`listeners`].

pub mod bus;
pub mod channel;
pub mod listener;
pub mod listeners;
pub mod tap;

mod queue;

pub use self::{
    bus::{Drained, EventBus, ListenerStats},
    channel::{Channel, ChannelError, ChannelKind, Message},
    listener::{Listener, ListenerError},
    tap::{Recorder, Tap},
};
