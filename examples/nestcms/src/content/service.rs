//! The operations on content.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use webhook_verify::clock::WallClock;

use super::{
    CacheRules, Error, Tiers,
    cached::{Cached, Load, Loaded},
};
use crate::{
    domain::{
        content::{Content, Pipeline, Record},
        event::Timestamp,
    },
    ports::{ContentStore, Kept, Mark, Repository, See, StoreError},
};

/// What the service needs from outside.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Keeps the content.
    pub store: Arc<dyn ContentStore>,
    /// Shows it fast.
    pub cache: Tiers,
    /// Tells the time.
    pub wall: Arc<dyn WallClock>,
}

/// Reads and writes content. Clones share everything.
#[derive(Clone, Debug)]
pub struct ContentService {
    store: Arc<dyn ContentStore>,
    cached: Cached,
    wall: Arc<dyn WallClock>,
    lifetime: Duration,
    reports: Duration,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// It.
    pub value: T,
    /// Whether a tier of the cache had it.
    pub hit: bool,
}

/// What a write did.
#[derive(Clone, Debug)]
pub struct Written<T> {
    /// The record as it is now.
    pub record: Record<T>,
    /// By which a read sees the write, on any copy of the store; `None` if there are none.
    pub mark: Option<Mark>,
}

impl ContentService {
    /// A service over `ports`. What an aggregation answers is shown for `reports`.
    #[must_use]
    pub fn new(ports: Ports, rules: &CacheRules, reports: Duration) -> Self {
        Self {
            cached: Cached::new(ports.cache, rules),
            store: ports.store,
            wall: ports.wall,
            lifetime: rules.lifetime,
            reports,
        }
    }

    /// The record of that id. One that must show more than [`See::Any`] is read from the store.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Store`] when the store does not answer, [`Error::Busy`].
    pub async fn read<T: Content>(&self, id: &str, see: See) -> Result<Found<Record<T>>, Error>
    where
        dyn ContentStore: Repository<T>,
    {
        if see != See::Any {
            let record = Repository::<T>::find(&*self.store, id, &see).await?;
            let value = record.ok_or(Error::NotFound(T::KIND))?;
            return Ok(Found { value, hit: false });
        }
        let (store, wanted) = (Arc::clone(&self.store), id.to_owned());
        let load: Load = Arc::new(move |see| {
            let (store, id) = (Arc::clone(&store), wanted.clone());
            Box::pin(async move {
                let record = Repository::<T>::find(&*store, &id, &see).await?;
                record.map(|r| loaded(r.version, &r)).transpose()
            })
        });
        let (loaded, hit) = self.cached.get(&key::<T>(id), self.lifetime, load).await?;
        let loaded = loaded.ok_or(Error::NotFound(T::KIND))?;
        let value = serde_json::from_str(&loaded.text).map_err(unreadable)?;
        Ok(Found { value, hit })
    }

    /// Records with these values in their fields, by id; never from the cache.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store does not answer.
    pub async fn list<T: Content>(
        &self,
        fields: &[(&'static str, String)],
        limit: u32,
        see: &See,
    ) -> Result<Vec<Record<T>>, Error>
    where
        dyn ContentStore: Repository<T>,
    {
        Ok(Repository::<T>::list(&*self.store, fields, limit, see).await?)
    }

    /// Stores a new record.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`], [`Error::Unrelated`], [`Error::Store`].
    pub async fn create<T: Content>(&self, content: T) -> Result<Written<T>, Error>
    where
        dyn ContentStore: Repository<T>,
    {
        let now = self.now();
        let record = Record {
            id: uuid::Uuid::now_v7().to_string(),
            content,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let kept = Repository::<T>::insert(&*self.store, &record).await;
        self.written(&record.id, kept).await
    }

    /// Replaces the content of a record, if it has that `version` (or has any: `None`).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::Unrelated`], [`Error::Store`].
    pub async fn update<T: Content>(
        &self,
        id: &str,
        content: T,
        version: Option<i64>,
    ) -> Result<Written<T>, Error>
    where
        dyn ContentStore: Repository<T>,
    {
        let now = self.now();
        let record = Record {
            id: id.to_owned(),
            content,
            created_at: now,
            updated_at: now,
            version: version.unwrap_or(0),
        };
        let kept = Repository::<T>::update(&*self.store, &record).await;
        self.written(id, kept).await
    }

    /// The rows of an aggregation.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store does not answer, [`Error::Busy`].
    pub async fn report(&self, pipeline: Pipeline) -> Result<Found<Value>, Error> {
        let store = Arc::clone(&self.store);
        let load: Load = Arc::new(move |_| {
            let store = Arc::clone(&store);
            Box::pin(async move {
                let rows = store.run(pipeline).await?;
                loaded(0, &rows).map(Some)
            })
        });
        let key = format!("pipeline:{}", pipeline.as_str());
        let (loaded, hit) = self.cached.get(&key, self.reports, load).await?;
        let text = loaded.map_or_else(|| "[]".into(), |loaded| loaded.text);
        let value = serde_json::from_str(&text).map_err(unreadable)?;
        Ok(Found { value, hit })
    }

    /// From now on nobody is shown an earlier state of the record of that id.
    pub async fn forget<T: Content>(&self, id: &str) {
        self.cached
            .invalidate(&key::<T>(id), None, &See::Newest)
            .await;
    }

    /// Tells the cache again what it did not take before; how many invalidations it takes now.
    pub async fn retry_invalidations(&self) -> usize {
        self.cached.retry().await
    }

    /// Invalidations that the cache has not taken yet.
    #[must_use]
    pub fn waiting_invalidations(&self) -> usize {
        self.cached.waiting()
    }

    /// Only what was written is invalidated, and what may have been.
    async fn written<T: Content>(
        &self,
        id: &str,
        kept: Result<Kept<T>, StoreError>,
    ) -> Result<Written<T>, Error> {
        match kept {
            Ok(Kept::Done(record, mark)) => {
                let see = mark.clone().map_or(See::Any, See::After);
                self.cached
                    .invalidate(&key::<T>(id), Some(record.version), &see)
                    .await;
                Ok(Written {
                    record: *record,
                    mark,
                })
            }
            Ok(Kept::Taken) => Err(Error::Taken(T::KIND)),
            Ok(Kept::Unrelated) => Err(Error::Unrelated(T::KIND)),
            Ok(Kept::Stale(version)) => Err(Error::Stale(version)),
            Ok(Kept::Missing) => Err(Error::NotFound(T::KIND)),
            Err(error) => {
                if matches!(error, StoreError::Unknown { .. }) {
                    self.cached
                        .invalidate(&key::<T>(id), None, &See::Newest)
                        .await;
                }
                Err(error.into())
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.wall.now())
    }
}

fn key<T: Content>(id: &str) -> String {
    format!("{}:{id}", T::KIND)
}

fn loaded(version: i64, value: &impl serde::Serialize) -> Result<Loaded, StoreError> {
    let text = serde_json::to_string(value).map_err(corrupt)?;
    Ok(Loaded {
        version,
        text: text.into(),
    })
}

fn corrupt(error: serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        reason: error.to_string(),
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    corrupt(error).into()
}
