//! The content and the payments on a real PostgreSQL cluster. Each test starts one, and plays its
//! scenes one after the other.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use engines::{
    postgres::{Cluster, Config},
    redis,
};
use nestcms::{
    adapters::postgres::{PostgresAudit, PostgresContent, PostgresStore},
    app::{App, AppState, Deps},
    domain::{
        content::{Pipeline, Project, Record},
        event::{EventData, Source},
    },
    ports::{Kept, Mark, Pipelines, Repository, See, StoreError},
    settings::{Secret, Settings},
};
use reqwest::{Response, StatusCode};
use resilience_core::{
    clock::{Clock, SharedClock},
    route,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::contract::{contract, project};
use crate::{
    events_listeners::audit_contract,
    flows::{
        store,
        support::{TempDir, body, eventually, login, text},
    },
};

/// B.c3, H5.c2, F5, F6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contracts_and_reads_on_replicas() {
    let engine = Cluster::start(Config::default()).await.unwrap();
    let stage = Stage::open(&engine, |settings| {
        settings.database.balance = balance("round_robin");
    })
    .await;
    the_audit_log_is_kept(&stage, &engine).await;
    store::contract(&PostgresStore::new(stage.postgres())).await;
    let caught_up = async || engine.wait_caught_up().await.unwrap();
    contract(&stage.content, caught_up).await;
    engine.wait_caught_up().await.unwrap();
    the_primary_writes_and_replicas_read(&stage).await;
    a_lagging_replica_is_left_out(&stage, &engine).await;
    a_mark_is_honoured_while_no_replica_has_it(&stage, &engine).await;
    a_pool_is_bounded(&engine).await;
    pipelines_run_on_their_replicas(&stage).await;
    an_indexed_filter_scans_less(&engine).await;
    a_pipeline_whose_replica_is_down_runs_elsewhere(&stage, &engine).await;
    series_are_of_the_nodes_of_the_settings(&stage);
}

async fn the_audit_log_is_kept(stage: &Stage, engine: &Cluster) {
    let change = async |sql: &'static str| {
        engine.node(0).sql(sql).await.expect(sql);
    };
    audit_contract(Arc::new(PostgresAudit::new(stage.postgres())), change).await;
    // The application's own is there, too.
    let started = EventData::SystemStarted {
        component: "test".to_owned(),
        status: "ok".to_owned(),
        detail: String::new(),
    };
    let event = stage.app.bus().emit(Source::HealthService, "c", started);
    let entries = format!(
        "SELECT count(*) FROM audit_log WHERE event_id = '{}'",
        event.id
    );
    eventually("the event is in the log", async || {
        engine.node(0).sql(&entries).await.unwrap().trim() == "1"
    })
    .await;
}

/// F5.c1
async fn the_primary_writes_and_replicas_read(stage: &Stage) {
    let before = stage.queries();
    for n in 0..100 {
        stage.insert(&format!("spread-{n}")).await;
    }
    for n in 0..300 {
        let id = format!("p-{n}");
        let _: Option<Record<Project>> = stage.content.find(&id, &See::Any).await.unwrap();
    }
    let after = stage.queries();
    let count = |node: usize, intent| {
        let (before, after) = (&before, &after);
        stage.count(after, node, intent) - stage.count(before, node, intent)
    };
    assert_eq!((count(0, "write"), count(0, "read")), (100, 0));
    for replica in 1..=3 {
        assert_eq!(count(replica, "write"), 0);
        let reads = count(replica, "read");
        assert!((99..=101).contains(&reads), "replica {replica}: {reads}");
    }
}

