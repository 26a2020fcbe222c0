//! Each call is decided by Redis.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use resilience_core::breaker;
use resilience_core::clock::ManualClock;
use resilience_core::rate_limit::store::Held;
use resilience_tower::rate_limit::redis::{Mode, OnOutage};
use resilience_tower::rate_limit::{OutageCause, Reason, Refusal};

use super::server::recording_server;
use super::*;

const SCRIPT: &str = include_str!("../../src/rate_limit/redis/grant.lua");

fn per_second(permits: u32, burst: u32) -> Quota {
    Quota::per_second(permits).unwrap().burst(burst).unwrap()
}

/// The figures of a refusal by the quota.
fn limited(refusal: Refusal) -> resilience_core::rate_limit::Limited {
    match refusal.reason {
        Reason::Limited { limited, .. } => limited,
        other => panic!("{other:?}"),
    }
}

async fn command(connection: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let () = command.query_async(connection).await.unwrap();
}

#[test]
fn the_script_does_as_its_rule_says() {
    run(async {
        let server = Server::start().await;
        let mut connection = connect(&server).await;
        let mut runner = TestRunner::deterministic();
        // Permits per second, burst, at least, wanted, and how far the key is in the future.
        let step = (
            1..3_000_000_u32,
            1..100_000_u32,
            1..2_000_u32,
            0..5_000_u32,
            prop_oneof![9 => Just(0), 1 => 1..10_000_000_u64],
            0..4_u8,
        );
        let (mut model, mut granted, mut refused, mut back) = (Held::default(), 0, 0, 0);
        let mut quota = per_second(1_000, 1_000);
        for _ in 0..2_000 {
            let (rate, burst, least, more, ahead, what) =
                step.new_tree(&mut runner).unwrap().current();
            if what == 0 {
                quota = per_second(rate, burst);
            }
            if ahead > 0 && model.of > 0 {
                // As after a clock that stepped back.
                model.at += ahead;
                let Held { at, missing, of } = model;
                let value = format!("{at} {missing} {of}");
                command(&mut connection, &["SET", "limit", &value]).await;
            }
            let least = least.min(quota.burst_size() / 2 + 1);
            let want = least + more;
            let mut eval = redis::cmd("EVAL");
            eval.arg(SCRIPT).arg(1).arg("limit");
            if what == 1 {
                // Given back, more than are missing now and then.
                eval.arg(0).arg(-i64::from(more));
            } else {
                eval.arg(least).arg(want);
            }
            eval.arg(quota.replenish_interval().as_nanos() as u64);
            eval.arg(quota.fill_time().as_nanos() as u64);
            let answer = eval.query_async(&mut connection).await.unwrap();
            let (permits, missing, now): (u32, u64, u64) = answer;
            if what == 1 && more > 0 {
                model.refund(quota, more, now);
                assert_eq!((0, model.missing), (permits, missing), "{quota:?}");
                back += 1;
                continue;
            }
            let (least, want) = if what == 1 { (0, 0) } else { (least, want) };
            let grant = model.grant(quota, least, want, now);
            assert_eq!(
                (grant.permits, grant.missing),
                (permits, missing),
                "{quota:?}"
            );
            granted += u32::from(permits > 0);
            refused += u32::from(permits == 0);
            let mut ttl = redis::cmd("PTTL");
            let ttl: i64 = ttl.arg("limit").query_async(&mut connection).await.unwrap();
            // Gone soon after the bucket is full, and not before. After a `SET` by hand it stays.
            if permits > 0 {
                let full = i64::try_from(missing / 1_000_000).unwrap();
                assert!(ttl != -1 && ttl <= full + 2, "{ttl} {full}");
                if ttl == -2 {
                    let passed = (time(&mut connection).await - now) / 1000;
                    assert!(passed >= missing / 1_000_000, "{passed} {full}");
                }
            }
            if ttl == -2 {
                // It was gone already, which is the same as full.
                model = Held::default();
            }
        }
        let enough = granted > 100 && refused > 100 && back > 100;
        assert!(enough, "{granted} {refused} {back}");
    });
}

