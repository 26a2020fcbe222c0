//! What the router tells those who look at the nodes, and hold what it gave them.

use std::time::Duration;

use resilience_core::{
    balance::{self, Endpoint},
    clock::ManualClock,
    route::*,
};

const MS: Duration = Duration::from_millis(1);
const CLUSTER: u64 = 7;

struct Bench {
    router: Router<Counter, ()>,
    clock: ManualClock,
}

/// `a` is the primary at 9; `b` of zone `x` and `c` of zone `y` are replicas at 9 and 5.
fn bench() -> Bench {
    let clock = ManualClock::new();
    clock.advance(MS * 10_000);
    let balance = balance::Config::default();
    let router = Router::with_seed(Config::default(), balance, None, clock.clone(), 1);
    let zone = |name: &str| match name {
        "b" => Some("x".into()),
        "c" => Some("y".into()),
        _ => None,
    };
    let node = |name| Endpoint::from((name, "value")).zone(zone(name)).map(drop);
    router.set_nodes(["a", "b", "c"].map(node)).unwrap();
    let bench = Bench { router, clock };
    bench.all(1, 9, 9, 5);
    bench
}

impl Bench {
    fn seen(&self, name: &str, role: Role, epoch: u64, position: u64) {
        let at = self.router.now();
        let seen = Observation::new(role, CLUSTER, epoch, Counter(position), at);
        self.router.observe(name, seen.incarnation(4));
    }

    fn all(&self, epoch: u64, a: u64, b: u64, c: u64) {
        self.seen("a", Role::Primary, epoch, a);
        self.seen("b", Role::Replica, epoch, b);
        self.seen("c", Role::Replica, epoch, c);
    }

    fn goes_to(&self, request: &Request<'_, Counter>) -> String {
        match self.router.route(request).unwrap() {
            Step::Go(route) => route.name().into(),
            step => panic!("{step:?}"),
        }
    }

    fn any(&self) -> Request<'static, Counter> {
        Request::read(Freshness::Any, self.router.now())
    }

    fn current(&self, name: &str, why: Why) -> bool {
        let id = self.router.id(name).unwrap();
        self.router.is_current(id, 4, why)
    }
}

const fn token(position: u64) -> Token<Counter> {
    Token {
        cluster: CLUSTER,
        epoch: 1,
        position: Counter(position),
    }
}

#[test]
fn a_read_goes_where_it_prefers_if_that_is_fresh_in_and_not_ejected() {
    let bench = bench();
    let id = |name| bench.router.id(name).unwrap();
    let token = token(7);
    let fresh = Request::read(Freshness::AtLeast(&token), bench.router.now());
    for _ in 0..20 {
        assert_eq!(bench.goes_to(&bench.any().preferring(id("b"))), "b");
        assert_eq!(bench.goes_to(&bench.any().preferring(id("c"))), "c");
        assert_eq!(bench.goes_to(&bench.any().in_zone("x")), "b");
        assert_eq!(bench.goes_to(&bench.any().in_zone("y")), "c");
        assert_eq!(
            bench.goes_to(&bench.any().in_zone("x").preferring(id("c"))),
            "c"
        );
        // The primary is no replica, and `c` is not fresh enough.
        assert_ne!(bench.goes_to(&bench.any().preferring(id("a"))), "a");
        assert_eq!(bench.goes_to(&fresh.preferring(id("c"))), "b");
        assert_eq!(bench.goes_to(&fresh.in_zone("y")), "b");
        assert_ne!(bench.goes_to(&bench.any().in_zone("z")), "a");
    }
    let tried = [id("b")];
    assert_eq!(
        bench.goes_to(&bench.any().preferring(id("b")).excluding(&tried)),
        "c"
    );
    bench.router.balancer().set_health("b", false);
    assert!(bench.router.balancer().is_ejected(id("b")));
    assert_eq!(bench.goes_to(&bench.any().preferring(id("b"))), "c");
}

#[test]
fn a_node_is_current_while_it_is_what_it_was() {
    use Why::{Asked, Fresh, LastResort, Spilled, Write};
    let bench = bench();
    for (name, why, current) in [
        ("a", Write, true),
        ("a", Asked, true),
        ("a", Spilled, true),
        ("b", Fresh, true),
        ("b", LastResort, true),
        ("b", Spilled, true),
        ("b", Write, false),
        ("b", Asked, false),
    ] {
        assert_eq!(bench.current(name, why), current, "{name} {why:?}");
    }
    let b = bench.router.id("b").unwrap();
    assert!(!bench.router.is_current(b, 3, Fresh), "another run");
    bench.router.balancer().set_health("b", false);
    assert!(!bench.current("b", Fresh) && bench.current("b", LastResort));
    bench.router.balancer().set_health("b", true);
    bench.router.set_draining("b", true);
    assert!(!bench.current("b", Fresh) && !bench.current("b", LastResort));
    bench.router.set_draining("b", false);
    assert!(bench.current("b", Fresh));
    // Another is the primary of a newer epoch: `a` is fenced, and `b` is not of it yet.
    bench.clock.advance(MS);
    bench.seen("c", Role::Primary, 2, 9);
    assert!(!bench.current("a", Write) && !bench.current("a", Spilled));
    assert!(!bench.current("b", Fresh) && bench.current("c", Write));
    bench.clock.advance(MS * 1_001);
    assert!(!bench.current("c", Write), "not seen for too long");
    bench.router.set_nodes([Endpoint::new("a", ())]).unwrap();
    assert!(!bench.router.is_current(b, 4, Fresh));
}

