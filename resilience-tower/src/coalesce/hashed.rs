use std::hash::{Hash, Hasher};

/// A key with its hash: a call is looked up several times, when it begins and when it ends, and to
/// hash a key takes longer than to look it up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Hashed<K> {
    /// Compared first.
    pub(super) hash: u64,
    pub(super) key: K,
}

impl<K> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The hash of a [`Hashed`] is the one that is in it.
#[derive(Debug, Default)]
pub(crate) struct Known(u64);

impl Hasher for Known {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    // Not called: a `Hashed` writes the one word.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