/// F5.c2
async fn a_lagging_replica_is_left_out(stage: &Stage, engine: &Cluster) {
    let usual = stage.settings.database.route;
    let cluster = stage.postgres();
    let strict = serde_json::json!({ "observation_ttl": "20s", "max_lag": "500ms",
                                     "readmit_lag": "400ms", "readmit_after": "10ms" });
    cluster.cluster().set_config(from(strict));
    engine.node(2).pause_replay().await.unwrap();
    eventually("replica 2 lags", async || {
        stage.insert(&uuid::Uuid::new_v4().to_string()).await;
        stage.is_lagging(2)
    })
    .await;
    assert!(stage.gauge("replica_lag_seconds", 2) >= 0.5);
    assert!(stage.gauge("replica_lag_seconds", 0) <= 0.0);
    let before = stage.queries();
    for _ in 0..30 {
        stage.read_any("spread-1").await;
    }
    let reads = stage.count(&stage.queries(), 2, "read") - stage.count(&before, 2, "read");
    assert_eq!(reads, 0);
    engine.node(2).resume_replay().await.unwrap();
    eventually("replica 2 reads again", async || {
        stage.read_any("spread-1").await;
        stage.count(&stage.queries(), 2, "read") > stage.count(&before, 2, "read")
    })
    .await;
    assert!(stage.gauge("replica_lag_seconds", 2) < 60.0);
    cluster.cluster().set_config(usual);
}

/// F5.c3
async fn a_mark_is_honoured_while_no_replica_has_it(stage: &Stage, engine: &Cluster) {
    for replica in 1..=3 {
        engine.node(replica).pause_replay().await.unwrap();
    }
    let mark = stage.insert("mine").await;
    assert_eq!(stage.read_any("mine").await, None);
    let before = stage.queries();
    let see = See::After(mark.clone());
    let found: Option<Record<Project>> = stage.content.find("mine", &see).await.unwrap();
    assert_eq!(found.unwrap().id, "mine");
    let found: Option<Record<Project>> = stage.content.find("mine", &See::Newest).await.unwrap();
    assert_eq!(found.unwrap().id, "mine");
    let reads = stage.count(&stage.queries(), 0, "read") - stage.count(&before, 0, "read");
    assert_eq!(reads, 2);
    // The cache is filled with what was written, too.
    let service = stage.app.content();
    let mut changed = project("mine", "demo").content;
    for name in ["first", "second"] {
        changed.name = name.to_owned();
        service.update("mine", changed.clone(), None).await.unwrap();
        let found = service.read::<Project>("mine", See::Any).await.unwrap();
        assert_eq!(
            (found.value.content.name.as_str(), found.hit),
            (name, false)
        );
        let found = service.read::<Project>("mine", See::Any).await.unwrap();
        assert!(found.hit);
    }
    for replica in 1..=3 {
        engine.node(replica).resume_replay().await.unwrap();
    }
    let forged = See::After(Mark(format!("{}x", mark.0)));
    let refused: Result<Option<Record<Project>>, _> = stage.content.find("mine", &forged).await;
    assert!(
        matches!(refused, Err(StoreError::BadMark { .. })),
        "{refused:?}"
    );
    engine.wait_caught_up().await.unwrap();
    assert_eq!(stage.read_any("mine").await.as_deref(), Some("second"));
}

