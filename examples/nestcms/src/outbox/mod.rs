//! The transactional outbox: what happened is told, also when the program dies right after.
//!
//! ```text
//! transaction { change, entry } ──▶ Dispatcher ──▶ Publisher ──▶ consumers { inbox row, effect }
//!                                       └ given up after 1 + 5 tries: dead letter ──replay──▶ outbox
//! ```
//!
//! An entry is published at least once, and in the order of its key. A consumer writes the event's
//! id into its inbox in the transaction of the effect, so that a repetition has none.

mod consumers;
mod dispatcher;
mod local;

pub use self::{
    consumers::{Accounting, Consumer, ConsumerError, Receipts},
    dispatcher::{Dispatcher, Rules, Wake},
    local::Local,
};