#[test]
fn a_primary_that_is_back_is_unconfirmed_until_all_others_were_asked() {
    let bench = bench();
    assert!(!bench.router.is_unconfirmed("a") && bench.router.writable().is_ok());
    bench.clock.advance(MS);
    bench.router.unreachable("a", bench.router.now());
    assert_eq!(bench.router.writable(), Err(Reason::NoPrimary));
    assert!(!bench.router.is_unconfirmed("a"));
    bench.clock.advance(MS);
    bench.seen("a", Role::Primary, 1, 9);
    assert!(bench.router.is_unconfirmed("a") && !bench.router.is_unconfirmed("b"));
    assert_eq!(bench.router.writable(), Err(Reason::NoPrimary));
    bench.all(1, 9, 9, 9);
    assert!(!bench.router.is_unconfirmed("a") && bench.router.writable().is_ok());
    bench.router.drain();
    assert_eq!(bench.router.writable(), Err(Reason::Draining));
}

#[test]
fn who_asks_early_is_answered_by_a_fresh_replica_or_once_the_primary_has_told() {
    let bench = bench();
    let arrived = bench.router.now();
    let token = token(12);
    let read = Request::read(Freshness::AtLeast(&token), arrived);
    let read = read.probed().waited();
    let step = bench.router.route(&read).unwrap();
    assert!(matches!(step, Step::Observe), "{step:?}");
    let read = read.observed();
    assert!(
        bench.router.route_early(&read).is_none(),
        "nobody has told yet"
    );
    bench.clock.advance(MS);
    bench.seen("c", Role::Replica, 1, 11);
    assert!(bench.router.route_early(&read).is_none());
    bench.seen("a", Role::Primary, 1, 12);
    let early = bench.router.route_early(&read).unwrap().unwrap();
    assert!(!matches!(early, Step::Observe), "{early:?}");
    drop(early);
    bench.seen("b", Role::Replica, 1, 12);
    let Some(Ok(Step::Go(route))) = bench.router.route_early(&read) else {
        panic!("it has it");
    };
    assert_eq!((route.name(), route.why()), ("b", Why::Fresh));
    // One that was told to wait, and not to look at the primary, waits for the replicas.
    let later = Token {
        position: Counter(13),
        ..token
    };
    let read = Request::read(Freshness::AtLeast(&later), bench.router.now()).waited();
    assert!(bench.router.route_early(&read).is_none());
    // What cannot become otherwise is told at once; what may, is not.
    let foreign = Token {
        cluster: 8,
        ..token
    };
    let read = Request::read(Freshness::AtLeast(&foreign), arrived);
    let refused = bench.router.route_early(&read).unwrap().unwrap_err();
    assert_eq!(refused.reason, Reason::Foreign);
    bench.clock.advance(MS);
    bench.all(2, 20, 20, 20);
    let read = Request::read(Freshness::AtLeast(&token), arrived);
    assert!(
        bench.router.route_early(&read).is_none(),
        "the history may come"
    );
    assert_eq!(
        bench.router.route(&read).unwrap_err().reason,
        Reason::UnknownHistory
    );
}

#[test]
fn a_replica_is_fresh_for_as_long_as_the_read_allows() {
    let bench = bench();
    let b = bench.router.id("b").unwrap();
    let a = bench.router.id("a").unwrap();
    let read = Request::read(Freshness::MaxLag(MS * 200), bench.router.now());
    assert!(bench.router.is_fresh(b, &read) && !bench.router.is_fresh(a, &read));
    bench.clock.advance(MS * 200);
    assert!(bench.router.is_fresh(b, &read));
    bench.clock.advance(MS);
    assert!(!bench.router.is_fresh(b, &read));
    let (seven, ten) = (token(7), token(10));
    let read = |token| Request::read(Freshness::AtLeast(token), bench.router.now());
    assert!(bench.router.is_fresh(b, &read(&seven)));
    assert!(!bench.router.is_fresh(b, &read(&ten)));
    let foreign = Token {
        cluster: 8,
        ..seven
    };
    assert!(!bench.router.is_fresh(b, &read(&foreign)));
}

#[test]
fn the_cluster_and_the_identity_of_a_node_are_told() {
    let bench = bench();
    assert_eq!(bench.router.cluster(), Some(CLUSTER));
    let seen = Observation::new(Role::Replica, CLUSTER, 1, Counter(0), MS).incarnation(6);
    assert_eq!(seen.identity(), (Role::Replica, 6));
    let endpoint = Endpoint::from(("a", 1));
    assert_eq!(&**endpoint.name(), "a");
}
