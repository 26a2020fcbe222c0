//! The atomics of every policy: std's, or loom's under `--cfg resilience_loom`.

#[cfg(not(resilience_loom))]
pub(crate) use std::sync::atomic::AtomicU64;

#[cfg(resilience_loom)]
pub(crate) use loom::sync::atomic::AtomicU64;

pub(crate) use std::sync::atomic::Ordering;

/// A sequentially consistent fence.
pub(crate) fn fence() {
    #[cfg(not(resilience_loom))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(resilience_loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// A lock that is held over atomics, which the model checker may interrupt.
#[derive(Debug, Default)]
pub(crate) struct Lock<T> {
    #[cfg(not(resilience_loom))]
    mutex: parking_lot::Mutex<T>,
    #[cfg(resilience_loom)]
    mutex: loom::sync::Mutex<T>,
}

#[cfg(not(resilience_loom))]
pub(crate) type LockGuard<'a, T> = parking_lot::MutexGuard<'a, T>;
#[cfg(resilience_loom)]
pub(crate) type LockGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        #[cfg(not(resilience_loom))]
        let mutex = parking_lot::Mutex::new(value);
        #[cfg(resilience_loom)]
        let mutex = loom::sync::Mutex::new(value);
        Self { mutex }
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        #[cfg(not(resilience_loom))]
        return self.mutex.lock();
        #[cfg(resilience_loom)]
        return self
            .mutex
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
    }
}

/// A value that is replaced under its readers.
#[cfg(not(resilience_loom))]
pub(crate) type Swap<T> = arc_swap::ArcSwap<T>;
#[cfg(not(resilience_loom))]
pub(crate) type Loaded<T> = arc_swap::Guard<std::sync::Arc<T>>;

/// The same behind a lock that the model checker sees, for values that hold its atomics.
#[cfg(resilience_loom)]
#[derive(Debug)]
pub(crate) struct Swap<T>(Lock<std::sync::Arc<T>>);
#[cfg(resilience_loom)]
pub(crate) type Loaded<T> = std::sync::Arc<T>;

#[cfg(resilience_loom)]
impl<T> Swap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(Lock::new(std::sync::Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        std::sync::Arc::clone(&self.0.lock())
    }

    pub(crate) fn load_full(&self) -> Loaded<T> {
        self.load()
    }

    pub(crate) fn store(&self, value: Loaded<T>) {
        *self.0.lock() = value;
    }
}
