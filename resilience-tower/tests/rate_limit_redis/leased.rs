//! Calls are decided here, out of blocks that Redis gives.

use std::cell::Cell;
use std::rc::Rc;

use resilience_core::clock::ManualClock;
use resilience_tower::rate_limit::Reason;
use resilience_tower::rate_limit::redis::OnOutage;

use super::*;

#[test]
fn four_processes_keep_to_one_limit_and_none_starves() {
    run(async {
        let server = Server::start().await;
        let mut watch = connect(&server).await;
        let quota = Quota::per_second(20_000).unwrap().burst(80_000).unwrap();
        let lease = Duration::from_secs(1);
        let all: Vec<_> = (0..4)
            .map(|_| limiter(&server, "four", patient(quota).lease(lease)))
            .collect();
        let (begun, end) = (time(&mut watch).await, Rc::new(Cell::new(false)));
        let sums: Vec<_> = (0..4).map(|_| Rc::new(Cell::new(0))).collect();
        let local = tokio::task::LocalSet::new();
        let mut nodes = Vec::new();
        for (limiter, sum) in all.iter().zip(&sums) {
            let watch = connect(&server).await;
            let (sum, end) = (Rc::clone(sum), Rc::clone(&end));
            nodes.push(local.spawn_local(spend(limiter.clone(), watch, sum, end)));
        }
        let mut flushed = false;
        let watched = until(async || {
            let passed = time(&mut watch).await - begun;
            if passed > 1_000_000 && !flushed {
                flushed = true;
                let mut flush = redis::cmd("SCRIPT");
                let () = flush.arg("FLUSH").query_async(&mut watch).await.unwrap();
            }
            // On a machine that stands still leases end unspent; each gets on all the same.
            passed > 2_500_000 && sums.iter().all(|sum| sum.get() >= 2_000)
        });
        local.run_until(watched).await;
        end.set(true);
        soon(local).await;
        let mut batches = Vec::new();
        for node in nodes {
            batches.extend(node.await.unwrap());
        }
        assert_bound(batches, quota);
        let failed: u64 = all.iter().map(|one| one.snapshot().failed).sum();
        assert_eq!(failed, 0);
    });
}

#[test]
fn four_processes_ask_seldom() {
    run(async {
        let server = Server::start().await;
        let mut watch = connect(&server).await;
        let quota = Quota::per_second(20_000).unwrap().burst(80_000).unwrap();
        // Their clock stands still, so no lease ends however slow the machine is.
        let clock = ManualClock::new();
        let new = || {
            let config = patient(quota).lease(Duration::from_secs(1));
            let config = config.build().unwrap();
            RedisLimiter::with_clock(&server.url(), "four", config, clock.clone()).unwrap()
        };
        let all: Vec<_> = (0..4).map(|_| new()).collect();
        let calls_of_each = 7_500;
        for _ in 0..calls_of_each {
            for limiter in &all {
                assert!(limiter.acquire(1).await.is_ok());
            }
        }
        // A few blocks that were asked for ahead may still be under way.
        let answered = || all.iter().map(|one| one.snapshot().answered).sum::<u64>();
        until(async || calls(&mut watch, "evalsha").await == answered()).await;
        let asked = calls(&mut watch, "evalsha").await + calls(&mut watch, "eval").await;
        assert!(asked >= 4 && asked * 40 <= 4 * calls_of_each, "{asked}");
    });
}

