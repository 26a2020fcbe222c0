//! All tests of the layers in one program: it is linked once, and each file is a module of it.

mod adaptive;
mod admission;
mod allocations;
mod allocations_breaker;
mod balance;
mod breaker;
mod breaker_body;
mod breaker_body_model;
mod breaker_http;
mod breaker_judge;
mod breaker_keyed;
mod breaker_time;
mod bulkhead;
mod bulkhead_keyed;
mod cache;
mod cache_http;
mod cache_model;
mod chaos;
mod client_key;
mod coalesce;
mod coalesce_http;
mod deadline;
mod deadline_grpc;
mod deadline_http;
mod fallback;
mod grpc;
mod hedge;
mod hedge_http;
mod hedge_simulation;
mod into_response;
#[cfg(all(feature = "rate-limit", feature = "http"))]
#[path = "support/limited.rs"]
mod limited;
mod load_shed;
mod peer_defects;
mod peer_defects_limit;
mod postgres;
mod rate_limit;
mod rate_limit_http;
mod rate_limit_http_model;
mod rate_limit_keys;
mod rate_limit_redis;
mod rate_limit_wait;
mod read_write;
mod read_write_buffer;
mod read_write_http;
mod read_write_lease;
mod read_write_looks;
mod read_write_mariadb;
mod read_write_per_call;
mod read_write_redis;
mod read_write_refusal;
mod read_write_retry;
mod read_write_signed;
mod read_write_wait;
#[cfg(feature = "read-write")]
mod replicated;
mod retry;
mod retry_http;
mod sim;
mod sim_scenarios;
#[cfg(feature = "stack")]
mod stack;
#[cfg(any(all(feature = "read-write", feature = "redis"), feature = "mariadb"))]
#[path = "support/stores.rs"]
mod stores;
#[cfg(feature = "tonic")]
mod support;
mod telemetry;
mod timeout;
#[cfg(feature = "coalesce")]
mod upstream;
