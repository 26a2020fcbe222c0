//! Where calls go: the tables of the module, row by row.

use std::time::Duration;

use allocation_counter::measure;
use resilience_core::{
    balance::{self, Endpoint},
    clock::ManualClock,
    retry::BudgetConfig,
    route::*,
};

const MS: Duration = Duration::from_millis(1);
const CLUSTER: u64 = 7;

struct Bench {
    router: Router<Lsn, ()>,
    clock: ManualClock,
}

fn settings() -> ConfigBuilder {
    let config = Config::builder().observation_ttl(MS * 1000);
    config.spill(BudgetConfig::new(1.0, 1_000_000).unwrap())
}

/// `a` is the primary at 100, `b` and `c` are replicas at 90 and 80; all were asked just now.
fn bench_with(config: ConfigBuilder) -> Bench {
    let clock = ManualClock::new();
    clock.advance(MS * 10_000);
    let balance = balance::Config::default();
    let router = Router::with_clock(config.build().unwrap(), balance, None, clock.clone());
    router
        .set_nodes(["a", "b", "c"].map(|name| Endpoint::new(name, ())))
        .unwrap();
    let bench = Bench { router, clock };
    bench.all(1, 100, 90, 80);
    bench
}

fn bench() -> Bench {
    bench_with(settings())
}

impl Bench {
    fn now(&self) -> Duration {
        self.router.now()
    }

    fn seen(&self, role: Role, epoch: u64, at: u64) -> Observation<Lsn> {
        Observation::new(role, CLUSTER, epoch, Lsn(at), self.now())
    }

    fn primary(&self, name: &str, epoch: u64, at: u64) {
        self.router
            .observe(name, self.seen(Role::Primary, epoch, at));
    }

    fn replica(&self, name: &str, epoch: u64, at: u64) {
        self.router
            .observe(name, self.seen(Role::Replica, epoch, at));
    }

    fn all(&self, epoch: u64, a: u64, b: u64, c: u64) {
        self.primary("a", epoch, a);
        self.replica("b", epoch, b);
        self.replica("c", epoch, c);
    }

    /// `b` takes over at 90.
    fn promote_b(&self) {
        let seen = self.seen(Role::Primary, 2, 95);
        let fork = Fork {
            epoch: 1,
            position: Lsn(90),
        };
        self.router.observe("b", seen.history([fork]));
    }

    fn go(&self, request: &Request<'_, Lsn>) -> (String, Why) {
        match self.router.route(request) {
            Ok(Step::Go(route)) => (route.name().into(), route.why()),
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self, request: &Request<'_, Lsn>) -> Reason {
        match self.router.route(request) {
            Err(error) => error.reason,
            other => panic!("{other:?}"),
        }
    }

    fn write(&self) -> Request<'static, Lsn> {
        Request::write(self.now())
    }

    fn read<'a>(&self, freshness: Freshness<'a, Lsn>) -> Request<'a, Lsn> {
        Request::read(freshness, self.now())
    }
}

fn token(epoch: u64, at: u64) -> Token<Lsn> {
    Token {
        cluster: CLUSTER,
        epoch,
        position: Lsn(at),
    }
}

#[test]
fn writes_go_to_the_primary_and_reads_to_replicas() {
    let bench = bench();
    assert_eq!(bench.go(&bench.write()), ("a".into(), Why::Write));
    let transaction = |read_only| {
        Request::new(
            Intent::Transaction { read_only },
            Freshness::Any,
            bench.now(),
        )
    };
    assert_eq!(bench.go(&transaction(false)).0, "a");
    assert_eq!(bench.go(&transaction(true)).1, Why::Fresh);
    for _ in 0..20 {
        assert_ne!(bench.go(&bench.read(Freshness::Any)).0, "a");
    }
    assert_eq!(
        bench.go(&bench.read(Freshness::Primary)),
        ("a".into(), Why::Asked)
    );
    let snapshot = bench.router.snapshot();
    assert_eq!(snapshot.routed(Why::Write), 2);
    assert_eq!(snapshot.routed(Why::Fresh), 21);
    assert_eq!(snapshot.primary.as_deref(), Some("a"));
}

