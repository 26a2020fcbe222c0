//! What becomes of an adaptive limit, told to subscribers.

use super::Config;

/// What became of an [`AdaptiveLimit`](super::AdaptiveLimit).
///
/// Those of one thread come in order; of two threads each may tell its own first. The
/// [snapshot](super::AdaptiveLimit::snapshot) says how things are.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// The limit is a quarter more than what was told the last time, or was a quarter more than it
    /// is, or further away; or it has come to its minimum or maximum, which it had not when it was
    /// told.
    Limit {
        /// As it was told the last time; at first the initial limit.
        from: u32,
        /// From now on.
        to: u32,
    },
    /// It has other settings, these.
    Settings(Config),
}

/// The limit as subscribers know it.
#[derive(Debug)]
pub(super) struct Told(u32);

impl Told {
    pub(super) const fn new(limit: u32) -> Self {
        Self(limit)
    }

    /// What they should know, now that the limit is `to`.
    pub(super) fn move_to(&mut self, to: u32, config: &Config) -> Option<Change> {
        let from = self.0;
        let at_end = to <= config.min_limit() || to >= config.max_limit();
        let worth = from != to && (at_end || is_far(from, to));
        worth.then(|| {
            self.0 = to;
            Change::Limit { from, to }
        })
    }
}

/// A quarter more, a fifth less, or further.
fn is_far(from: u32, to: u32) -> bool {
    let [from, to] = [from, to].map(u64::from);
    4 * to >= 5 * from || 4 * from >= 5 * to
}
