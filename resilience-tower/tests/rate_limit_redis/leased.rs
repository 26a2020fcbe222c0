//! Calls are decided here, out of blocks that Redis gives.

use std::cell::Cell;
use std::rc::Rc;

use resilience_core::clock::ManualClock;
use resilience_tower::rate_limit::Reason;

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
