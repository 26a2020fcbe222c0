//! A store that takes its time, to show what the cache is good for.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use crate::{
    domain::content::{Content, Pipeline, Record},
    ports::{ContentStore, Kept, Pipelines, Repository, See, StoreError},
};

/// A store whose reads take longer, each by another time within bounds.
#[derive(Clone, Debug)]
pub struct SlowStore {
    inner: Arc<dyn ContentStore>,
    delay: RangeInclusive<Duration>,
    reads: Arc<AtomicU32>,
}

impl SlowStore {
    /// Puts such delays before `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ContentStore>, delay: RangeInclusive<Duration>) -> Self {
        Self {
            inner,
            delay,
            reads: Arc::default(),
        }
    }

    async fn wait(&self) {
        // ORDERING: Relaxed. Any number will do.
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        // Prime to the number of steps: they come in mixed order, and each as often.
        let step = number % STEPS * 37 % STEPS;
        let (least, most) = (*self.delay.start(), *self.delay.end());
        let more = most.saturating_sub(least) * step / (STEPS - 1);
        tokio::time::sleep(least + more).await;
    }
}

const STEPS: u32 = 100;

impl<T: Content> Repository<T> for SlowStore
where
    dyn ContentStore: Repository<T>,
{
    fn find<'a>(
        &'a self,
        id: &'a str,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Option<Record<T>>, StoreError>> {
        Box::pin(async move {
            self.wait().await;
            Repository::<T>::find(&*self.inner, id, see).await
        })
    }

    fn list<'a>(
        &'a self,
        fields: &'a [(&'static str, String)],
        limit: u32,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Vec<Record<T>>, StoreError>> {
        Box::pin(async move {
            self.wait().await;
            Repository::<T>::list(&*self.inner, fields, limit, see).await
        })
    }

    fn insert<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        self.inner.insert(record)
    }

    fn update<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        self.inner.update(record)
    }
}

impl Pipelines for SlowStore {
    fn run(
        &self,
        pipeline: Pipeline,
    ) -> BoxFuture<'_, Result<Vec<Map<String, Value>>, StoreError>> {
        Box::pin(async move {
            self.wait().await;
            self.inner.run(pipeline).await
        })
    }
}
