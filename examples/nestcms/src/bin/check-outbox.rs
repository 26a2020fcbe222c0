//! Counts what an outbox on PostgreSQL and JetStream misses and does twice while its dispatcher is
//! killed: `check-outbox --events 1000000 --kills 20`.

use std::{
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use engines::{nats, postgres};
use nestcms::{
    adapters::{
        nats::{JetStream, Nats, Subscription},
        postgres::{Postgres, PostgresStore},
    },
    domain::event::{Event, EventData, Source, Timestamp},
    metrics::Metrics,
    outbox::{Accounting, Dispatcher, Local, Rules, Wake},
    settings::{Secret, Settings},
};
use resilience_core::{
    breaker::CircuitBreaker,
    clock::{Clock, SharedClock},
    retry::{Backoff, Jitter},
};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use webhook_verify::clock::SystemClock;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Writers fill the outbox while the process that publishes and books it is killed (-9) again and
/// again; in the end each committed event must be booked once. Non-zero if one is not.
#[derive(Debug, Parser)]
#[command(name = "check-outbox", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Events that are committed.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Kills, spread over them.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Writers side by side.
    #[arg(long, default_value_t = 8)]
    writers: u64,
    /// Publish within the process; so it is without a NATS server, too.
    #[arg(long)]
    in_process: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The process that is killed.
    #[command(hide = true)]
    Dispatch(Engines),
}

