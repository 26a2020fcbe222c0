//! The cache in front of the store: two tiers, one call per key.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::metrics::{counter, gauge};
use futures_util::future::BoxFuture;
use resilience_core::{
    breaker::{CircuitBreaker, Outcome, State},
    cache::Config,
    clock::SharedClock,
};
use resilience_tower::{
    cache::{Cache as Near, CacheStatus, Error as NearError, Keep, OnTokio, Rules, Source, Store},
    coalesce::{KeyOf, Share, ShareAll},
};
use tower::{Service, ServiceExt};

use super::{
    Error,
    retries::{Invalidation, Retries},
};
use crate::{
    metrics::Metrics,
    ports::{Cache, Mark, See, StoreError},
};

/// How long entries live, and how much of them there is.
#[derive(Clone, Debug)]
pub struct CacheRules {
    /// In the far tier, and in the near one when it stands alone.
    pub lifetime: Duration,
    /// In the near tier in front of a far one: so long other instances may show what this one
    /// has replaced.
    pub near_lifetime: Duration,
    /// Of the near tier, in bytes.
    pub near_bytes: u64,
}

/// What the cache is made of.
#[derive(Clone, Debug)]
pub struct Tiers {
    /// What instances share; behind the breaker.
    pub far: Option<Arc<dyn Cache>>,
    /// What fills have to see after the writes of this process, by key; in memory.
    pub marks: Arc<dyn Cache>,
    /// While it is not closed nothing is kept: nobody would hear of the writes of others.
    pub breaker: CircuitBreaker,
    /// By which entries age.
    pub clock: SharedClock,
    /// Counts looks.
    pub metrics: Metrics,
}

/// An answer of the store, as both tiers keep it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Loaded {
    pub(super) version: i64,
    pub(super) text: Arc<str>,
}

/// Reads the store.
pub(super) type Load =
    Arc<dyn Fn(See) -> BoxFuture<'static, Result<Option<Loaded>, StoreError>> + Send + Sync>;

/// The cache, its marks and its retry list. Clones share everything.
#[derive(Clone)]
pub(super) struct Cached {
    near: Near<Fill, Ask, ByKey, Shelf>,
    fill: Fill,
    metrics: Metrics,
}

impl Cached {
    pub(super) fn new(tiers: Tiers, rules: &CacheRules) -> Self {
        let Tiers {
            far,
            marks,
            breaker,
            clock,
            metrics,
        } = tiers;
        let config = Config::builder().max_weight(rules.near_bytes).build();
        let store = Store::with_clock(config.unwrap_or_default(), clock);
        // A reader that had the entry before must not find it again after the gap.
        let entries = store.downgrade();
        breaker
            .subscribe(move |change| {
                if change.from == State::Closed
                    && let Some(entries) = entries()
                {
                    entries.invalidate_all();
                }
            })
            .forget();
        let figures = store.downgrade();
        metrics.watch(move || {
            let Some(now) = figures().map(|store| store.snapshot()) else {
                return;
            };
            counter!("cache_evictions_total", "tier" => "near").absolute(now.evictions);
            #[allow(clippy::cast_precision_loss)] // Bounded by the settings.
            {
                gauge!("cache_entries", "tier" => "near").set(now.entries as f64);
                gauge!("cache_bytes", "tier" => "near").set(now.weight as f64);
            }
        });
        let longest = far.as_ref().map(|_| rules.near_lifetime);
        let fill = Fill {
            far,
            marks,
            retries: Arc::default(),
            metrics: metrics.clone(),
        };
        let shelf = Shelf { breaker, longest };
        Self {
            near: Near::new(fill.clone(), store, ByKey, shelf, Arc::new(OnTokio)),
            fill,
            metrics,
        }
    }

