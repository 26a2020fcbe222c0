//! Deliveries seen before: reserve → commit or release.

use std::{
    fmt::Debug,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

pub use self::memory::{MemoryReplayStore, WhenFull};
#[cfg(feature = "redis")]
pub use self::redis::{RedisOptions, RedisReplayStore, RedisUrlError};

mod memory;
#[cfg(feature = "redis")]
mod redis;

/// What names a delivery: signed data of the scheme (its id, hashed, or its MAC).
pub type ReplayKey = [u8; 32];

/// Remembers deliveries.
///
/// One trait for stores in memory and across a network: an answer is a [`StoreFuture`],
/// which is ready at once, without an allocation, for a store that need not wait.
pub trait ReplayStore: Debug + Send + Sync + 'static {
    /// Takes `key` for one handler. The reservation ends by itself after `times.lease`, so
    /// that a crash does not block the sender's retry for ever.
    fn reserve(&self, key: ReplayKey, times: Times) -> StoreFuture<'_, Reserve>;

    /// Remembers `key` for `times.lifetime`, even when the reservation has ended.
    fn commit(&self, key: ReplayKey, token: Token, times: Times) -> StoreFuture<'_, ()>;

    /// Gives the reservation back, if it is still the one of `token`. Must not block: a
    /// store across a network hands the work to a task of its own (the lease is the net).
    fn release(&self, key: ReplayKey, token: Token);
}

/// The present and the two spans of a reservation.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Wall-clock time since the Unix epoch.
    pub now: Duration,
    /// How long a reservation lasts without a commit.
    pub lease: Duration,
    /// How long a committed delivery is remembered.
    pub lifetime: Duration,
}

/// Tells one reservation of a key from a later one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Token(pub u64);

/// The answer to a reservation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reserve {
    /// Not seen; the caller holds the reservation.
    Reserved(Token),
    /// Another handler holds it for at most this long.
    InFlight(Duration),
    /// Handled before.
    Duplicate,
}

/// A store that cannot answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// At its cap.
    #[error("replay store is full")]
    Full,
    /// Out of reach or broken.
    #[error("replay store is out of order")]
    Outage,
}

/// The answer of a store, now or later.
#[must_use = "futures do nothing unless polled"]
pub struct StoreFuture<'a, T>(Kind<'a, T>);

enum Kind<'a, T> {
    // `None` once given away.
    Ready(Option<Result<T, StoreError>>),
    Waiting(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>),
}

impl<'a, T> StoreFuture<'a, T> {
    /// An answer that is there.
    pub const fn ready(answer: Result<T, StoreError>) -> Self {
        Self(Kind::Ready(Some(answer)))
    }

    /// An answer that must be waited for.
    pub fn waiting(future: impl Future<Output = Result<T, StoreError>> + Send + 'a) -> Self {
        Self(Kind::Waiting(Box::pin(future)))
    }

    /// The answer without a runtime, for stores that are always ready.
    ///
    /// # Errors
    /// The store's own, and [`StoreError::Outage`] when the answer is not there yet.
    pub fn now(self) -> Result<T, StoreError> {
        match self.0 {
            Kind::Ready(Some(answer)) => answer,
            _ => Err(StoreError::Outage),
        }
    }
}

// `T` is never pinned: it is moved out when the future is ready.
impl<T> Unpin for StoreFuture<'_, T> {}

impl<T> Future for StoreFuture<'_, T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            // Polled again after the end: an outage, not a panic.
            Kind::Ready(answer) => Poll::Ready(answer.take().unwrap_or(Err(StoreError::Outage))),
            Kind::Waiting(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> Debug for StoreFuture<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreFuture").finish_non_exhaustive()
    }
}
