//! Writes that wait for a primary.
#![cfg(feature = "read-write")]

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use resilience_core::route::Counter;
use resilience_tower::read_write::{Change, Checkout, Cluster, Error, NoRoute, Reason, Role};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::replicated::{self, Fake, in_flight, millis};

type Written = Result<String, Error<replicated::Broken>>;

fn writes(cluster: &Cluster<Fake>, checkout: Checkout<Counter>) -> JoinHandle<Written> {
    let cluster = cluster.clone();
    tokio::spawn(async move { Ok(cluster.lease(&checkout).await?.node().into()) })
}

fn no_route(written: Written) -> NoRoute {
    match written {
        Err(Error::NoRoute(no_route)) => no_route,
        other => panic!("{other:?}"),
    }
}

/// A cluster whose primary is gone.
async fn headless(places: usize) -> (Vec<Fake>, Cluster<Fake>) {
    let nodes = replicated::nodes(3);
    let builder = replicated::cluster(&nodes).write_buffer(places);
    let cluster = builder.spawn().unwrap();
    sleep(millis(60)).await;
    nodes[0].set(|state| state.down = true);
    sleep(millis(60)).await;
    (nodes, cluster)
}

fn promote(node: &Fake) {
    node.set(|state| (state.role, state.epoch) = (Role::Primary, 2));
}

#[tokio::test(start_paused = true)]
async fn writes_go_on_in_their_order_as_soon_as_a_primary_is_seen() {
    let (nodes, cluster) = headless(100).await;
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let mut calls = Vec::new();
    for number in 0..50 {
        let (cluster, order) = (cluster.clone(), Arc::clone(&order));
        calls.push(tokio::spawn(async move {
            let lease = cluster.lease(&Checkout::write()).await.unwrap();
            order.lock().unwrap().push(number);
            lease.node().to_owned()
        }));
        sleep(millis(1)).await;
    }
    assert_eq!(cluster.snapshot().waiting_writes, 50);
    promote(&nodes[2]);
    let began = Instant::now();
    for call in calls {
        assert_eq!(call.await.unwrap(), "n2");
    }
    assert!(began.elapsed() <= millis(52), "one look");
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    let snapshot = cluster.snapshot();
    assert_eq!((snapshot.buffered, snapshot.waiting_writes), (50, 0));
    assert_eq!((nodes[2].connects(), nodes[2].open()), (50, 0));
    // Only the first of them asked again at each look: none of them is told `NoPrimary` in between.
    assert!(snapshot.route.refused(Reason::NoPrimary) <= 100);
}

// It comes at the very moment: the primary is seen, and those who wait are not woken yet.
#[tokio::test(start_paused = true)]
async fn a_write_that_comes_now_does_not_overtake_those_that_wait() {
    let (nodes, cluster) = headless(10).await;
    let first = writes(&cluster, Checkout::write());
    sleep(millis(1)).await;
    let overtook: Arc<Mutex<Option<bool>>> = Arc::default();
    let (told, late) = (Arc::clone(&overtook), cluster.clone());
    let subscription = cluster.subscribe(move |event| {
        if event.change == Change::Primary {
            let write = Checkout::write();
            let call = pin!(late.lease(&write));
            let polled = call.poll(&mut Context::from_waker(Waker::noop()));
            *told.lock().unwrap() = Some(polled.is_ready());
        }
    });
    promote(&nodes[1]);
    assert_eq!(first.await.unwrap().unwrap(), "n1");
    assert_eq!(*overtook.lock().unwrap(), Some(false));
    assert_eq!(
        (cluster.snapshot().waiting_writes, in_flight(&cluster)),
        (0, 0)
    );
    drop(subscription);
}