    /// The answer under `key`, and whether a tier had it.
    pub(super) async fn get(
        &self,
        key: &str,
        lifetime: Duration,
        load: Load,
    ) -> Result<(Option<Loaded>, bool), Error> {
        let ask = Ask {
            key: key.into(),
            lifetime,
            load,
        };
        let answer = self.near.clone().oneshot(ask).await;
        let answer = answer.map_err(|error| match error {
            NearError::Inner(error) => Error::Store(error),
            other => Error::Busy(other.to_string()),
        })?;
        let near = matches!(answer.source, Some(Source::Hit));
        let result = if near { "hit" } else { "miss" };
        self.metrics.cache_request("near", result);
        Ok((answer.loaded, near || answer.from_far))
    }

    /// After a write of `version`: nobody is shown what was before, and the next fill sees the
    /// write. `version` is `None` if nobody knows whether it was done.
    pub(super) async fn invalidate(&self, key: &str, version: Option<i64>, see: &See) {
        let invalidation = Invalidation {
            version,
            tombstone: tombstone(see),
        };
        let (retries, marks) = (&self.fill.retries, &self.fill.marks);
        if let Err(error) = marks.put(key, 0, invalidation.tombstone.clone()).await {
            tracing::warn!(%error, key, "the next fill may not see the write");
        }
        // From here on no fill believes the far tier about this key; those that began before
        // are not kept, as the near tier is told now.
        retries.add(key, invalidation.clone());
        self.near.handle().invalidate(&key.into());
        self.tell_far(key, &invalidation).await;
    }

    /// Tells the far tier again what it did not take; how many it takes now.
    pub(super) async fn retry(&self) -> usize {
        let mut done = 0;
        for (key, invalidation) in self.fill.retries.all() {
            if !self.tell_far(&key, &invalidation).await {
                // The others would fare no better.
                break;
            }
            done += 1;
        }
        done
    }

    /// Invalidations that the far tier has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.fill.retries.len()
    }

    async fn tell_far(&self, key: &str, invalidation: &Invalidation) -> bool {
        let told = match (&self.fill.far, invalidation.version) {
            (None, _) => Ok(()),
            // An entry of this version or an older one gives way, and none of an older version
            // is put in its place by a fill that is late.
            (Some(far), Some(version)) => {
                let tombstone = invalidation.tombstone.clone();
                far.put(key, version, tombstone).await
            }
            (Some(far), None) => far.remove(key).await,
        };
        match told {
            Ok(()) => self.fill.retries.done(key, invalidation),
            Err(error) => tracing::warn!(%error, key, "cache not invalidated, it is tried again"),
        }
        !self.fill.retries.contains(key)
    }
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("fill", &self.fill)
            .finish_non_exhaustive()
    }
}

/// A question to the cache.
#[derive(Clone)]
struct Ask {
    key: Arc<str>,
    lifetime: Duration,
    load: Load,
}

/// What is known under a key.
#[derive(Clone, Debug)]
struct Answer {
    loaded: Option<Loaded>,
    lifetime: Duration,
    from_far: bool,
    /// Of the near tier; told by it.
    source: Option<Source>,
}

/// Asks the far tier, then the store.
#[derive(Clone, Debug)]
struct Fill {
    far: Option<Arc<dyn Cache>>,
    /// What fills have to see, by key: the far tier's may be gone, or there is none.
    marks: Arc<dyn Cache>,
    retries: Arc<Retries>,
    metrics: Metrics,
}

impl Fill {
    async fn run(self, ask: Ask) -> Result<Answer, StoreError> {
        let answer = |loaded, from_far| Answer {
            loaded,
            lifetime: ask.lifetime,
            from_far,
            source: None,
        };
        let mark = self.marks.get(&ask.key).await.ok().flatten();
        let mut see = mark.and_then(|text| marked(&text)).unwrap_or_default();
        match self.ask_far(&ask.key).await {
            None => {}
            Some(text) => match marked(&text) {
                // Of two marks the one of this process may be the older one: somebody else has
                // written since. Both are seen by who sees the newest.
                Some(other) if see == See::Any => see = other,
                Some(other) if other == see => {}
                Some(_) => see = See::Newest,
                None => {
                    if let Some(loaded) = unpack(&text) {
                        return Ok(answer(Some(loaded), true));
                    }
                }
            },
        }
        let loaded = (ask.load)(see).await?;
        if let (Some(far), Some(loaded)) = (&self.far, &loaded)
            && !self.retries.contains(&ask.key)
        {
            let put = far.put(&ask.key, loaded.version, pack(loaded));
            if let Err(error) = put.await {
                tracing::debug!(%error, "not cached");
            }
        }
        Ok(answer(loaded, false))
    }

