//! Workers on each queue: G.c2 to G.c5.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engines::nats::Server;
use futures_util::future::BoxFuture;
use nestcms::{
    adapters::{cache::MemoryCache, nats::Nats, sqlite::SqliteContent},
    content::{self, CacheRules, ContentService, Tiers},
    domain::{
        content::{Article, Record},
        event::Timestamp,
        task::{Priority, State, Task},
    },
    events::{Channel, ChannelKind, Message, channel::MemoryChannel},
    metrics::Metrics,
    ports::{Repository, See},
    tasks::{Jobs, PUBLISH, Publish, QueuedChannel, Rules, TaskService, Work, WorkError, Workers},
};
use parking_lot::Mutex;
use resilience_core::{breaker::CircuitBreaker, clock::SharedClock, retry::Backoff};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use webhook_verify::clock::ManualWallClock;

use super::{
    contract::{LONG, Stage, contract, task},
    nats::settings,
};
use crate::{
    content::contract::{article, sqlite},
    flows::support::{TempDir, eventually},
};

/// H5.c2, G.c2 to G.c5
#[tokio::test]
async fn nats_keeps_the_contract_of_tasks_and_its_workers_keep_theirs() {
    let server = Server::launch().await.unwrap();
    let nats = Nats::connect(&settings(server.url())).await.unwrap();
    let long = Stage::nats(&nats, LONG).await;
    let short = Duration::from_millis(300);
    // The newest visibility is that of the consumers.
    contract(&long, async || Stage::nats(&nats, short).await).await;
    let short = Stage::nats(&nats, short).await;
    a_dead_worker_leaves_its_task_to_another(&short).await;
    let long = Stage::nats(&nats, LONG).await;
    a_task_that_always_fails_runs_six_times(&long).await;
    critical_tasks_go_first_and_low_ones_end(&long).await;
    a_shutdown_loses_nothing(&long).await;
}

/// G.c2
#[tokio::test]
async fn a_task_that_always_fails_is_dead_after_six_runs() {
    a_task_that_always_fails_runs_six_times(&Stage::sqlite(LONG).await).await;
}

/// G.c3
#[tokio::test]
async fn what_a_dead_worker_had_is_done_by_another_and_once() {
    let minute = Duration::from_secs(60);
    let dir = TempDir::new();
    let file = dir.0.join("tasks.db");
    a_dead_worker_leaves_its_task_to_another(&Stage::in_file(file, minute).await).await;
}

/// G.c4
#[tokio::test]
async fn ten_critical_tasks_pass_a_thousand_low_ones() {
    critical_tasks_go_first_and_low_ones_end(&Stage::sqlite(LONG).await).await;
}

/// G.c5
#[tokio::test]
async fn runs_end_or_are_handed_back_at_a_shutdown() {
    a_shutdown_loses_nothing(&Stage::sqlite(LONG).await).await;
}

async fn a_task_that_always_fails_runs_six_times(stage: &Stage) {
    let work = Arc::new(Scripted::failing());
    let pool = Pool::start(stage, work.clone(), rules());
    stage
        .queue
        .push(&task("fails", Priority::Normal))
        .await
        .unwrap();
    let dead = async || {
        stage.pass().await;
        stage.queue.dead(10).await.unwrap()
    };
    eventually("it is dead", async || dead().await.len() == 1).await;
    let found = dead().await.remove(0);
    assert_eq!((found.runs, work.started().len()), (6, 6));
    let reasons: Vec<_> = found.history.iter().map(|f| f.reason.as_str()).collect();
    let wanted = ["no 1", "no 2", "no 3", "no 4", "no 5", "no 6"];
    assert_eq!(reasons, wanted);
    work.fails.store(false, Ordering::Relaxed);
    pool.tasks.requeue("fails").await.unwrap().unwrap();
    stage.until("fails", State::Done).await;
    assert_eq!(work.started().len(), 7);
    pool.kill().await;
}

async fn a_dead_worker_leaves_its_task_to_another(stage: &Stage) {
    let article = Articles::open().await;
    stage.queue.push(&publishing()).await.unwrap();
    let hangs = Arc::new(Hangs {
        behind: article.jobs.clone(),
        reached: Arc::new(Semaphore::new(0)),
    });
    let first = Pool::start(stage, hangs.clone(), rules());
    let reached = tokio::time::timeout(Duration::from_secs(60), hangs.reached.acquire());
    reached.await.expect("it runs").unwrap().forget();
    first.kill().await;
    let second = Pool::start(stage, Arc::new(article.jobs.clone()), rules());
    stage.until("publish", State::Done).await;
    let done = stage.queue.find("publish").await.unwrap().unwrap();
    assert!(done.runs >= 2, "{done:?}");
    assert_eq!(done.history[0].reason, "the worker was lost");
    let found = article.read().await;
    assert_eq!(
        (found.version, found.content.status.as_str()),
        (2, "published")
    );
    second.kill().await;
}