#[test]
fn a_token_is_read_where_its_position_is_covered() {
    let bench = bench();
    for _ in 0..20 {
        assert_eq!(
            bench.go(&bench.read(Freshness::AtLeast(&token(1, 85)))).0,
            "b"
        );
    }
    let old = token(1, 80);
    let read = bench.read(Freshness::AtLeast(&old));
    let mut both: Vec<String> = (0..50).map(|_| bench.go(&read).0).collect();
    both.sort();
    both.dedup();
    assert_eq!(both, ["b", "c"]);
}

#[test]
fn a_token_that_no_replica_has_is_read_on_the_primary() {
    let bench = bench_with(settings().max_wait(None));
    let token = token(1, 95);
    let read = bench.read(Freshness::AtLeast(&token)).probed();
    assert_eq!(bench.go(&read), ("a".into(), Why::Spilled));
}

#[test]
fn a_lone_primary_needs_no_spill_budget() {
    let none = BudgetConfig::new(0.0, 0).unwrap().burst(1).unwrap();
    let bench = bench_with(settings().spill(none));
    bench.router.set_nodes([Endpoint::new("a", ())]).unwrap();
    for _ in 0..10 {
        assert_eq!(bench.go(&bench.read(Freshness::Any)).0, "a");
    }
}

#[test]
fn reads_move_to_the_primary_within_the_spill_budget_only() {
    let one = BudgetConfig::new(0.0, 0).unwrap().burst(1).unwrap();
    let bench = bench_with(settings().spill(one).max_wait(None));
    let token = token(1, 95);
    let read = bench.read(Freshness::AtLeast(&token)).probed();
    assert_eq!(bench.go(&read).1, Why::Spilled);
    assert_eq!(bench.refused(&read), Reason::SpillSpent);
    assert_eq!(bench.go(&bench.read(Freshness::Primary)).1, Why::Asked);
}

#[test]
fn the_spill_budget_saves_no_more_than_its_burst() {
    let two = BudgetConfig::new(1.0, 0).unwrap().burst(2).unwrap();
    let bench = bench_with(settings().spill(two).max_wait(None));
    for _ in 0..10 {
        assert_eq!(bench.go(&bench.read(Freshness::Any)).1, Why::Fresh);
    }
    let token = token(1, 95);
    let read = bench.read(Freshness::AtLeast(&token)).probed();
    assert_eq!(bench.go(&read).1, Why::Spilled);
    assert_eq!(bench.go(&read).1, Why::Spilled);
    assert_eq!(bench.refused(&read), Reason::SpillSpent);
    // What another read earns is one more.
    assert_eq!(bench.go(&bench.read(Freshness::Any)).1, Why::Fresh);
    assert_eq!(bench.go(&read).1, Why::Spilled);
    assert_eq!(bench.refused(&read), Reason::SpillSpent);
}

#[test]
fn the_primary_of_an_older_epoch_is_given_nothing_for_ever() {
    let bench = bench();
    bench.promote_b();
    assert_eq!(bench.go(&bench.write()).0, "b");
    // It is back, and says that it is the primary.
    bench.primary("a", 1, 120);
    assert_eq!(bench.go(&bench.write()).0, "b");
    bench.router.unreachable("b", bench.now());
    bench.primary("a", 1, 120);
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    assert_eq!(bench.refused(&bench.read(Freshness::Any)), Reason::NoNode);
    bench.router.set_nodes([Endpoint::new("a", ())]).unwrap();
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    let snapshot = bench.router.snapshot();
    assert_eq!((snapshot.promotions, snapshot.fenced), (1, 2));
    assert!(snapshot.nodes[0].fenced);
}