#[test]
fn four_processes_keep_to_one_limit_by_one_script_call_each() {
    run(async {
        let server = Server::start().await;
        let mut watch = connect(&server).await;
        let quota = per_second(500, 40);
        let all: Vec<_> = (0..4)
            .map(|_| limiter(&server, "four", patient(quota)))
            .collect();
        let (mut batches, mut decided) = (Vec::new(), 0);
        let begun = time(&mut watch).await;
        for round in 0.. {
            let from = time(&mut watch).await;
            if round > 20 && from > begun + 1_000_000 {
                break;
            }
            if round == 20 {
                command(&mut watch, &["SCRIPT", "FLUSH"]).await;
            }
            let mut admitted = 0;
            for limiter in &all {
                admitted += u64::from(limiter.acquire(1).await.is_ok());
                decided += 1;
            }
            let to = time(&mut watch).await;
            batches.push(Batch { from, to, admitted });
        }
        let sum: u64 = batches.iter().map(|batch| batch.admitted).sum();
        assert!(sum >= 40);
        assert_bound(batches, quota);
        // By its hash, but for the first time and after the flush.
        let (by_hash, by_text) = (
            calls(&mut watch, "evalsha").await,
            calls(&mut watch, "eval").await,
        );
        assert_eq!((by_hash, by_text), (decided, 2));
        let failed: u64 = all.iter().map(|one| one.snapshot().failed).sum();
        assert_eq!(failed, 0);
    });
}