async fn critical_tasks_go_first_and_low_ones_end(stage: &Stage) {
    for n in 0..1000 {
        let low = task(&format!("low-{n}"), Priority::Low);
        stage.queue.push(&low).await.unwrap();
    }
    for n in 0..10 {
        let critical = task(&format!("critical-{n}"), Priority::Critical);
        stage.queue.push(&critical).await.unwrap();
    }
    let work = Arc::new(Scripted::default());
    let pool = Pool::start(stage, work.clone(), rules());
    eventually("all have run", async || work.started().len() == 1010).await;
    let started = work.started();
    let last = started.iter().rposition(|p| *p == Priority::Critical);
    let before = started[..last.unwrap()].iter();
    let low = before.filter(|p| **p == Priority::Low).count();
    assert!(low < 30, "{low} low ones before the last critical one");
    eventually("all are done", async || {
        let depth = stage.queue.depth().await.unwrap();
        depth[0] + depth[2] <= 1
    })
    .await;
    pool.kill().await;
}

async fn a_shutdown_loses_nothing(stage: &Stage) {
    let gated = Arc::new(Scripted::gated());
    let pool = Pool::start(stage, gated.clone(), rules());
    stage
        .queue
        .push(&task("ends", Priority::Critical))
        .await
        .unwrap();
    eventually("it runs", async || gated.started().len() == 1).await;
    pool.stop.cancel();
    gated.gate.as_ref().unwrap().add_permits(1);
    pool.run.await.unwrap();
    let ended = stage.queue.find("ends").await.unwrap().unwrap();
    assert_eq!(ended.state, State::Done);

    let gated = Arc::new(Scripted::gated());
    let mut hasty = rules();
    hasty.grace = Duration::ZERO;
    let pool = Pool::start(stage, gated.clone(), hasty);
    stage
        .queue
        .push(&task("cut", Priority::Critical))
        .await
        .unwrap();
    eventually("it runs", async || gated.started().len() == 1).await;
    pool.stop.cancel();
    pool.run.await.unwrap();
    let cut = stage.queue.find("cut").await.unwrap().unwrap();
    assert_eq!((cut.state, cut.runs), (State::Queued, 0));
    let pool = Pool::start(stage, Arc::new(Scripted::default()), rules());
    stage.until("cut", State::Done).await;
    pool.kill().await;
}

/// A worker that died between the store and the cache leaves an old record in it.
#[tokio::test]
async fn a_second_run_drops_what_the_cache_shows() {
    let article = Articles::open().await;
    let shown = async || {
        let found = article.service.read::<Article>("a", See::Any).await;
        found.unwrap().value.content.status
    };
    assert_eq!(shown().await, "draft");
    let mut change = article.read().await;
    change.content.status = "published".to_owned();
    Repository::<Article>::update(&article.store, &change)
        .await
        .unwrap();
    assert_eq!(shown().await, "draft");
    article.jobs.run(&publishing()).await.unwrap();
    assert_eq!(shown().await, "published");
    assert_eq!(article.read().await.version, 2);
}

/// FLOWS G.8
#[tokio::test]
async fn there_are_more_workers_while_there_is_more_to_do() {
    let stage = Stage::sqlite(LONG).await;
    let gated = Arc::new(Scripted::gated());
    let mut elastic = rules();
    (elastic.least, elastic.most, elastic.share) = (1, 5, 2);
    let pool = Pool::start(&stage, gated.clone(), elastic);
    let shows = |line: &str| pool.metrics.render().lines().any(|l| l == line);
    eventually("one is there", async || shows("task_workers 1")).await;
    for n in 0..20 {
        let task = task(&n.to_string(), Priority::Normal);
        stage.queue.push(&task).await.unwrap();
    }
    eventually("five run", async || shows("tasks_running 5")).await;
    gated.gate.as_ref().unwrap().add_permits(20);
    eventually("all have run", async || gated.started().len() == 20).await;
    let none = "tasks_waiting{priority=\"normal\"} 0";
    eventually("nobody waits", async || shows(none)).await;
    eventually("one is left", async || shows("task_workers 1")).await;
    pool.kill().await;
}

/// FLOWS G.10
#[tokio::test]
async fn mail_sms_and_push_go_through_the_queue_once() {
    let stage = Stage::sqlite(LONG).await;
    let article = Articles::open().await;
    let pool = Pool::start(&stage, Arc::new(article.jobs.clone()), rules());
    let channel = QueuedChannel::new(pool.tasks.clone());
    for kind in [ChannelKind::Mail, ChannelKind::Sms, ChannelKind::Push] {
        for _ in 0..2 {
            channel.send(message(kind)).await.unwrap();
        }
    }
    eventually("all are sent", async || article.sent.sent().len() == 3).await;
    let mut sent = article.sent.sent();
    sent.sort_by_key(|message| message.channel.as_str());
    let wanted = [ChannelKind::Mail, ChannelKind::Push, ChannelKind::Sms];
    assert_eq!(sent, wanted.map(message));
    pool.kill().await;
}

