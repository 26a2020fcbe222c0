//! The layer in a hyper server on loopback, under deliveries that mean no good: each must end
//! in a bounded, correct answer, and the handler must see no byte that was not verified.

mod abuse;
mod connection;
mod http2;
mod sizes;
mod support;
