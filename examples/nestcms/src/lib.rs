//! NestCMS: the reference application, content management and payments through PayTabs.
//!
//! The layout is hexagonal. [`domain`] knows nothing but values and rules,
//! [`ports`] names what the application needs from outside, [`payments`], [`content`] and
//! [`tasks`] hold the application services, [`outbox`] tells of what they did, and [`adapters`]
//! join them to SQLite, PayTabs, the cache and HTTP. [`app`] wires one instance together.

pub mod adapters;
pub mod app;
pub mod auth;
pub mod cli;
pub mod content;
pub mod correlation;
pub mod domain;
pub mod events;
pub mod flow;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod outbox;
pub mod payments;
pub mod ports;
pub mod settings;
pub mod stack;
pub mod tasks;
