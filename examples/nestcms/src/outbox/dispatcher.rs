//! Takes entries from the outbox to the publisher.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use resilience_core::retry::Backoff;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use webhook_verify::clock::WallClock;

use crate::{
    domain::event::Timestamp,
    metrics::Metrics,
    ports::{Attempt, Entry, Outbox, PublishError, Publisher, StoreError},
};

/// Tells the dispatcher of this process that something was committed. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There is something in the outbox; never waits.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// How entries are published.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How often the outbox is looked at when nobody wakes the dispatcher: entries of other
    /// processes, and those that an older transaction hid at the time of their commit.
    pub poll: Duration,
    /// Entries of one round.
    pub batch: u32,
    /// Tries of one entry, the first one included.
    pub tries: usize,
    /// The waits between them, and while nothing can be published.
    pub backoff: Backoff,
    /// How long a dispatcher that has died is waited for.
    pub lease: Duration,
    /// How long published entries are kept.
    pub keep: Duration,
}

impl Rules {
    /// The wait after so many failures.
    pub(crate) fn wait(&self, failures: usize) -> Duration {
        let failures = u32::try_from(failures).unwrap_or(u32::MAX);
        // Most bits of the lower half are random.
        let (_, random) = uuid::Uuid::now_v7().as_u64_pair();
        self.backoff.wait(failures, Duration::ZERO, random << 2)
    }
}

/// Publishes what is in the outbox, in the order of each key, at least once.
#[derive(Debug)]
pub struct Dispatcher {
    outbox: Arc<dyn Outbox>,
    publisher: Arc<dyn Publisher>,
    wall: Arc<dyn WallClock>,
    metrics: Metrics,
    rules: Rules,
    wake: Wake,
    holder: String,
    /// Until when nobody else publishes.
    leads_until: Mutex<Duration>,
}

/// How a round went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Round {
    /// Entries published and booked.
    pub published: usize,
    /// Entries that were refused; they wait, or are dead letters.
    pub refused: usize,
    /// Whether there is perhaps more.
    pub full: bool,
    /// Whether nothing can be published at the moment.
    pub unavailable: bool,
}

impl Dispatcher {
    /// A dispatcher from `outbox` to `publisher`, woken by `wake`.
    #[must_use]
    pub fn new(
        outbox: Arc<dyn Outbox>,
        publisher: Arc<dyn Publisher>,
        wall: Arc<dyn WallClock>,
        metrics: Metrics,
        rules: Rules,
        wake: Wake,
    ) -> Self {
        Self {
            outbox,
            publisher,
            wall,
            metrics,
            rules,
            wake,
            holder: uuid::Uuid::now_v7().to_string(),
            leads_until: Mutex::default(),
        }
    }

    /// Publishes until it is dropped. Trouble of the store or of the publisher ends nothing: it
    /// waits, longer each time.
    ///
    /// # Cancel safety
    ///
    /// What was published and not booked yet is published again by the next one.
    pub async fn run(&self) {
        let mut failures = 0;
        let mut kept_house: Option<Instant> = None;
        loop {
            let round = self.round().await;
            if kept_house.is_none_or(|at| Instant::now() - at >= HOUSEKEEPING) {
                kept_house = Some(Instant::now());
                if let Err(error) = self.keep_house().await {
                    tracing::warn!(%error, "the outbox is not swept");
                }
            }
            match round {
                Ok(round) if !round.unavailable => {
                    failures = 0;
                    if !round.full {
                        let _ = timeout(self.rules.poll, self.wake.0.notified()).await;
                    }
                    continue;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the outbox cannot be read or booked"),
            }
            failures += 1;
            tokio::time::sleep(self.rules.wait(failures)).await;
        }
    }

    /// Publishes one batch.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; entries that were published and not booked are published again.
    pub async fn round(&self) -> Result<Round, StoreError> {
        if !self.leads().await? {
            return Ok(Round::default());
        }
        let entries = self.outbox.due(self.wall.now(), self.rules.batch).await?;
        let full = entries.len() >= self.rules.batch as usize;
        let keys = self.publish(entries).await;
        let mut round = Round::default();
        let sent: Vec<i64> = keys.iter().flat_map(|key| key.sent.clone()).collect();
        if !sent.is_empty() {
            self.outbox.sent(&sent, self.wall.now()).await?;
            self.metrics.outbox_published(sent.len());
            round.published = sent.len();
        }
        for (entry, error) in keys.into_iter().filter_map(|key| key.failed) {
            match error {
                PublishError::Refused { reason } => {
                    self.refused(entry, reason).await?;
                    round.refused += 1;
                }
                PublishError::Unavailable { reason } => {
                    tracing::warn!(event_id = entry.event_id, reason, "not published");
                    round.unavailable = true;
                }
            }
        }
        round.full = full && !round.unavailable;
        Ok(round)
    }

    /// Removes old entries, and shows what waits.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn keep_house(&self) -> Result<(), StoreError> {
        let now = self.wall.now();
        let depth = self.outbox.depth().await?;
        let age = depth.oldest.map(|at| now.saturating_sub(at));
        self.metrics
            .outbox_depth(depth.waiting, age.unwrap_or_default(), depth.dead);
        let before = now.saturating_sub(self.rules.keep);
        while self.outbox.sweep(before, SWEEP).await? == u64::from(SWEEP) {}
        Ok(())
    }

