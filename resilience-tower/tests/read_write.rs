//! Calls over a cluster of fake nodes: where they go, and what is told of it.
#![cfg(feature = "read-write")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use resilience_core::balance::Endpoint;
use resilience_core::route::Counter;
use resilience_tower::read_write::{
    Checkout, Disposition, Error, Failure, ReadFreshness, Reason, Role, Token, Why,
};
use tokio::time::{advance, sleep};
use tower::ServiceExt;

use crate::replicated::{self, Broken, CLUSTER, failures, in_flight, millis, successes};

fn any() -> Checkout<Counter> {
    Checkout::read(ReadFreshness::Any)
}

fn token(position: u64) -> Token<Counter> {
    Token {
        cluster: CLUSTER,
        epoch: 1,
        position: Counter(position),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_calls_wait_for_the_first_looks() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let lease = cluster.lease(&any()).await.unwrap();
    assert_ne!(lease.node(), "n0");
    assert_eq!(lease.why(), Why::Fresh);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let primary = Checkout::read(ReadFreshness::Primary);
    let lease = cluster.lease(&primary).await.unwrap();
    assert_eq!((lease.node(), lease.why()), ("n0", Why::Asked));
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let lease = cluster.lease(&Checkout::write()).await.unwrap();
    assert_eq!((lease.node(), lease.why()), ("n0", Why::Write));
}

#[tokio::test(start_paused = true)]
async fn transactions_are_routed_by_whether_they_only_read() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let writing = cluster.lease(&Checkout::transaction(false)).await.unwrap();
    assert_eq!(writing.node(), "n0");
    let reading = cluster.lease(&Checkout::transaction(true)).await.unwrap();
    assert_eq!(reading.node(), "n1");
    let fresh = Checkout::transaction(true).freshness(ReadFreshness::Primary);
    assert_eq!(cluster.lease(&fresh).await.unwrap().node(), "n0");
}

#[tokio::test(start_paused = true)]
async fn a_read_of_ones_own_write_is_fresh_or_goes_to_the_primary() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let mut lease = cluster.lease(&Checkout::write()).await.unwrap();
    lease.write();
    let token = Arc::new(lease.commit_token().await.unwrap());
    assert_eq!((token.cluster, token.epoch), (CLUSTER, 1));
    lease.succeeded();
    // Nobody has looked since, and the replicas do not have it.
    let read = Checkout::read(Arc::clone(&token));
    let lease = cluster.lease(&read).await.unwrap();
    assert_eq!((lease.node(), lease.why()), ("n0", Why::Spilled));
    assert_eq!(cluster.snapshot().route.observes, 1);
    lease.succeeded();
    nodes[2].set(|state| state.position = 1);
    sleep(millis(60)).await;
    for read in [read, Checkout::read(Token::clone(&token))] {
        let lease = cluster.lease(&read).await.unwrap();
        assert_eq!((lease.node(), lease.why()), ("n2", Why::Fresh));
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_no_cluster_gave_are_refused() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let foreign = Token {
        cluster: 8,
        ..token(0)
    };
    let reason = async |token| match cluster.lease(&Checkout::read(token)).await {
        Err(Error::NoRoute(no_route)) => no_route.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(token(99)).await, Reason::Future);
    assert_eq!(reason(foreign).await, Reason::Foreign);
    for node in &nodes {
        node.set(|state| state.epoch = 2);
    }
    sleep(millis(60)).await;
    assert_eq!(reason(token(0)).await, Reason::UnknownHistory);
    assert_eq!(cluster.snapshot().in_flight, 0);
}

