//! Leases: what they hold, until when they are good, and that nothing is left of a call that was
//! dropped.
#![cfg(feature = "read-write")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use resilience_core::route::Counter;
use resilience_tower::read_write::{
    Checkout, Cluster, Error, Failure, ReadFreshness, Reason, Role, Token, Why,
};
use tokio::time::{Instant, advance, sleep};

use crate::replicated::{self, Broken, CLUSTER, Fake, in_flight, millis};

fn any() -> Checkout<Counter> {
    Checkout::read(ReadFreshness::Any)
}

async fn three() -> (Vec<Fake>, Cluster<Fake>) {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    (nodes, cluster)
}

#[tokio::test(start_paused = true)]
async fn a_lease_knows_whether_its_node_is_still_what_it_was() {
    let (nodes, cluster) = three().await;
    let (write, read) = (Checkout::write(), any().prefer("n1"));
    let write = cluster.lease(&write).await.unwrap();
    let read = cluster.lease(&read).await.unwrap();
    let asked = Checkout::read(ReadFreshness::Primary);
    let asked = cluster.lease(&asked).await.unwrap();
    assert!(write.is_current() && read.is_current() && asked.is_current());
    cluster.set_draining("n1", true);
    assert!(!read.is_current());
    cluster.set_draining("n1", false);
    assert!(read.is_current());
    nodes[1].set(|state| state.incarnation = 2);
    sleep(millis(60)).await;
    assert!(!read.is_current() && write.is_current());
    // A failover: the old primary is fenced, and then a replica.
    nodes[2].set(|state| (state.role, state.epoch) = (Role::Primary, 2));
    sleep(millis(60)).await;
    assert!(!write.is_current() && !asked.is_current());
    nodes[0].set(|state| (state.role, state.epoch) = (Role::Replica, 2));
    sleep(millis(60)).await;
    assert!(!write.is_current() && !asked.is_current());
    nodes[2].set(|state| state.hung = true);
    sleep(millis(2_000)).await;
    let read = cluster.lease(&any()).await.unwrap();
    assert!(read.is_current());
}

#[tokio::test(start_paused = true)]
async fn a_lease_on_a_node_that_was_ejected_is_not_current() {
    let (_, cluster) = three().await;
    let lease = cluster.lease(&any().prefer("n1")).await.unwrap();
    for _ in 0..5 {
        let lease = cluster.lease(&any().prefer("n1")).await.unwrap();
        lease.failed(&Broken(Failure::Lost));
    }
    assert!(
        cluster.snapshot().balance.endpoints[1]
            .ejected_for
            .is_some()
    );
    assert!(!lease.is_current());
    assert_eq!(
        cluster.lease(&any().prefer("n1")).await.unwrap().node(),
        "n2"
    );
}

// What happens while a connection is made.
#[tokio::test(start_paused = true)]
async fn a_connection_to_a_node_that_was_fenced_or_drained_meanwhile_is_given_back() {
    let (nodes, cluster) = three().await;
    nodes[0].set(|state| state.connect_takes = millis(100));
    nodes[1].set(|state| state.connect_takes = millis(100));
    let lease = |checkout: Checkout<Counter>| {
        let cluster = cluster.clone();
        tokio::spawn(async move { cluster.lease(&checkout).await })
    };
    let (write, read) = (lease(Checkout::write()), lease(any().prefer("n1")));
    sleep(millis(10)).await;
    assert_eq!((nodes[0].connects(), nodes[1].connects()), (1, 1));
    cluster.set_draining("n1", true);
    nodes[2].set(|state| (state.role, state.epoch) = (Role::Primary, 2));
    nodes[0].set(|state| state.epoch = 1);
    let write = write.await.unwrap().unwrap();
    assert_eq!(write.node(), "n2");
    let read = read.await.unwrap();
    let read = read.unwrap();
    assert_eq!((read.node(), read.why()), ("n2", Why::Spilled));
    assert_eq!((nodes[0].open(), nodes[1].open()), (0, 0));
    drop((write, read));
    assert!(cluster.snapshot().outdated >= 2);
    assert_eq!(in_flight(&cluster), 0);
}

/// Polls a call so many times, each after some time, and drops it; whether it had ended.
async fn dropped_after(polls: u32, call: impl Future) -> bool {
    let mut call = pin!(call);
    for _ in 0..polls {
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_ready() {
            return true;
        }
        sleep(millis(1)).await;
    }
    false
}

