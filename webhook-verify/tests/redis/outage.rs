//! A server that is killed, paused, out of reach or back without its data.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::Request;
use webhook_verify::{Error, Reason, Reservation, Secret, Signer, Verified, Verifier, presets};

use super::*;

fn hasty(server: &Server) -> RedisReplayStore {
    store_within(TIMEOUT, server)
}

/// Fails the test when an answer takes much longer than the timeout: the machine may be
/// busy, a store that hangs is not back in ten times that.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(10 * TIMEOUT, call)
        .await
        .expect("no answer within the timeout")
}

#[test]
fn a_killed_server_is_an_outage_at_once_and_the_next_one_is_found() {
    run(async {
        let mut server = Server::start();
        let store = hasty(&server);
        token(store.reserve(KEY, long()).await);
        server.kill();
        for _ in 0..3 {
            assert_eq!(
                soon(store.reserve(KEY, long())).await,
                Err(StoreError::Outage)
            );
            assert_eq!(soon(store.check()).await, Err(StoreError::Outage));
        }
        server.start_again();
        soon(store.check()).await.unwrap();
    });
}

#[test]
fn a_server_that_comes_back_empty_accepts_a_delivery_once_more() {
    run(async {
        let mut server = Server::start();
        let store = hasty(&server);
        let held = token(store.reserve(KEY, long()).await);
        store.commit(KEY, held, long()).await.unwrap();
        server.restart_empty();
        // The dead connection costs no error.
        let held = token(soon(store.reserve(KEY, long())).await);
        store.commit(KEY, held, long()).await.unwrap();
        assert_eq!(store.reserve(KEY, long()).await, Ok(Reserve::Duplicate));
    });
}

#[test]
fn a_paused_server_is_an_outage_and_its_late_reservation_is_given_back() {
    run(async {
        let server = Server::start();
        let store = hasty(&server);
        store.check().await.unwrap();
        server.pause();
        for _ in 0..3 {
            assert_eq!(
                soon(store.reserve(KEY, long())).await,
                Err(StoreError::Outage)
            );
        }
        server.resume();
        store.settle().await;
        token(store.reserve(KEY, long()).await);
        assert_eq!(store.lost(), 0);
    });
}

#[test]
fn a_commit_that_is_not_answered_is_caught_up() {
    run(async {
        for kill in [false, true] {
            let mut server = Server::start();
            let store = hasty(&server);
            let held = token(store.reserve(KEY, long()).await);
            if kill {
                server.kill();
            } else {
                server.pause();
            }
            let commit = store.commit(KEY, held, long());
            assert_eq!(soon(commit).await, Err(StoreError::Outage));
            if kill {
                server.start_again();
            } else {
                server.resume();
            }
            store.settle().await;
            let answer = store.reserve(KEY, long()).await;
            assert_eq!(answer, Ok(Reserve::Duplicate), "killed: {kill}");
        }
    });
}

#[test]
fn a_reservation_dropped_while_it_waits_is_given_back() {
    run(async {
        let server = Server::start();
        let store = hasty(&server);
        store.check().await.unwrap();
        server.pause();
        let waiting = tokio::time::timeout(TIMEOUT / 4, store.reserve(KEY, long())).await;
        assert!(waiting.is_err());
        server.resume();
        store.settle().await;
        token(store.reserve(KEY, long()).await);
    });
}

#[test]
fn a_server_that_accepts_and_never_answers_holds_nobody_up() {
    run(async {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}/", silent.local_addr().unwrap());
        let options = RedisOptions::default().timeout(TIMEOUT);
        let store = Arc::new(RedisReplayStore::new(&url, options).unwrap());
        let calls: Vec<_> = (0..100)
            .map(|call| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.reserve([call; 32], long()).await })
            })
            .collect();
        soon(async {
            for call in calls {
                assert_eq!(call.await.unwrap(), Err(StoreError::Outage));
            }
        })
        .await;
        // Nothing was sent, so there is nothing to give back.
        soon(store.settle()).await;
        assert_eq!(store.lost(), 0);
    });
}

#[test]
fn what_is_handed_over_in_an_outage_is_bounded() {
    run(async {
        let server = Server::start();
        let store = hasty(&server);
        let held = token(store.reserve(KEY, long()).await);
        server.pause();
        for _ in 0..1500 {
            store.release(KEY, held);
        }
        assert_eq!(store.lost(), 1500 - 1024);
        server.resume();
        store.settle().await;
        token(store.reserve(KEY, long()).await);
    });
}

#[test]
fn a_release_outside_of_a_runtime_is_left_to_the_lease() {
    let store = RedisReplayStore::new("redis://127.0.0.1:1/", RedisOptions::default()).unwrap();
    store.release(KEY, Token(1));
    assert_eq!(store.lost(), 1);
}

/// The next delivery of a sender, as the layer would treat it before the handler.
async fn deliver(
    verifier: &Verifier,
    signer: &Signer,
    number: usize,
) -> Result<Option<Reservation>, Error> {
    let body = format!("{{\"number\":{number}}}");
    let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
    parts.headers = signer.sign(body.as_bytes()).unwrap();
    let verified: Verified = verifier.verify(&parts, None, body.as_bytes()).unwrap();
    verifier.reserve(&verified).await
}

