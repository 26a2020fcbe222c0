//! The contract of every task queue.

use std::{path::PathBuf, sync::Arc, time::Duration};

use nestcms::{
    adapters::{
        nats::{Nats, NatsTasks},
        sqlite::{Database, SqliteTasks},
    },
    domain::{
        event::Timestamp,
        task::{Priority, State, Task},
    },
    ports::{Lease, TaskQueue},
    settings::Settings,
};
use resilience_core::breaker::CircuitBreaker;
use serde_json::json;
use webhook_verify::clock::{ManualWallClock, WallClock};

/// A queue, and what a test does to it.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) queue: Arc<dyn TaskQueue>,
    pub(super) wall: ManualWallClock,
}

impl Stage {
    /// In memory, where it is gone with a worker that is killed in a statement. Its time is that of
    /// `wall`.
    pub(super) async fn sqlite(visibility: Duration) -> Self {
        Self::in_file(":memory:".into(), visibility).await
    }

    pub(super) async fn in_file(path: PathBuf, visibility: Duration) -> Self {
        let mut settings = Settings::demo().database;
        settings.path = path;
        let database = Database::open(&settings, CircuitBreaker::new("database"));
        let wall = ManualWallClock::new(1_800_000_000);
        let shared: Arc<dyn WallClock> = Arc::new(wall.clone());
        let queue = SqliteTasks::new(database.await.unwrap(), shared, visibility, KEEP);
        Self {
            queue: Arc::new(queue),
            wall,
        }
    }

    /// On a server, whose time is everybody's.
    pub(super) async fn nats(nats: &Nats, visibility: Duration) -> Self {
        let wall = ManualWallClock::new(1_800_000_000);
        let shared: Arc<dyn WallClock> = Arc::new(wall.clone());
        let queue = NatsTasks::open(nats.clone(), shared, visibility, KEEP, 1);
        Self {
            queue: Arc::new(queue.await.unwrap()),
            wall,
        }
    }

    /// Takes the next, however long that is.
    pub(super) async fn next(&self, priority: Priority) -> Lease {
        let poll = async {
            loop {
                if let Some(lease) = self.queue.take(priority, 1).await.unwrap().pop() {
                    return lease;
                }
                self.wall.advance(Duration::from_secs(60));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), poll)
            .await
            .expect("a task is due at last")
    }

