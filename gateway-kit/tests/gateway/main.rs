//! The gateway over real sockets. One program, so that it links once.

#[cfg(feature = "admin")]
mod admin;
mod answers;
mod balance;
#[cfg(feature = "cache")]
mod caching;
mod cases;
#[cfg(feature = "compression")]
mod compressing;
mod config;
mod discovery;
mod embed;
mod env;
mod fields;
mod flood;
mod guard;
mod headers;
mod health;
#[cfg(feature = "http2")]
mod http2;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "jwt")]
mod jwt_practices;
mod limits;
mod nginx;
mod operation;
mod order;
#[cfg(feature = "otel")]
mod otel;
mod perimeter;
mod policies;
mod pool;
mod proxy;
mod reload;
mod retries;
mod routing;
#[cfg(feature = "schema")]
mod schema;
mod server;
mod streaming;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod transforms;
mod upgrade;
#[cfg(feature = "http2")]
mod upstream_http2;
#[cfg(all(feature = "http2", feature = "tls"))]
mod upstream_tls;
#[cfg(feature = "webhook")]
mod webhook_schemes;
#[cfg(feature = "webhook")]
mod webhooks;
mod websocket;
