//! The gateway over real sockets. One program, so that it links once.

mod balance;
mod cases;
mod config;
mod embed;
mod guard;
mod headers;
mod operation;
mod policies;
mod pool;
mod proxy;
mod routing;
mod streaming;
mod support;
