//! The replay store in Redis, against a real server that is killed, paused and restarted.

mod outage;
mod server;

use std::{future::Future, sync::Arc, time::Duration};

use redis::aio::MultiplexedConnection;
use server::Server;
use webhook_verify::replay::{
    RedisOptions, RedisReplayStore, ReplayKey, ReplayStore, Reserve, StoreError, Times, Token,
};

const KEY: ReplayKey = [7; 32];
const HOUR: Duration = Duration::from_secs(3600);

/// Of stores whose server will not answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A store whose timeout does not matter, however busy the machine is.
fn store(server: &Server) -> RedisReplayStore {
    store_within(Duration::from_secs(20), server)
}

fn store_within(timeout: Duration, server: &Server) -> RedisReplayStore {
    let options = RedisOptions::default().timeout(timeout);
    RedisReplayStore::new(&server.url(), options).unwrap()
}

/// The times of a test: what Redis does not measure itself is not looked at.
fn times(lease: Duration, lifetime: Duration) -> Times {
    Times {
        now: Duration::ZERO,
        lease,
        lifetime,
    }
}

fn long() -> Times {
    times(HOUR, HOUR)
}

fn token(answer: Result<Reserve, StoreError>) -> Token {
    match answer {
        Ok(Reserve::Reserved(token)) => token,
        other => panic!("{other:?}"),
    }
}

/// Runs a test to its end, or fails it: nothing here may hang.
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(60), test)
                .await
                .expect("the test hangs");
        });
}

/// Asks again, without a pause, until the store says what is awaited.
async fn until(store: &RedisReplayStore, awaited: impl Fn(&Result<Reserve, StoreError>) -> bool) {
    while !awaited(&store.reserve(KEY, long()).await) {}
}