#[test]
fn a_newer_epoch_counts_though_a_replica_tells_it_or_tells_it_late() {
    let bench = bench();
    bench.replica("c", 2, 80);
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    let other = self::bench();
    let late = Observation::new(Role::Primary, CLUSTER, 2, Lsn(91), other.now() - MS);
    other.router.observe("b", late);
    assert_eq!(
        other.refused(&other.write()),
        Reason::NoPrimary,
        "not known to be a primary now"
    );
    assert_eq!(other.router.snapshot().late, 1);
}

#[test]
fn a_newer_epoch_counts_though_only_those_who_elect_tell_it() {
    let bench = bench();
    // `a` does not know that it was replaced, and nobody has seen by whom.
    let told = bench.seen(Role::Primary, 1, 110).newest(2);
    bench.router.observe("a", told);
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    assert_eq!(bench.refused(&bench.read(Freshness::Any)), Reason::NoNode);
    let snapshot = bench.router.snapshot();
    assert_eq!((snapshot.promotions, snapshot.fenced), (1, 1));
    bench.primary("b", 2, 95);
    bench.replica("c", 2, 95);
    // All others were asked since.
    bench.router.unreachable("a", bench.now());
    assert_eq!(bench.go(&bench.write()).0, "b");
    // What is older than the node says nothing.
    let told = bench.seen(Role::Primary, 2, 96).newest(1);
    bench.router.observe("b", told);
    assert_eq!(bench.go(&bench.write()).0, "b");
}

#[test]
fn two_primaries_of_one_epoch_take_no_writes() {
    let bench = bench();
    bench.primary("b", 1, 90);
    assert_eq!(bench.refused(&bench.write()), Reason::Conflict);
    bench.replica("a", 1, 100);
    bench.replica("c", 1, 80);
    assert_eq!(bench.go(&bench.write()).0, "b");
}

#[test]
fn a_primary_that_is_back_waits_until_all_others_were_asked() {
    let bench = bench();
    bench.router.unreachable("a", bench.now());
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    bench.clock.advance(MS);
    bench.primary("a", 1, 100);
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    bench.replica("b", 1, 90);
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    bench.router.unreachable("c", bench.now());
    assert_eq!(bench.go(&bench.write()).0, "a");
}

#[test]
fn a_primary_that_hung_or_restarted_is_one_that_is_back() {
    let bench = bench();
    bench.clock.advance(MS * 1001);
    assert_eq!(
        bench.refused(&bench.write()),
        Reason::NoPrimary,
        "not seen for too long"
    );
    bench.primary("a", 1, 100);
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    bench.all(1, 100, 90, 80);
    assert_eq!(bench.go(&bench.write()).0, "a");
    bench.clock.advance(MS);
    bench
        .router
        .observe("a", bench.seen(Role::Primary, 1, 100).incarnation(2));
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
}

#[test]
fn an_acknowledged_write_that_failover_lost_is_diverged_and_no_other_is() {
    let bench = bench();
    bench.promote_b();
    bench.replica("c", 2, 95);
    let lost = token(1, 91);
    let error = bench
        .router
        .route(&bench.read(Freshness::AtLeast(&lost)))
        .unwrap_err();
    assert_eq!(error.reason, Reason::Diverged);
    assert_eq!(error.disposition(), Disposition::Never);
    assert_eq!(
        bench.go(&bench.read(Freshness::AtLeast(&token(1, 90)))).0,
        "c"
    );
    assert_eq!(
        bench.go(&bench.read(Freshness::AtLeast(&token(2, 95)))).0,
        "c"
    );
}

/// A replica that follows the primary of epoch 2, and takes over before it has replayed all of epoch
/// 1, cuts off the end of that: its history file has a switch point below the one before.
#[test]
fn a_write_that_the_first_failover_kept_and_the_second_lost_is_diverged() {
    let bench = bench();
    let fork = |epoch, at| Fork {
        epoch,
        position: Lsn(at),
    };
    let seen = bench.seen(Role::Primary, 3, 95);
    bench
        .router
        .observe("c", seen.history([fork(1, 90), fork(2, 85)]));
    let read = |at| {
        bench
            .router
            .route(&bench.read(Freshness::AtLeast(&token(1, at))))
            .is_ok()
    };
    assert!(read(85) && !read(86));
}

