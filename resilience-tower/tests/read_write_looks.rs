//! Looks at nodes: how often, how many at once, for whom, and not longer than they may take.
#![cfg(feature = "read-write")]

use resilience_core::retry::BudgetConfig;
use resilience_core::route::Counter;
use resilience_tower::read_write::{
    Change, Checkout, Config, Error, ReadFreshness, Reason, Role, Token, Why,
};
use tokio::time::{Instant, sleep, timeout};

use crate::replicated::{self, CLUSTER, in_flight, millis};

fn token(position: u64) -> Checkout<Counter> {
    Checkout::read(Token {
        cluster: CLUSTER,
        epoch: 1,
        position: Counter(position),
    })
}

#[tokio::test(start_paused = true)]
async fn each_node_is_looked_at_once_per_interval() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(1_020)).await;
    for (node, figures) in nodes.iter().zip(cluster.snapshot().nodes) {
        assert_eq!((node.looks(), node.most_looking()), (21, 1));
        assert_eq!((figures.looks, figures.looks_failed), (21, 0));
    }
    let slower = Config::builder().poll_interval(millis(500)).build();
    cluster.set_config(slower.unwrap());
    sleep(millis(10)).await;
    let looks = nodes[0].looks();
    sleep(millis(2_000)).await;
    assert_eq!(nodes[0].looks() - looks, 4);
}

#[tokio::test(start_paused = true)]
async fn a_hung_node_is_down_after_the_timeout_and_delays_no_other() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    nodes[1].set(|state| state.hung = true);
    let before = [nodes[0].looks(), nodes[1].looks(), nodes[2].looks()];
    sleep(millis(1_000)).await;
    let since = |index: usize| nodes[index].looks() - before[index];
    assert!(since(0) >= 19 && since(2) >= 19);
    // A look of 250 ms, and the next at once.
    assert!((4..=5).contains(&since(1)), "{}", since(1));
    let snapshot = cluster.snapshot();
    assert!(!snapshot.route.nodes[1].up);
    assert!(snapshot.nodes[1].looks_failed >= 3);
    let lease = cluster.lease(&Checkout::read(ReadFreshness::Any)).await;
    assert_eq!(lease.unwrap().node(), "n2");
}

// The second replica hangs, and is not yet known to. What the primary tells decides.
#[tokio::test(start_paused = true)]
async fn a_read_that_needs_a_look_does_not_wait_for_a_node_that_hangs() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    nodes[2].set(|state| state.hung = true);
    nodes[0].set(|state| state.position = 1);
    let began = Instant::now();
    let lease = cluster.lease(&token(1)).await.unwrap();
    assert_eq!((lease.node(), lease.why()), ("n0", Why::Spilled));
    assert!(began.elapsed() < millis(10), "{:?}", began.elapsed());
    // As above, and a replica has it.
    for node in &nodes[..2] {
        node.set(|state| state.position = 2);
    }
    let began = Instant::now();
    let lease = cluster.lease(&token(2)).await.unwrap();
    assert_ne!(lease.node(), "n2");
    assert!(began.elapsed() < millis(10), "{:?}", began.elapsed());
}

