//! From the outbox to the publisher and the consumers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use nestcms::{
    adapters::sqlite::SqliteStore,
    metrics::Metrics,
    outbox::{Accounting, Dispatcher, Local, Rules, Wake},
    ports::{
        DeadLetter, Depth, Entry, Outbox, PaymentRepository, PublishError, Publisher, StoreError,
    },
};
use parking_lot::Mutex;
use resilience_core::{
    clock::SharedClock,
    retry::{Backoff, Jitter},
};
use sqlx::{Connection as _, SqliteConnection};
use webhook_verify::clock::{ManualWallClock, WallClock};

use super::contract::{event, payment, sqlite};
use crate::flows::support::{TempDir, eventually};

/// H8.1
#[tokio::test]
async fn keys_keep_their_order_and_nothing_is_published_twice() {
    let stage = Stage::new().await;
    let ids: Vec<_> = (0..40).map(|n| format!("{}-{n:02}", n % 4)).collect();
    stage.write(&ids).await;
    stage.drain().await;
    let published = stage.publisher.taken();
    assert_eq!(published.len(), 40);
    for key in 0..4 {
        let of_key = published
            .iter()
            .filter(|id| id.starts_with(&format!("{key}-")));
        let wanted = ids.iter().filter(|id| id.starts_with(&format!("{key}-")));
        assert!(of_key.eq(wanted), "{published:?}");
    }
}

/// G.6, G.c2: 1 + 5 runs with growing waits; other keys go on, and its own key waits meanwhile.
#[tokio::test]
async fn a_poison_entry_dies_after_six_tries_and_blocks_no_other_key() {
    let stage = Stage::new().await;
    stage.publisher.refuse("1-00");
    stage
        .write(&["1-00", "1-01", "2-00"].map(String::from))
        .await;
    stage.drain().await;
    assert_eq!(stage.publisher.taken(), ["2-00"]);
    let mut waits = Vec::new();
    for tries in 2..=6 {
        let mut waited = 0;
        while stage.publisher.tries("1-00") < tries {
            assert_eq!(stage.publisher.taken(), ["2-00"]);
            stage.wall.advance(STEP);
            waited += 1;
            stage.drain().await;
        }
        waits.push(waited);
    }
    // Equal jitter: between half of the step and all of it.
    for (wait, step) in waits.iter().zip([10, 20, 40, 80, 160]) {
        assert!((step / 2..=step + 1).contains(wait), "{waits:?}");
    }
    stage.drain().await;
    assert_eq!(stage.publisher.taken(), ["2-00", "1-01"]);
    let letters = stage.store.dead_letters(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let reasons: Vec<_> = letters[0]
        .history
        .iter()
        .map(|a| a.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "refused 1",
            "refused 2",
            "refused 3",
            "refused 4",
            "refused 5",
            "refused 6"
        ]
    );
    assert!(
        stage
            .metrics
            .render()
            .contains("dead_letters_total{source=\"outbox\"} 1")
    );

    // Replayed, it runs again.
    stage.publisher.accept();
    assert!(
        stage
            .store
            .replay(&letters[0].id, stage.wall.now())
            .await
            .unwrap()
    );
    stage.drain().await;
    assert_eq!(stage.publisher.taken(), ["2-00", "1-01", "1-00"]);
    assert!(stage.store.dead_letters(10).await.unwrap().is_empty());
}

/// An outage of the broker is nobody's fault: no entry dies of it.
#[tokio::test]
async fn an_outage_costs_no_entry_its_tries() {
    let stage = Stage::new().await;
    stage.publisher.down.store(true, Ordering::SeqCst);
    stage.write(&["1-00".to_owned()]).await;
    for _ in 0..20 {
        let round = stage.dispatcher.round().await.unwrap();
        assert!(round.unavailable);
        stage.wall.advance(Duration::from_secs(1));
    }
    stage.publisher.down.store(false, Ordering::SeqCst);
    stage.drain().await;
    assert_eq!(stage.publisher.taken(), ["1-00"]);
    assert!(stage.store.dead_letters(10).await.unwrap().is_empty());
}

