//! Behaviour of the tower layer, without a network. One file per subject.

mod answers;
mod body;
mod documents;
mod events;
mod order;
mod readiness;
mod replay;
mod support;
