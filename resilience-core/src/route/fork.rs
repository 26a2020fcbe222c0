//! Where histories part.

/// The end of an epoch in the history of the next one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fork<P> {
    /// The epoch that ended.
    pub epoch: u64,
    /// Where: what is past it, and was written in that epoch or an earlier one, is lost.
    pub position: P,
}
