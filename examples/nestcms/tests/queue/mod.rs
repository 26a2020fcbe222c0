//! What is done later: the broker, the queue of tasks on each engine, and their workers.

mod api;
mod contract;
mod nats;
mod workers;