/// F5.c4, with 4 in the place of 100.
async fn a_pool_is_bounded(engine: &Cluster) {
    let stage = Stage::of(&[engine.node(0).url()], |settings| {
        settings.database.pool_size = 4;
        settings.database.wait_limit = Duration::from_secs(3);
    })
    .await;
    let (other, connection) = tokio_postgres::connect(&engine.node(0).url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let lock = "BEGIN; LOCK TABLE projects IN ACCESS EXCLUSIVE MODE";
    other.batch_execute(lock).await.unwrap();
    let content = stage.content.clone();
    let read = move || {
        let content = content.clone();
        tokio::spawn(async move {
            let found: Result<Option<Record<Project>>, _> = content.find("p", &See::Newest).await;
            found
        })
    };
    let four: Vec<_> = (0..4).map(|_| read()).collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    eventually("four wait for the table", async || {
        let row = other.query_one(waiting, &[]).await.unwrap();
        row.get::<_, i64>(0) == 4
    })
    .await;
    assert!(stage.page().contains("\npool_size 4\n"));
    assert!((4.0..=4.0).contains(&stage.gauge("pool_in_use", 0)));
    let fifth = read().await.unwrap();
    assert!(
        matches!(fifth, Err(StoreError::Unavailable { .. })),
        "{fifth:?}"
    );
    other.batch_execute("COMMIT").await.unwrap();
    for one in four {
        assert_eq!(one.await.unwrap().unwrap(), None);
    }
    assert_eq!(stage.read_any("p").await, None);
    assert!((0.0..=0.0).contains(&stage.gauge("pool_in_use", 0)));
    let page = stage.page();
    for intent in ["read", "write"] {
        let waits = format!("pool_wait_seconds_count{{intent=\"{intent}\"}} ");
        assert!(page.contains(&waits), "{waits}: {page}");
    }
}

/// F6.c1
async fn pipelines_run_on_their_replicas(stage: &Stage) {
    for (pipeline, replica) in [
        (Pipeline::UserLookups, 1),
        (Pipeline::ProjectRelations, 2),
        (Pipeline::ContractEmployee, 1),
        (Pipeline::Earnings, 3),
        (Pipeline::Statistics, 2),
    ] {
        let before = stage.queries();
        let cold = stage.app.content().report(pipeline).await.unwrap();
        let after = stage.queries();
        assert!(!cold.hit);
        for node in 0..=3 {
            let asked = stage.count(&after, node, "read") - stage.count(&before, node, "read");
            assert_eq!(asked, u64::from(node == replica), "{pipeline:?} on {node}");
        }
        let again = stage.app.content().report(pipeline).await.unwrap();
        assert!(again.hit);
        assert_eq!(again.value, cold.value);
        assert_eq!(stage.queries(), after);
    }
    assert_eq!(stage.deviations("earnings"), 0);
}

/// F6.c2
async fn a_pipeline_whose_replica_is_down_runs_elsewhere(stage: &Stage, engine: &Cluster) {
    engine.node(3).kill().await.unwrap();
    let before = stage.queries();
    stage.content.run(Pipeline::Earnings).await.unwrap();
    assert!(stage.deviations("earnings") > 0);
    let after = stage.queries();
    assert_eq!(
        stage.count(&after, 0, "read"),
        stage.count(&before, 0, "read")
    );
}

/// L.c6
fn series_are_of_the_nodes_of_the_settings(stage: &Stage) {
    let page = stage.page();
    let of_nodes = page
        .lines()
        .filter_map(|line| line.split_once("node=\"")?.1.split('"').next());
    let of_nodes: BTreeSet<_> = of_nodes.collect();
    assert_eq!(of_nodes, stage.names.iter().map(String::as_str).collect());
}

/// F6.c3
async fn an_indexed_filter_scans_less(engine: &Cluster) {
    let fill = "INSERT INTO earnings \
                SELECT 'bulk-' || n, 'contract-1', 'user-' || n % 1000, 1, 'SAR', 0, 0, 1 \
                FROM generate_series(1, 20000) n; ANALYZE earnings";
    engine.node(0).sql(fill).await.unwrap();
    let explain = "EXPLAIN (ANALYZE, TIMING OFF) \
                   SELECT id FROM earnings WHERE user_id = 'user-7'";
    let plan = engine.node(0).sql(explain).await.unwrap();
    assert!(plan.contains("earnings_by_user"), "{plan}");
    assert!(!plan.contains("Rows Removed by Filter"), "{plan}");
    let off = "SET enable_indexscan = off; SET enable_bitmapscan = off";
    let plan = engine.node(0).sql(&format!("{off}; {explain}")).await;
    let plan = plan.unwrap();
    assert!(plan.contains("Seq Scan"), "{plan}");
    assert!(plan.contains("Rows Removed by Filter: 199"), "{plan}");
}

/// F7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_outlives_every_node() {
    let engine = Cluster::start(Config::default()).await.unwrap();
    let cache = redis::Cluster::start(redis::Config::lone()).await.unwrap();
    let stage = Stage::open(&engine, |settings| {
        settings.database.write_wait = Duration::from_secs(5);
        settings.cache.redis = Some(Secret::new(cache.node(0).url()));
        settings.cache.near_lifetime = Duration::from_millis(10);
        settings.cache.call_timeout = Duration::from_secs(10);
    })
    .await;
    stage.insert("old").await;
    engine.wait_caught_up().await.unwrap();
    let client = stage.sign_in().await;
    let readers = Readers::start(&client, 4);
    reads_go_on_without_redis(&readers, &cache).await;
    reads_go_on_without_a_replica(&stage, &readers, &engine).await;
    let replicated = writes_work_again_after_a_promotion(&client, &readers, &engine).await;
    assert_eq!(readers.stop().await, Vec::<String>::new());
    the_old_primary_gets_no_writes(&stage, &engine, &replicated).await;
    the_old_primary_comes_back_as_a_replica(&stage, &engine).await;
}

