//! What calls get when Redis does not answer, and how it comes back.

use resilience_core::breaker::State;
use resilience_tower::rate_limit::redis::{Mode, OnOutage};
use resilience_tower::rate_limit::{OutageCause, Reason, Refusal};

use super::server::odd_server;
use super::*;

fn cause(refusal: &Refusal) -> Option<OutageCause> {
    match refusal.reason {
        Reason::Outage(outage) => Some(outage.cause),
        _ => None,
    }
}

/// One permit in 20 minutes, 8 at once: no time passes.
fn slow() -> Quota {
    Quota::new(1, Duration::from_secs(1200))
        .unwrap()
        .burst(8)
        .unwrap()
}

#[test]
fn a_dead_or_paused_redis_costs_a_few_time_outs_and_then_none() {
    run(async {
        let server = Server::start().await;
        for pause in [false, true] {
            for policy in [OnOutage::Closed, OnOutage::Open, OnOutage::Local(0.5)] {
                // Only ever asked again by hand.
                // A dead one is known at once; a paused one by nothing but its time-outs.
                let timeout = Duration::from_secs(if pause { 1 } else { 10 });
                let config = Config::builder(slow())
                    .timeout(timeout)
                    .failures(2)
                    .reset_timeout(Duration::from_secs(86_400))
                    .on_outage(policy);
                let limiter = limiter(&server, &format!("{pause}"), config);
                until(async || {
                    limiter.breaker().reset();
                    limiter.check().await.is_ok()
                })
                .await;
                if pause {
                    server.pause().await;
                } else {
                    server.kill().await;
                }
                let before = limiter.snapshot();
                let (mut admitted, mut told) = (0, Vec::new());
                for _ in 0..100 {
                    match soon(limiter.acquire(1)).await {
                        Ok(_) => admitted += 1,
                        Err(refusal) => told.push(refusal),
                    }
                }
                let figures = limiter.snapshot();
                assert_eq!(figures.state, State::Open);
                assert_eq!(figures.failed - before.failed, 2, "{policy:?}");
                assert_eq!(figures.answered, before.answered);
                match policy {
                    OnOutage::Open => {
                        assert_eq!((admitted, figures.outage_open), (100, 100));
                    }
                    // Half of the burst; the others know when.
                    OnOutage::Local(_) => {
                        assert_eq!((admitted, figures.outage_local), (4, 4));
                        assert!(told.iter().all(|one| one.figures().is_some()));
                    }
                    _ => {
                        assert_eq!((admitted, figures.outage_closed), (0, 100));
                        let first = if pause {
                            OutageCause::Timeout
                        } else {
                            OutageCause::Connection
                        };
                        assert_eq!(cause(&told[0]), Some(first));
                        assert_eq!(cause(&told[99]), Some(OutageCause::Breaker));
                    }
                }
                if pause {
                    server.resume();
                } else {
                    server.start_again().await;
                }
                limiter.breaker().reset();
                let answered = limiter.snapshot().answered;
                until(async || {
                    limiter.breaker().reset();
                    let _ = limiter.acquire(1).await;
                    limiter.snapshot().answered > answered
                })
                .await;
            }
        }
    });
}

#[test]
fn both_modes_live_through_kills_restarts_and_pauses_and_come_back_by_themselves() {
    run(async {
        let server = Server::start().await;
        let quota = Quota::per_second(5_000).unwrap();
        let config = Config::builder(quota)
            .timeout(Duration::from_secs(1))
            .reset_timeout(Duration::from_millis(20));
        let limiters: Vec<_> = [Mode::Exact, Mode::Leased]
            .map(|mode| limiter(&server, &format!("{mode:?}"), config.clone().mode(mode)))
            .into();
        // Until each was admitted, or each was told of an outage.
        let see = async |admitted: bool| {
            for limiter in &limiters {
                until(async || match soon(limiter.acquire(1)).await {
                    Ok(_) => admitted,
                    Err(refusal) => !admitted && cause(&refusal).is_some(),
                })
                .await;
            }
        };
        see(true).await;
        for round in 0..4 {
            if round % 2 == 0 {
                server.kill().await;
            } else {
                server.pause().await;
            }
            see(false).await;
            if round % 2 == 0 {
                server.start_again().await;
            } else {
                server.resume();
            }
            see(true).await;
            for limiter in &limiters {
                until(async || {
                    let _ = soon(limiter.acquire(1)).await;
                    limiter.breaker().state() == State::Closed
                })
                .await;
            }
        }
    });
}

#[test]
fn an_answer_that_makes_no_sense_is_an_outage() {
    run(async {
        for (answer, why) in [
            (&b"+OK\r\n"[..], OutageCause::Answer),
            (b"$3\r\nfoo\r\n", OutageCause::Answer),
            (b":1\r\n", OutageCause::Answer),
            (b"-OOM command not allowed\r\n", OutageCause::Answer),
            (b"-READONLY you cannot write\r\n", OutageCause::Answer),
            // More than was asked for, less than nothing, and more than a bucket lacks.
            (b"*3\r\n:2\r\n:0\r\n:0\r\n", OutageCause::Answer),
            (b"*3\r\n:-1\r\n:0\r\n:0\r\n", OutageCause::Answer),
            (
                b"*3\r\n:1\r\n:9999999999999999\r\n:0\r\n",
                OutageCause::Answer,
            ),
            (b"", OutageCause::Timeout),
        ] {
            let mut config = patient(slow());
            if why == OutageCause::Timeout {
                config = config.timeout(Duration::from_secs(1));
            }
            let config = config.build().unwrap();
            let limiter = RedisLimiter::new(&odd_server(answer), "one", config).unwrap();
            let refusal = soon(limiter.acquire(1)).await.unwrap_err();
            let text = String::from_utf8_lossy(answer);
            assert_eq!(cause(&refusal), Some(why), "{text:?}");
            assert_eq!(limiter.snapshot().failed, 1);
        }
        let config = patient(slow()).build().unwrap();
        let limiter = RedisLimiter::new(&odd_server(b"!\r\n"), "one", config).unwrap();
        assert!(soon(limiter.acquire(1)).await.is_err());
    });
}