fn both_sides(store: Arc<RedisReplayStore>, accept: bool) -> (Verifier, Signer) {
    let scheme = presets::paytabs_callback();
    let secret = Secret::new("key", "a server key").unwrap();
    let mut builder = Verifier::builder(scheme.clone())
        .secret(secret.clone())
        .replay_shared(store);
    if accept {
        builder = builder.insecure_accept_on_replay_outage();
    }
    (builder.build().unwrap(), Signer::new(scheme, secret))
}

fn is_outage(error: &Error) -> bool {
    matches!(error.reason(), Reason::ReplayOutage)
}

#[test]
fn the_verifier_fails_closed_or_open_as_it_is_told_to() {
    run(async {
        for pause in [true, false] {
            let mut server = Server::start();
            let store = Arc::new(hasty(&server));
            let (closed, signer) = both_sides(Arc::clone(&store), false);
            let (open, _) = both_sides(store, true);
            assert!(deliver(&closed, &signer, 0).await.unwrap().is_some());
            assert!(deliver(&open, &signer, 1).await.unwrap().is_some());
            if pause {
                server.pause();
            } else {
                server.kill();
            }
            let refused = soon(deliver(&closed, &signer, 2)).await.unwrap_err();
            assert!(is_outage(&refused));
            assert_eq!(refused.status(), 503);
            assert!(soon(deliver(&open, &signer, 3)).await.unwrap().is_none());
        }
    });
}

#[test]
fn a_run_of_deliveries_survives_kills_restarts_and_pauses() {
    run(async {
        let mut server = Server::start();
        let (verifier, signer) = both_sides(Arc::new(hasty(&server)), false);
        let (next, end) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let (verifier, signer) = (verifier.clone(), signer.clone());
                let (next, end) = (Arc::clone(&next), Arc::clone(&end));
                tokio::spawn(async move {
                    let (mut handled, mut refused) = (0, 0);
                    while !end.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        match soon(deliver(&verifier, &signer, number)).await {
                            Ok(reservation) => {
                                let reservation = reservation.expect("it fails closed");
                                // Told when it fails; the delivery was handled all the same.
                                let _ = soon(reservation.commit()).await;
                                handled += 1;
                            }
                            Err(error) => {
                                assert!(is_outage(&error), "{:?}", error.reason());
                                refused += 1;
                            }
                        }
                    }
                    (handled, refused)
                })
            })
            .collect();
        for _ in 0..3 {
            progress(&next).await;
            server.restart_empty();
            progress(&next).await;
            server.kill();
            // Some are refused meanwhile, each within its time.
            progress(&next).await;
            server.start_again();
            progress(&next).await;
            server.pause();
            progress(&next).await;
            server.resume();
        }
        progress(&next).await;
        end.store(true, Ordering::Relaxed);
        let (mut handled, mut refused) = (0, 0);
        for worker in workers {
            let (its_handled, its_refused) = worker.await.unwrap();
            handled += its_handled;
            refused += its_refused;
        }
        assert!(handled > 0 && refused > 0, "{handled} {refused}");
    });
}

/// Until every worker has begun two deliveries more.
async fn progress(next: &AtomicUsize) {
    let target = next.load(Ordering::Relaxed) + 16;
    while next.load(Ordering::Relaxed) < target {
        tokio::task::yield_now().await;
    }
}

#[test]
fn no_key_is_held_twice_while_the_server_is_paused_again_and_again() {
    run(async {
        let server = Server::start();
        let stores = [(); 2].map(|()| Arc::new(hasty(&server)));
        let held: Arc<[AtomicBool; 4]> = Arc::default();
        let (asked, end) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let store = Arc::clone(&stores[worker % 2]);
                let (held, asked) = (Arc::clone(&held), Arc::clone(&asked));
                let end = Arc::clone(&end);
                tokio::spawn(async move {
                    let mut got = 0;
                    for call in worker.. {
                        if end.load(Ordering::Relaxed) {
                            break;
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                        let key = call % 4;
                        let answer = soon(store.reserve([key as u8; 32], long())).await;
                        if let Ok(Reserve::Reserved(token)) = answer {
                            assert!(!held[key].swap(true, Ordering::SeqCst), "held twice");
                            tokio::task::yield_now().await;
                            held[key].store(false, Ordering::SeqCst);
                            store.release([key as u8; 32], token);
                            got += 1;
                        }
                    }
                    got
                })
            })
            .collect();
        for _ in 0..4 {
            progress(&asked).await;
            server.pause();
            progress(&asked).await;
            server.resume();
        }
        end.store(true, Ordering::Relaxed);
        let mut got = 0;
        for worker in workers {
            got += worker.await.unwrap();
        }
        assert!(got > 0);
        for store in &stores {
            store.settle().await;
        }
        for key in 0..4 {
            token(stores[0].reserve([key; 32], long()).await);
        }
    });
}