/// F7.c5
async fn reads_go_on_without_redis(readers: &Readers, cache: &redis::Cluster) {
    readers.more(50).await;
    cache.node(0).kill().await.unwrap();
    readers.more(50).await;
    cache.node(0).start().await.unwrap();
}

/// F7.c1, F7.c5
async fn reads_go_on_without_a_replica(stage: &Stage, readers: &Readers, engine: &Cluster) {
    for replica in [3, 2, 1] {
        let up = async |wanted: bool| {
            eventually("it is known to be up or down", async || {
                stage.node(replica).up == wanted
            })
            .await;
        };
        engine.node(replica).kill().await.unwrap();
        up(false).await;
        assert!(stage.gauge("store_node_up", replica) <= 0.0);
        readers.more(50).await;
        engine.node(replica).start().await.unwrap();
        up(true).await;
    }
    engine.wait_caught_up().await.unwrap();
}

/// F7.c2, F7.c5; what the new primary had before it was one.
async fn writes_work_again_after_a_promotion(
    client: &Client,
    readers: &Readers,
    engine: &Cluster,
) -> BTreeSet<String> {
    let (old, new) = (engine.node(0), engine.node(1));
    let others = [engine.node(2), engine.node(3)];
    let writer = Writer::start(client);
    writer.more(10).await;
    new.get_ahead_of(&others).await.unwrap();
    new.stream().cut();
    // Acknowledged, and nobody has it but the old primary.
    let lost = client.create("lost").await;
    assert_eq!(lost.status(), StatusCode::CREATED);
    let mark = lost.headers()["x-read-after"].to_str().unwrap().to_owned();
    let id = text(&body(lost).await, "id");
    old.kill().await.unwrap();
    others.iter().for_each(|other| other.stream().open());
    eventually("nobody takes writes", async || {
        let refused = client.create("no").await;
        let wait = refused.headers().get("retry-after").cloned();
        // Before that it may have been under way.
        let none = text(&body(refused).await, "code") == "no_primary";
        assert!(!none || wait.is_some_and(|wait| wait != "0"));
        none
    })
    .await;
    readers.more(50).await;
    new.wait_replayed(new.received().await.unwrap())
        .await
        .unwrap();
    let replicated = ids(new).await;

    new.promote().await.unwrap();
    let clock = SharedClock::std();
    let promoted = clock.now();
    eventually("somebody takes writes", async || {
        client.create("new").await.status() == StatusCode::CREATED
    })
    .await;
    let took = clock.now() - promoted;
    println!("written {took:?} after the promotion");
    assert!(took < Duration::from_secs(30), "{took:?}");
    writer.stop().await;
    for other in others {
        other.follow(new).await.unwrap();
    }
    engine.wait_followers_of(new).await.unwrap();
    let path = format!("/api/v1/projects/{id}");
    let gone = client.get_after(&path, &mark).await;
    assert_eq!(gone.status(), StatusCode::CONFLICT);
    assert_eq!(body(gone).await["code"], "write_lost");
    replicated
}

async fn ids(node: &engines::postgres::Node) -> BTreeSet<String> {
    let rows = node.sql("SELECT id FROM projects").await.unwrap();
    rows.lines().map(str::to_owned).collect()
}

/// F7.c2, F7.c3
async fn the_old_primary_gets_no_writes(
    stage: &Stage,
    engine: &Cluster,
    replicated: &BTreeSet<String>,
) {
    let (old, new) = (engine.node(0), engine.node(1));
    old.start().await.unwrap();
    assert!(!old.in_recovery().await.unwrap());
    eventually("it is fenced", async || stage.node(0).fenced).await;
    for n in 0..20 {
        stage.insert(&format!("after-{n}")).await;
        stage.read_any("old").await;
    }
    let (there, here) = (ids(old).await, ids(new).await);
    // Nothing was written there and here: what both have went from one to the other.
    let twice: Vec<_> = there
        .intersection(&here)
        .filter(|id| !replicated.contains(*id))
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_ne!(there.difference(&here).count(), 0);
    let after = here.iter().filter(|id| id.starts_with("after-"));
    assert_eq!(after.count(), 20);
    let fenced = |data: &EventData| matches!(data, EventData::SecurityAlert { kind, .. } if kind == "fenced_primary");
    eventually("operators are told", async || {
        !stage.events.matching(fenced).is_empty()
    })
    .await;
}

