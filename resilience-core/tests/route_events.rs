//! What subscribers of a router hear.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use resilience_core::{
    balance::{self, Endpoint},
    clock::ManualClock,
    route::*,
};

const MS: Duration = Duration::from_millis(1);

struct Bench {
    router: Router<Lsn, ()>,
    clock: ManualClock,
    events: Receiver<Event>,
    _subscription: Subscription,
}

/// Nobody was asked yet.
fn bench() -> Bench {
    let clock = ManualClock::new();
    clock.advance(MS * 10_000);
    let config = Config::builder()
        .max_lag(MS * 100)
        .readmit_lag(MS * 50)
        .readmit_after(MS * 30);
    let config = config.build().unwrap();
    let router = Router::with_clock(config, balance::Config::default(), None, clock.clone());
    router
        .set_nodes(["a", "b", "c"].map(|name| Endpoint::new(name, ())))
        .unwrap();
    let (_subscription, events) = router.subscribe_channel(100);
    Bench {
        router,
        clock,
        events,
        _subscription,
    }
}

impl Bench {
    fn seen(&self, name: &str, role: Role, epoch: u64, at: u64) {
        let seen = Observation::new(role, 7, epoch, Lsn(at), self.router.now());
        assert!(self.router.observe(name, seen));
    }

    fn down(&self, name: &str) {
        assert!(self.router.unreachable(name, self.router.now()));
    }

    /// `a` is the primary at 100, `b` and `c` have all of it.
    fn all(&self) {
        self.seen("a", Role::Primary, 1, 100);
        self.seen("b", Role::Replica, 1, 100);
        self.seen("c", Role::Replica, 1, 100);
    }

    /// What was told since the last time, as `node change`.
    fn told(&self) -> Vec<String> {
        let told = self.events.try_iter();
        told.map(|event| format!("{} {}", event.node, event.change))
            .collect()
    }
}

#[test]
fn a_cluster_that_comes_up_and_goes_down_is_told_once() {
    let bench = bench();
    bench.down("c");
    bench.all();
    assert_eq!(
        bench.told(),
        ["c down", "a up", "b up", "a primary", "c up"]
    );
    bench.all();
    assert!(bench.told().is_empty());
    bench.down("b");
    bench.down("b");
    bench.down("a");
    assert_eq!(bench.told(), ["b down", "a down", "a no_primary"]);
}

#[test]
fn a_failover_is_told_and_the_old_primary_is_fenced_when_it_answers() {
    let bench = bench();
    bench.all();
    bench.told();
    bench.down("a");
    bench.clock.advance(MS);
    bench.seen("c", Role::Replica, 2, 100);
    assert_eq!(bench.told(), ["a down", "a no_primary", "c promoted"]);
    // The epoch is known by then: who else may be its primary is asked first.
    bench.seen("b", Role::Primary, 2, 101);
    assert!(bench.told().is_empty());
    bench.down("a");
    assert_eq!(bench.told(), ["b primary"]);
    // A primary of an older epoch that answers is told once for as long as it answers.
    for _ in 0..3 {
        bench.seen("a", Role::Primary, 1, 200);
    }
    assert_eq!(bench.told(), ["a up", "a fenced"]);
    bench.down("a");
    bench.seen("a", Role::Primary, 1, 200);
    assert_eq!(bench.told(), ["a down", "a up", "a fenced"]);
    // It is rewound, and follows.
    bench.seen("a", Role::Replica, 2, 101);
    assert!(bench.told().is_empty());
}

#[test]
fn events_carry_the_newest_epoch() {
    let bench = bench();
    bench.down("a");
    bench.seen("b", Role::Primary, 4, 100);
    bench.seen("c", Role::Primary, 5, 100);
    let epochs: Vec<_> = bench.events.try_iter().map(|event| event.epoch).collect();
    // a down; b up; c up, promoted and primary.
    assert_eq!(epochs, [None, Some(4), Some(5), Some(5), Some(5)]);
}

#[test]
fn two_primaries_of_one_epoch_are_told_and_so_is_the_one_that_is_left() {
    let bench = bench();
    bench.all();
    bench.told();
    bench.seen("b", Role::Primary, 1, 101);
    bench.seen("b", Role::Primary, 1, 102);
    assert_eq!(bench.told(), ["b conflict"]);
    bench.clock.advance(MS);
    bench.seen("b", Role::Replica, 1, 102);
    assert_eq!(bench.told(), ["a primary"]);
}

