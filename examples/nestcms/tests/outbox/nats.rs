//! PostgreSQL to JetStream to the inbox.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use engines::{
    nats::Server,
    postgres::{Cluster, Config},
};
use futures_util::future::BoxFuture;
use http::StatusCode;
use nestcms::{
    adapters::{
        nats::{JetStream, Nats, Subscription},
        postgres::PostgresStore,
    },
    domain::event::{Event, EventData},
    metrics::Metrics,
    outbox::{Accounting, Dispatcher, Rules, Wake},
    ports::{Attempt, Effect, Entry, Failed, Inbox, Outbox, PaymentRepository, StoreError},
    settings::{NatsSettings, Secret, Settings},
};
use resilience_core::{
    clock::SharedClock,
    retry::{Backoff, Jitter},
};
use serde_json::Value;
use tokio::task::JoinHandle;
use webhook_verify::clock::{SystemClock, WallClock};

use super::{
    contract::{event, payment},
    postgres::{settings, store},
};
use crate::flows::support::{World, eventually};

/// H8.c1, G.c2 with the real engines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_the_journal_once_through_jetstream() {
    let (engine, broker) = tokio::join!(
        Cluster::start(Config::default().with_replicas(0)),
        Server::launch()
    );
    let (engine, broker) = (engine.unwrap(), broker.unwrap());
    let stage = Stage::open(&engine, &broker).await;
    let consumer = stage.consume(stage.inbox.clone()).await;
    what_is_published_twice_is_booked_once(&stage).await;
    a_consumer_that_fails_six_times_gives_up(&stage).await;
    an_outage_of_the_broker_kills_nothing(&stage, &broker).await;
    drop(consumer);
    what_is_delivered_twice_is_booked_once(&stage).await;
    what_nobody_has_taken_survives_a_kill(&stage, &broker).await;
    a_kill_in_the_middle_loses_nothing(&stage, &broker).await;
    the_application_publishes_through_it(&stage, &engine, &broker).await;
}

async fn what_is_published_twice_is_booked_once(stage: &Stage<'_>) {
    stage
        .write("p-1", &[event("p-1", "e-1"), event("p-1", "e-2")])
        .await;
    stage.published(2).await;
    // The program died before it booked that; the broker knows the messages.
    stage.sql("UPDATE outbox SET sent_at = NULL").await;
    stage.published(2).await;
    assert_eq!(stage.messages().await, 2);
    // The broker has forgotten them.
    let forgotten = "UPDATE outbox SET sent_at = NULL, message_id = message_id || '-again'";
    stage.sql(forgotten).await;
    stage.published(2).await;
    assert_eq!(stage.messages().await, 4);
    // What comes behind them is booked after them.
    stage.write("p-2", &[event("p-2", "e-3")]).await;
    stage.published(1).await;
    stage.booked("e-3").await;
    assert_eq!(stage.journal().await, "e-1 e-2 e-3");
}

async fn a_consumer_that_fails_six_times_gives_up(stage: &Stage<'_>) {
    let mut poison: Event = event("p-3", "e-4");
    if let EventData::PaymentSuccess { currency, .. } = &mut poison.data {
        "???".clone_into(currency);
    }
    stage.write("p-3", &[poison, event("p-3", "e-5")]).await;
    stage.published(2).await;
    let store = &stage.store;
    eventually("it is given up", async || {
        store.dead_letters(10).await.unwrap().len() == 1
    })
    .await;
    let letter = store.dead_letters(10).await.unwrap().remove(0);
    assert_eq!(
        (letter.source.as_str(), letter.key.as_str()),
        ("accounting", "p-3")
    );
    assert_eq!(letter.history.len(), 6);
    assert!(letter.history.iter().all(|a| a.reason.contains("currency")));
    stage.booked("e-5").await;
    let mend = "UPDATE dead_letters SET payload = replace(payload, '???', 'SAR')";
    stage.sql(mend).await;
    assert!(store.replay(&letter.id, SystemClock.now()).await.unwrap());
    stage.published(1).await;
    stage.booked("e-4").await;
    assert_eq!(stage.journal().await, "e-1 e-2 e-3 e-4 e-5");
}

async fn an_outage_of_the_broker_kills_nothing(stage: &Stage<'_>, broker: &Server) {
    broker.kill().await.unwrap();
    stage.write("p-4", &[event("p-4", "e-6")]).await;
    for _ in 0..3 {
        let round = stage.dispatcher.round().await.unwrap();
        assert_eq!(round.published + round.refused, 0);
    }
    broker.start().await.unwrap();
    stage.published(1).await;
    stage.booked("e-6").await;
    assert!(stage.store.dead_letters(10).await.unwrap().is_empty());
}