fn token(position: u64) -> Checkout<Counter> {
    Checkout::read(Token {
        cluster: CLUSTER,
        epoch: 1,
        position: Counter(position),
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_anywhere_holds_nothing() {
    for (checkout, headless) in [
        (any(), false),
        (token(1), false),
        (Checkout::write(), false),
        (Checkout::write().deadline(millis(25)), true),
        (Checkout::read(ReadFreshness::Primary), true),
    ] {
        let mut polls = 0;
        loop {
            let nodes = replicated::nodes(3);
            for node in &nodes {
                node.set(|state| {
                    (state.takes, state.connect_takes) = (millis(5), millis(7));
                    state.connect_fails = (polls % 2 == 1).then_some(Failure::Refused);
                });
            }
            if headless {
                nodes[0].set(|state| state.role = Role::Replica);
            }
            // No look at first; then what follows, with an old view as well.
            let cluster = replicated::cluster(&nodes).spawn().unwrap();
            if polls % 3 > 0 {
                sleep(millis(56)).await;
                nodes[0].set(|state| state.position = 1);
            }
            let run = cluster.run(&checkout, |lease| async move {
                sleep(millis(3)).await;
                drop(lease);
                Err::<(), _>(Broken(Failure::NotSent))
            });
            let ended = dropped_after(polls, run).await;
            assert_eq!(in_flight(&cluster), 0, "{checkout:?} after {polls}");
            assert_eq!(cluster.snapshot().waiting_writes, 0);
            assert!(nodes.iter().all(|node| node.open() == 0));
            polls += 1;
            // Each of the kinds of cluster had its end.
            if ended && polls > 120 {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_new_calls_and_waits_for_those_that_run() {
    let (_, cluster) = three().await;
    let leases = [
        cluster.lease(&Checkout::write()).await.unwrap(),
        cluster.lease(&any()).await.unwrap(),
    ];
    let began = Instant::now();
    let left = cluster.drain(millis(300)).await.unwrap_err();
    assert_eq!((left.in_flight, began.elapsed()), (2, millis(300)));
    let Err(Error::NoRoute(refused)) = cluster.lease(&any()).await else {
        panic!("it drains");
    };
    assert_eq!(
        (refused.reason, refused.retry_after),
        (Reason::Draining, None)
    );
    let draining = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.drain(millis(10_000)).await }
    });
    let [first, second] = leases;
    sleep(millis(20)).await;
    first.succeeded();
    sleep(millis(20)).await;
    assert!(!draining.is_finished());
    drop(second);
    let began = Instant::now();
    draining.await.unwrap().unwrap();
    assert_eq!(began.elapsed(), millis(0));
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_call_between_two_attempts() {
    let (nodes, cluster) = three().await;
    for node in &nodes {
        node.set(|state| state.takes = millis(100));
    }
    let running = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            let write = Checkout::write();
            let call = cluster.run(&write, async |_| Err::<(), _>(Broken(Failure::Misrouted)));
            call.await.unwrap_err()
        }
    });
    sleep(millis(10)).await;
    assert_eq!(cluster.snapshot().in_flight, 1);
    let began = Instant::now();
    cluster.drain(millis(10_000)).await.unwrap();
    assert!(running.is_finished() && began.elapsed() > millis(50));
    let Error::NoRoute(refused) = running.await.unwrap() else {
        panic!("it drains");
    };
    assert_eq!(refused.reason, Reason::Draining);
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_on_the_short_way_allocates_nothing() {
    let nodes = replicated::nodes(5);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    let token = Arc::new(Token {
        cluster: CLUSTER,
        epoch: 1,
        position: Counter(0),
    });
    let thousand = |checkout: &Checkout<Counter>| {
        let mut context = Context::from_waker(Waker::noop());
        let counted = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                let lease = pin!(cluster.lease(checkout));
                let Poll::Ready(Ok(lease)) = lease.poll(&mut context) else {
                    panic!("nothing to wait for");
                };
                lease.succeeded();
            }
        });
        counted.count_total
    };
    let zone = any().zone("a").prefer("n2");
    for checkout in [any(), Checkout::read(token), Checkout::write(), zone] {
        // The first call of a thread sets up what the breaker keeps for it.
        thousand(&checkout);
        assert_eq!(thousand(&checkout), 0, "{checkout:?}");
    }
    let write = Checkout::write();
    let run = || {
        let call = cluster.run(&write, |_| std::future::ready(Ok::<_, Broken>(())));
        let polled = pin!(call).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(()))));
    };
    assert_eq!(allocation_counter::measure(run).count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn every_lease_says_why_it_is_where_it_is() {
    let (nodes, cluster) = three().await;
    nodes[0].set(|state| state.position = 9);
    let why = async |checkout| cluster.lease(&checkout).await.unwrap().why();
    assert_eq!(why(any()).await, Why::Fresh);
    assert_eq!(why(Checkout::write()).await, Why::Write);
    assert_eq!(
        why(Checkout::read(ReadFreshness::Primary)).await,
        Why::Asked
    );
    assert_eq!(why(token(9)).await, Why::Spilled);
    let route = cluster.snapshot().route;
    for why in [Why::Fresh, Why::Write, Why::Asked, Why::Spilled] {
        assert_eq!(route.routed(why), 1, "{why:?}");
    }
    advance(millis(1)).await;
}