/// F7.c4
async fn the_old_primary_comes_back_as_a_replica(stage: &Stage, engine: &Cluster) {
    engine.node(0).rewind(engine.node(1)).await.unwrap();
    engine.wait_followers_of(engine.node(1)).await.unwrap();
    let before = stage.queries();
    eventually("it reads", async || {
        let mark = stage.insert(&uuid::Uuid::new_v4().to_string()).await;
        let see = See::After(mark);
        let found: Option<Record<Project>> = stage.content.find("after-0", &see).await.unwrap();
        // Whoever answers has caught up: what the old primary missed is there.
        assert!(found.is_some());
        let _ = stage
            .read_any("after-0")
            .await
            .expect("no replica is behind the promotion");
        stage.count(&stage.queries(), 0, "read") > stage.count(&before, 0, "read")
    })
    .await;
    assert_eq!(
        stage.count(&stage.queries(), 0, "write"),
        stage.count(&before, 0, "write")
    );
}

/// An application on a cluster.
struct Stage {
    app: AppState,
    content: PostgresContent,
    settings: Settings,
    events: nestcms::events::Recorder,
    names: Vec<String>,
    url: String,
    _dir: TempDir,
}

impl Stage {
    async fn open(engine: &Cluster, change: impl FnOnce(&mut Settings)) -> Self {
        let urls: Vec<_> = engine.nodes().iter().map(|node| node.url()).collect();
        Self::of(&urls, change).await
    }

    async fn of(urls: &[String], change: impl FnOnce(&mut Settings)) -> Self {
        let dir = TempDir::new();
        let mut settings = Settings::demo();
        settings.auth.bcrypt_cost = 4;
        settings.database.path = dir.0.join("nestcms.db");
        settings.database.nodes = urls.iter().map(Secret::new).collect();
        settings.database.patience = Duration::from_secs(30);
        settings.database.wait_limit = Duration::from_secs(10);
        settings.database.write_wait = Duration::from_secs(20);
        settings.database.read_wait = Duration::from_secs(20);
        // A machine that is busy is not a node that is down, and not a replica behind.
        let route = serde_json::json!({ "observation_ttl": "20s", "max_lag": "60s",
                                        "spill": { "share": 1.0 } });
        settings.database.route = from(route);
        change(&mut settings);
        let app = App::build(settings.clone(), Deps::default()).await;
        let app = app.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Without the background jobs: their queries are not those of the scenes.
        let server = axum::serve(listener, app.router()).into_future();
        tokio::spawn(server);
        let app = app.state().clone();
        let postgres = app.postgres().unwrap().clone();
        let router = postgres.cluster().router();
        eventually("all nodes are up", async || {
            let nodes = router.snapshot().nodes;
            nodes.len() == urls.len() && nodes.iter().all(|node| node.up)
        })
        .await;
        let nodes = router.snapshot().nodes;
        Self {
            content: PostgresContent::new(postgres.clone()),
            events: app.bus().recorder(),
            app,
            settings,
            names: nodes.iter().map(|node| node.name.to_string()).collect(),
            url,
            _dir: dir,
        }
    }

    fn postgres(&self) -> nestcms::adapters::postgres::Postgres {
        self.app.postgres().unwrap().clone()
    }

    async fn insert(&self, id: &str) -> Mark {
        match self.content.insert(&project(id, "demo")).await.unwrap() {
            Kept::Done(_, Some(mark)) => mark,
            other => panic!("{other:?}"),
        }
    }

    /// Somebody who uses it over HTTP.
    async fn sign_in(&self) -> Client {
        let http = reqwest::Client::builder().no_proxy();
        let http = http.timeout(Duration::from_secs(60)).build().unwrap();
        Client {
            token: login(&http, &self.url).await,
            url: self.url.clone(),
            http,
        }
    }

    /// The name of the project, as anybody may see it.
    async fn read_any(&self, id: &str) -> Option<String> {
        let found: Option<Record<Project>> = self.content.find(id, &See::Any).await.unwrap();
        found.map(|record| record.content.name)
    }