/// Publishes the article at its first version.
fn publishing() -> Task {
    let mut new = task("publish", Priority::Normal);
    new.kind = PUBLISH.to_owned();
    new.payload = json!(Publish {
        article: "a".to_owned(),
        version: 1
    });
    new
}

fn message(channel: ChannelKind) -> Message {
    Message {
        channel,
        recipient: "somebody".to_owned(),
        subject: "Subject".to_owned(),
        body: "One\ntwo".to_owned(),
        event_id: "event".to_owned(),
        correlation_id: "c".to_owned(),
        at: Timestamp::from_millis(1),
    }
}

/// Workers in a task of their own.
struct Pool {
    tasks: TaskService,
    metrics: Metrics,
    stop: CancellationToken,
    run: JoinHandle<()>,
}

impl Pool {
    fn start(stage: &Stage, work: Arc<dyn Work>, rules: Rules) -> Self {
        let tasks = TaskService::new(stage.queue.clone(), Arc::new(stage.wall.clone()));
        let metrics = Metrics::new("test", SharedClock::std());
        let stop = CancellationToken::new();
        let workers = Workers::new(tasks.clone(), work, rules, metrics.clone());
        let run = tokio::spawn(workers.run(stop.clone()));
        Self {
            tasks,
            metrics,
            stop,
            run,
        }
    }

    /// As a process that is gone: nothing is handed back.
    async fn kill(self) {
        self.run.abort();
        let _ = self.run.await;
    }
}

fn rules() -> Rules {
    let soon = Duration::from_millis(1);
    Rules {
        least: 4,
        most: 4,
        share: 8,
        poll: Duration::from_millis(10),
        visibility: Duration::from_millis(300),
        limit: LONG,
        grace: Duration::from_secs(60),
        backoff: Backoff::new(soon, soon).unwrap(),
    }
}

impl Stage {
    async fn until(&self, id: &str, state: State) {
        eventually(state.as_str(), async || {
            self.pass().await;
            let found = self.queue.find(id).await.unwrap();
            found.is_some_and(|task| task.state == state)
        })
        .await;
    }
}

/// Fails, waits at a gate, or just ends.
#[derive(Debug, Default)]
struct Scripted {
    fails: AtomicBool,
    gate: Option<Semaphore>,
    started: Mutex<Vec<Priority>>,
}

impl Scripted {
    fn failing() -> Self {
        Self {
            fails: AtomicBool::new(true),
            ..Self::default()
        }
    }

    fn gated() -> Self {
        Self {
            gate: Some(Semaphore::new(0)),
            ..Self::default()
        }
    }

    fn started(&self) -> Vec<Priority> {
        self.started.lock().clone()
    }
}

impl Work for Scripted {
    fn run<'a>(&'a self, task: &'a Task) -> BoxFuture<'a, Result<String, WorkError>> {
        Box::pin(async move {
            self.started.lock().push(task.priority);
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            match self.fails.load(Ordering::Relaxed) {
                true => Err(WorkError::Again(format!("no {}", task.runs))),
                false => Ok(String::new()),
            }
        })
    }
}

/// Has the effect, and never comes back.
#[derive(Debug)]
struct Hangs {
    behind: Jobs,
    reached: Arc<Semaphore>,
}

impl Work for Hangs {
    fn run<'a>(&'a self, task: &'a Task) -> BoxFuture<'a, Result<String, WorkError>> {
        Box::pin(async move {
            self.behind.run(task).await?;
            self.reached.add_permits(1);
            std::future::pending().await
        })
    }
}

/// The real work, over an article at version 1.
struct Articles {
    store: SqliteContent,
    service: ContentService,
    sent: MemoryChannel,
    jobs: Jobs,
    _dir: TempDir,
}

impl Articles {
    async fn open() -> Self {
        let (dir, store) = sqlite().await;
        let article = article("a", "project-1");
        Repository::<Article>::insert(&store, &article)
            .await
            .unwrap();
        let sent = MemoryChannel::default();
        let service = service(&store);
        Self {
            jobs: Jobs::new(service.clone(), Arc::new(sent.clone())),
            service,
            store,
            sent,
            _dir: dir,
        }
    }

    async fn read(&self) -> Record<Article> {
        let found = Repository::<Article>::find(&self.store, "a", &See::Newest).await;
        found.unwrap().unwrap()
    }
}

fn service(store: &SqliteContent) -> ContentService {
    let (clock, metrics) = (SharedClock::std(), Metrics::new("test", SharedClock::std()));
    let cache = Tiers {
        far: None,
        marks: Arc::new(MemoryCache::new(clock.clone(), 100, LONG)),
        breaker: CircuitBreaker::new("cache"),
        clock,
        metrics,
    };
    let ports = content::Ports {
        store: Arc::new(store.clone()),
        cache,
        wall: Arc::new(ManualWallClock::new(1_800_000_000)),
    };
    let rules = CacheRules {
        lifetime: LONG,
        near_lifetime: LONG,
        near_bytes: 1 << 20,
    };
    ContentService::new(ports, &rules, LONG)
}