#[test]
fn an_epoch_that_is_not_in_the_history_is_lost() {
    let bench = bench();
    let fork = Fork {
        epoch: 1,
        position: Lsn(90),
    };
    bench
        .router
        .observe("c", bench.seen(Role::Primary, 3, 95).history([fork]));
    assert_eq!(
        bench.refused(&bench.read(Freshness::AtLeast(&token(2, 1)))),
        Reason::Diverged
    );
}

#[test]
fn without_a_history_nobody_says_that_an_older_write_is_there() {
    let bench = bench();
    bench.primary("b", 2, 95);
    let old = token(1, 10);
    let error = bench
        .router
        .route(&bench.read(Freshness::AtLeast(&old)))
        .unwrap_err();
    assert_eq!(error.reason, Reason::UnknownHistory);
    assert!(matches!(error.disposition(), Disposition::RetryLater(_)));
}

#[test]
fn a_token_of_another_cluster_is_refused() {
    let bench = bench();
    let foreign = Token {
        cluster: 8,
        ..token(1, 1)
    };
    assert_eq!(
        bench.refused(&bench.read(Freshness::AtLeast(&foreign))),
        Reason::Foreign
    );
}

#[test]
fn a_token_past_the_primary_is_looked_into_and_then_refused() {
    for future in [token(1, 101), token(2, 1)] {
        let bench = bench();
        bench.clock.advance(MS);
        let read = bench.read(Freshness::AtLeast(&future));
        assert!(matches!(bench.router.route(&read), Ok(Step::Observe)));
        // Nobody answered.
        assert_eq!(bench.refused(&read.observed()), Reason::Behind);
        // Perhaps before the token came.
        bench.all(1, 100, 90, 80);
        assert_eq!(bench.refused(&read.observed()), Reason::Behind);
        bench.clock.advance(MS);
        bench.all(1, 100, 90, 80);
        assert_eq!(bench.refused(&read.observed()), Reason::Future);
    }
    let bench = bench();
    bench.clock.advance(MS);
    let fresh = token(1, 101);
    let read = bench.read(Freshness::AtLeast(&fresh));
    bench.all(1, 101, 90, 80);
    assert_eq!(
        bench.go(&read.observed().probed().waited()),
        ("a".into(), Why::Spilled)
    );
}

#[test]
fn a_node_of_another_cluster_is_given_nothing() {
    let bench = bench();
    let stranger = Observation::new(Role::Primary, 8, 9, Lsn(1), bench.now());
    bench.router.observe("b", stranger);
    bench.router.unreachable("c", bench.now());
    assert_eq!(bench.go(&bench.write()).0, "a");
    assert_eq!(
        bench.go(&bench.read(Freshness::Any)),
        ("a".into(), Why::Spilled)
    );
    assert_eq!(bench.router.snapshot().foreign, 1);
}

#[test]
fn a_read_with_a_bound_on_its_age_goes_by_our_own_clock() {
    let bench = bench_with(settings().max_wait(None));
    // The primary was at 100 by then, and b has that now.
    bench.clock.advance(MS * 30);
    bench.replica("b", 1, 100);
    bench.primary("a", 1, 120);
    let read = |max: u32| bench.read(Freshness::MaxLag(MS * max));
    assert_eq!(bench.go(&read(30)), ("b".into(), Why::Fresh));
    assert_eq!(bench.go(&read(29)), ("a".into(), Why::Spilled));
    // Idle: what it has stays all there is.
    bench.replica("b", 1, 120);
    bench.clock.advance(MS * 500);
    bench.primary("a", 1, 120);
    assert_eq!(bench.go(&read(1)), ("b".into(), Why::Fresh));
    assert_eq!(bench.router.snapshot().nodes[1].lag, Some(Duration::ZERO));
    assert_eq!(bench.router.snapshot().nodes[2].lag, None);
}

