//! The HTTP interface.

pub mod status;