/// G.c2: a consumer that dies before its transaction, and one that dies right after it.
async fn what_is_delivered_twice_is_booked_once(stage: &Stage<'_>) {
    let dying = Arc::new(Dying {
        inbox: stage.inbox.clone(),
        turns: AtomicUsize::new(0),
    });
    let _consumer = stage.consume(dying.clone()).await;
    stage.write("p-5", &[event("p-5", "e-7")]).await;
    stage.published(1).await;
    eventually("it came three times", async || {
        dying.turns.load(Ordering::SeqCst) >= 3
    })
    .await;
    stage.write("p-6", &[event("p-6", "e-8")]).await;
    stage.published(1).await;
    stage.booked("e-8").await;
    assert_eq!(stage.journal().await, "e-1 e-2 e-3 e-4 e-5 e-6 e-7 e-8");
}

async fn what_nobody_has_taken_survives_a_kill(stage: &Stage<'_>, broker: &Server) {
    stage.write("p-7", &[event("p-7", "e-9")]).await;
    stage.published(1).await;
    broker.kill().await.unwrap();
    broker.start().await.unwrap();
    let _consumer = stage.consume(stage.inbox.clone()).await;
    stage.booked("e-9").await;
}

async fn a_kill_in_the_middle_loses_nothing(stage: &Stage<'_>, broker: &Server) {
    const PAYMENTS: usize = 20;
    const EACH: usize = 10;
    let _consumer = stage.consume(stage.inbox.clone()).await;
    stage.sql("DELETE FROM journal").await;
    let dispatcher = stage.dispatcher.clone();
    let _dispatcher = Running(tokio::spawn(async move { dispatcher.run().await }));
    for n in 0..PAYMENTS {
        if n == PAYMENTS / 2 {
            broker.kill().await.unwrap();
        }
        let id = format!("k-{n}");
        let events: Vec<_> = (0..EACH)
            .map(|e| event(&id, &format!("{id}-{e}")))
            .collect();
        stage.write(&id, &events).await;
    }
    broker.start().await.unwrap();
    eventually("all of it is published", async || {
        stage.store.depth().await.unwrap().waiting == 0
    })
    .await;
    let all = (PAYMENTS * EACH).to_string();
    eventually("all of it is booked", async || {
        stage
            .sql("SELECT COUNT(DISTINCT event_id) FROM journal")
            .await
            == all
    })
    .await;
    assert_eq!(stage.sql("SELECT COUNT(*) FROM journal").await, all);
}

async fn the_application_publishes_through_it(
    stage: &Stage<'_>,
    engine: &Cluster,
    broker: &Server,
) {
    let world = World::with(|changed| {
        changed.database.nodes = vec![Secret::new(engine.node(0).url())];
        let from = settings(engine);
        changed.database.patience = from.database.patience;
        changed.database.wait_limit = from.database.wait_limit;
        changed.database.write_wait = from.database.write_wait;
        changed.database.route = from.database.route;
        changed.nats = nats_settings(broker);
    })
    .await;
    let (id, page) = world.initiated().await;
    world.decide(&page, "pay").await;
    world.until_status(&id, "succeeded").await;
    let lines = format!("SELECT COUNT(*) FROM journal WHERE payment_id = '{id}'");
    eventually("it is booked", async || stage.sql(&lines).await == "1").await;
    let stream = stage.nats.jetstream().get_stream("NESTCMS_EVENTS").await;
    let paid = "nestcms.events.payment.success";
    let message = stream.unwrap().get_last_raw_message_by_subject(paid).await;
    let payload = String::from_utf8(message.unwrap().payload.to_vec()).unwrap();
    assert!(payload.contains(&id), "{payload}");
    let counted = "events_consumed_total{consumer=\"accounting\"} 1";
    eventually("it is counted", async || {
        let page = world.get("/metrics").send().await.unwrap();
        page.text().await.unwrap().contains(counted)
    })
    .await;
    // Without the broker payments go on, and their events wait.
    let health = async || {
        let health = world.get("/health/detailed").send().await.unwrap();
        let health: Value = health.json().await.unwrap();
        let all = health["dependencies"].as_array().unwrap();
        let nats = all.iter().find(|one| one["name"] == "nats").unwrap();
        nats["status"].clone()
    };
    eventually("the broker is up", async || health().await == "up").await;
    broker.kill().await.unwrap();
    let made = world.create_with_key("meanwhile").await;
    assert_eq!(made.status(), StatusCode::CREATED);
    eventually("it is missed", async || health().await == "down").await;
    let ready = world.get("/health/ready").send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    assert!(stage.store.depth().await.unwrap().waiting > 0);
}