/// Calls until the end, and notes what was admitted.
async fn spend(
    limiter: RedisLimiter,
    mut watch: MultiplexedConnection,
    sum: Rc<Cell<u64>>,
    end: Rc<Cell<bool>>,
) -> Vec<Batch> {
    let mut batches = Vec::new();
    while !end.get() {
        let from = time(&mut watch).await;
        let mut admitted = 0;
        for _ in 0..20_000 {
            match limiter.acquire(1).await {
                Ok(_) => admitted += 1,
                Err(refusal) => {
                    let Reason::Limited { limited, .. } = refusal.reason else {
                        panic!("{refusal:?}");
                    };
                    assert!(limited.retry_after.is_some_and(|wait| !wait.is_zero()));
                    break;
                }
            }
        }
        let to = time(&mut watch).await;
        batches.push(Batch { from, to, admitted });
        sum.set(sum.get() + admitted);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    batches
}

#[test]
fn a_block_is_spent_without_redis_until_its_lease_is_over() {
    run(async {
        let server = Server::start().await;
        let clock = ManualClock::new();
        let quota = Quota::per_second(10_000).unwrap();
        let config = patient(quota).lease(Duration::from_millis(100)).failures(1);
        let new = || {
            let config = config.clone().build().unwrap();
            RedisLimiter::with_clock(&server.url(), "one", config, clock.clone()).unwrap()
        };
        let (limiter, other) = (new(), new());
        // The first block is a sixteenth of what comes back in a quarter of a lease; this one is 100.
        assert!(limiter.acquire(100).await.is_ok());
        assert!(limiter.acquire(1).await.is_ok());
        let left = limiter.snapshot().lease.unwrap().left;
        assert!(left > 0);
        server.kill().await;
        for _ in 0..left - 1 {
            assert!(limiter.acquire(1).await.is_ok());
        }
        assert_eq!(limiter.snapshot().failed, 0);
        clock.advance(Duration::from_millis(99));
        let refusal = limiter.acquire(1).await.unwrap_err();
        assert!(matches!(refusal.reason, Reason::Outage(_)));
        // Many wait for one answer, and all hear of it.
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let other = other.clone();
                tokio::spawn(async move { other.acquire(1).await })
            })
            .collect();
        for call in calls {
            let refusal = soon(call).await.unwrap().unwrap_err();
            assert!(matches!(refusal.reason, Reason::Outage(_)));
        }
        assert_eq!(other.snapshot().failed, 1);
        assert_eq!(other.snapshot().outage_closed, 50);
    });
}

#[test]
fn many_calls_that_find_nothing_wait_for_one_answer() {
    run(async {
        let server = Server::start().await;
        let quota = Quota::per_second(100_000).unwrap();
        // No lease ends, however slow the machine is.
        let new = |name| {
            let config = patient(quota).lease(Duration::from_millis(250));
            let config = config.build().unwrap();
            RedisLimiter::with_clock(&server.url(), name, config, ManualClock::new()).unwrap()
        };
        let limiter = new("one");
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move { limiter.acquire(1).await })
            })
            .collect();
        for call in calls {
            assert!(soon(call).await.unwrap().is_ok());
        }
        assert_eq!(limiter.snapshot().answered, 1);
        // What a caller that left was granted is there for the next.
        let limiter = new("two");
        let mut call = Box::pin(limiter.acquire(5));
        assert!(futures_util::poll!(&mut call).is_pending());
        drop(call);
        until(async || limiter.snapshot().lease.unwrap().left >= 5).await;
    });
}

#[test]
fn each_key_keeps_to_its_limit_over_four_processes_with_room_for_some() {
    run(async {
        let server = Server::start().await;
        let mut watch = connect(&server).await;
        let quota = Quota::per_second(5_000).unwrap().burst(10_000).unwrap();
        let config = patient(quota).lease(Duration::from_millis(100)).max_keys(3);
        let all: Vec<_> = (0..4)
            .map(|_| limiter(&server, "keys", config.clone()))
            .collect();
        let keys = [b"a", b"b", b"c", b"d", b"e"];
        let mut batches = vec![Vec::new(); keys.len()];
        let begun = time(&mut watch).await;
        for round in 0.. {
            let from = time(&mut watch).await;
            if round > 40 && from > begun + 2_000_000 {
                break;
            }
            // Two of them at a time, so that others are given up meanwhile.
            for place in [round / 8 % 5, (round / 8 + 1) % 5] {
                for limiter in &all {
                    let from = time(&mut watch).await;
                    let mut admitted = 0;
                    for _ in 0..3_000 {
                        match limiter.acquire_for(keys[place], 1).await {
                            Ok(_) => admitted += 1,
                            Err(refusal) => {
                                assert!(refusal.figures().is_some(), "{refusal:?}");
                                break;
                            }
                        }
                    }
                    let to = time(&mut watch).await;
                    batches[place].push(Batch { from, to, admitted });
                    assert!(limiter.snapshot().keys <= 3);
                }
            }
        }
        for batches in batches {
            let sum: u64 = batches.iter().map(|batch| batch.admitted).sum();
            assert!(sum >= 500, "{sum}");
            assert_bound(batches, quota);
        }
        for limiter in &all {
            let figures = limiter.snapshot();
            assert_eq!((figures.failed, figures.max_keys), (0, 3));
        }
    });
}

