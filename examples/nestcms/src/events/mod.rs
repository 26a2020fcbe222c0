//! The event bus and its listeners.
