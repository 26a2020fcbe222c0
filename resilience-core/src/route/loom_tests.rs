//! Every interleaving of looks and calls on one router.

use std::time::Duration;

use loom::thread;

use super::{Config, Counter, Observation, Reason, Request, Role, Router, Step};
use crate::{
    balance::{self, Endpoint},
    clock::{SharedClock, Still},
};

fn router() -> Router<Counter, ()> {
    let clock = SharedClock::new(Still);
    let router = Router::with_clock(Config::default(), balance::Config::default(), None, clock);
    let both = [Endpoint::new("a", ()), Endpoint::new("b", ())];
    router.set_nodes(both).unwrap();
    tell(&router, "b", Role::Replica, 1);
    tell(&router, "a", Role::Primary, 1);
    router
}

fn tell(router: &Router<Counter, ()>, name: &str, role: Role, epoch: u64) {
    let seen = Observation::new(role, 7, epoch, Counter(1), Duration::ZERO);
    router.observe(name, seen);
}

fn writes_to(router: &Router<Counter, ()>) -> Result<String, Reason> {
    match router.route(&Request::write(Duration::ZERO)) {
        Ok(Step::Go(route)) => Ok(route.name().into()),
        Ok(step) => panic!("{step:?}"),
        Err(error) => Err(error.reason),
    }
}

#[test]
fn loom_a_promotion_is_not_undone_by_a_look_at_the_old_primary() {
    loom::model(|| {
        let router = router();
        let other = {
            let router = router.clone();
            thread::spawn(move || tell(&router, "a", Role::Primary, 1))
        };
        tell(&router, "b", Role::Primary, 2);
        // Whoever was told of the newer epoch writes there.
        assert_eq!(writes_to(&router), Ok("b".into()));
        other.join().unwrap();
        assert_eq!(writes_to(&router), Ok("b".into()));
        assert_eq!(router.snapshot().epoch, Some(2));
    });
}

#[test]
fn loom_a_write_that_races_with_a_promotion_goes_to_one_of_the_two() {
    loom::model(|| {
        let router = router();
        let other = {
            let router = router.clone();
            thread::spawn(move || tell(&router, "b", Role::Primary, 2))
        };
        let first = writes_to(&router).unwrap();
        let second = writes_to(&router).unwrap();
        // And never back.
        assert!(first == "a" || second == "b");
        other.join().unwrap();
        assert_eq!(writes_to(&router), Ok("b".into()));
        assert_eq!(router.in_flight(), 0);
    });
}

#[test]
fn loom_looks_at_two_nodes_are_both_put_down() {
    loom::model(|| {
        let router = router();
        let other = {
            let router = router.clone();
            thread::spawn(move || router.unreachable("a", Duration::ZERO))
        };
        assert!(router.set_draining("b", true));
        other.join().unwrap();
        let nodes = router.snapshot().nodes;
        assert!(!nodes[0].up && nodes[1].draining);
    });
}
