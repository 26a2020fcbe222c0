//! Panics of what is polled with a permit in hand.

/// Drops the permit if the thread unwinds before [`disarm`](Self::disarm): the call is a failure.
///
/// A permit that is dropped by an unwinding thread is a failure, else it is merely abandoned.
/// Runtimes (tokio's tasks, hyper) catch the panic of a poll and drop the future or the body
/// later, when nothing unwinds any more; by then the permit must be gone.
pub(crate) struct DropOnUnwind<'a, P>(pub(crate) &'a mut Option<P>);

impl<P> DropOnUnwind<'_, P> {
    /// Nothing has panicked: the permit stays where it is.
    #[inline]
    pub(crate) fn disarm(self) {
        std::mem::forget(self);
    }
}

impl<P> Drop for DropOnUnwind<'_, P> {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}