#[test]
fn a_key_without_room_is_decided_by_redis_out_of_the_same_bucket() {
    run(async {
        let server = Server::start().await;
        let mut watch = connect(&server).await;
        let clock = ManualClock::new();
        // One in 20 minutes: nothing comes back.
        let quota = Quota::new(1, Duration::from_secs(1200)).unwrap();
        let quota = quota.burst(100).unwrap();
        let lease = Duration::from_secs(3600);
        let config = patient(quota).lease(lease).max_keys(1).build().unwrap();
        let limiter =
            RedisLimiter::with_clock(&server.url(), "keys", config, clock.clone()).unwrap();
        assert!(limiter.acquire_for(b"a", 1).await.is_ok());
        // What comes back in a lease is kept back from the burst.
        let mut told = 97;
        for _ in 0..10 {
            told -= 1;
            let admitted = limiter.acquire_for(b"b", 1).await.unwrap().admitted;
            assert_eq!(admitted.unwrap().remaining, told);
        }
        let figures = limiter.snapshot();
        assert_eq!((figures.keys, figures.no_room, figures.evicted), (1, 10, 0));
        assert!(limiter.acquire_for(b"b", 87).await.is_ok());
        assert!(limiter.acquire_for(b"b", 1).await.is_err());

        // The first is idle by now: the second takes its place, with nothing left in its bucket.
        clock.advance(lease);
        until(async || {
            let refused = limiter.acquire_for(b"b", 1).await.unwrap_err();
            assert!(refused.figures().is_some());
            limiter.snapshot().evicted == 1
        })
        .await;
        assert_eq!(limiter.snapshot().keys, 1);
        // It knows, and does not ask for each call.
        let answered = limiter.snapshot().answered;
        for _ in 0..50 {
            assert!(limiter.acquire_for(b"b", 1).await.is_err());
        }
        assert!(limiter.snapshot().answered <= answered + 1);
        // Another quota is one for the keys as well.
        limiter.set_quota(quota.burst(200).unwrap()).unwrap();
        let refused = limiter.acquire_for(b"b", 200).await.unwrap_err();
        assert_eq!(refused.figures().unwrap().burst, 200);
        let keys = redis::cmd("DBSIZE");
        assert_eq!(keys.query_async::<u32>(&mut watch).await, Ok(2));
    });
}

#[test]
fn the_blocks_of_a_key_are_spent_without_redis() {
    run(async {
        let server = Server::start().await;
        let quota = Quota::per_second(10_000).unwrap();
        let config = patient(quota).lease(Duration::from_millis(100)).failures(1);
        let config = config.on_outage(OnOutage::Local(0.001)).build().unwrap();
        let clock = ManualClock::new();
        let limiter =
            RedisLimiter::with_clock(&server.url(), "keys", config, clock.clone()).unwrap();
        // A block of 100 for each.
        for key in [b"a", b"b"] {
            assert!(limiter.acquire_for(key, 100).await.is_ok());
            assert!(limiter.acquire_for(key, 2).await.is_ok());
        }
        server.kill().await;
        for _ in 0..3 {
            for key in [b"a", b"b"] {
                assert!(limiter.acquire_for(key, 1).await.is_ok());
            }
        }
        assert_eq!(limiter.snapshot().failed, 0);
        // Then each is limited by the share of this process.
        clock.advance(Duration::from_millis(99));
        for key in [b"a", b"b"] {
            let mut admitted = 0;
            while limiter.acquire_for(key, 1).await.is_ok() {
                admitted += 1;
            }
            assert_eq!(admitted, 10);
        }
        assert_eq!(limiter.snapshot().outage_local, 20);
    });
}