    /// Whether this dispatcher is the one who publishes; an idle one does not ask to be.
    async fn leads(&self) -> Result<bool, StoreError> {
        let (now, lease) = (self.wall.now(), self.rules.lease);
        if now + lease / 2 < *self.leads_until.lock() {
            return Ok(true);
        }
        if self.outbox.due(now, 1).await?.is_empty() {
            return Ok(false);
        }
        let until = now + lease;
        let leads = self.outbox.lead(&self.holder, now, until).await?;
        *self.leads_until.lock() = if leads { until } else { Duration::ZERO };
        Ok(leads)
    }

    /// Publishes keys side by side, and the entries of each one after the other.
    async fn publish(&self, entries: Vec<Entry>) -> Vec<Published> {
        let mut keys: Vec<Vec<Entry>> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for entry in entries {
            let place = *places.entry(entry.key.clone()).or_insert(keys.len());
            match keys.get_mut(place) {
                Some(key) => key.push(entry),
                None => keys.push(vec![entry]),
            }
        }
        // Whoever takes longer would publish beside the next dispatcher.
        let until = Instant::now() + self.rules.lease / 4;
        let keys = keys.into_iter().map(|key| self.publish_key(key, until));
        stream::iter(keys)
            .buffer_unordered(SIDE_BY_SIDE)
            .collect()
            .await
    }

    async fn publish_key(&self, entries: Vec<Entry>, until: Instant) -> Published {
        let mut published = Published::default();
        for entry in entries {
            let tried = timeout_at(until, self.publisher.publish(&entry)).await;
            let tried = tried.unwrap_or_else(|_| {
                let reason = "it takes too long".to_owned();
                Err(PublishError::Unavailable { reason })
            });
            match tried {
                Ok(()) => published.sent.push(entry.seq),
                Err(error) => {
                    published.failed = Some((entry, error));
                    break;
                }
            }
        }
        published
    }

    async fn refused(&self, mut entry: Entry, reason: String) -> Result<(), StoreError> {
        let now = self.wall.now();
        tracing::warn!(event_id = entry.event_id, reason, "an event was refused");
        let at = Timestamp::from_unix(now);
        entry.history.push(Attempt { at, reason });
        let tries = entry.history.len();
        if tries >= self.rules.tries {
            self.outbox.bury(&entry, now).await?;
            self.metrics.dead_letter("outbox");
            return Ok(());
        }
        self.outbox
            .put_off(&entry, now + self.rules.wait(tries))
            .await
    }
}

/// What became of the entries of one key.
#[derive(Debug, Default)]
struct Published {
    sent: Vec<i64>,
    /// The first that was not; those behind it were not tried.
    failed: Option<(Entry, PublishError)>,
}

/// Keys that are published at the same time.
const SIDE_BY_SIDE: usize = 64;
/// Entries that are removed at once.
const SWEEP: u32 = 1000;
/// How often there is a look at what waits, and at what is old.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
