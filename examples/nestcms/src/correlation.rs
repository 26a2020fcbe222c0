//! The correlation id of the request that is being served, carried by the task.

use std::future::Future;

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task serves; `none` outside of any.
#[must_use]
pub fn current() -> String {
    CURRENT
        .try_with(Clone::clone)
        .unwrap_or_else(|_| "none".to_owned())
}

/// Runs `future` with `id` as the current id.
pub async fn scope<F: Future>(id: String, future: F) -> F::Output {
    CURRENT.scope(id, future).await
}

/// A new id.
#[must_use]
pub fn generate() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Whether an id that came with a request may be taken over: 1–128 visible ASCII characters.
#[must_use]
pub fn is_acceptable(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}