#[test]
fn a_primary_that_restarts_is_told_as_gone_and_back_when_all_were_asked() {
    let bench = bench();
    bench.all();
    bench.told();
    bench.clock.advance(MS);
    let seen = Observation::new(Role::Primary, 7, 1, Lsn(100), bench.router.now());
    bench.router.observe("a", seen.incarnation(2));
    assert_eq!(bench.told(), ["a no_primary"]);
    bench.seen("b", Role::Replica, 1, 100);
    bench.down("c");
    assert_eq!(bench.told(), ["c down", "a primary"]);
}

#[test]
fn a_replica_is_told_out_by_lag_and_in_again_and_set_back() {
    let bench = bench();
    bench.all();
    for step in 0..3 {
        bench.clock.advance(MS * 100);
        bench.seen("a", Role::Primary, 1, 200 + step);
    }
    bench.told();
    bench.seen("b", Role::Replica, 1, 100);
    bench.seen("b", Role::Replica, 1, 101);
    assert_eq!(bench.told(), ["b lagging"]);
    bench.seen("b", Role::Replica, 1, 202);
    bench.clock.advance(MS * 30);
    bench.seen("b", Role::Replica, 1, 202);
    assert_eq!(bench.told(), ["b caught_up"]);
    bench.seen("b", Role::Replica, 1, 201);
    assert_eq!(bench.told(), ["b set_back"]);
}

#[test]
fn a_node_of_another_cluster_is_told_once() {
    let bench = bench();
    bench.all();
    bench.told();
    for _ in 0..2 {
        let seen = Observation::new(Role::Replica, 8, 1, Lsn(100), bench.router.now());
        bench.router.observe("b", seen);
    }
    assert_eq!(bench.told(), ["b foreign"]);
    bench.seen("b", Role::Replica, 1, 100);
    assert_eq!(bench.told(), ["b up"]);
}

#[test]
fn a_primary_that_is_taken_out_of_the_set_is_told_as_gone() {
    let bench = bench();
    bench.all();
    bench.told();
    let rest = ["b", "c"].map(|name| Endpoint::new(name, ()));
    bench.router.set_nodes(rest).unwrap();
    assert_eq!(bench.told(), ["a no_primary"]);
}

#[test]
fn the_first_write_of_an_epoch_that_is_lost_is_told_by_the_call_that_asks_for_it() {
    let bench = bench();
    bench.all();
    let token = |epoch, at| Token {
        cluster: 7,
        epoch,
        position: Lsn(at),
    };
    let read = |token: &Token<Lsn>| {
        let request = Request::read(Freshness::AtLeast(token), bench.router.now());
        bench.router.route(&request).map(drop)
    };
    let failover = |name: &str, forks: &[(u64, u64)]| {
        bench.clock.advance(MS);
        let fork = |(epoch, at): &(u64, u64)| Fork {
            epoch: *epoch,
            position: Lsn(*at),
        };
        let epoch = 1 + forks.len() as u64;
        let seen = Observation::new(Role::Primary, 7, epoch, Lsn(200), bench.router.now());
        let seen = seen.history(forks.iter().map(fork).collect::<Vec<_>>());
        assert!(bench.router.observe(name, seen));
    };
    failover("b", &[(1, 90)]);
    bench.told();
    assert!(read(&token(1, 90)).is_ok());
    assert!(bench.told().is_empty());
    // Of all those that ask for one, the first.
    for at in [95, 100, 95] {
        let refused = read(&token(1, at)).unwrap_err();
        assert_eq!(refused.reason, Reason::Diverged);
    }
    assert_eq!(bench.told(), ["b diverged"]);
    assert_eq!(bench.router.snapshot().refused(Reason::Diverged), 3);
    failover("c", &[(1, 90), (2, 150)]);
    // The primary is told, and not who else has its history.
    bench.seen("a", Role::Replica, 3, 200);
    bench.told();
    assert!(read(&token(2, 160)).is_err());
    assert!(read(&token(1, 95)).is_err());
    assert_eq!(bench.told(), ["c diverged"]);
}

