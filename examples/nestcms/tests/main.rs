//! All tests of the application in one program: it is linked once, and each file is a module of it.

mod auth;
mod browser;
mod content;
mod crash;
mod events;
mod events_listeners;
mod flows;
mod health;
mod health_logging;
mod instance;
mod outbox;
mod queue;
mod settings;
mod tour;
