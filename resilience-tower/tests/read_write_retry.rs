//! Calls that fail: what is tried elsewhere, and what is not.
#![cfg(feature = "read-write")]

use std::cell::Cell;

use resilience_core::breaker::{self, State};
use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_core::route::Counter;
use resilience_tower::read_write::{
    Builder, Checkout, Cluster, Disposition, Error, Failure, ReadFreshness, Reason, Role,
};
use tokio::time::{Instant, sleep};

use crate::replicated::{self, Broken, Fake, failures, in_flight, millis, successes};

fn any() -> Checkout<Counter> {
    Checkout::read(ReadFreshness::Any)
}

async fn seen(builder: Builder<Fake>) -> Cluster<Fake> {
    let cluster = builder.spawn().unwrap();
    sleep(millis(60)).await;
    cluster
}

/// A budget of so many retries, and no more.
fn budget(retries: u32) -> RetryBudget {
    RetryBudget::new(
        BudgetConfig::new(0.000_001, 0)
            .unwrap()
            .burst(retries)
            .unwrap(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_read_that_cannot_connect_goes_elsewhere() {
    for failure in [
        Failure::NotSent,
        Failure::Refused,
        Failure::Misrouted,
        Failure::Lost,
    ] {
        let nodes = replicated::nodes(3);
        let cluster = seen(replicated::cluster(&nodes)).await;
        nodes[1].set(|state| state.connect_fails = Some(failure));
        for _ in 0..6 {
            assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n2");
        }
        let expected = nodes[1].connects() * 2 * u64::from(failure != Failure::Misrouted);
        assert_eq!(failures(&cluster, "n1"), expected, "{failure:?}");
        assert_eq!(cluster.snapshot().retries, nodes[1].connects());
        assert_eq!(in_flight(&cluster), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_connection_that_is_about_the_call_is_the_callers() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes)).await;
    for node in &nodes {
        node.set(|state| state.connect_fails = Some(Failure::Failed));
    }
    let error = cluster.lease(&any()).await.unwrap_err();
    assert!(matches!(error, Error::Inner(Broken(Failure::Failed))));
    assert_eq!(nodes[1].connects() + nodes[2].connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_too_long_is_given_up() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes).connect_timeout(millis(80))).await;
    nodes[1].set(|state| state.connect_takes = millis(10_000));
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n2");
    }
    let tried = nodes[1].connects();
    assert_eq!(began.elapsed(), millis(80 * tried));
    assert_eq!(failures(&cluster, "n1"), 2 * tried);
    for node in &nodes {
        node.set(|state| state.connect_takes = millis(10_000));
    }
    let error = cluster.lease(&any()).await.unwrap_err();
    let Error::Unreachable {
        failure, source, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((failure, source.is_none()), (Failure::NotSent, true));
}

/// A read that is lost wherever it runs; how often it ran.
async fn lost(cluster: &Cluster<Fake>) -> (u32, Error<Broken>) {
    let calls = Cell::new(0);
    let read = any();
    let call = cluster.run(&read, |_| {
        calls.set(calls.get() + 1);
        async { Err::<(), _>(Broken(Failure::Lost)) }
    });
    let error = call.await.unwrap_err();
    (calls.get(), error)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_again_when_the_budget_is_spent() {
    let nodes = replicated::nodes(4);
    let cluster = seen(replicated::cluster(&nodes).retry_budget(budget(1))).await;
    let (calls, error) = lost(&cluster).await;
    assert_eq!(
        (calls, error.disposition()),
        (2, Disposition::RetryElsewhere)
    );
    assert!(matches!(
        error,
        Error::Unreachable {
            source: Some(_),
            ..
        }
    ));
    assert_eq!(lost(&cluster).await.0, 1);
    nodes[0].set(|state| state.connect_fails = Some(Failure::NotSent));
    let write = Checkout::write();
    assert!(matches!(
        cluster.lease(&write).await,
        Err(Error::Unreachable { .. })
    ));
    assert_eq!(nodes[0].connects(), 1);
    let snapshot = cluster.snapshot();
    assert_eq!((snapshot.retries, snapshot.budget_spent), (1, 3));
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_run_is_tried_three_times_and_a_read_nowhere_twice() {
    let nodes = replicated::nodes(6);
    let cluster = seen(replicated::cluster(&nodes)).await;
    assert_eq!(lost(&cluster).await.0, 3);
    assert!(nodes.iter().all(|node| node.connects() <= 1));
    // It says that it is the primary, and takes no write.
    nodes[0].set(|state| state.connect_fails = Some(Failure::NotSent));
    assert!(cluster.lease(&Checkout::write()).await.is_err());
    assert_eq!(nodes[0].connects(), 3);
}

// Killed at once, and nobody has looked since.
#[tokio::test(start_paused = true)]
async fn a_read_that_did_not_run_is_tried_at_every_node_without_a_budget() {
    let nodes = replicated::nodes(8);
    let cluster = seen(replicated::cluster(&nodes).retry_budget(budget(1))).await;
    for node in &nodes[1..] {
        node.set(|state| state.down = true);
    }
    for _ in 0..3 {
        assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n0");
    }
    assert!(nodes[1..].iter().all(|node| node.connects() >= 1));
    nodes[0].set(|state| state.down = true);
    let error = cluster.lease(&any()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(cluster.snapshot().budget_spent, 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_had_a_connection_costs_the_budget() {
    for failure in [
        Failure::NotSent,
        Failure::Misrouted,
        Failure::Refused,
        Failure::Lost,
    ] {
        let nodes = replicated::nodes(6);
        let cluster = seen(replicated::cluster(&nodes).retry_budget(budget(1))).await;
        let (calls, read) = (Cell::new(0), any());
        let call = || {
            cluster.run(&read, |_| {
                calls.set(calls.get() + 1);
                async move { Err::<(), _>(Broken(failure)) }
            })
        };
        let error = call().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert_eq!(calls.take(), 2, "{failure:?}");
        call().await.unwrap_err();
        assert_eq!((calls.get(), cluster.snapshot().budget_spent), (1, 2));
    }
}

// New objects, of which the router knows what the old ones told.
#[tokio::test(start_paused = true)]
async fn nodes_that_are_replaced_by_themselves_refuse_no_call() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes).retry_budget(budget(1))).await;
    for _ in 0..20 {
        let fresh = replicated::nodes(3);
        for node in &fresh {
            node.set(|state| (state.takes, state.knows_nothing) = (millis(30), true));
        }
        cluster.set_nodes(replicated::named(&fresh)).unwrap();
        let (read, write) = (any(), Checkout::write());
        let (read, write) = tokio::join!(cluster.lease(&read), cluster.lease(&write));
        assert_ne!(read.unwrap().node(), "n0");
        assert_eq!(write.unwrap().node(), "n0");
    }
    let snapshot = cluster.snapshot();
    assert_eq!((snapshot.retries, snapshot.budget_spent), (0, 0));
}

// A replica that was killed had its breaker open, came back, and was promoted.
#[tokio::test(start_paused = true)]
async fn another_run_or_role_of_a_node_owes_nothing_for_the_one_before() {
    let nodes = replicated::nodes(3);
    let config = breaker::Config::builder().consecutive_failures(Some(1));
    let cluster = seen(replicated::cluster(&nodes).breaker(config.build().unwrap())).await;
    let breaker = |name| cluster.breaker(name).unwrap();
    let open = |name| breaker(name).try_acquire().unwrap().failure();
    for change in [
        |state: &mut replicated::State| state.incarnation = 2,
        |state: &mut replicated::State| (state.role, state.epoch) = (Role::Primary, 2),
    ] {
        open("n1");
        sleep(millis(60)).await;
        assert_eq!(breaker("n1").state(), State::Open);
        nodes[1].set(change);
        sleep(millis(60)).await;
        assert_eq!(breaker("n1").state(), State::Closed);
    }
    assert_eq!(
        cluster.lease(&Checkout::write()).await.unwrap().node(),
        "n1"
    );
    breaker("n1").set_mode(breaker::Mode::ForcedOpen);
    nodes[1].set(|state| state.incarnation = 3);
    sleep(millis(60)).await;
    assert_eq!(breaker("n1").mode(), breaker::Mode::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn run_retries_a_read_elsewhere_and_tells_what_went_wrong() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes)).await;
    let any = any();
    for failure in [
        Failure::NotSent,
        Failure::Misrouted,
        Failure::Refused,
        Failure::Lost,
    ] {
        let calls = Cell::new(0);
        let read = cluster.run(&any, |lease| {
            calls.set(calls.get() + 1);
            let fails = calls.get() == 1;
            async move {
                match fails {
                    true => Err(Broken(failure)),
                    false => Ok(lease.node().to_owned()),
                }
            }
        });
        read.await.unwrap();
        assert_eq!(calls.get(), 2, "{failure:?}");
    }
    let replicas = successes(&cluster, "n1") + successes(&cluster, "n2");
    assert_eq!(replicas, 2 * 4);
    let failed: Result<(), _> = cluster
        .run(&any, |_| async { Err(Broken(Failure::Failed)) })
        .await;
    assert!(matches!(failed, Err(Error::Inner(_))));
    let error = failed.unwrap_err();
    assert_eq!(
        (error.disposition(), error.retry_after()),
        (Disposition::Never, None)
    );
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_run_is_not_tried_again() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes)).await;
    let write = Checkout::write();
    let lost = cluster.run(&write, |mut lease| async move {
        lease.write();
        Err::<(), _>(Broken(Failure::Lost))
    });
    let error = lost.await.unwrap_err();
    assert!(matches!(
        &error,
        Error::OutcomeUnknown {
            source: Some(_),
            ..
        }
    ));
    assert_eq!(error.disposition(), Disposition::Ambiguous);
    assert_eq!(nodes[0].state().position, 1, "written once");
    // Its time was up: likewise.
    let late = write.deadline(millis(30));
    let late = cluster.run(&late, |mut lease| async move {
        lease.write();
        sleep(millis(100)).await;
        Ok(())
    });
    let told = failures(&cluster, "n0");
    let error = late.await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { source: None, .. }));
    assert_eq!(nodes[0].state().position, 2);
    assert_eq!(
        failures(&cluster, "n0"),
        told,
        "the time was too short, perhaps"
    );
    let read = any().deadline(millis(30));
    let late = cluster.run(&read, |_| async {
        sleep(millis(100)).await;
        Ok(())
    });
    assert!(matches!(late.await, Err(Error::Deadline)));
    assert_eq!(
        (cluster.snapshot().outcome_unknown, in_flight(&cluster)),
        (2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_run_twice_is_tried_again() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes)).await;
    let calls = Cell::new(0);
    let write = Checkout::write().idempotent();
    let written = cluster.run(&write, |mut lease| {
        calls.set(calls.get() + 1);
        let fails = calls.get() == 1;
        async move {
            lease.write();
            match fails {
                true => Err(Broken(Failure::Lost)),
                false => Ok(()),
            }
        }
    });
    written.await.unwrap();
    assert_eq!((calls.get(), nodes[0].state().position), (2, 2));
}