#[derive(Args, Clone, Debug)]
struct Engines {
    #[arg(long)]
    database: String,
    /// Without it the events are published within the process.
    #[arg(long)]
    nats: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.role {
        Some(Role::Dispatch(engines)) => dispatch(engines).await.map(|()| true),
        None => check(&arguments).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("check-outbox: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Publishes and books until it is killed.
async fn dispatch(engines: &Engines) -> Outcome<()> {
    let rules = rules()?;
    let store = Arc::new(open(engines).await?);
    let wall = Arc::new(SystemClock);
    let metrics = Metrics::new("check", SharedClock::std());
    let dispatcher = |publisher| {
        let (wall, metrics) = (wall.clone(), metrics.clone());
        Dispatcher::new(
            store.clone(),
            publisher,
            wall,
            metrics,
            rules,
            Wake::default(),
        )
    };
    let Some(url) = &engines.nats else {
        let publisher = Local::new(store.clone(), vec![Arc::new(Accounting)], wall.clone());
        dispatcher(Arc::new(publisher)).run().await;
        return Ok(());
    };
    let nats = connect_nats(url).await?;
    let publisher = JetStream::new(nats.clone(), 1).await?;
    let accounting = Arc::new(Accounting);
    let inbox = store.clone();
    let consumer = Subscription::new(
        nats,
        accounting,
        inbox,
        wall.clone(),
        metrics.clone(),
        rules,
    );
    let consumer = consumer.await?;
    let dispatcher = dispatcher(Arc::new(publisher));
    tokio::join!(dispatcher.run(), consumer.run());
    Ok(())
}

async fn connect_nats(url: &str) -> Outcome<Nats> {
    let mut settings = Settings::demo().nats;
    settings.servers = vec![Secret::new(url)];
    Ok(Nats::connect(&settings).await?)
}

async fn open(engines: &Engines) -> Outcome<PostgresStore> {
    let mut settings = Settings::demo();
    settings.database.nodes = vec![Secret::new(&engines.database)];
    let metrics = Metrics::new("check", SharedClock::std());
    let postgres = Postgres::open(&settings, CircuitBreaker::new("database"), metrics).await?;
    Ok(PostgresStore::new(postgres))
}

fn rules() -> Outcome<Rules> {
    Ok(Rules {
        poll: Duration::from_millis(20),
        batch: 1000,
        tries: 6,
        backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1))?
            .jitter(Jitter::Equal),
        lease: Duration::from_secs(2),
        keep: Duration::from_secs(3600),
    })
}

async fn check(arguments: &Arguments) -> Outcome<bool> {
    let clock = SharedClock::std();
    let began = clock.now();
    let database = postgres::Cluster::start(postgres::Config::default().with_replicas(0)).await?;
    let broker = broker(arguments).await?;
    let engines = Engines {
        database: database.node(0).url(),
        nats: broker.as_ref().map(nats::Server::url),
    };
    open(&engines).await?;
    let client = connect(&engines).await?;
    let tables = "CREATE TABLE expected (event_id TEXT NOT NULL)";
    client.batch_execute(tables).await?;

    let progress = Arc::new(Progress {
        ahead: 2 * arguments.events / (arguments.kills + 1),
        ..Progress::default()
    });
    let mut writers = JoinSet::new();
    for writer in 0..arguments.writers {
        let share = arguments.events / arguments.writers
            + u64::from(writer < arguments.events % arguments.writers);
        let client = connect(&engines).await?;
        writers.spawn(write(client, writer, share, Arc::clone(&progress)));
    }
    let naive = tokio::spawn(remember_the_last(
        connect(&engines).await?,
        arguments.events,
    ));
    let mut process = Process::start(&engines)?;
    for kill in 1..=arguments.kills {
        let goal = arguments.events * kill / (arguments.kills + 1);
        until(&client, goal, &progress).await?;
        until_some_wait(&client).await?;
        if let (Some(broker), 0) = (&broker, kill % BROKER) {
            broker.kill().await?;
            broker.start().await?;
        }
        process.kill()?;
        process = Process::start(&engines)?;
    }
    until(&client, arguments.events, &progress).await?;
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    // What comes twice comes after what comes once.
    while count(&client, WAITING).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(SETTLE).await;
    let way = match &engines.nats {
        Some(url) => through_nats(url, arguments.kills / BROKER).await?,
        None => "within the process".to_owned(),
    };
    process.kill()?;

    let committed = count(&client, "SELECT COUNT(*) FROM expected").await?;
    let missed = "SELECT COUNT(*) FROM expected e \
                  WHERE NOT EXISTS (SELECT 1 FROM journal j WHERE j.event_id = e.event_id)";
    let missed = count(&client, missed).await?;
    let double = "SELECT COUNT(*) - COUNT(DISTINCT event_id) FROM journal";
    let double = count(&client, double).await?;
    let invented = "SELECT COUNT(*) FROM journal j \
                    WHERE NOT EXISTS (SELECT 1 FROM expected e WHERE e.event_id = j.event_id)";
    let invented = count(&client, invented).await?;
    let overlooked = committed.saturating_sub(naive.await??);
    let took = clock.now().saturating_sub(began).as_secs_f64();
    println!(
        "{committed} events, {} writers, {} kills, {took:.0} s: {missed} missed, {double} booked \
         twice, {invented} booked and not committed",
        arguments.writers, arguments.kills
    );
    println!("{way}");
    println!("a reader that remembers the last number: {overlooked} missed");
    Ok(committed == arguments.events && missed + double + invented == 0)
}

/// The broker, where there is one.
async fn broker(arguments: &Arguments) -> Outcome<Option<nats::Server>> {
    if arguments.in_process {
        return Ok(None);
    }
    match nats::Server::launch().await {
        Ok(server) => Ok(Some(server)),
        Err(engines::Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the consumer was given, once nothing waits for it any more.
async fn through_nats(url: &str, kills: u64) -> Outcome<String> {
    let nats = connect_nats(url).await?;
    let stream = nats.jetstream().get_stream("NESTCMS_EVENTS").await?;
    let info = loop {
        let info = stream.consumer_info("accounting").await?;
        if info.num_pending == 0 && info.num_ack_pending == 0 {
            break info;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let messages = stream.get_info().await?.state.messages;
    let again = info.delivered.consumer_sequence.saturating_sub(messages);
    Ok(format!(
        "through JetStream, killed {kills} times: {messages} messages, {again} delivered again"
    ))
}

/// How far it is, in events.
#[derive(Debug, Default)]
struct Progress {
    committed: AtomicU64,
    booked: AtomicU64,
    /// How far writers may be ahead: they are to write until the last kill.
    ahead: u64,
}

impl Progress {
    // ORDERING: Relaxed. Two counters, and nothing is published with them.
    fn may_write(&self) -> bool {
        let booked = self.booked.load(Ordering::Relaxed);
        self.committed.load(Ordering::Relaxed) <= booked + self.ahead
    }
}

/// Transactions of up to twenty events of one key; some take longer, some are rolled back.
async fn write(client: Client, writer: u64, events: u64, progress: Arc<Progress>) -> Outcome<()> {
    let insert = "WITH t AS (SELECT * FROM unnest($1::text[], $2::text[]) AS t(id, payload)), \
                  e AS (INSERT INTO expected SELECT id FROM t) \
                  INSERT INTO outbox (message_id, event_id, kind, key, payload, correlation_id, \
                  history, created_at) \
                  SELECT id, id, 'payment.success', $3, payload, 'check', '[]', 0 FROM t";
    let insert = client.prepare(insert).await?;
    let (mut left, mut turn) = (events, 0);
    while left > 0 {
        while !progress.may_write() {
            tokio::time::sleep(PAUSE).await;
        }
        turn += 1;
        let key = format!("w{writer}-{}", turn % 50);
        let size = left.min(1 + (turn * 7 + writer) % 20);
        let made: Vec<_> = (0..size).map(|_| event(&key)).collect();
        let ids: Vec<_> = made.iter().map(|event| event.id.as_str()).collect();
        let payloads = made.iter().map(serde_json::to_string);
        let payloads = payloads.collect::<Result<Vec<_>, _>>()?;
        client.batch_execute("BEGIN").await?;
        client.execute(&insert, &[&ids, &payloads, &key]).await?;
        if turn % 13 == writer % 13 {
            client.batch_execute("SELECT pg_sleep(0.01)").await?;
        }
        if turn % 17 == 0 {
            client.batch_execute("ROLLBACK").await?;
        } else {
            client.batch_execute("COMMIT").await?;
            left -= size;
            progress.committed.fetch_add(size, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn event(key: &str) -> Event {
    let at = Timestamp::from_unix(webhook_verify::clock::WallClock::now(&SystemClock));
    let data = EventData::PaymentSuccess {
        payment_id: key.to_owned(),
        provider_ref: "check".to_owned(),
        amount: "12.50".to_owned(),
        currency: "SAR".to_owned(),
        verified_at: at,
    };
    Event::new(Source::PaytabsService, "check", at, data)
}

/// The usual query: how many it sees of `events`, until it has seen none for long.
async fn remember_the_last(client: Client, events: u64) -> Outcome<u64> {
    let (mut last, mut seen, mut idle) = (0_i64, 0_u64, 0);
    while seen < events && idle < 500 {
        let sql = "SELECT seq FROM outbox WHERE seq > $1 ORDER BY seq LIMIT 1000";
        let rows = client.query(sql, &[&last]).await?;
        match rows.last() {
            Some(row) => {
                last = row.try_get(0)?;
                seen += rows.len() as u64;
                idle = 0;
            }
            None => idle += 1,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(seen)
}

/// Waits until so many events are booked.
async fn until(client: &Client, goal: u64, progress: &Progress) -> Outcome<()> {
    let (mut before, mut idle) = (0, 0);
    loop {
        let booked = count(client, "SELECT COUNT(*) FROM journal").await?;
        progress.booked.store(booked, Ordering::Relaxed);
        if booked >= goal {
            return Ok(());
        }
        idle = if booked == before { idle + 1 } else { 0 };
        before = booked;
        if PAUSE * idle > STUCK {
            return Err(format!("{booked} of {goal} events are booked, and no more").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until something is to be published, or nobody writes any more: a kill is to meet it.
async fn until_some_wait(client: &Client) -> Outcome<()> {
    let mut looks = 0;
    while looks < 1000 && count(client, WAITING).await? == 0 {
        looks += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn count(client: &Client, sql: &str) -> Outcome<u64> {
    let count: i64 = client.query_one(sql, &[]).await?.try_get(0)?;
    Ok(u64::try_from(count)?)
}

async fn connect(engines: &Engines) -> Outcome<Client> {
    let (client, connection) = tokio_postgres::connect(&engines.database, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The dispatching process, killed at the latest when the check ends.
struct Process(Child);

impl Process {
    fn start(engines: &Engines) -> Outcome<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(["dispatch", "--database", &engines.database])
            .args(engines.nats.iter().flat_map(|url| ["--nats", url]))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// `kill -9`
    fn kill(&mut self) -> Outcome<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.kill();
    }
}

const WAITING: &str = "SELECT COUNT(*) FROM outbox WHERE sent_at IS NULL";
const PAUSE: Duration = Duration::from_millis(50);
/// How long nothing may happen. An event of a killed process comes again after 30 s.
const STUCK: Duration = Duration::from_secs(120);
/// After the last one, for what might come twice.
const SETTLE: Duration = Duration::from_secs(1);
/// Of so many kills, one takes the broker too.
const BROKER: u64 = 5;
