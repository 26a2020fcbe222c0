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