// The connection took longer than the data may be old.
#[tokio::test(start_paused = true)]
async fn a_replica_that_has_become_too_old_meanwhile_is_not_read() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    nodes[1].set(|state| state.connect_takes = millis(400));
    let read = Checkout::read(ReadFreshness::MaxLag(millis(300)));
    sleep(millis(60)).await;
    let reading = cluster.clone();
    let reading = tokio::spawn(async move { reading.lease(&read).await });
    sleep(millis(10)).await;
    assert_eq!(nodes[1].connects(), 1);
    // From here on the replica stands still, and the primary does not.
    nodes[0].set(|state| state.position = 5);
    let lease = reading.await.unwrap().unwrap();
    assert_eq!((lease.node(), lease.why()), ("n0", Why::Spilled));
    assert_eq!((cluster.snapshot().outdated, nodes[1].open()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_to_the_replica_or_the_zone_that_it_prefers_while_it_will_do() {
    let nodes = replicated::nodes(4);
    let zone = |index: usize| Arc::<str>::from(["a", "a", "b", "b"][index]);
    let endpoints = replicated::named(&nodes).into_iter().enumerate();
    let endpoints =
        endpoints.map(|(index, (name, node))| Endpoint::new(name, node).zone(zone(index)));
    let cluster = replicated::of(endpoints).spawn().unwrap();
    for _ in 0..20 {
        assert_eq!(
            cluster.lease(&any().prefer("n3")).await.unwrap().node(),
            "n3"
        );
        assert_eq!(cluster.lease(&any().zone("a")).await.unwrap().node(), "n1");
        assert_ne!(cluster.lease(&any().zone("b")).await.unwrap().node(), "n1");
    }
    assert!(cluster.set_draining("n3", true));
    assert_ne!(
        cluster.lease(&any().prefer("n3")).await.unwrap().node(),
        "n3"
    );
    assert_ne!(
        cluster.lease(&any().prefer("?")).await.unwrap().node(),
        "n3"
    );
    assert_ne!(cluster.lease(&any().zone("c")).await.unwrap().node(), "n3");
    assert!(!cluster.set_draining("?", true));
}

#[tokio::test(start_paused = true)]
async fn the_verdict_on_a_lease_is_that_of_balancer_and_breaker() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let told = |failure| {
        let cluster = cluster.clone();
        async move {
            let lease = cluster.lease(&any()).await.unwrap();
            let before = (successes(&cluster, "n1"), failures(&cluster, "n1"));
            let disposition = lease.failed(&Broken(failure));
            let after = (successes(&cluster, "n1"), failures(&cluster, "n1"));
            (disposition, after.0 - before.0, after.1 - before.1)
        }
    };
    let elsewhere = Disposition::RetryElsewhere;
    assert_eq!(told(Failure::NotSent).await, (elsewhere, 0, 2));
    assert_eq!(told(Failure::Refused).await, (elsewhere, 0, 2));
    assert_eq!(told(Failure::Lost).await, (elsewhere, 0, 2));
    assert_eq!(told(Failure::Misrouted).await, (elsewhere, 0, 0));
    assert_eq!(told(Failure::Failed).await, (Disposition::Never, 2, 0));
    cluster.lease(&any()).await.unwrap().succeeded();
    assert_eq!(successes(&cluster, "n1"), 4);
    drop(cluster.lease(&any()).await.unwrap());
    assert_eq!(
        (successes(&cluster, "n1"), failures(&cluster, "n1")),
        (4, 6)
    );
    let write = cluster.lease(&Checkout::write()).await.unwrap();
    assert_eq!(write.failed(&Broken(Failure::Lost)), Disposition::Ambiguous);
    let write = cluster
        .lease(&Checkout::write().idempotent())
        .await
        .unwrap();
    assert_eq!(write.failed(&Broken(Failure::Lost)), elsewhere);
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_a_service_that_gives_leases() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let lease = cluster.clone().oneshot(Checkout::write()).await.unwrap();
    assert_eq!(lease.node(), "n0");
    assert_eq!(in_flight(&cluster), 1);
    drop(lease);
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn the_looks_end_with_the_last_handle_and_leases_stay_good() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let mut lease = cluster.lease(&Checkout::write()).await.unwrap();
    let other = cluster.clone();
    drop(cluster);
    sleep(millis(100)).await;
    let looks = nodes[0].looks();
    assert!(looks >= 3);
    drop(other);
    sleep(millis(1_000)).await;
    assert!(nodes[0].looks() <= looks + 1);
    lease.write();
    assert_eq!(lease.commit_token().await.unwrap(), token(1));
    lease.succeeded();
}

#[tokio::test(start_paused = true)]
async fn nodes_come_and_go_while_calls_run() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes[..2]).spawn().unwrap();
    let lease = cluster.lease(&any()).await.unwrap();
    let breaker = cluster.breaker("n0").unwrap();
    breaker.try_acquire().unwrap().failure();
    let named = replicated::named(&nodes);
    cluster
        .set_nodes([named[0].clone(), named[2].clone()])
        .unwrap();
    assert!(!lease.is_current());
    sleep(millis(10)).await;
    let looks = nodes[1].looks();
    assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n2");
    sleep(millis(500)).await;
    assert_eq!(nodes[1].looks(), looks, "nobody looks at it any more");
    assert!(cluster.breaker("n1").is_none());
    let kept = cluster.breaker("n0").unwrap();
    assert_eq!(kept.snapshot().failures, breaker.snapshot().failures);
    assert!(
        cluster
            .set_nodes([named[0].clone(), named[0].clone()])
            .is_err()
    );
    assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n2");
    drop(lease);
    assert_eq!(cluster.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn thirty_two_nodes_share_the_reads() {
    let nodes = replicated::nodes(32);
    let cluster = replicated::cluster(&nodes).seed(1).spawn().unwrap();
    for _ in 0..2_000 {
        let lease = cluster.lease(&any()).await.unwrap();
        advance(millis(1)).await;
        lease.succeeded();
    }
    let snapshot = cluster.snapshot();
    assert_eq!(snapshot.route.routed(Why::Fresh), 2_000);
    assert_eq!(nodes[0].connects(), 0);
    assert!(nodes[1..].iter().all(|node| node.connects() > 10));
    let many = replicated::nodes(33);
    assert!(replicated::cluster(&many).spawn().is_err());
}

#[tokio::test(start_paused = true)]
async fn settings_out_of_their_range_are_refused() {
    let builder = || replicated::cluster(&replicated::nodes(1));
    let field = |spawned: Result<_, resilience_tower::read_write::ConfigError>| {
        spawned.map(|_| ()).unwrap_err().field
    };
    assert_eq!(field(builder().max_attempts(0).spawn()), "max_attempts");
    assert_eq!(field(builder().write_wait(millis(0)).spawn()), "write_wait");
    let days = millis(86_400_001);
    assert_eq!(field(builder().read_wait(days).spawn()), "read_wait");
    assert_eq!(
        field(builder().connect_timeout(millis(0)).spawn()),
        "connect_timeout"
    );
    assert_eq!(
        field(builder().observe_timeout(millis(1_001)).spawn()),
        "observe_timeout"
    );
    assert!(builder().observe_timeout(millis(1_000)).spawn().is_ok());
    let alone = builder().spawn().unwrap();
    assert_eq!(alone.lease(&any()).await.unwrap().node(), "n0");
    let replica = replicated::Fake::new(Role::Replica);
    let headless = replicated::cluster(&[replica]).spawn().unwrap();
    assert_eq!(headless.lease(&any()).await.unwrap().node(), "n0");
}

// Outside of any lock, or these would wait for ever.
#[tokio::test(start_paused = true)]
async fn a_subscriber_may_look_at_the_cluster_and_change_it() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    let heard = Arc::new(AtomicU64::new(0));
    let change = {
        let (cluster, nodes) = (cluster.clone(), nodes.clone());
        let heard = Arc::clone(&heard);
        move || {
            assert_eq!(
                cluster.snapshot().nodes.len(),
                cluster.snapshot().route.nodes.len()
            );
            assert!(cluster.breaker("n2").is_some());
            cluster.set_config(cluster.config());
            cluster.set_draining("n2", false);
            // What this sets is in force afterwards.
            if heard.fetch_add(1, Ordering::SeqCst) == 0 {
                let named = replicated::named(&nodes);
                cluster.set_nodes([named[2].clone()]).unwrap();
            }
        }
    };
    let also = change.clone();
    let told = [
        cluster.subscribe(move |_| change()),
        cluster.router().balancer().subscribe(move |_| also()),
    ];
    let named = replicated::named(&nodes);
    cluster
        .set_nodes([named[1].clone(), named[2].clone()])
        .unwrap();
    assert!(heard.load(Ordering::SeqCst) >= 2);
    drop(told);
    let snapshot = cluster.snapshot();
    assert_eq!((snapshot.nodes.len(), &*snapshot.nodes[0].name), (1, "n2"));
    let looks = [nodes[0].looks(), nodes[1].looks(), nodes[2].looks()];
    sleep(millis(500)).await;
    assert_eq!((nodes[0].looks(), nodes[1].looks()), (looks[0], looks[1]));
    assert!(nodes[2].looks() > looks[2]);
    assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n2");
}
