//! Keeps the cache honest.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    domain::event::{Event, EventData},
    events::{Listener, ListenerError},
    ports::Cache,
};

/// Drops `payment:{id}` when the payment's state changed, so that the next read shows the
/// new one. When the cache is down, the entry lives until its own end.
#[derive(Debug)]
pub struct CacheInvalidation {
    cache: Arc<dyn Cache>,
}

impl CacheInvalidation {
    /// Drops entries of `cache`.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache }
    }
}

impl Listener for CacheInvalidation {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn wants(&self, data: &EventData) -> bool {
        matches!(data, EventData::StatusChanged { .. })
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            if let Some(payment_id) = event.data.payment_id() {
                self.cache.remove(&format!("payment:{payment_id}")).await?;
            }
            Ok(())
        })
    }
}
