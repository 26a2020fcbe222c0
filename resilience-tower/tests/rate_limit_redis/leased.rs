//! Calls are decided here, out of blocks that Redis gives.

use std::cell::Cell;
use std::rc::Rc;

use resilience_core::clock::ManualClock;
use resilience_tower::rate_limit::Reason;

use super::*;

#[test]
fn four_processes_use_the_limit_and_never_more_by_few_questions() {
    run(async {
        let server = Server::start().await;
        // A machine that stands still lets leases end, which says nothing of the limiter. What
        // is used is also asked of the model, whose time is its own.
        for round in 0..5 {
            if saturated(&server, &format!("four-{round}")).await {
                break;
            }
        }
    });
}

const LEASE: Duration = Duration::from_secs(1);

/// Four processes call as often as they can for 3 s; false when one of them stood still for so long
/// that what it held may have ended.
async fn saturated(server: &Server, name: &str) -> bool {
    let mut watch = connect(server).await;
    let quota = Quota::per_second(20_000).unwrap().burst(80_000).unwrap();
    let config = || patient(quota).lease(LEASE);
    let all: Vec<_> = (0..4).map(|_| limiter(server, name, config())).collect();
    let (asked, by_hash) = (
        asked_so_far(&mut watch).await,
        calls(&mut watch, "evalsha").await,
    );
    let end = Rc::new(Cell::new(false));
    let begun = time(&mut watch).await;
    let local = tokio::task::LocalSet::new();
    let mut nodes = Vec::new();
    for limiter in &all {
        let watch = connect(server).await;
        nodes.push(local.spawn_local(spend(limiter.clone(), watch, Rc::clone(&end))));
    }
    let watched = async {
        let mut flushed = false;
        loop {
            let now = time(&mut watch).await;
            if now > begun + 3_000_000 {
                break;
            }
            if now > begun + 1_500_000 && !flushed {
                flushed = true;
                let mut flush = redis::cmd("SCRIPT");
                let () = flush.arg("FLUSH").query_async(&mut watch).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        end.set(true);
    };
    local.run_until(watched).await;
    soon(local).await;
    // Blocks that were asked for ahead may still be under way.
    let answered = || all.iter().map(|one| one.snapshot().answered).sum::<u64>();
    until(async || calls(&mut watch, "evalsha").await - by_hash == answered()).await;
    let (mut batches, mut longest) = (Vec::new(), 0);
    for node in nodes {
        let node = node.await.unwrap();
        let turns = node.windows(2).map(|pair| pair[1].to - pair[0].from);
        longest = longest.max(turns.max().unwrap_or(0));
        batches.extend(node);
    }
    let admitted: u64 = batches.iter().map(|batch| batch.admitted).sum();
    assert_bound(batches, quota);
    let failed: u64 = all.iter().map(|one| one.snapshot().failed).sum();
    assert_eq!(failed, 0);
    let asked = asked_so_far(&mut watch).await - asked;
    assert!(asked * 40 <= admitted, "{asked} questions for {admitted}");

    // What a bucket that was never full has given until it was last written.
    let mut get = redis::cmd("GET");
    get.arg(format!("rate-limit:{name}"));
    let held: String = get.query_async(&mut watch).await.unwrap();
    let held: Vec<u64> = held.split(' ').map(|word| word.parse().unwrap()).collect();
    let given = (held[1] + (held[0] - begun) * 1000) / 50_000;
    let left: u64 = all
        .iter()
        .map(|one| one.snapshot().lease.unwrap().left)
        .sum();
    if Duration::from_micros(longest) > LEASE / 2 {
        return false;
    }
    assert!(
        (admitted + left) * 100 >= given * 99,
        "{admitted} admitted and {left} left of {given}"
    );
    true
}

/// Calls until the end, and notes what was admitted.
async fn spend(
    limiter: RedisLimiter,
    mut watch: MultiplexedConnection,
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
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    batches
}

async fn asked_so_far(watch: &mut MultiplexedConnection) -> u64 {
    calls(watch, "evalsha").await + calls(watch, "eval").await
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
        let limiter = limiter(
            &server,
            "one",
            patient(quota).lease(Duration::from_millis(250)),
        );
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move { limiter.acquire(1).await })
            })
            .collect();
        for call in calls {
            assert!(soon(call).await.unwrap().is_ok());
        }
        assert!(limiter.snapshot().answered < 10);
        // What a caller that left was granted is there for the next.
        let config = patient(quota).lease(Duration::from_millis(250)).build();
        let clock = ManualClock::new();
        let limiter = RedisLimiter::with_clock(&server.url(), "two", config.unwrap(), clock);
        let limiter = limiter.unwrap();
        let mut call = Box::pin(limiter.acquire(5));
        assert!(futures_util::poll!(&mut call).is_pending());
        drop(call);
        until(async || limiter.snapshot().lease.unwrap().left >= 5).await;
    });
}