    /// Lets some time pass.
    pub(super) async fn pass(&self) {
        self.wall.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn task(id: &str, priority: Priority) -> Task {
    let now = Timestamp::from_millis(1);
    Task {
        id: id.to_owned(),
        kind: "test".to_owned(),
        payload: json!({ "n": 1 }),
        priority,
        owner: Some("demo".to_owned()),
        correlation_id: "c".to_owned(),
        state: State::Queued,
        runs: 0,
        history: Vec::new(),
        result: None,
        queued_at: now,
        changed_at: now,
    }
}

#[tokio::test]
async fn sqlite_keeps_the_contract_of_tasks() {
    let long = Stage::sqlite(LONG).await;
    contract(&long, async || long.clone()).await;
    a_heartbeat_keeps_the_lease(&long).await;
    what_is_done_for_long_is_dropped(&long).await;
}

/// What every task queue must do. Leases of `short` end while a test waits.
pub(super) async fn contract(long: &Stage, short: impl AsyncFn() -> Stage) {
    a_task_is_queued_once_and_taken_once(long).await;
    what_is_handed_back_is_taken_again(long).await;
    let short = &short().await;
    a_lease_that_ends_is_worth_nothing(short).await;
    the_dead_are_listed_and_come_back(short).await;
}

async fn a_task_is_queued_once_and_taken_once(stage: &Stage) {
    let queue = &stage.queue;
    let new = task("once", Priority::Normal);
    assert!(queue.push(&new).await.unwrap());
    assert!(!queue.push(&new).await.unwrap());
    assert_eq!(queue.find("once").await.unwrap(), Some(new));
    assert_eq!(queue.find("none").await.unwrap(), None);
    assert_eq!(queue.depth().await.unwrap(), [0, 1, 0]);
    assert!(queue.take(Priority::Critical, 5).await.unwrap().is_empty());
    let leases = queue.take(Priority::Normal, 5).await.unwrap();
    let [lease] = &leases[..] else {
        panic!("{leases:?}")
    };
    assert_eq!((lease.task.state, lease.task.runs), (State::Running, 1));
    assert!(queue.take(Priority::Normal, 5).await.unwrap().is_empty());
    assert!(queue.extend(lease).await.unwrap());
    let mut done = lease.task.clone();
    done.finish("well".to_owned(), Timestamp::from_millis(2));
    assert!(queue.settle(lease, &done, Duration::ZERO).await.unwrap());
    assert_eq!(queue.find("once").await.unwrap(), Some(done));
    assert!(!queue.push(&task("once", Priority::Normal)).await.unwrap());
    assert!(queue.take(Priority::Normal, 5).await.unwrap().is_empty());
    assert_eq!(queue.depth().await.unwrap(), [0, 0, 0]);
}

async fn what_is_handed_back_is_taken_again(stage: &Stage) {
    let queue = &stage.queue;
    queue.push(&task("back", Priority::Low)).await.unwrap();
    let lease = stage.next(Priority::Low).await;
    let mut back = lease.task.clone();
    back.hand_back(Timestamp::from_millis(2));
    assert!(queue.settle(&lease, &back, Duration::ZERO).await.unwrap());
    let lease = stage.next(Priority::Low).await;
    assert_eq!(lease.task.runs, 1);
    let mut later = lease.task.clone();
    later.fail("no".to_owned(), Timestamp::from_millis(3));
    let wait = Duration::from_secs(3600);
    assert!(queue.settle(&lease, &later, wait).await.unwrap());
    assert!(queue.take(Priority::Low, 5).await.unwrap().is_empty());
    assert_eq!(queue.depth().await.unwrap(), [0, 0, 1]);
}

/// G.c3
async fn a_lease_that_ends_is_worth_nothing(stage: &Stage) {
    let queue = &stage.queue;
    queue.push(&task("lost", Priority::Critical)).await.unwrap();
    let first = stage.next(Priority::Critical).await;
    let second = stage.next(Priority::Critical).await;
    assert_eq!((second.task.id.as_str(), second.task.runs), ("lost", 2));
    assert_eq!(second.task.history[0].reason, "the worker was lost");
    let mut done = first.task.clone();
    done.finish("late".to_owned(), Timestamp::from_millis(2));
    assert!(!queue.settle(&first, &done, Duration::ZERO).await.unwrap());
    let mut done = second.task.clone();
    done.finish("well".to_owned(), Timestamp::from_millis(3));
    assert!(queue.settle(&second, &done, Duration::ZERO).await.unwrap());
    let found = queue.find("lost").await.unwrap().unwrap();
    assert_eq!(found.result.as_deref(), Some("well"));
}

/// G.c2
async fn the_dead_are_listed_and_come_back(stage: &Stage) {
    let queue = &stage.queue;
    queue.push(&task("bad", Priority::Critical)).await.unwrap();
    assert_eq!(queue.requeue("bad").await.unwrap(), None);
    let lease = stage.next(Priority::Critical).await;
    let mut dead = lease.task.clone();
    dead.give_up("no use".to_owned(), Timestamp::from_millis(2));
    assert!(queue.settle(&lease, &dead, Duration::ZERO).await.unwrap());
    assert_eq!(queue.dead(10).await.unwrap(), [dead]);
    assert!(queue.take(Priority::Critical, 5).await.unwrap().is_empty());
    let again = queue.requeue("bad").await.unwrap().unwrap();
    assert_eq!((again.state, again.history.len()), (State::Queued, 1));
    assert_eq!(queue.requeue("bad").await.unwrap(), None);
    assert!(queue.dead(10).await.unwrap().is_empty());
    let lease = stage.next(Priority::Critical).await;
    let mut done = lease.task.clone();
    done.finish("well".to_owned(), Timestamp::from_millis(3));
    assert!(queue.settle(&lease, &done, Duration::ZERO).await.unwrap());
}

async fn a_heartbeat_keeps_the_lease(stage: &Stage) {
    let queue = &stage.queue;
    queue.push(&task("beat", Priority::Critical)).await.unwrap();
    let lease = stage.next(Priority::Critical).await;
    for _ in 0..3 {
        stage.wall.advance(LONG - Duration::from_secs(1));
        assert!(queue.take(Priority::Critical, 1).await.unwrap().is_empty());
        assert!(queue.extend(&lease).await.unwrap());
    }
    stage.wall.advance(LONG);
    let next = stage.next(Priority::Critical).await;
    assert!(!queue.extend(&lease).await.unwrap());
    let mut done = next.task.clone();
    done.finish(String::new(), Timestamp::from_millis(2));
    assert!(queue.settle(&next, &done, Duration::ZERO).await.unwrap());
}

async fn what_is_done_for_long_is_dropped(stage: &Stage) {
    let queue = &stage.queue;
    assert_eq!(queue.retain().await.unwrap(), 0);
    stage.wall.advance(KEEP);
    assert!(queue.retain().await.unwrap() > 0);
    assert_eq!(queue.find("once").await.unwrap(), None);
    assert!(queue.find("back").await.unwrap().is_some());
}

/// Nothing ends by itself while a test runs.
pub(super) const LONG: Duration = Duration::from_secs(600);
const KEEP: Duration = Duration::from_secs(86_400);