async fn raw(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// What is left of the one key in the server.
async fn left(server: &Server) -> Duration {
    let mut raw = raw(server).await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let left: u64 = redis::cmd("PTTL")
        .arg(&keys[0])
        .query_async(&mut raw)
        .await
        .unwrap();
    Duration::from_millis(left)
}

#[test]
fn a_key_is_free_then_in_flight_then_a_duplicate() {
    run(async {
        let server = Server::start();
        let store = store(&server);
        store.check().await.unwrap();
        let held = token(store.reserve(KEY, times(HOUR, 2 * HOUR)).await);
        assert!(left(&server).await > HOUR - Duration::from_secs(60));
        match store.reserve(KEY, long()).await {
            Ok(Reserve::InFlight(left)) => {
                assert!(
                    left <= HOUR && left > HOUR - Duration::from_secs(60),
                    "{left:?}"
                );
            }
            other => panic!("{other:?}"),
        }
        store
            .commit(KEY, held, times(HOUR, 2 * HOUR))
            .await
            .unwrap();
        assert_eq!(store.reserve(KEY, long()).await, Ok(Reserve::Duplicate));
        let lifetime = left(&server).await;
        assert!(lifetime <= 2 * HOUR && lifetime > HOUR, "{lifetime:?}");
    });
}

#[test]
fn a_reservation_and_a_committed_delivery_end_by_themselves() {
    run(async {
        let server = Server::start();
        let store = store(&server);
        let short = times(Duration::from_millis(20), Duration::from_millis(20));
        token(store.reserve(KEY, short).await);
        until(&store, |answer| matches!(answer, Ok(Reserve::Reserved(_)))).await;
        let other = [8; 32];
        let held = token(store.reserve(other, short).await);
        store.commit(other, held, short).await.unwrap();
        while store.reserve(other, short).await == Ok(Reserve::Duplicate) {}
        token(
            store
                .reserve([9; 32], times(Duration::ZERO, Duration::ZERO))
                .await,
        );
        token(
            store
                .reserve([10; 32], times(Duration::MAX, Duration::MAX))
                .await,
        );
    });
}

#[test]
fn a_released_key_is_free_at_once() {
    run(async {
        let server = Server::start();
        let store = store(&server);
        let held = token(store.reserve(KEY, long()).await);
        store.release(KEY, held);
        store.settle().await;
        token(store.reserve(KEY, long()).await);
        assert_eq!(store.lost(), 0);
    });
}

#[test]
fn a_late_release_ends_neither_a_newer_reservation_nor_a_committed_delivery() {
    run(async {
        let server = Server::start();
        let store = store(&server);
        let old = token(
            store
                .reserve(KEY, times(Duration::from_millis(1), HOUR))
                .await,
        );
        let mut newer = None;
        while newer.is_none() {
            if let Ok(Reserve::Reserved(token)) = store.reserve(KEY, long()).await {
                newer = Some(token);
            }
        }
        store.release(KEY, old);
        store.settle().await;
        let answer = store.reserve(KEY, long()).await;
        assert!(matches!(answer, Ok(Reserve::InFlight(_))), "{answer:?}");
        store.commit(KEY, newer.unwrap(), long()).await.unwrap();
        store.release(KEY, newer.unwrap());
        store.settle().await;
        assert_eq!(store.reserve(KEY, long()).await, Ok(Reserve::Duplicate));
    });
}

#[test]
fn a_commit_after_the_lease_holds_against_the_release_of_the_next_handler() {
    run(async {
        let server = Server::start();
        let store = store(&server);
        let slow = Token(1);
        let next = token(store.reserve(KEY, long()).await);
        store.commit(KEY, slow, long()).await.unwrap();
        store.release(KEY, next);
        store.settle().await;
        assert_eq!(store.reserve(KEY, long()).await, Ok(Reserve::Duplicate));
    });
}

#[test]
fn a_second_commit_does_not_shorten_what_is_remembered() {
    run(async {
        let server = Server::start();
        let store = store(&server);
        store
            .commit(KEY, Token(1), times(HOUR, 3 * HOUR))
            .await
            .unwrap();
        store
            .commit(KEY, Token(2), times(HOUR, HOUR))
            .await
            .unwrap();
        assert!(left(&server).await > 2 * HOUR);
    });
}

#[test]
fn of_many_tasks_of_three_receivers_one_gets_the_key() {
    run(async {
        let server = Server::start();
        let stores = [(); 3].map(|()| Arc::new(store(&server)));
        for round in 0..20 {
            let tasks: Vec<_> = (0..60)
                .map(|task| {
                    let store = Arc::clone(&stores[task % 3]);
                    tokio::spawn(async move { store.reserve([round; 32], long()).await })
                })
                .collect();
            let mut reserved = 0;
            for task in tasks {
                match task.await.unwrap().unwrap() {
                    Reserve::Reserved(_) => reserved += 1,
                    Reserve::InFlight(_) => {}
                    Reserve::Duplicate => panic!("nothing was committed"),
                }
            }
            assert_eq!(reserved, 1);
        }
    });
}

#[test]
fn stores_with_other_prefixes_do_not_see_each_other() {
    run(async {
        let server = Server::start();
        let shop = RedisOptions::default().prefix("shop:");
        let shop = RedisReplayStore::new(&server.url(), shop).unwrap();
        token(store(&server).reserve(KEY, long()).await);
        token(shop.reserve(KEY, long()).await);
    });
}

#[test]
fn a_server_without_memory_is_full_and_nothing_is_forgotten() {
    run(async {
        let server = Server::start();
        let store = store(&server);
        let held = token(store.reserve(KEY, long()).await);
        store.commit(KEY, held, long()).await.unwrap();
        let mut raw = raw(&server).await;
        redis::cmd("CONFIG")
            .arg(&["SET", "maxmemory", "1"])
            .exec_async(&mut raw)
            .await
            .unwrap();
        assert_eq!(store.reserve([8; 32], long()).await, Err(StoreError::Full));
        assert_eq!(store.lost(), 0);
        redis::cmd("CONFIG")
            .arg(&["SET", "maxmemory", "0"])
            .exec_async(&mut raw)
            .await
            .unwrap();
        assert_eq!(store.reserve(KEY, long()).await, Ok(Reserve::Duplicate));
        token(store.reserve([8; 32], long()).await);
    });
}

#[test]
fn neither_debug_nor_the_url_error_shows_the_password() {
    let url = "redis://:hunter2@127.0.0.1:1/";
    let store = RedisReplayStore::new(url, RedisOptions::default()).unwrap();
    assert!(!format!("{store:?}").contains("hunter2"));
    let error = RedisReplayStore::new("http://:hunter2@x/", RedisOptions::default()).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}