// The first attempt is lost, and then there is no second, or it does not help.
#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_run_in_an_attempt_before_never_ends_as_one_that_did_not() {
    type Then = fn(&Cluster<Fake>, &Fake);
    let thens: [(&str, Then); 5] = [
        ("nobody takes writes", |cluster, _| {
            cluster.set_draining("n0", true);
        }),
        ("the breaker is open", |cluster, _| {
            let breaker = cluster.breaker("n0").unwrap();
            breaker.set_mode(breaker::Mode::ForcedOpen);
        }),
        ("no connection", |_, primary| {
            primary.set(|state| state.connect_fails = Some(Failure::NotSent));
        }),
        ("none in time", |_, primary| {
            primary.set(|state| state.connect_takes = millis(900));
        }),
        ("lost again", |_, _| {}),
    ];
    for (places, (name, then)) in thens.into_iter().flat_map(|then| [(0, then), (9, then)]) {
        for failure in [Failure::Lost, Failure::NotSent] {
            let nodes = replicated::nodes(3);
            let cluster = seen(replicated::cluster(&nodes).write_buffer(places)).await;
            let write = Checkout::write().idempotent().deadline(millis(500));
            let written = cluster.run(&write, |mut lease| {
                lease.write();
                then(&cluster, &nodes[0]);
                async move { Err::<(), _>(Broken(failure)) }
            });
            let error = written.await.unwrap_err();
            let unknown = failure == Failure::Lost;
            let source = match &error {
                Error::OutcomeUnknown { source, .. } => source.as_ref(),
                _ => None,
            };
            assert_eq!(source.is_some(), unknown, "{name}, {places}: {error}");
            let snapshot = cluster.snapshot();
            assert_eq!(snapshot.outcome_unknown, u64::from(unknown), "{name}");
            assert_eq!(in_flight(&cluster), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_time_is_up_may_have_run_also_if_it_may_run_twice() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes)).await;
    let write = Checkout::write().idempotent().deadline(millis(30));
    let late = cluster.run(&write, |mut lease| async move {
        lease.write();
        sleep(millis(100)).await;
        Ok(())
    });
    let error = late.await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { source: None, .. }));
    assert_eq!(nodes[0].state().position, 1);
    // An answer is one, whatever was lost before.
    let calls = Cell::new(0);
    let write = Checkout::write().idempotent();
    let answered = cluster.run(&write, |_| {
        calls.set(calls.get() + 1);
        let failure = [Failure::Lost, Failure::Failed][calls.get() - 1];
        async move { Err::<(), _>(Broken(failure)) }
    });
    assert!(matches!(answered.await, Err(Error::Inner(_))));
    assert_eq!(cluster.snapshot().outcome_unknown, 1);
}