#[tokio::test(start_paused = true)]
async fn one_more_than_there_are_places_is_refused_at_once() {
    let (nodes, cluster) = headless(2).await;
    let waiting = [(); 2].map(|()| writes(&cluster, Checkout::write()));
    sleep(millis(1)).await;
    let began = Instant::now();
    let refused = cluster.lease(&Checkout::write()).await.unwrap_err();
    assert_eq!(began.elapsed(), millis(0));
    assert!(matches!(refused, Error::BufferFull { .. }));
    assert_eq!(refused.retry_after(), Some(millis(50)));
    assert_eq!(cluster.snapshot().buffer_full, 1);
    // A place that is given up is free.
    let [first, second] = waiting;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(
        (
            cluster.snapshot().waiting_writes,
            in_flight_waiting(&cluster)
        ),
        (1, 1)
    );
    let third = writes(&cluster, Checkout::write());
    sleep(millis(1)).await;
    promote(&nodes[1]);
    assert_eq!(second.await.unwrap().unwrap(), "n1");
    assert_eq!(third.await.unwrap().unwrap(), "n1");
    assert_eq!(
        (cluster.snapshot().waiting_writes, in_flight(&cluster)),
        (0, 0)
    );
}

/// Calls that look for a node.
fn in_flight_waiting(cluster: &Cluster<Fake>) -> u64 {
    cluster.snapshot().in_flight
}

#[tokio::test(start_paused = true)]
async fn no_place_at_all_refuses_each_write_without_a_primary() {
    let (_, cluster) = headless(0).await;
    let refused = cluster.lease(&Checkout::write()).await.unwrap_err();
    assert!(matches!(refused, Error::BufferFull { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_its_deadline_and_without_one_for_ten_seconds() {
    let (_, cluster) = headless(10).await;
    for (checkout, waits) in [
        (Checkout::write(), 10_000),
        (Checkout::write().deadline(millis(300)), 300),
        (Checkout::write().deadline(millis(60_000)), 10_000),
        (Checkout::transaction(false).deadline(millis(1)), 1),
    ] {
        let began = Instant::now();
        let refused = no_route(writes(&cluster, checkout).await.unwrap());
        assert_eq!(
            (refused.reason, began.elapsed()),
            (Reason::NoPrimary, millis(waits))
        );
        assert!(refused.retry_after.is_some());
    }
    assert_eq!(
        (
            cluster.snapshot().waiting_writes,
            cluster.snapshot().in_flight
        ),
        (0, 0)
    );
}

// The first in line gives up; the second must not be left without anybody who wakes it.
#[tokio::test(start_paused = true)]
async fn who_is_next_is_woken_also_when_the_first_gives_up() {
    let (nodes, cluster) = headless(10).await;
    let first = writes(&cluster, Checkout::write().deadline(millis(20)));
    sleep(millis(1)).await;
    let second = writes(&cluster, Checkout::write());
    let third = writes(&cluster, Checkout::write());
    assert_eq!(no_route(first.await.unwrap()).reason, Reason::NoPrimary);
    second.abort();
    promote(&nodes[1]);
    let began = Instant::now();
    assert_eq!(third.await.unwrap().unwrap(), "n1");
    assert!(began.elapsed() <= millis(52));
}

#[tokio::test(start_paused = true)]
async fn two_primaries_of_one_epoch_get_no_write_until_one_gives_way() {
    let nodes = replicated::nodes(3);
    nodes[1].set(|state| state.role = Role::Primary);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    let write = writes(&cluster, Checkout::write());
    sleep(millis(200)).await;
    assert!(!write.is_finished());
    assert_eq!((nodes[0].connects(), nodes[1].connects()), (0, 0));
    nodes[0].set(|state| state.role = Role::Replica);
    assert_eq!(write.await.unwrap().unwrap(), "n1");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_back_is_given_the_writes_that_wait() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    assert!(cluster.set_draining("n0", true));
    let write = writes(&cluster, Checkout::write());
    sleep(millis(200)).await;
    assert!(!write.is_finished());
    assert!(cluster.set_draining("n0", false));
    let began = Instant::now();
    assert_eq!(write.await.unwrap().unwrap(), "n0");
    assert_eq!(began.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn writes_that_wait_are_refused_by_a_drain() {
    let (_, cluster) = headless(10).await;
    let waiting = [(); 3].map(|()| writes(&cluster, Checkout::write()));
    sleep(millis(1)).await;
    let began = Instant::now();
    cluster.drain(millis(1_000)).await.unwrap();
    assert_eq!(began.elapsed(), millis(0));
    for write in waiting {
        let refused = no_route(write.await.unwrap());
        assert_eq!(
            (refused.reason, refused.retry_after),
            (Reason::Draining, None)
        );
    }
}
