//! Limits that processes share by a real Redis, which is killed and paused.
#![cfg(all(feature = "rate-limit", feature = "redis"))]

mod config;
mod exact;
#[cfg(feature = "http")]
mod layer;
mod leased;
mod outage;
mod server;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use resilience_core::rate_limit::Quota;
use resilience_tower::rate_limit::redis::{Config, ConfigBuilder, RedisLimiter};

use self::server::Server;

fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(test);
}

/// No call hangs, however busy the machine is.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    let bound = Duration::from_secs(300);
    tokio::time::timeout(bound, call)
        .await
        .expect("a call hangs")
}

/// Waits until `done` says so.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    soon(async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Settings that a busy machine does not mistake for an outage.
fn patient(quota: Quota) -> ConfigBuilder {
    Config::builder(quota).timeout(Duration::from_secs(10))
}

fn limiter(server: &Server, name: &str, config: ConfigBuilder) -> RedisLimiter {
    RedisLimiter::new(&server.url(), name, config.build().unwrap()).unwrap()
}

async fn connect(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Redis's own time, in microseconds.
async fn time(connection: &mut MultiplexedConnection) -> u64 {
    let time = redis::cmd("TIME").query_async(connection).await;
    let (seconds, micros): (u64, u64) = time.unwrap();
    seconds * 1_000_000 + micros
}

/// How often Redis ran a command.
async fn calls(connection: &mut MultiplexedConnection, command: &str) -> u64 {
    let mut info = redis::cmd("INFO");
    let info: String = info
        .arg("commandstats")
        .query_async(connection)
        .await
        .unwrap();
    let row = info
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    row.map_or(0, |row| row.split(',').next().unwrap().parse().unwrap())
}

/// So many were admitted between two readings of Redis's time.
#[derive(Clone, Copy, Debug)]
struct Batch {
    from: u64,
    to: u64,
    admitted: u64,
}

/// Admitted in any span ≤ burst + rate × span: a batch counts where all of it lies in the span.
fn assert_bound(mut batches: Vec<Batch>, quota: Quota) {
    let interval = quota.replenish_interval().as_nanos();
    batches.sort_by_key(|batch| batch.to);
    for first in &batches {
        let mut sum = 0;
        for batch in batches.iter().filter(|batch| batch.from >= first.from) {
            sum += u128::from(batch.admitted);
            let span = u128::from(batch.to - first.from) * 1000;
            let most = quota.fill_time().as_nanos() + span;
            assert!(sum * interval <= most, "{sum} from {first:?} to {batch:?}");
        }
    }
}
