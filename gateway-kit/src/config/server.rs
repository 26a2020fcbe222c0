//! `[server]`.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{Bounds, Place, TIME, bounds};

/// `[server]`: limits of the listening side.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Longest wait for a complete request head, and for the next request of an idle
    /// connection; default 30 s.
    #[serde(with = "super::Human")]
    pub header_timeout: Duration,
    /// Longest pause inside a request body; default 30 s. gRPC streams may pause longer.
    #[serde(with = "super::Human")]
    pub body_timeout: Duration,
    /// Least bytes per second of a request body, counted over the time that we wait for the
    /// client, after a first `body_timeout`; default 240.
    pub min_body_rate: u64,
    /// Longest time in which a client takes no byte of its answer; default 60 s.
    #[serde(with = "super::Human")]
    pub write_timeout: Duration,
    /// Most header fields of a request; more answer 431; default 100.
    pub max_headers: usize,
    /// Most bytes of a request head, and of the read buffer; default 64 KiB.
    pub max_head_bytes: usize,
    /// Most connections at once; others wait in the listen queue; default 10 000.
    pub max_connections: usize,
    /// Most connections at once of one client address (IPv6: of one /64); more are closed at
    /// once; default no limit. Trusted proxies are not counted.
    pub max_connections_per_client: Option<usize>,
    /// Requests after which a connection is closed in order; default no limit.
    pub max_requests_per_connection: Option<NonZeroU64>,
    /// Methods that are passed on besides GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS;
    /// default none.
    pub extra_methods: Vec<String>,
    /// Passes interim answers of upstreams (102, 103) on, where both sides speak HTTP/1.1; default
    /// false.
    pub interim_answers: bool,
    /// Serves HTTP/2, without TLS to clients that begin with its preface; default true. Without
    /// the feature `http2` it says nothing.
    pub http2: bool,
    /// Most requests at once on one connection of HTTP/2; default 100.
    pub max_concurrent_streams: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            min_body_rate: 240,
            write_timeout: Duration::from_secs(60),
            max_headers: 100,
            max_head_bytes: 64 * 1024,
            max_connections: 10_000,
            max_connections_per_client: None,
            max_requests_per_connection: None,
            extra_methods: Vec::new(),
            interim_answers: false,
            http2: true,
            max_concurrent_streams: 100,
        }
    }
}

impl ServerConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        for (index, method) in self.extra_methods.iter().enumerate() {
            let known = method.parse::<http::Method>();
            let never = matches!(method.as_str(), "CONNECT" | "TRACE");
            if known.is_err() || never {
                place
                    .at(format_args!("extra_methods[{index}]"))
                    .refuse("must be the name of a method, and neither CONNECT nor TRACE");
            }
        }
    }
}

bounds! {
    ServerConfig {
        header_timeout: TIME,
        body_timeout: TIME,
        write_timeout: TIME,
        min_body_rate: Bounds::whole(1, 1_000_000_000),
        // hyper refuses a read buffer below 8 KiB.
        max_head_bytes: Bounds::whole(8192, 1 << 20),
        max_headers: Bounds::whole(1, 1000),
        max_connections: Bounds::whole(1, 1_000_000),
        max_connections_per_client: Bounds::whole(1, 1_000_000),
        max_requests_per_connection: Bounds::whole(1, 1_000_000_000),
        max_concurrent_streams: Bounds::whole(1, 10_000),
    }
}