    fn node(&self, index: usize) -> route::NodeSnapshot<route::Lsn> {
        let postgres = self.postgres();
        let nodes = postgres.cluster().router().snapshot().nodes;
        nodes[index].clone()
    }

    fn is_lagging(&self, index: usize) -> bool {
        self.node(index).lagging
    }

    fn page(&self) -> String {
        self.app.metrics().render()
    }

    /// What the page says of a node.
    fn gauge(&self, name: &str, node: usize) -> f64 {
        let line = format!("{name}{{node=\"{}\"}} ", self.names[node]);
        let page = self.page();
        let found = page.lines().find_map(|l| l.strip_prefix(&line));
        found.unwrap().parse().unwrap()
    }

    /// The counters of queries.
    fn queries(&self) -> Vec<String> {
        let page = self.page();
        let lines = page
            .lines()
            .filter(|l| l.starts_with("store_queries_total"));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        // The page has them in no order.
        lines.sort_unstable();
        lines
    }

    fn count(&self, lines: &[String], node: usize, intent: &str) -> u64 {
        let node = &self.names[node];
        let line = format!("store_queries_total{{node=\"{node}\",intent=\"{intent}\"}} ");
        let found = lines.iter().find_map(|l| l.strip_prefix(&line));
        found.map_or(0, |count| count.parse().unwrap())
    }

    fn deviations(&self, pipeline: &str) -> u64 {
        let start = format!("pipeline_deviations_total{{pipeline=\"{pipeline}\"");
        let page = self.app.metrics().render();
        let lines = page.lines().filter(|line| line.starts_with(&start));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// Somebody who is logged in.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    async fn get(&self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.url));
        request.bearer_auth(&self.token).send().await.unwrap()
    }

    async fn get_after(&self, path: &str, mark: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.url));
        let request = request.bearer_auth(&self.token);
        request.header("x-read-after", mark).send().await.unwrap()
    }

    /// Makes a project.
    async fn create(&self, name: &str) -> Response {
        let request = self.http.post(format!("{}/api/v1/projects", self.url));
        let request = request.bearer_auth(&self.token);
        request.json(&json!({ "name": name })).send().await.unwrap()
    }
}

/// A task that writes without a pause.
struct Writer {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start(client: &Client) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (client, ended, count) = (
            client.clone(),
            Arc::clone(&stop),
            Arc::<AtomicUsize>::clone(&done),
        );
        let task = tokio::spawn(async move {
            while !ended.load(Ordering::SeqCst) {
                let answer = client.create("steady").await;
                match answer.status() {
                    StatusCode::CREATED => {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
                }
            }
        });
        Self { stop, done, task }
    }

    async fn more(&self, writes: usize) {
        let goal = self.done.load(Ordering::SeqCst) + writes;
        eventually("writes go on", async || {
            self.done.load(Ordering::SeqCst) >= goal
        })
        .await;
    }

    async fn stop(self) {
        self.more(1).await;
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

/// Tasks that read without a pause: what a cache may have, and what none has.
struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Readers {
    fn start(client: &Client, count: usize) -> Self {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let task = |_| {
            let client = client.clone();
            let (stop, reads): (_, Arc<AtomicUsize>) = (Arc::clone(&stop), Arc::clone(&reads));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    for path in ["/api/v1/projects/old", "/api/v1/projects?status=archived"] {
                        let answer = client.get(path).await;
                        if answer.status() != StatusCode::OK {
                            failed.push(format!("{path}: {}", answer.text().await.unwrap()));
                        }
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
                failed
            })
        };
        let tasks = (0..count).map(task).collect();
        Self { stop, reads, tasks }
    }

    async fn more(&self, reads: usize) {
        let goal = self.reads.load(Ordering::SeqCst) + reads;
        eventually("reads go on", async || {
            self.reads.load(Ordering::SeqCst) >= goal
        })
        .await;
    }

    /// What failed.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failed = Vec::new();
        for task in self.tasks {
            failed.extend(task.await.unwrap());
        }
        failed
    }
}

fn balance(strategy: &str) -> resilience_core::balance::Config {
    from(serde_json::json!({ "strategy": strategy }))
}

fn from<T: serde::de::DeserializeOwned + Debug>(settings: serde_json::Value) -> T {
    serde_json::from_value(settings).unwrap()
}
