//! One limit for several processes, which keep it in a store (Redis, say): the arithmetic of it,
//! without the store.
//!
//! | type | is |
//! |---|---|
//! | [`Terms`] | a quota, as the store and those that ask it must know it |
//! | [`Held`] | what the store keeps, and the rule by which it grants |
//! | [`Lease`] | what one process holds in advance, and when it asks for more |
//!
//! [`Terms::exact`]: each call is decided by the store. [`Terms::leased`]: the store gives blocks of
//! permits, which a process spends by itself for as long as the *lease* lasts.
//!
//! # What holds
//!
//! Admitted by all processes together in any span t ≤ burst + rate × t, exactly, however many they
//! are. What was granted and not yet spent was granted within the last lease, so the bucket in
//! the store is smaller than the burst by what comes back in a lease:
//!
//! ```text
//! spent in a span t  ≤  granted in the span and in the lease before it
//!                    ≤  (burst − rate × lease)  +  rate × (t + lease)
//! ```
//!
//! What a lease leaves unspent is lost, and not given back: permits that are given back could be
//! granted again for another lease, and again, and the bound above would not hold. It is little,
//! because a block is what its process needs in a quarter of a lease, and one process that dies
//! loses two blocks at most.
//!
//! # Whose time
//!
//! Only the store's time counts. It stamps its grants; a process measures how long it may spend them
//! by its own clock, from before it asked, and stops a 64th earlier, for a clock that runs slower
//! than the store's. What its clock shows does not matter.
//!
//! A store's clock that steps back gives no credit for the step and goes on from there; one that jumps
//! forward gives credit for the jump, at most the burst.

mod held;
mod lease;
mod plan;
mod slots;
mod terms;

pub use self::{
    held::{Grant, Held},
    lease::{Ask, Asked, Lease, LeaseSnapshot, Spent},
    terms::Terms,
};