// Which of them hangs nobody knows yet, and the other has it.
#[tokio::test(start_paused = true)]
async fn a_read_is_not_held_up_by_the_replica_that_it_was_told_to_look_at() {
    for hung in [1, 2] {
        let nodes = replicated::nodes(3);
        let cluster = replicated::cluster(&nodes).spawn().unwrap();
        sleep(millis(60)).await;
        for (index, node) in nodes.iter().enumerate() {
            node.set(|state| (state.position, state.hung) = (1, index == hung));
        }
        let began = Instant::now();
        let lease = cluster.lease(&token(1)).await.unwrap();
        assert_eq!(
            (lease.node(), lease.why()),
            (["n2", "n1"][hung - 1], Why::Fresh)
        );
        assert!(began.elapsed() < millis(10), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn many_calls_share_the_look_that_they_need() {
    let nodes = replicated::nodes(3);
    let no_limit = BudgetConfig::new(1.0, 1_000).unwrap();
    let config = Config::builder().spill(no_limit).build().unwrap();
    let cluster = replicated::cluster(&nodes).config(config).spawn().unwrap();
    sleep(millis(60)).await;
    nodes[0].set(|state| state.position = 1);
    for node in &nodes {
        node.set(|state| state.takes = millis(20));
    }
    let before = nodes[0].looks();
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { cluster.lease(&token(1)).await.map(|_| ()) })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    for node in &nodes {
        // The one that ran, and one that began after the calls.
        assert!(node.looks() - before <= 2, "{}", node.looks() - before);
        assert_eq!(node.most_looking(), 1);
    }
    assert_eq!(cluster.snapshot().route.observes, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_look_goes_on_when_the_call_that_wanted_it_is_dropped() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    for node in &nodes {
        node.set(|state| (state.position, state.takes) = (1, millis(20)));
    }
    let first = cluster.clone();
    let first = tokio::spawn(async move { first.lease(&token(1)).await.map(|_| ()) });
    sleep(millis(10)).await;
    let second = cluster.clone();
    let second = tokio::spawn(async move { second.lease(&token(1)).await.map(|_| ()) });
    sleep(millis(1)).await;
    first.abort();
    second.await.unwrap().unwrap();
    assert_eq!(nodes[0].most_looking(), 1);
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_about_to_have_it_is_looked_at_or_waited_for() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    // The replica is learned to be one look, 50 ms, behind.
    for position in 1..10 {
        nodes[0].set(|state| state.position = position);
        sleep(millis(50)).await;
        nodes[1].set(|state| state.position = position);
    }
    sleep(millis(50)).await;
    nodes[0].set(|state| state.position = 10);
    sleep(millis(49)).await;
    nodes[1].set(|state| state.position = 10);
    let lease = cluster.lease(&token(10)).await.unwrap();
    let snapshot = cluster.snapshot().route;
    let steps = snapshot.probes + snapshot.waits + snapshot.observes;
    assert!(steps > 0, "{snapshot:?}");
    assert_eq!((lease.node(), lease.why()), ("n1", Why::Fresh));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_adapter_is_a_look_without_an_answer() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    let bugs = [
        |state: &mut replicated::State, panics| state.panics = panics,
        |state: &mut replicated::State, panics| state.panics_at_once = panics,
    ];
    for bug in bugs {
        nodes[0].set(|state| bug(state, true));
        sleep(millis(60)).await;
        assert!(!cluster.snapshot().route.nodes[0].up);
        nodes[0].set(|state| bug(state, false));
        sleep(millis(160)).await;
        assert!(cluster.snapshot().route.nodes[0].up);
        assert_eq!(
            cluster.lease(&Checkout::write()).await.unwrap().node(),
            "n0"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_whatever_it_waits_for() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let deadline = async |checkout: Checkout<Counter>| {
        let began = Instant::now();
        let error = cluster
            .lease(&checkout.deadline(millis(7)))
            .await
            .unwrap_err();
        assert_eq!((began.elapsed(), in_flight(&cluster)), (millis(7), 0));
        error
    };
    nodes
        .iter()
        .for_each(|node| node.set(|state| state.hung = true));
    // The first look.
    let any = || Checkout::read(ReadFreshness::Any);
    assert!(matches!(deadline(any()).await, Error::Deadline));
    nodes
        .iter()
        .for_each(|node| node.set(|state| state.hung = false));
    sleep(millis(500)).await;
    // A look at a token that nobody knows.
    nodes
        .iter()
        .for_each(|node| node.set(|state| state.takes = millis(100)));
    assert!(matches!(deadline(token(3)).await, Error::Deadline));
    // A connection.
    nodes
        .iter()
        .for_each(|node| node.set(|state| state.connect_takes = millis(100)));
    assert!(matches!(deadline(any()).await, Error::Deadline));
    // A primary.
    nodes[0].set(|state| state.role = Role::Replica);
    sleep(millis(300)).await;
    match deadline(Checkout::write()).await {
        Error::NoRoute(no_route) => {
            assert_eq!(no_route.reason, Reason::NoPrimary);
            assert_eq!(no_route.retry_after, Some(millis(50)));
        }
        error => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_subscribe_hear_of_a_failover() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    let (subscription, events) = cluster.subscribe_channel(100);
    nodes[0].set(|state| state.down = true);
    sleep(millis(60)).await;
    nodes[1].set(|state| (state.role, state.epoch) = (Role::Primary, 2));
    nodes[2].set(|state| state.epoch = 2);
    sleep(millis(60)).await;
    nodes[0].set(|state| state.down = false);
    sleep(millis(60)).await;
    let told: Vec<_> = events.try_iter().map(|event| event.change).collect();
    for change in [
        Change::Down,
        Change::Promoted,
        Change::Primary,
        Change::Fenced,
    ] {
        assert!(told.contains(&change), "{told:?}");
    }
    drop(subscription);
    let write = Checkout::write();
    let lease = timeout(millis(10), cluster.lease(&write)).await.unwrap();
    assert_eq!(lease.unwrap().node(), "n1");
}
