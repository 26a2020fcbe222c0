//! What is done later: the broker, and the tasks that go through it.

mod nats;
