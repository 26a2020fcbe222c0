//! What goes wrong with a cluster, and what a service that reads its own writes sees of it: nothing
//! stale, nothing lost without a word, no failed read while a node is healthy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use resilience_core::route::{Lsn, Reason, Token};
use resilience_tower::read_write::{
    Checkout, Disposition, Error, ReadFreshness, Signer, SigningKey, Why,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::IsolationLevel;

use super::{
    rig::BOUND,
    shop::{Shop, Told},
};

#[tokio::test]
async fn nothing_stale_and_nothing_lost_whatever_happens_to_the_servers() {
    let shop = Shop::open().await;
    let begun = Instant::now();
    let mut last = begun;
    let mut done = |what: &str| {
        let now = Instant::now();
        println!("{what}: {:.1} s", (now - last).as_secs_f64());
        last = now;
    };

    think_times(&shop).await;
    done("think times");
    replay_is_paused(&shop).await;
    done("replay is paused");
    replay_is_delayed(&shop).await;
    done("replay is delayed");
    a_transaction_is_as_fresh_as_its_snapshot(&shop).await;
    tokens_of_others(&shop).await;
    a_write_on_a_lease_that_reads(&shop).await;
    done("transactions, tokens, a misrouted write");
    a_replica_is_killed(&shop).await;
    a_replica_hangs(&shop).await;
    done("a replica is killed, and hangs");
    all_replicas_are_down(&shop).await;
    done("all replicas are down");
    a_replica_is_built_at_a_lower_position(&shop).await;
    done("a replica at a lower position");
    the_primary_hangs(&shop).await;
    done("the primary hangs");
    a_commit_is_not_answered(&shop).await;
    done("a commit is not answered");
    the_primary_is_killed_and_replaced(&shop).await;
    done("the primary is killed and replaced");
    acknowledged_writes_are_lost(&shop).await;
    done("acknowledged writes are lost");
    it_drains_under_load(&shop).await;
    done("it drains");
}

/// How many reads stay on replicas, for services that read so long after they write.
async fn think_times(shop: &Arc<Shop>) {
    for think in [0, 5, 50] {
        let mut replicas = 0;
        let rounds = 100;
        for _ in 0..rounds {
            let (id, token) = shop.written().await;
            sleep(Duration::from_millis(think)).await;
            let read = shop.read(id, &token).await.expect("all is well");
            assert!(read.found);
            replicas += usize::from(read.why == Why::Fresh);
        }
        println!("think time {think} ms: {replicas} of {rounds} reads on replicas");
    }
}

async fn replay_is_paused(shop: &Arc<Shop>) {
    let replicas = &shop.servers.nodes()[1..];
    for paused in 1..=replicas.len() {
        replicas[paused - 1].pause_replay().await.expect("paused");
        // What was replayed before may still be there.
        shop.round().await;
        for _ in 0..10 {
            let read = shop.round().await;
            let stopped = replicas[..paused]
                .iter()
                .any(|node| node.name() == read.node);
            assert!(!stopped, "{read:?}");
        }
    }
    for replica in replicas {
        replica.resume_replay().await.expect("resumed");
    }
}

async fn replay_is_delayed(shop: &Arc<Shop>) {
    let replicas = &shop.servers.nodes()[1..];
    for delay in [100, 500, 1_000, 2_000] {
        for replica in replicas {
            let delay = Duration::from_millis(delay);
            replica.set_apply_delay(delay).await.expect("delayed");
        }
        for _ in 0..10 {
            shop.round().await;
        }
    }
    for replica in replicas {
        replica.set_apply_delay(Duration::ZERO).await.expect("set");
    }
    shop.servers.wait_caught_up().await.expect("caught up");
    shop.wait_up(4).await;
}

async fn a_transaction_is_as_fresh_as_its_snapshot(shop: &Arc<Shop>) {
    let question = "SELECT EXISTS (SELECT FROM writes WHERE id = $1)";
    let (first, token) = shop.written().await;
    let checkout = Checkout::transaction(true).freshness(token);
    let mut lease = shop.cluster.lease(&checkout).await.expect("a node");
    let repeatable = lease
        .transaction_by(|by| by.isolation_level(IsolationLevel::RepeatableRead))
        .await;
    let repeatable = repeatable.expect("it begins");
    let row = repeatable.query_one(question, &[&first]).await;
    assert!(row.expect("read").get::<_, bool>(0));

    let (second, token) = shop.written().await;
    let seen = shop.read(second, &token).await.expect("a node");
    assert!(seen.found);
    shop.servers.wait_caught_up().await.expect("caught up");
    let row = repeatable.query_one(question, &[&second]).await;
    assert!(!row.expect("read").get::<_, bool>(0), "it has its snapshot");
    repeatable.rollback().await.expect("it ends");
    let row = lease.query_one(question, &[&second]).await;
    assert!(row.expect("read").get::<_, bool>(0));
    lease.succeeded();
}

async fn refused(shop: &Arc<Shop>, token: &Told) -> Reason {
    match shop.read(0, token).await {
        Err(Error::NoRoute(none)) => none.reason,
        other => panic!("not refused: {other:?}"),
    }
}

async fn tokens_of_others(shop: &Arc<Shop>) {
    let (id, token) = shop.written().await;
    let key = |secret: &[u8]| SigningKey::new("one", secret).expect("long enough");
    let signer = Signer::new([key(&[7; 32])]).expect("keys");
    let signer = signer.cluster(token.cluster);
    let signed = signer.sign(&token).expect("it fits");

    // One's own.
    let verified: Told = signer.verify(&signed).expect("it is ours");
    assert!(shop.read(id, &verified).await.expect("a node").found);
    // Forged: one character of it, or by another key.
    let mut forged = signed.clone();
    let last = forged.pop().expect("not empty");
    forged.push(if last == 'A' { 'B' } else { 'A' });
    assert!(signer.verify::<Lsn>(&forged).is_err());
    let other = Signer::new([key(&[8; 32])]).expect("keys");
    let theirs = other.sign(&token).expect("it fits");
    assert!(signer.verify::<Lsn>(&theirs).is_err());
    // Foreign, by its signature or not.
    let foreign = Token {
        cluster: token.cluster ^ 1,
        ..token.clone()
    };
    let unbound = Signer::new([key(&[7; 32])]).expect("keys");
    let signed = unbound.sign(&foreign).expect("it fits");
    assert!(signer.verify::<Lsn>(&signed).is_err());
    assert_eq!(refused(shop, &foreign).await, Reason::Foreign);
    // Of the future: a position that nobody has, a timeline that has not begun.
    let ahead = Token {
        position: Lsn(token.position.0 + (1 << 30)),
        ..token.clone()
    };
    assert_eq!(refused(shop, &ahead).await, Reason::Future);
    let ahead = Token { epoch: 9, ..token };
    assert_eq!(refused(shop, &ahead).await, Reason::Future);
}

async fn a_write_on_a_lease_that_reads(shop: &Arc<Shop>) {
    for freshness in [ReadFreshness::Any, ReadFreshness::Primary] {
        let checkout = Checkout::read(freshness);
        let lease = shop.cluster.lease(&checkout).await.expect("a node");
        let wrote = lease.execute("INSERT INTO writes VALUES (-1)", &[]).await;
        let error = wrote.expect_err("it must not write").into();
        assert_eq!(lease.failed(&error), Disposition::RetryElsewhere);
    }
    assert!(!shop.held(shop.primary()).await.contains(&-1));
}

async fn a_replica_is_killed(shop: &Arc<Shop>) {
    let server = shop.servers.node(3);
    let (reads, _) = shop
        .reads_during(async {
            sleep(Duration::from_millis(100)).await;
            server.kill().await.expect("killed");
            sleep(Duration::from_millis(500)).await;
            server.start().await.expect("started");
            shop.wait_up(4).await;
        })
        .await;
    println!("{reads} reads while a replica was killed and came back");
}

async fn a_replica_hangs(shop: &Arc<Shop>) {
    let server = shop.servers.node(2);
    let (reads, _) = shop
        .reads_during(async {
            sleep(Duration::from_millis(100)).await;
            server.freeze().await.expect("stopped");
            sleep(Duration::from_millis(2_500)).await;
            server.thaw().expect("continued");
            shop.wait_up(4).await;
        })
        .await;
    println!("{reads} reads while a replica hung");
}

async fn all_replicas_are_down(shop: &Arc<Shop>) {
    let replicas = &shop.servers.nodes()[1..];
    for replica in replicas {
        replica.kill().await.expect("killed");
    }
    for _ in 0..10 {
        let read = shop.round().await;
        assert_eq!(read.node, shop.primary().name());
    }
    for replica in replicas {
        replica.start().await.expect("started");
    }
    shop.wait_up(4).await;
    let until = Instant::now() + BOUND;
    while shop.round().await.why != Why::Fresh {
        assert!(Instant::now() < until, "reads go to replicas again");
    }
}

async fn a_replica_is_built_at_a_lower_position(shop: &Arc<Shop>) {
    let (server, primary) = (shop.servers.node(1), shop.primary());
    let backup = server.backup().await.expect("saved");
    for _ in 0..20 {
        shop.round().await;
    }
    server.stream().cut();
    let (reads, _) = shop
        .reads_during(async {
            server.restore(&backup, primary).await.expect("restored");
            sleep(Duration::from_millis(500)).await;
        })
        .await;
    for _ in 0..10 {
        let read = shop.round().await;
        assert_ne!(read.node, server.name());
    }
    server.stream().open();
    server.wait_streaming().await.expect("it follows");
    shop.wait_up(4).await;
    println!("{reads} reads while a replica was set back");
}

async fn the_primary_hangs(shop: &Arc<Shop>) {
    let server = shop.primary();
    let (id, token) = shop.written().await;
    shop.servers.wait_caught_up().await.expect("caught up");
    let book = shop
        .writes_during(async {
            sleep(Duration::from_millis(100)).await;
            server.freeze().await.expect("stopped");
            let until = Instant::now() + Duration::from_millis(2_000);
            while Instant::now() < until {
                let read = shop.read(id, &token).await.expect("replicas are healthy");
                assert!(read.found);
                sleep(Duration::from_millis(10)).await;
            }
            server.thaw().expect("continued");
            shop.wait_up(4).await;
            sleep(Duration::from_millis(100)).await;
        })
        .await;
    let checked = shop.check(&book).await;
    assert_eq!(checked.diverged, 0);
    println!("the primary hung: {checked:?}, {}", book.others());
}

/// A commit that waits for a replica is there already. Cut off in this wait, by an administrator or by
/// a crash, it is neither refused nor run again.
async fn a_commit_is_not_answered(shop: &Arc<Shop>) {
    let server = shop.primary();
    let replicas = || {
        shop.servers
            .nodes()
            .iter()
            .filter(|node| node.name() != server.name())
    };
    replicas().for_each(|replica| replica.stream().stall());
    let set = server.set("synchronous_standby_names", "*").await;
    set.expect("set");
    for crash in [false, true] {
        let write = tokio::spawn({
            let shop = Arc::clone(shop);
            async move { shop.write().await }
        });
        let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let until = Instant::now() + BOUND;
        while server.sql(waiting).await.expect("told").trim().is_empty() {
            assert!(Instant::now() < until, "the commit waits");
            sleep(Duration::from_millis(5)).await;
        }
        if crash {
            server.kill().await.expect("killed");
        } else {
            let end = format!("SELECT pg_terminate_backend(pid) FROM ({waiting}) backends");
            server.sql(&end).await.expect("ended");
        }
        let (id, told) = write.await.expect("it ends");
        assert!(
            matches!(told, Err(Error::OutcomeUnknown { .. })),
            "{told:?}"
        );
        if crash {
            server.start().await.expect("started");
        }
        assert!(shop.held(server).await.contains(&id), "it was committed");
    }
    let set = server.set("synchronous_standby_names", "").await;
    set.expect("set");
    replicas().for_each(|replica| replica.stream().open());
    shop.wait_up(4).await;
    shop.servers.wait_caught_up().await.expect("caught up");
}

async fn the_primary_is_killed_and_replaced(shop: &Arc<Shop>) {
    let [old, new, others @ ..] = shop.servers.nodes() else {
        panic!("four servers")
    };
    assert_eq!(shop.primary().name(), old.name());
    let mut first = Duration::ZERO;
    let book = shop
        .writes_during(async {
            sleep(Duration::from_millis(200)).await;
            let others: Vec<_> = others.iter().collect();
            new.get_ahead_of(&others).await.expect("it has most");
            old.kill().await.expect("killed");
            sleep(Duration::from_millis(200)).await;
            others.iter().for_each(|other| other.stream().open());
            new.promote().await.expect("promoted");
            let promoted = Instant::now();
            shop.written().await;
            first = promoted.elapsed();
            for other in others {
                other.follow(new).await.expect("it follows");
            }
            shop.wait_up(3).await;
            sleep(Duration::from_millis(200)).await;
        })
        .await;
    assert_eq!(shop.primary().name(), new.name());
    let checked = shop.check(&book).await;
    println!("the primary was killed: {checked:?}, {}", book.others());
    println!("first write after promotion: {} ms", first.as_millis());

    // It comes back writable, and is given nothing.
    old.start().await.expect("started");
    let before = shop.held(old).await;
    let fenced = || shop.cluster.snapshot().route.nodes[0].fenced;
    let until = Instant::now() + BOUND;
    while !fenced() {
        shop.round().await;
        assert!(Instant::now() < until, "it is fenced");
    }
    for _ in 0..50 {
        assert_ne!(shop.round().await.node, old.name());
    }
    assert_eq!(shop.held(old).await, before);

    old.rewind(new).await.expect("rewound");
    old.wait_streaming().await.expect("it follows");
    shop.wait_up(4).await;
    let checked = shop.check(&book).await;
    println!("it is back as a replica: {checked:?}");
}

async fn acknowledged_writes_are_lost(shop: &Arc<Shop>) {
    let (old, new) = (shop.servers.node(1), shop.servers.node(2));
    assert_eq!(shop.primary().name(), old.name());
    let others = [shop.servers.node(0), shop.servers.node(3)];
    let (kept, before) = shop.written().await;
    shop.servers.wait_caught_up().await.expect("caught up");
    for server in [new, others[0], others[1]] {
        server.stream().cut();
    }
    let mut lost = Vec::new();
    for _ in 0..20 {
        lost.push(shop.written().await);
    }
    old.kill().await.expect("killed");
    new.promote().await.expect("promoted");
    for server in [new, others[0], others[1]] {
        server.stream().open();
    }
    // Writes of the new timeline pass the positions of the old one.
    for _ in 0..40 {
        shop.round().await;
    }
    for server in others {
        server.follow(new).await.expect("it follows");
    }
    shop.wait_up(3).await;
    for round in 0..2 {
        for (id, token) in &lost {
            assert_eq!(refused(shop, token).await, Reason::Diverged, "write {id}");
        }
        assert!(shop.read(kept, &before).await.expect("a node").found);
        if round == 0 {
            old.rewind(new).await.expect("rewound");
            old.wait_streaming().await.expect("it follows");
            shop.wait_up(4).await;
        }
    }
    let held = shop.held(new).await;
    assert!(!lost.iter().any(|(id, _)| held.contains(id)));
}

async fn it_drains_under_load(shop: &Arc<Shop>) {
    // One node first: it is given nothing new.
    let server = shop.servers.node(3);
    assert!(shop.cluster.set_draining(server.name(), true));
    for _ in 0..20 {
        assert_ne!(shop.round().await.node, server.name());
    }
    shop.cluster.set_draining(server.name(), false);

    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (shop, over) = (Arc::clone(shop), Arc::clone(&over));
            tokio::spawn(async move {
                let mut served = 0;
                loop {
                    let (id, written) = shop.write().await;
                    let read = match written {
                        Ok(token) => shop.read(id, &token).await,
                        Err(error) => Err(error),
                    };
                    match read {
                        Ok(read) => assert!(read.found),
                        Err(Error::NoRoute(none)) if none.reason == Reason::Draining => {
                            assert!(over.load(Ordering::SeqCst));
                            return served;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                    served += 1;
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(200)).await;
    over.store(true, Ordering::SeqCst);
    shop.cluster.drain(BOUND).await.expect("calls end");
    for reader in readers {
        assert!(reader.await.expect("it served") > 0);
    }
}