#[test]
fn a_replica_far_behind_is_out_until_it_kept_up_for_some_time() {
    let lag = settings()
        .max_lag(MS * 100)
        .readmit_lag(MS * 50)
        .readmit_after(MS * 40);
    let bench = bench_with(lag);
    let look = |b: u64| {
        bench.clock.advance(MS * 20);
        let now = bench.now().as_millis() as u64;
        bench.primary("a", 1, now);
        bench.replica("b", 1, now - b);
        bench.replica("c", 1, now);
        bench.router.snapshot().nodes[1].lagging
    };
    assert!(!look(0));
    (0..4).for_each(|_| assert!(!look(60)));
    (0..8).for_each(|_| _ = look(160));
    assert!(look(160));
    assert!(look(80), "not yet well");
    assert!(look(20));
    assert!(look(20));
    assert!(!look(20), "for 40 ms");
    (0..8).for_each(|_| _ = look(160));
    bench.router.unreachable("a", bench.now());
    bench.router.unreachable("c", bench.now());
    assert_eq!(
        bench.go(&bench.read(Freshness::Any)),
        ("b".into(), Why::LastResort)
    );
}

#[test]
fn a_replica_that_should_have_caught_up_is_looked_at_before_the_primary_is_asked() {
    let bench = bench_with(settings().max_wait(MS * 5));
    // b is seen without what the primary had 20 ms before, and with it when all that tells is that it
    // took no longer than 70 ms.
    bench.replica("b", 1, 100);
    bench.primary("a", 1, 105);
    bench.clock.advance(MS * 20);
    bench.primary("a", 1, 105);
    bench.replica("b", 1, 100);
    bench.clock.advance(MS * 50);
    bench.replica("b", 1, 105);
    bench.primary("a", 1, 110);
    let token = token(1, 110);
    let read = bench.read(Freshness::AtLeast(&token));
    bench.router.unreachable("c", bench.now());
    assert_eq!(bench.go(&read).1, Why::Spilled, "it takes 20 ms");
    bench.clock.advance(MS * 16);
    assert!(matches!(bench.router.route(&read), Ok(Step::Wait(time)) if time == MS * 4));
    bench.clock.advance(MS * 4);
    let b = bench.router.id("b").unwrap();
    assert!(matches!(bench.router.route(&read.waited()), Ok(Step::Probe(id)) if id == b));
    bench.replica("b", 1, 110);
    assert_eq!(bench.go(&read.waited().probed()), ("b".into(), Why::Fresh));
}