// The primary was replaced, and nobody has looked since: it refuses the write, as a replica.
#[tokio::test(start_paused = true)]
async fn a_misrouted_write_goes_to_the_new_primary_after_a_look() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes)).await;
    nodes[0].set(|state| (state.role, state.epoch) = (Role::Replica, 2));
    nodes[2].set(|state| (state.role, state.epoch) = (Role::Primary, 2));
    let (began, write) = (Instant::now(), Checkout::write());
    let written = cluster.run(&write, |lease| async move {
        match lease.node() {
            "n0" => Err(Broken(Failure::Misrouted)),
            node => Ok(node.to_owned()),
        }
    });
    assert_eq!(written.await.unwrap(), "n2");
    assert!(began.elapsed() < millis(10), "{:?}", began.elapsed());
    assert_eq!(failures(&cluster, "n0"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_refused_while_the_primarys_breaker_is_open() {
    let nodes = replicated::nodes(3);
    let config = breaker::Config::builder().consecutive_failures(Some(2));
    let cluster = seen(replicated::cluster(&nodes).breaker(config.build().unwrap())).await;
    nodes[0].set(|state| state.connect_fails = Some(Failure::NotSent));
    for _ in 0..2 {
        cluster.lease(&Checkout::write()).await.unwrap_err();
    }
    assert_eq!(cluster.breaker("n0").unwrap().state(), State::Open);
    let connects = nodes[0].connects();
    let error = cluster.lease(&Checkout::write()).await.unwrap_err();
    assert!(matches!(error, Error::Breaker(_)), "{error}");
    assert!(error.retry_after().is_some());
    let primary = Checkout::read(ReadFreshness::Primary);
    assert!(matches!(
        cluster.lease(&primary).await,
        Err(Error::Breaker(_))
    ));
    assert_eq!(nodes[0].connects(), connects);
    assert_ne!(cluster.lease(&any()).await.unwrap().node(), "n0");
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_passes_over_nodes_whose_breaker_is_open() {
    let nodes = replicated::nodes(3);
    let cluster = seen(replicated::cluster(&nodes)).await;
    let open = |name| {
        cluster
            .breaker(name)
            .unwrap()
            .set_mode(breaker::Mode::ForcedOpen)
    };
    open("n1");
    for _ in 0..10 {
        assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n2");
    }
    let snapshot = cluster.snapshot();
    assert_eq!((nodes[1].connects(), snapshot.retries), (0, 0));
    assert!(snapshot.rejected > 0);
    open("n2");
    assert_eq!(cluster.lease(&any()).await.unwrap().node(), "n0");
    open("n0");
    let error = cluster.lease(&any()).await.unwrap_err();
    assert!(matches!(error, Error::Breaker(_)), "{error}");
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_nodes_says_so() {
    let cluster = seen(replicated::cluster(&[])).await;
    let error = cluster.lease(&any()).await.unwrap_err();
    let Error::NoRoute(no_route) = error else {
        panic!("{error}");
    };
    assert_eq!(no_route.reason, Reason::NoNode);
}