/// What a consumer dies of: before its transaction, then between the transaction and the
/// acknowledgement.
#[derive(Debug)]
struct Dying {
    inbox: Arc<dyn Inbox>,
    turns: AtomicUsize,
}

impl Inbox for Dying {
    fn apply<'a>(
        &'a self,
        consumer: &'a str,
        effects: &'a [(String, Effect)],
        now: Duration,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let dead = || StoreError::Unknown {
                reason: "it died".to_owned(),
            };
            let turn = self.turns.load(Ordering::SeqCst);
            let applied = match turn {
                0 => Err(dead()),
                1 => self
                    .inbox
                    .apply(consumer, effects, now)
                    .await
                    .and_then(|_| Err(dead())),
                _ => self.inbox.apply(consumer, effects, now).await,
            };
            self.turns.fetch_add(1, Ordering::SeqCst);
            applied
        })
    }

    fn failed<'a>(
        &'a self,
        consumer: &'a str,
        event: &'a Entry,
        attempt: Attempt,
        tries: usize,
    ) -> BoxFuture<'a, Result<Failed, StoreError>> {
        self.inbox.failed(consumer, event, attempt, tries)
    }

    fn recovered<'a>(
        &'a self,
        consumer: &'a str,
        event_id: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inbox.recovered(consumer, event_id)
    }
}

struct Stage<'a> {
    engine: &'a Cluster,
    store: PostgresStore,
    inbox: Arc<dyn Inbox>,
    nats: Nats,
    dispatcher: Arc<Dispatcher>,
}

impl<'a> Stage<'a> {
    async fn open(engine: &'a Cluster, broker: &Server) -> Self {
        let store = store(engine).await;
        let nats = Nats::connect(&nats_settings(broker)).await.unwrap();
        let publisher = JetStream::new(nats.clone(), 1).await.unwrap();
        let dispatcher = Dispatcher::new(
            Arc::new(store.clone()),
            Arc::new(publisher),
            Arc::new(SystemClock),
            metrics(),
            rules(),
            Wake::default(),
        );
        Self {
            engine,
            inbox: Arc::new(store.clone()),
            store,
            nats,
            dispatcher: Arc::new(dispatcher),
        }
    }

    /// Books from now on, until it is dropped.
    async fn consume(&self, inbox: Arc<dyn Inbox>) -> Running {
        let (nats, wall) = (self.nats.clone(), Arc::new(SystemClock));
        let accounting = Arc::new(Accounting);
        let subscription = Subscription::new(nats, accounting, inbox, wall, metrics(), rules());
        let subscription = subscription.await.unwrap();
        Running(tokio::spawn(async move { subscription.run().await }))
    }

    async fn write(&self, id: &str, events: &[Event]) {
        let made = self.store.create(&payment(id, id), events).await.unwrap();
        assert!(made.is_new);
    }

    /// Until so many are published; an older transaction may hide them at first.
    async fn published(&self, entries: usize) {
        let done = AtomicUsize::new(0);
        eventually("all is published", async || {
            let round = self.dispatcher.round().await.unwrap();
            let before = done.fetch_add(round.published, Ordering::SeqCst);
            before + round.published >= entries
        })
        .await;
    }

    async fn booked(&self, event: &str) {
        let what = format!("{event} is booked");
        eventually(&what, async || self.journal().await.contains(event)).await;
    }

    async fn messages(&self) -> u64 {
        let stream = self.nats.jetstream().get_stream("NESTCMS_EVENTS").await;
        stream.unwrap().get_info().await.unwrap().state.messages
    }

    async fn journal(&self) -> String {
        let lines = "SELECT string_agg(event_id, ' ' ORDER BY event_id) FROM journal";
        self.sql(lines).await
    }

    async fn sql(&self, sql: &str) -> String {
        let answer = self.engine.node(0).sql(sql).await;
        answer.unwrap().trim().to_owned()
    }
}

/// Ends with the test.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn metrics() -> Metrics {
    Metrics::new("test", SharedClock::std())
}

fn nats_settings(broker: &Server) -> NatsSettings {
    let mut settings = Settings::demo().nats;
    settings.servers = vec![Secret::new(broker.url())];
    settings.request_timeout = Duration::from_secs(2);
    settings
}

fn rules() -> Rules {
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100)).unwrap();
    Rules {
        poll: Duration::from_millis(20),
        batch: 100,
        tries: 6,
        backoff: backoff.jitter(Jitter::Equal),
        lease: Duration::from_secs(120),
        keep: Duration::from_secs(3600),
    }
}
