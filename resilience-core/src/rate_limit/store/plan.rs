//! How much to ask for: what was spent of late, for a quarter of a lease.

use super::terms::Terms;

#[derive(Debug)]
pub(super) struct Plan {
    /// An answer is awaited.
    pub(super) asking: bool,
    /// Of the last answer that brought permits, or of the first call.
    came_at: u64,
    /// What was held then.
    held: u64,
    /// What was wanted last.
    block: u64,
}

impl Plan {
    pub(super) fn new(now: u64) -> Self {
        Self {
            asking: false,
            came_at: now,
            held: 0,
            block: 0,
        }
    }

    /// What to want at `now`, of what was held `unspent` being left.
    pub(super) fn want(&mut self, unspent: u64, now: u64, terms: &Terms) -> u32 {
        let most = u64::from(terms.most);
        self.block = if self.block == 0 {
            // Nothing is known yet.
            most / 16
        } else {
            let spent = self.held.saturating_sub(unspent);
            let elapsed = now.saturating_sub(self.came_at).max(1);
            let needed = u128::from(spent) * u128::from(terms.pace()) / u128::from(elapsed);
            let needed = u64::try_from(needed).unwrap_or(u64::MAX);
            // A burst of a moment says little of what follows.
            needed.min(self.block.saturating_mul(4))
        };
        self.block = self.block.clamp(1, most);
        // At most `most`, which was 32 bits.
        self.block as u32
    }

    /// An answer brought permits.
    pub(super) fn came(&mut self, held: u64, now: u64) {
        self.held = held;
        self.came_at = now;
    }
}