#[test]
fn a_replica_that_is_faster_than_it_was_is_waited_for_less() {
    let bench = bench_with(settings().max_wait(MS * 5));
    bench.router.unreachable("c", bench.now());
    bench.replica("b", 1, 100);
    // The primary is at 105, still after 8 ms, and b is seen without it after 16.
    bench.primary("a", 1, 105);
    bench.clock.advance(MS * 8);
    bench.primary("a", 1, 105);
    bench.clock.advance(MS * 8);
    bench.replica("b", 1, 100);
    let wait = |at| {
        bench.primary("a", 1, at);
        let token = token(1, at);
        let read = bench.read(Freshness::AtLeast(&token));
        bench.clock.advance(MS * 12);
        let step = bench.router.route(&read);
        bench.replica("b", 1, at);
        match step {
            Ok(Step::Wait(time)) => time,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(wait(110), MS * 4, "it takes 16 ms");
    // Now 12 ms at most: an eighth of what is between.
    assert_eq!(wait(115), MS * 7 / 2);
}

#[test]
fn a_replica_that_lacks_it_for_longer_than_usual_is_waited_for_as_long_again() {
    let bench = bench_with(settings().max_wait(MS * 5));
    bench.all(1, 100, 100, 100);
    let [b, c] = ["b", "c"].map(|name| bench.router.id(name).unwrap());
    let token = token(1, 110);
    let read = bench.read(Freshness::AtLeast(&token));
    let (only_b, only_c) = ([c], [b]);
    let step = |request| match bench.router.route(&request) {
        Ok(Step::Probe(id)) => format!("{:?}", id == b),
        step => format!("{step:?}"),
    };
    bench.clock.advance(MS);
    assert_eq!(step(read), "true", "it usually has all");
    bench.clock.advance(MS);
    bench.replica("b", 1, 109);
    assert_eq!(step(read.excluding(&only_b).probed()), "Ok(Wait(2ms))");
    // c was not looked at since, and may have it; but who had all looked at has waited for c.
    assert_eq!(step(read.excluding(&only_c)), "false");
    assert_eq!(step(read.probed()), "Ok(Wait(2ms))");
    assert_eq!(step(read.observed()), "Ok(Wait(2ms))");
    // 4 ms, and then 6.
    bench.clock.advance(MS * 2);
    bench.replica("b", 1, 109);
    assert_eq!(step(read.probed()), "Ok(Wait(4ms))");
    bench.clock.advance(MS * 2);
    bench.replica("b", 1, 109);
    assert_eq!(step(read.probed()), "Ok(Observe)");
}

#[test]
fn a_read_is_not_tried_twice_on_one_node() {
    let bench = bench();
    let tried = ["b", "c"].map(|name| bench.router.id(name).unwrap());
    assert_eq!(
        bench.go(&bench.read(Freshness::Any).excluding(&tried)).0,
        "a"
    );
    let tried = ["a", "b", "c"].map(|name| bench.router.id(name).unwrap());
    assert_eq!(
        bench.refused(&bench.read(Freshness::Any).excluding(&tried)),
        Reason::NoNode
    );
}

#[test]
fn an_ejected_replica_is_the_last_resort() {
    let bench = bench();
    bench.router.unreachable("c", bench.now());
    assert!(bench.router.balancer().set_health("b", false));
    assert_eq!(
        bench.go(&bench.read(Freshness::Any)),
        ("a".into(), Why::Spilled)
    );
    bench.router.unreachable("a", bench.now());
    assert_eq!(
        bench.go(&bench.read(Freshness::Any)),
        ("b".into(), Why::LastResort)
    );
}

#[test]
fn a_replica_that_is_set_back_counts_from_where_it_is() {
    let bench = bench();
    bench.clock.advance(MS);
    bench
        .router
        .observe("b", bench.seen(Role::Replica, 1, 10).incarnation(2));
    let token = token(1, 80);
    assert_eq!(bench.go(&bench.read(Freshness::AtLeast(&token))).0, "c");
    assert_eq!(bench.router.snapshot().set_back, 1);
    bench.router.unreachable("c", bench.now());
    let Ok(Step::Go(route)) = bench.router.route(&bench.read(Freshness::Any)) else {
        panic!();
    };
    assert_eq!((route.name(), route.incarnation()), ("b", 2));
}

#[test]
fn a_node_that_drains_is_given_no_new_calls_and_a_router_that_drains_gives_none() {
    let bench = bench();
    assert!(bench.router.set_draining("b", true));
    assert_eq!(bench.go(&bench.read(Freshness::Any)).0, "c");
    assert!(bench.router.set_draining("a", true));
    assert_eq!(bench.refused(&bench.write()), Reason::NoPrimary);
    assert!(bench.router.set_draining("a", false));
    let Ok(Step::Go(route)) = bench.router.route(&bench.write()) else {
        panic!();
    };
    bench.router.drain();
    let error = bench.router.route(&bench.write()).unwrap_err();
    assert_eq!(
        (error.reason, error.disposition()),
        (Reason::Draining, Disposition::Never)
    );
    assert_eq!(bench.router.in_flight(), 1);
    route.success();
    assert_eq!(bench.router.in_flight(), 0);
}

#[test]
fn only_a_write_that_may_have_run_is_ambiguous() {
    let read = Intent::Transaction { read_only: true };
    let write = Intent::Transaction { read_only: false };
    for failure in [Failure::NotSent, Failure::Misrouted, Failure::Refused] {
        assert_eq!(
            failure.disposition(write, false),
            Disposition::RetryElsewhere
        );
        assert!(failure.re_observe());
    }
    assert_eq!(
        Failure::Lost.disposition(write, false),
        Disposition::Ambiguous
    );
    assert_eq!(
        Failure::Lost.disposition(Intent::Write, false),
        Disposition::Ambiguous
    );
    assert_eq!(
        Failure::Lost.disposition(write, true),
        Disposition::RetryElsewhere
    );
    assert_eq!(
        Failure::Lost.disposition(read, false),
        Disposition::RetryElsewhere
    );
    assert_eq!(Failure::Failed.disposition(read, true), Disposition::Never);
}

#[test]
fn redis_tells_a_lost_write_without_a_history() {
    let clock = ManualClock::new();
    let router: Router<Offset, ()> = Router::with_clock(
        Config::default(),
        balance::Config::default(),
        Some(7),
        clock,
    );
    router.set_nodes([Endpoint::new("a", ())]).unwrap();
    let (old, new) = ("a".repeat(40), "b".repeat(40));
    let position = format!("{new}:500,{old}:401").parse().unwrap();
    router.observe(
        "a",
        Observation::new(Role::Primary, 7, 2, position, Duration::ZERO),
    );
    let read = |at: u64| {
        let token = Token {
            cluster: 7,
            epoch: 1,
            position: format!("{old}:{at}").parse().unwrap(),
        };
        let request = Request::read(Freshness::AtLeast(&token), Duration::ZERO);
        router
            .route(&request)
            .map(|_| ())
            .map_err(|error| error.reason)
    };
    assert_eq!((read(400), read(401)), (Ok(()), Err(Reason::Diverged)));
}

#[test]
fn settings_out_of_their_range_are_refused() {
    let error = |config: ConfigBuilder| config.build().unwrap_err().to_string();
    assert_eq!(
        error(Config::builder().observation_ttl(MS * 49)),
        "observation_ttl is 49ms, allowed: 50ms to 1 day"
    );
    assert!(error(Config::builder().max_lag(MS)).starts_with("max_lag is 1ms"));
    assert!(error(Config::builder().poll_interval(Duration::ZERO)).starts_with("poll_interval"));
    assert!(error(Config::builder().max_wait(Duration::ZERO)).starts_with("max_wait"));
    let text = r#"{"max_lag":"off","max_wait":"2ms","spill":{"share":0.5}}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!((config.max_lag(), config.max_wait()), (None, Some(MS * 2)));
    assert_eq!(config.spill().share(), 0.5);
    assert!(serde_json::from_str::<Config>(r#"{"lag":"1s"}"#).is_err());
    let router: Router<Lsn, ()> = Router::new(config, balance::Config::default(), None);
    let many = (0..33).map(|name| Endpoint::new(name.to_string(), ()));
    let error = router.set_nodes(many).unwrap_err();
    assert_eq!(error.to_string(), "nodes is 33, allowed: 0 to 32");
}

#[test]
fn a_call_is_routed_without_the_heap() {
    let bench = bench_with(settings().max_wait(None));
    let (covered, behind, lost) = (token(1, 85), token(1, 95), token(0, 1));
    bench
        .router
        .observe("a", bench.seen(Role::Primary, 1, 100).history([]));
    let calls = || {
        let freshness = [
            Freshness::Any,
            Freshness::MaxLag(MS),
            Freshness::Primary,
            Freshness::AtLeast(&covered),
            Freshness::AtLeast(&behind),
            Freshness::AtLeast(&lost),
        ];
        for freshness in freshness {
            if let Ok(Step::Go(route)) = bench.router.route(&bench.read(freshness)) {
                route.success();
            }
        }
        if let Ok(Step::Go(route)) = bench.router.route(&bench.write()) {
            route.success();
        }
    };
    calls();
    assert_eq!(measure(|| (0..200).for_each(|_| calls())).count_total, 0);
}
