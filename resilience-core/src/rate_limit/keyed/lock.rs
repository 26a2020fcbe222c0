//! A short lock, which the model checker knows as well.

#[cfg(not(resilience_loom))]
type Mutex<T> = parking_lot::Mutex<T>;
#[cfg(resilience_loom)]
type Mutex<T> = loom::sync::Mutex<T>;

#[cfg(not(resilience_loom))]
pub(super) type Guard<'a, T> = parking_lot::MutexGuard<'a, T>;
#[cfg(resilience_loom)]
pub(super) type Guard<'a, T> = loom::sync::MutexGuard<'a, T>;

#[derive(Debug)]
pub(super) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    #[cfg(not(resilience_loom))]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        self.0.lock()
    }

    #[cfg(resilience_loom)]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
