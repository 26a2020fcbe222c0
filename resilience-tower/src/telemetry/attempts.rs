//! How many attempts a call takes: counted in the thread that polls it, so that neither request nor
//! services need to know.

use std::cell::Cell;

thread_local! {
    /// Attempts of the call that is being polled by this thread; `None` outside of one.
    static MADE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// While it lives, attempts begun in this thread are those of one call.
pub(super) struct OfCall<'a> {
    made: &'a mut u32,
    outside: Option<u32>,
}

impl<'a> OfCall<'a> {
    /// Goes on from `made`, and leaves the count there.
    pub(super) fn enter(made: &'a mut u32) -> Self {
        let outside = MADE.replace(Some(*made));
        Self { made, outside }
    }
}

impl Drop for OfCall<'_> {
    fn drop(&mut self) {
        if let Some(made) = MADE.replace(self.outside) {
            *self.made = made;
        }
    }
}

/// An attempt begins: which one it is, from 1; 0 when no call of this thread is known.
pub(super) fn begin() -> u32 {
    let Some(made) = MADE.get() else {
        return 0;
    };
    let made = made.saturating_add(1);
    MADE.set(Some(made));
    made
}