#[test]
fn a_callback_may_use_the_router_and_its_panic_is_nobodys() {
    let bench = bench();
    bench
        .router
        .subscribe(|_| panic!("in a subscriber"))
        .forget();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let subscription = {
        let (router, heard) = (bench.router.clone(), Arc::clone(&heard));
        bench.router.subscribe(move |event| {
            // Outside the lock, or these would wait for ever.
            router.set_draining("c", true);
            router.subscribe(|_| ()).forget();
            let primary = router.snapshot().primary;
            heard.lock().unwrap().push((event.change, primary));
        })
    };
    bench.all();
    let a = Some(Arc::from("a"));
    let heard = || std::mem::take(&mut *heard.lock().unwrap());
    let all = heard();
    assert_eq!(all.last(), Some(&(Change::Primary, a)));
    drop(subscription);
    bench.down("a");
    assert!(heard().is_empty());
}

// Outside the lock of the router too, or these would wait for ever.
#[test]
fn a_callback_of_the_balancer_may_change_the_router() {
    let bench = bench();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let router = bench.router.clone();
    let subscription = bench.router.balancer().subscribe(move |event| {
        router.set_draining("a", true);
        router.set_config(router.config());
        if event.change == balance::Change::Added {
            router.set_nodes([Endpoint::new("b", ())]).unwrap();
        }
        told.lock()
            .unwrap()
            .push((event.endpoint.clone(), event.change));
    });
    let nodes = ["b", "c", "d"].map(|name| Endpoint::new(name, ()));
    bench.router.set_nodes(nodes).unwrap();
    let (removed, added) = (balance::Change::Removed, balance::Change::Added);
    let expected = [("a", removed), ("c", removed), ("d", removed), ("d", added)];
    let expected = expected.map(|(name, change)| (Arc::from(name), change));
    assert_eq!(*heard.lock().unwrap(), expected);
    drop(subscription);
    assert_eq!(bench.router.snapshot().nodes.len(), 1);
}

// With them, before others and before anybody is told; not at all if they are not taken.
#[test]
fn what_goes_with_nodes_is_done_with_them() {
    let bench = bench();
    bench.all();
    bench.told();
    let done = AtomicU32::new(0);
    let with = || {
        assert!(bench.told().is_empty());
        done.fetch_add(1, Ordering::Relaxed);
    };
    let twice = ["b", "b"].map(|name| Endpoint::new(name, ()));
    assert!(bench.router.set_nodes_with(twice, with).is_err());
    assert_eq!(done.load(Ordering::Relaxed), 0);
    let rest = ["b", "c"].map(|name| Endpoint::new(name, ()));
    bench.router.set_nodes_with(rest, with).unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 1);
    assert_eq!(bench.told(), ["a no_primary"]);
}

#[test]
fn events_that_do_not_fit_a_channel_are_counted() {
    let bench = bench();
    let (_subscription, events) = bench.router.subscribe_channel(1);
    bench.all();
    assert_eq!(events.try_iter().count(), 1);
    assert_eq!(bench.router.snapshot().lost_events, 3);
}

#[test]
fn a_change_has_a_name_of_its_own() {
    let mut names = Change::ALL.map(Change::as_str).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Change::ALL.len());
}

#[test]
fn the_same_seed_gives_the_same_picks() {
    let picks = |seed| {
        let clock = ManualClock::new();
        let router = Router::with_seed(
            Config::default(),
            balance::Config::default(),
            None,
            clock,
            seed,
        );
        let nodes = ["a", "b", "c", "d"].map(|name| Endpoint::new(name, ()));
        router.set_nodes(nodes).unwrap();
        for name in ["a", "b", "c", "d"] {
            let role = match name {
                "a" => Role::Primary,
                _ => Role::Replica,
            };
            let seen = Observation::new(role, 7, 1, Lsn(1), Duration::ZERO);
            router.observe(name, seen);
        }
        let read = Request::read(Freshness::Any, Duration::ZERO);
        let pick = |_| match router.route(&read) {
            Ok(Step::Go(route)) => {
                let name = route.name().to_owned();
                route.success();
                name
            }
            other => panic!("{other:?}"),
        };
        (0..64).map(pick).collect::<Vec<_>>()
    };
    assert_eq!(picks(1), picks(1));
    assert_ne!(picks(1), picks(2));
}