/// H8.c1: published, and the program dies before it books that.
#[tokio::test]
async fn a_crash_between_publish_and_mark_has_one_effect() {
    let (dir, store) = sqlite().await;
    let wall = ManualWallClock::new(100);
    let local = Arc::new(Local::new(
        Arc::new(store.clone()),
        vec![Arc::new(Accounting)],
        Arc::new(wall.clone()),
    ));
    store
        .create(&payment("p", "p"), &[event("p", "e")])
        .await
        .unwrap();
    let forgetful = Arc::new(Forgetful {
        store: store.clone(),
        forgets: AtomicBool::new(true),
    });
    let first = dispatcher(forgetful.clone(), local.clone(), &wall);
    assert!(first.round().await.is_err());
    assert_eq!(journal(&dir).await, [("e".to_owned(), 1250)]);
    // The next life waits for the lease of the one that died.
    forgetful.forgets.store(false, Ordering::SeqCst);
    let second = dispatcher(forgetful.clone(), local, &wall);
    assert_eq!(second.round().await.unwrap().published, 0);
    wall.advance(LEASE);
    assert_eq!(second.round().await.unwrap().published, 1);
    assert_eq!(journal(&dir).await, [("e".to_owned(), 1250)]);
    assert_eq!(second.round().await.unwrap().published, 0);
}

/// Two instances: one publishes, and the other takes over when it is gone.
#[tokio::test]
async fn one_dispatcher_publishes_at_a_time() {
    let stage = Stage::new().await;
    let other = dispatcher(
        Arc::new(stage.store.clone()),
        stage.publisher.clone(),
        &stage.wall,
    );
    stage.write(&["1-00".to_owned()]).await;
    assert_eq!(stage.dispatcher.round().await.unwrap().published, 1);
    stage.write(&["1-01".to_owned()]).await;
    assert_eq!(other.round().await.unwrap().published, 0);
    stage.wall.advance(LEASE);
    assert_eq!(other.round().await.unwrap().published, 1);
    stage.write(&["1-02".to_owned()]).await;
    assert_eq!(stage.dispatcher.round().await.unwrap().published, 0);
    assert_eq!(stage.publisher.taken(), ["1-00", "1-01"]);
}

#[tokio::test]
async fn a_commit_wakes_the_dispatcher_and_figures_are_shown() {
    let stage = Stage::new().await;
    stage.write(&["1-00".to_owned()]).await;
    stage.wall.advance(Duration::from_secs(30));
    stage.dispatcher.keep_house().await.unwrap();
    let page = stage.metrics.render();
    assert!(page.contains("queue_depth{queue=\"outbox\"} 1"), "{page}");
    // Written at 7 s of the wall clock, which shows 130 s.
    assert!(page.contains("outbox_oldest_seconds 123"), "{page}");
    let Stage {
        dispatcher,
        publisher,
        wake,
        store,
        ..
    } = stage;
    let running = tokio::spawn(async move { dispatcher.run().await });
    eventually("the first is published", async || {
        publisher.taken().len() == 1
    })
    .await;
    // The poll takes an hour: only the wake-up can do it.
    store
        .create(&payment("1-01", "1-01"), &[event("1", "1-01")])
        .await
        .unwrap();
    wake.wake();
    eventually("the second is published", async || {
        publisher.taken().len() == 2
    })
    .await;
    running.abort();
}

struct Stage {
    _dir: TempDir,
    store: SqliteStore,
    publisher: Arc<Recorder>,
    dispatcher: Dispatcher,
    wall: ManualWallClock,
    metrics: Metrics,
    wake: Wake,
}

impl Stage {
    async fn new() -> Self {
        let (dir, store) = sqlite().await;
        let publisher = Arc::new(Recorder::default());
        let wall = ManualWallClock::new(100);
        let metrics = Metrics::new("test", SharedClock::std());
        let wake = Wake::default();
        let dispatcher = Dispatcher::new(
            Arc::new(store.clone()),
            publisher.clone(),
            Arc::new(wall.clone()),
            metrics.clone(),
            rules(),
            wake.clone(),
        );
        Self {
            _dir: dir,
            store,
            publisher,
            dispatcher,
            wall,
            metrics,
            wake,
        }
    }

    /// One event of each id; what stands before its dash is the key.
    async fn write(&self, ids: &[String]) {
        for id in ids {
            let key = id.split('-').next().unwrap();
            let (payment, events) = (payment(id, id), [event(key, id)]);
            let made = self.store.create(&payment, &events).await;
            assert!(made.unwrap().is_new);
        }
    }