#[test]
fn what_an_answer_says_is_what_redis_holds() {
    run(async {
        let server = Server::start().await;
        let mut watch = connect(&server).await;
        // One in 20 minutes, so that no time passes.
        let quota = Quota::new(1, Duration::from_secs(1200))
            .unwrap()
            .burst(10)
            .unwrap();
        let limiter = limiter(&server, "one", patient(quota));
        soon(limiter.check()).await.unwrap();
        let mut exists = redis::cmd("EXISTS");
        exists.arg("rate-limit:one");
        assert_eq!(exists.query_async::<u32>(&mut watch).await, Ok(0));

        assert!(limiter.acquire(0).await.unwrap().admitted.is_none());
        let admitted = limiter.acquire(4).await.unwrap().admitted.unwrap();
        assert_eq!((admitted.burst, admitted.remaining), (10, 6));
        assert_eq!(admitted.reset_after, Duration::from_secs(4800));
        let refused = limited(limiter.acquire(8).await.unwrap_err());
        assert_eq!((refused.burst, refused.remaining), (10, 6));
        let wait = refused.retry_after.unwrap();
        assert!(wait <= Duration::from_secs(2400) && wait > Duration::from_secs(1200));
        // A refusal takes nothing.
        assert!(limiter.acquire(6).await.is_ok());
        let never = limited(limiter.acquire(11).await.unwrap_err());
        assert_eq!(never.retry_after, None);

        // Keys are counted apart; what they are called cannot be seen, nor break out.
        for key in [&b"a"[..], b"b", b"", b"one two\r\n", &[0xff; 500]] {
            let admitted = limiter.acquire_for(key, 9).await.unwrap().admitted.unwrap();
            assert_eq!(admitted.remaining, 1);
            assert!(limiter.acquire_for(key, 2).await.is_err());
        }
        let mut keys = redis::cmd("KEYS");
        let keys: Vec<String> = keys.arg("*").query_async(&mut watch).await.unwrap();
        assert_eq!(keys.len(), 6);
        for key in keys.iter().filter(|key| *key != "rate-limit:one") {
            let hash = key.strip_prefix("rate-limit:one:").unwrap();
            assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        let mut ttl = redis::cmd("PTTL");
        ttl.arg("rate-limit:one");
        let ttl: i64 = ttl.query_async(&mut watch).await.unwrap();
        assert!(ttl > 11_900_000 && ttl <= 12_000_002, "{ttl}");

        // Another quota: the missing share stays.
        limiter.set_quota(quota.burst(100).unwrap()).unwrap();
        assert!(limiter.acquire(1).await.is_err());

        // Another prefix is another limit.
        let other = super::limiter(&server, "one", patient(quota).prefix("other:"));
        assert!(other.acquire(10).await.is_ok());
    });
}

#[test]
fn what_is_given_back_is_there_once_and_a_lost_question_is_not_sent_again() {
    run(async {
        let server = Server::start().await;
        let quota = Quota::new(1, Duration::from_secs(1200)).unwrap();
        let new = |name| limiter(&server, name, patient(quota.burst(10).unwrap()));
        let (limiter, other) = (new("one"), new("one"));
        let remaining = async || {
            let admitted = limiter.acquire(1).await.unwrap().admitted;
            admitted.unwrap().remaining
        };
        let refund = async |limiter: &RedisLimiter, n| {
            let answered = limiter.snapshot().answered;
            limiter.refund(n);
            until(async || limiter.snapshot().answered > answered).await;
        };
        assert_eq!(limiter.acquire(6).await.unwrap().cost, 6);
        refund(&limiter, 4).await;
        assert_eq!(remaining().await, 7);
        // Never more than the burst, and nothing of another limit.
        refund(&limiter, u32::MAX).await;
        assert_eq!(remaining().await, 9);
        refund(&new("two"), 5).await;
        assert_eq!(remaining().await, 8);
        // To whom it was given does not matter.
        assert!(other.acquire(8).await.is_ok());
        refund(&other, 2).await;
        assert_eq!(remaining().await, 1);

        // The connection broke unseen: it may have been given back already.
        let mut watch = connect(&server).await;
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        command(&mut watch, &kill).await;
        limiter.refund(1);
        until(async || limiter.snapshot().failed == 1).await;
        assert_eq!(remaining().await, 0);
    });
}

#[test]
fn what_was_taken_without_redis_is_not_given_back_there() {
    run(async {
        let server = Server::start().await;
        let quota = per_second(1, 10);
        for policy in [OnOutage::Open, OnOutage::Local(1.0)] {
            let limiter = limiter(&server, "out", patient(quota).on_outage(policy));
            limiter.breaker().set_mode(breaker::Mode::ForcedOpen);
            assert_eq!(limiter.acquire(3).await.unwrap().cost, 0, "{policy:?}");
        }
        let leased = patient(per_second(10_000, 10_000));
        let leased = limiter(&server, "leased", leased);
        for _ in 0..2 {
            assert_eq!(leased.acquire(3).await.unwrap().cost, 0);
            assert_eq!(leased.acquire_for(b"key", 3).await.unwrap().cost, 0);
        }
        let left = leased.snapshot().lease.unwrap().left;
        leased.refund(3);
        assert_eq!(leased.snapshot().lease.unwrap().left, left);
    });
}

#[test]
fn only_redis_reads_the_time() {
    run(async {
        let (url, sent) = recording_server(b"*3\r\n:2\r\n:0\r\n:0\r\n");
        let clock = ManualClock::new();
        let config = patient(per_second(1, 5)).build().unwrap();
        let limiter = RedisLimiter::with_clock(&url, "one", config, clock.clone()).unwrap();
        // Whatever the clocks of a process show, it asks in the same words.
        for _ in 0..3 {
            assert!(soon(limiter.acquire(2)).await.is_ok());
            clock.advance(Duration::from_millis(1_234_567));
        }
        let sent: Vec<u8> = sent.try_iter().flatten().collect();
        let sent = String::from_utf8(sent).unwrap();
        let questions: Vec<_> = sent.split("EVALSHA").skip(1).collect();
        assert_eq!(questions.len(), 3);
        // What follows is of the next one.
        let same = |words: &&str| words.starts_with(questions[2]);
        assert!(questions.iter().all(same), "{questions:?}");

        // And Redis answers by what its own clock showed meanwhile.
        let server = Server::start().await;
        let mut connection = connect(&server).await;
        for _ in 0..20 {
            let from = time(&mut connection).await;
            let mut eval = redis::cmd("EVAL");
            eval.arg(SCRIPT).arg(1).arg("limit").arg(1).arg(1);
            eval.arg(1_000_000).arg(1_000_000_000);
            let answer = eval.query_async(&mut connection).await.unwrap();
            let (_, _, now): (u32, u64, u64) = answer;
            assert!(now >= from && now <= time(&mut connection).await);
        }
    });
}

#[test]
fn a_key_that_holds_something_else_is_an_outage() {
    run(async {
        let server = Server::start().await;
        let mut watch = connect(&server).await;
        let limiter = limiter(
            &server,
            "one",
            patient(per_second(1, 5)).mode(Mode::Exact).failures(100),
        );
        for words in [
            &["LPUSH", "rate-limit:one", "x"][..],
            &["SET", "rate-limit:one", "x"],
            &["SET", "rate-limit:one", "1 2"],
            &["SET", "rate-limit:one", "-1 2 3"],
        ] {
            command(&mut watch, &["DEL", "rate-limit:one"]).await;
            command(&mut watch, words).await;
            let refusal = limiter.acquire(1).await.unwrap_err();
            let Reason::Outage(outage) = refusal.reason else {
                panic!("{refusal:?}");
            };
            assert_eq!(outage.cause, OutageCause::Answer);
        }
        command(&mut watch, &["DEL", "rate-limit:one"]).await;
        assert!(limiter.acquire(1).await.is_ok());
    });
}