    async fn ask_far(&self, key: &str) -> Option<String> {
        let far = self.far.as_ref()?;
        if self.retries.contains(key) {
            self.metrics.cache_request("far", "stale");
            return None;
        }
        // Trouble is counted by the guard, and no reason not to answer.
        far.get(key).await.ok().flatten()
    }
}

impl Service<Ask> for Fill {
    type Response = Answer;
    type Error = StoreError;
    type Future = BoxFuture<'static, Result<Answer, StoreError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        Box::pin(self.clone().run(ask))
    }
}

#[derive(Clone, Copy, Debug)]
struct ByKey;

impl KeyOf<Ask> for ByKey {
    type Key = Arc<str>;

    fn key_of(&self, ask: &Ask) -> Option<Arc<str>> {
        Some(Arc::clone(&ask.key))
    }

    fn size_of_key(&self, key: &Arc<str>) -> usize {
        key.len()
    }
}

/// What the near tier keeps, and for how long.
#[derive(Clone, Debug)]
struct Shelf {
    breaker: CircuitBreaker,
    longest: Option<Duration>,
}

impl Share<Answer, StoreError> for Shelf {
    type Kept = Result<Answer, StoreError>;

    fn keep(&self, result: Result<&Answer, &StoreError>) -> Option<Self::Kept> {
        ShareAll.keep(result)
    }

    fn give(&self, kept: &Self::Kept) -> Result<Answer, StoreError> {
        kept.clone()
    }
}

impl Rules<Answer, StoreError> for Shelf {
    fn outcome(&self, result: Result<&Answer, &StoreError>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }

    fn keep_for(&self, result: Result<&Answer, &StoreError>) -> Keep {
        let Ok(answer) = result else {
            return Keep::not();
        };
        let Some(loaded) = &answer.loaded else {
            return Keep::not();
        };
        if self.breaker.state() != State::Closed {
            return Keep::not();
        }
        let longest = self.longest.unwrap_or(answer.lifetime);
        Keep::fresh_for(answer.lifetime.min(longest)).weight(loaded.text.len() as u64)
    }

    fn mark(&self, answer: &mut Answer, status: CacheStatus) {
        answer.source = Some(status.source);
    }
}

/// `version text`, as the far tier keeps it.
fn pack(loaded: &Loaded) -> String {
    format!("{} {}", loaded.version, loaded.text)
}

fn unpack(text: &str) -> Option<Loaded> {
    let (version, text) = text.split_once(' ')?;
    Some(Loaded {
        version: version.parse().ok()?,
        text: text.into(),
    })
}

/// What stands in the place of an entry that a write has replaced: `!` and what a fill has to see.
fn tombstone(see: &See) -> String {
    match see {
        See::Any => "!".to_owned(),
        See::After(Mark(mark)) => format!("!={mark}"),
        See::Newest => "!*".to_owned(),
    }
}

/// What a tombstone says; `None` for an entry.
fn marked(text: &str) -> Option<See> {
    let rest = text.strip_prefix('!')?;
    Some(match rest.strip_prefix('=') {
        Some(mark) => See::After(Mark(mark.to_owned())),
        None if rest == "*" => See::Newest,
        None => See::Any,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_no_tombstone_and_a_tombstone_no_entry() {
        let loaded = Loaded {
            version: 3,
            text: "{\"a\": 1}".into(),
        };
        assert_eq!(unpack(&pack(&loaded)), Some(loaded.clone()));
        assert_eq!(marked(&pack(&loaded)), None);
        for see in [See::Any, See::After(Mark("x y".to_owned())), See::Newest] {
            assert_eq!(marked(&tombstone(&see)), Some(see.clone()));
            assert_eq!(unpack(&tombstone(&see)), None);
        }
    }
}