    async fn drain(&self) {
        loop {
            let round = self.dispatcher.round().await.unwrap();
            if round.published + round.refused == 0 {
                return;
            }
        }
    }
}

fn dispatcher(
    store: Arc<dyn Outbox>,
    publisher: Arc<dyn Publisher>,
    wall: &ManualWallClock,
) -> Dispatcher {
    let metrics = Metrics::new("test", SharedClock::std());
    let wall = Arc::new(wall.clone());
    Dispatcher::new(store, publisher, wall, metrics, rules(), Wake::default())
}

fn rules() -> Rules {
    let backoff = Backoff::new(10 * STEP, Duration::from_secs(600)).unwrap();
    Rules {
        poll: Duration::from_secs(3600),
        batch: 7,
        tries: 6,
        backoff: backoff.jitter(Jitter::Equal),
        lease: LEASE,
        keep: Duration::from_secs(3600),
    }
}

/// Takes what it is given, unless told otherwise.
#[derive(Debug, Default)]
struct Recorder {
    taken: Mutex<Vec<String>>,
    tries: Mutex<BTreeMap<String, usize>>,
    refuse: Mutex<Option<String>>,
    down: AtomicBool,
}

impl Recorder {
    fn taken(&self) -> Vec<String> {
        self.taken.lock().clone()
    }

    fn tries(&self, id: &str) -> usize {
        self.tries.lock().get(id).copied().unwrap_or(0)
    }

    fn refuse(&self, id: &str) {
        *self.refuse.lock() = Some(id.to_owned());
    }

    fn accept(&self) {
        *self.refuse.lock() = None;
    }
}

impl Publisher for Recorder {
    fn publish<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            if self.down.load(Ordering::SeqCst) {
                let reason = "down".to_owned();
                return Err(PublishError::Unavailable { reason });
            }
            let tries = {
                let mut tries = self.tries.lock();
                let tries = tries.entry(entry.event_id.clone()).or_default();
                *tries += 1;
                *tries
            };
            if self.refuse.lock().as_ref() == Some(&entry.event_id) {
                let reason = format!("refused {tries}");
                return Err(PublishError::Refused { reason });
            }
            // Keys run side by side, and may overtake each other here.
            tokio::task::yield_now().await;
            self.taken.lock().push(entry.event_id.clone());
            Ok(())
        })
    }
}

/// A store that cannot book what was published, as long as it is told so.
#[derive(Debug)]
struct Forgetful {
    store: SqliteStore,
    forgets: AtomicBool,
}

impl Outbox for Forgetful {
    fn lead<'a>(
        &'a self,
        holder: &'a str,
        now: Duration,
        until: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.store.lead(holder, now, until)
    }

    fn due(&self, now: Duration, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.store.due(now, limit)
    }

    fn sent<'a>(
        &'a self,
        entries: &'a [i64],
        now: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        if self.forgets.load(Ordering::SeqCst) {
            let reason = "killed".to_owned();
            return Box::pin(async { Err(StoreError::Unknown { reason }) });
        }
        self.store.sent(entries, now)
    }

    fn put_off<'a>(
        &'a self,
        entry: &'a Entry,
        retry_at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.put_off(entry, retry_at)
    }

    fn bury<'a>(
        &'a self,
        entry: &'a Entry,
        now: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.bury(entry, now)
    }

    fn sweep(&self, before: Duration, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.sweep(before, limit)
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, StoreError>> {
        self.store.depth()
    }

    fn dead_letters(&self, limit: u32) -> BoxFuture<'_, Result<Vec<DeadLetter>, StoreError>> {
        self.store.dead_letters(limit)
    }

    fn dead_letter<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>> {
        self.store.dead_letter(id)
    }

    fn replay<'a>(&'a self, id: &'a str, now: Duration) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.store.replay(id, now)
    }
}

async fn journal(dir: &TempDir) -> Vec<(String, i64)> {
    let url = format!("sqlite://{}", dir.0.join("outbox.db").display());
    let mut file = SqliteConnection::connect(&url).await.unwrap();
    let lines = sqlx::query_as("SELECT event_id, amount_minor FROM journal ORDER BY event_id");
    lines.fetch_all(&mut file).await.unwrap()
}

const STEP: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);
