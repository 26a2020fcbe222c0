//! Priorities, zones, health from outside, draining, and what is told of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{prelude::*, strategy::Strategy as _};
use resilience_core::{
    balance::{Strategy, *},
    breaker::Outcome,
    clock::ManualClock,
};

const SECOND: Duration = Duration::from_secs(1);

const STRATEGIES: [Strategy; 5] = [
    Strategy::RoundRobin,
    Strategy::SmoothWeighted,
    Strategy::LeastConnections,
    Strategy::PeakEwma,
    Strategy::ConsistentHash,
];

fn with(config: ConfigBuilder) -> (Balancer<&'static str>, ManualClock) {
    let clock = ManualClock::new();
    clock.set(SECOND);
    let config = config.success_rate_deviations(None).build().unwrap();
    (Balancer::with_seed(config, clock.clone(), 11), clock)
}

fn of(strategy: Strategy) -> ConfigBuilder {
    Config::builder().strategy(strategy)
}

/// Endpoints by name, zone and priority.
fn set(balancer: &Balancer<&'static str>, endpoints: &[(&'static str, &str, u8)]) {
    let endpoints = endpoints.iter().map(|(name, zone, priority)| {
        let zone = (!zone.is_empty()).then(|| Arc::from(*zone));
        Endpoint::new(*name, *name).zone(zone).priority(*priority)
    });
    balancer.set_endpoints(endpoints).unwrap();
}

/// The share of calls whose endpoint's name begins so; each call has a key of its own.
fn share(balancer: &Balancer<&'static str>, prefix: &str) -> f64 {
    const CALLS: u64 = 4_000;
    let calls = (0..CALLS).filter(|call| {
        let key = hash_key(&call.to_le_bytes());
        let pick = balancer.pick_by(Criteria::default().key(key)).unwrap();
        let hit = pick.name().starts_with(prefix);
        pick.success();
        hit
    });
    calls.count() as f64 / CALLS as f64
}

fn eject(balancer: &Balancer<&'static str>, name: &str) {
    let ejected = |one: &EndpointSnapshot| &*one.name == name && one.ejected_for.is_some();
    for call in 0_u64..10_000 {
        if balancer.snapshot().endpoints.iter().any(ejected) {
            return;
        }
        let key = hash_key(&call.to_le_bytes());
        let pick = balancer.pick_by(Criteria::default().key(key)).unwrap();
        if pick.name() == name {
            pick.failure();
        }
    }
    panic!("{name} is not ejected");
}

#[test]
fn the_first_priority_keeps_all_calls_while_enough_of_it_is_left() {
    for strategy in STRATEGIES {
        let (balancer, _) = with(of(strategy).consecutive_failures(1).max_ejected(1.0));
        set(
            &balancer,
            &[
                ("a1", "", 0),
                ("a2", "", 0),
                ("a3", "", 0),
                ("a4", "", 0),
                ("b1", "", 1),
                ("b2", "", 1),
            ],
        );
        assert_eq!(share(&balancer, "a"), 1.0, "{strategy:?}");
        // Three of four are 0.75, which is over 0.7.
        eject(&balancer, "a1");
        assert_eq!(share(&balancer, "a"), 1.0, "{strategy:?}");
        // A half over 0.7 is 0.714.
        eject(&balancer, "a2");
        let left = share(&balancer, "a");
        assert!((left - 0.714).abs() < 0.03, "{strategy:?}: {left}");
        assert!(balancer.set_health("a3", false) && balancer.set_health("a4", false));
        let left = share(&balancer, "a");
        // Two are unhealthy and two ejected.
        assert_eq!(left, 0.0, "{strategy:?}");
        balancer.set_health("a3", true);
        balancer.set_health("a4", true);
        assert!(share(&balancer, "a") > 0.6, "{strategy:?}");
    }
}

#[test]
fn a_group_that_comes_back_by_time_gets_its_calls_back_without_a_change() {
    let (balancer, clock) = with(of(Strategy::RoundRobin).consecutive_failures(1));
    set(&balancer, &[("a", "", 0), ("b", "", 5)]);
    eject(&balancer, "a");
    assert_eq!(share(&balancer, "b"), 1.0);
    clock.advance(SECOND * 30);
    assert_eq!(share(&balancer, "a"), 1.0);
}

#[test]
fn a_priority_of_which_all_drain_is_as_if_it_were_not_there() {
    let (balancer, _) = with(of(Strategy::RoundRobin));
    set(&balancer, &[("a1", "", 0), ("a2", "", 0), ("b", "", 1)]);
    assert!(balancer.drain("a1") && !balancer.drain("nobody"));
    // One that drains does not count as lost.
    assert_eq!(share(&balancer, "a2"), 1.0);
    assert!(balancer.drain("a2"));
    assert_eq!(share(&balancer, "b"), 1.0);
    assert_eq!(balancer.set_weight("a2", 3), Ok(true));
    assert_eq!(share(&balancer, "a2"), 1.0);
    let error = balancer.set_weight("a2", 1_001).unwrap_err();
    assert_eq!(error.to_string(), "weight is 1001, allowed: 0 to 1000");
}

#[test]
fn an_endpoint_drains_while_its_calls_run_and_keeps_what_is_known_of_it() {
    for strategy in STRATEGIES {
        let (balancer, clock) = with(of(strategy));
        set(&balancer, &[("a", "", 0)]);
        let running = balancer.pick().unwrap();
        set(&balancer, &[("a", "", 0), ("b", "", 0)]);
        balancer.drain("a");
        assert_eq!(share(&balancer, "b"), 1.0, "{strategy:?}");
        let a = &balancer.snapshot().endpoints[0];
        assert_eq!((a.weight, a.in_flight), (0, 1));
        clock.advance(SECOND);
        running.success();
        let a = &balancer.snapshot().endpoints[0];
        assert_eq!((a.in_flight, a.successes, a.failures), (0, 1, 0));
    }
}

#[test]
fn calls_stay_in_the_own_zone_while_it_has_its_part_of_the_weight() {
    for strategy in STRATEGIES {
        let (balancer, _) = with(of(strategy));
        set(
            &balancer,
            &[
                ("b1", "b", 0),
                ("a1", "a", 0),
                ("b2", "b", 0),
                ("a2", "a", 0),
            ],
        );
        let all = share(&balancer, "a");
        assert!((0.3..0.7).contains(&all), "{strategy:?}: {all}");
        balancer.set_zone(Some("a"));
        assert_eq!(share(&balancer, "a"), 1.0, "{strategy:?}");
        // One of three is a third, and two zones need a half each: two thirds stay.
        balancer.set_health("a1", false);
        let left = share(&balancer, "a");
        assert!((left - 2.0 / 3.0).abs() < 0.04, "{strategy:?}: {left}");
        balancer.set_health("a2", false);
        assert_eq!(share(&balancer, "b"), 1.0, "{strategy:?}");
        balancer.set_health("a1", true);
        balancer.set_health("a2", true);
        assert_eq!(share(&balancer, "a"), 1.0, "{strategy:?}");
        // A zone that nobody is in prefers nobody.
        balancer.set_zone(Some("c"));
        assert!(share(&balancer, "b") > 0.3, "{strategy:?}");
        balancer.set_zone(None);
        assert!(share(&balancer, "b") > 0.3, "{strategy:?}");
    }
}

#[test]
fn a_group_goes_over_to_the_next_before_calls_leave_for_a_worse_one_in_the_own_zone() {
    let (balancer, _) = with(of(Strategy::RoundRobin));
    set(
        &balancer,
        &[
            ("a1", "a", 1),
            ("b0", "b", 0),
            ("a0", "a", 0),
            ("b1", "b", 1),
        ],
    );
    balancer.set_zone(Some("a"));
    assert_eq!(share(&balancer, "a0"), 1.0);
    // Half of the first group: 0.714 of the calls go to its other zone.
    balancer.set_health("a0", false);
    let other = share(&balancer, "b0");
    assert!((other - 0.714).abs() < 0.03, "{other}");
    // And the rest to the own zone of the next.
    assert_eq!(share(&balancer, "b1"), 0.0);
}

#[test]
fn a_key_stays_where_it_is_while_part_of_the_calls_goes_elsewhere() {
    let (balancer, _) = with(of(Strategy::ConsistentHash));
    set(
        &balancer,
        &[("a1", "", 0), ("a2", "", 0), ("b1", "", 1), ("b2", "", 1)],
    );
    let owners = || -> Vec<String> {
        let keys = (0..500_u64).map(|key| hash_key(&key.to_le_bytes()));
        let owner = |key| balancer.pick_by(Criteria::default().key(key)).unwrap();
        keys.map(|key| owner(key).name().to_owned()).collect()
    };
    let before = owners();
    balancer.set_health("a1", false);
    let during = owners();
    assert_eq!(during, owners());
    // Keys of the healthy one leave only for the next group.
    let moved = before.iter().zip(&during);
    assert!(moved.clone().all(|(old, new)| old != "a2" || new != "a1"));
    assert!(during.iter().any(|new| new.starts_with('b')));
    balancer.set_health("a1", true);
    assert_eq!(owners(), before);
}

#[test]
fn a_retry_leaves_its_zone_and_priority_rather_than_try_the_same_again() {
    for strategy in STRATEGIES {
        let (balancer, _) = with(of(strategy));
        set(&balancer, &[("a0", "a", 0), ("b0", "b", 0), ("a1", "a", 1)]);
        balancer.set_zone(Some("a"));
        let mut tried = Vec::new();
        for expected in ["a0", "b0", "a1"] {
            let pick = balancer.pick_by(Criteria::default().excluding(&tried));
            let pick = pick.unwrap();
            assert_eq!(pick.name(), expected, "{strategy:?}");
            tried.push(pick.id());
        }
    }
}

#[test]
fn an_unhealthy_endpoint_is_given_no_calls_and_starts_slowly_afterwards() {
    for strategy in STRATEGIES {
        let (balancer, clock) = with(of(strategy).slow_start(SECOND * 100));
        set(&balancer, &[("a", "", 0), ("b", "", 0)]);
        assert!(!balancer.set_health("nobody", false));
        assert!(balancer.set_health("a", false));
        assert_eq!(share(&balancer, "a"), 0.0, "{strategy:?}");
        let a = &balancer.snapshot().endpoints[0];
        assert!(!a.healthy && a.ejected_for.is_none());
        // Told again with the set, it is still what somebody found who checks.
        set(&balancer, &[("a", "", 0), ("b", "", 0)]);
        clock.advance(SECOND * 1_000_000);
        assert_eq!(share(&balancer, "a"), 0.0, "{strategy:?}");
        balancer.set_health("a", true);
        if strategy == Strategy::SmoothWeighted {
            let cold = share(&balancer, "a");
            assert!((0.05..0.15).contains(&cold), "{cold}");
        }
        assert!(balancer.snapshot().endpoints[0].healthy);
    }
}

#[test]
fn one_that_is_found_healthy_comes_back_from_its_ejection() {
    let (balancer, _) = with(of(Strategy::RoundRobin).consecutive_failures(1));
    set(&balancer, &[("a", "", 0), ("b", "", 0)]);
    eject(&balancer, "a");
    // It is healthy already: nothing new.
    balancer.set_health("a", true);
    assert!(balancer.snapshot().endpoints[0].ejected_for.is_some());
    balancer.set_health("a", false);
    balancer.set_health("a", true);
    assert!(balancer.snapshot().endpoints[0].ejected_for.is_none());
    assert_eq!(share(&balancer, "a"), 0.5);
}

#[test]
fn where_all_are_unhealthy_calls_go_to_them_or_are_refused_as_set() {
    for strategy in STRATEGIES {
        let (balancer, _) = with(of(strategy));
        set(&balancer, &[("a", "", 0), ("b", "", 1)]);
        balancer.set_health("a", false);
        balancer.set_health("b", false);
        balancer.pick().unwrap().success();
        let refuse = of(strategy).refuse_unhealthy(true).build().unwrap();
        balancer.set_config(refuse);
        let refused = balancer.pick().unwrap_err();
        assert_eq!((refused.reason, refused.endpoints), (Reason::Unhealthy, 2));
        balancer.set_health("b", true);
        assert_eq!(balancer.pick().unwrap().name(), "b");
        balancer.drain("b");
        assert_eq!(balancer.pick().unwrap_err().reason, Reason::Unhealthy);
        balancer.drain("a");
        assert_eq!(balancer.pick().unwrap_err().reason, Reason::Draining);
        set(&balancer, &[]);
        assert_eq!(balancer.pick().unwrap_err().reason, Reason::Empty);
        assert_eq!(balancer.snapshot().refused, 4);
        let back = balancer.downgrade();
        assert!(back().is_some());
        drop(balancer);
        assert!(back().is_none());
    }
}

#[test]
fn those_that_are_unhealthy_are_not_those_that_are_left_when_others_are_ejected() {
    let (balancer, _) = with(
        of(Strategy::RoundRobin)
            .consecutive_failures(1)
            .max_ejected(1.0),
    );
    set(&balancer, &[("a", "", 0), ("b", "", 0), ("c", "", 0)]);
    eject(&balancer, "a");
    balancer.set_health("b", false);
    // `c` is the last one that is healthy and in.
    (0..20).for_each(|_| balancer.pick().unwrap().failure());
    assert_eq!(balancer.pick().unwrap().name(), "c");
    // And without it the ejected one must come back.
    balancer.set_health("c", false);
    assert_eq!(balancer.pick().unwrap().name(), "a");
    assert!(balancer.snapshot().endpoints[0].ejected_for.is_none());
}

#[test]
fn those_that_are_unhealthy_do_not_use_up_the_share_that_may_be_ejected() {
    let (balancer, _) = with(of(Strategy::RoundRobin).consecutive_failures(1));
    set(
        &balancer,
        &[("a", "", 0), ("b", "", 0), ("c", "", 0), ("d", "", 0)],
    );
    balancer.set_health("a", false);
    balancer.set_health("b", false);
    eject(&balancer, "c");
    assert_eq!(share(&balancer, "d"), 1.0);
}

#[test]
fn keys_that_leave_their_zone_are_spread_over_the_other() {
    let (balancer, _) = with(of(Strategy::ConsistentHash));
    let endpoints = (0..66).map(|one| {
        let zone = if one < 32 { "a" } else { "b" };
        Endpoint::new(format!("{zone}{one}"), zone).zone(Some(Arc::from(zone)))
    });
    balancer.set_endpoints(endpoints).unwrap();
    balancer.set_zone(Some("a"));
    let mut calls = std::collections::HashMap::<String, u32>::new();
    for key in 0..200_000_u64 {
        let key = hash_key(&key.to_le_bytes());
        let pick = balancer.pick_by(Criteria::default().key(key)).unwrap();
        if *pick.value() == "b" {
            *calls.entry(pick.name().to_owned()).or_default() += 1;
        }
    }
    // 32 of 66 are 0.97 of a half.
    let sum: u32 = calls.values().sum();
    assert!((5_500..6_600).contains(&sum), "{sum}");
    // If the place on the ring told the zone as well, all were of one arc of the ring.
    let fair = sum / 34;
    let even = |calls: &u32| (fair / 2..fair * 3 / 2).contains(calls);
    assert!(calls.len() == 34 && calls.values().all(even), "{calls:?}");
}

type Told = Arc<Mutex<Vec<(String, Change)>>>;

fn listen(balancer: &Balancer<&'static str>) -> (Subscription, Told) {
    let told = Told::default();
    let subscription = {
        let told = Arc::clone(&told);
        let balancer = balancer.clone();
        balancer.clone().subscribe(move |event| {
            // No lock is held: the balancer can be asked.
            let known = balancer
                .snapshot()
                .endpoints
                .iter()
                .any(|one| one.id == event.id);
            assert!(known || event.change == Change::Removed);
            let mut told = told.lock().unwrap();
            told.push((event.endpoint.to_string(), event.change));
        })
    };
    (subscription, told)
}

fn take(told: &Told) -> Vec<(String, Change)> {
    std::mem::take(&mut told.lock().unwrap())
}

#[test]
fn every_change_of_an_endpoint_is_told_once() {
    let (balancer, clock) = with(of(Strategy::RoundRobin).consecutive_failures(1));
    let (subscription, told) = listen(&balancer);
    let heard = |expected: &[(&str, Change)]| {
        let named = |(name, change): &(&str, Change)| ((*name).to_owned(), *change);
        assert_eq!(take(&told), expected.iter().map(named).collect::<Vec<_>>());
    };
    set(&balancer, &[("a", "", 0), ("b", "", 0)]);
    heard(&[("a", Change::Added), ("b", Change::Added)]);
    set(&balancer, &[("a", "", 0), ("b", "", 0)]);
    heard(&[]);
    eject(&balancer, "a");
    let ejected = Change::Ejected {
        cause: Cause::ConsecutiveFailures,
        time: SECOND * 30,
    };
    heard(&[("a", ejected)]);
    clock.advance(SECOND * 30 - Duration::from_nanos(1));
    balancer.pick().unwrap().success();
    heard(&[]);
    clock.advance(Duration::from_nanos(1));
    balancer.pick().unwrap().success();
    heard(&[("a", Change::Returned)]);
    balancer.set_health("a", false);
    balancer.set_health("a", false);
    heard(&[("a", Change::Unhealthy)]);
    balancer.set_health("b", false);
    heard(&[("b", Change::Unhealthy), ("b", Change::NoneLeft)]);
    balancer.set_health("a", true);
    heard(&[("a", Change::Healthy), ("a", Change::SomeLeft)]);
    balancer.set_health("b", true);
    heard(&[("b", Change::Healthy)]);
    eject(&balancer, "b");
    take(&told);
    // It is the last one now, and comes back.
    assert!(balancer.remove("a"));
    heard(&[("a", Change::Removed), ("b", Change::Returned)]);
    drop(subscription);
    balancer.remove("b");
    heard(&[]);
}

#[test]
fn a_subscriber_that_panics_ends_no_call_and_a_full_channel_loses_events_and_counts_them() {
    let (balancer, _) = with(of(Strategy::RoundRobin).consecutive_failures(1));
    balancer.subscribe(|_| panic!("in a subscriber")).forget();
    let (_subscription, events) = balancer.subscribe_channel(1);
    set(&balancer, &[("a", "", 0), ("b", "", 0)]);
    assert_eq!(&*events.try_recv().unwrap().endpoint, "a");
    assert!(events.try_recv().is_err());
    assert_eq!(balancer.snapshot().lost_events, 1);
    balancer.pick().unwrap().failure();
    assert_eq!(events.try_recv().unwrap().change.as_str(), "ejected");
}

#[test]
fn what_was_passed_over_counts_for_nothing_until_it_is_picked_again() {
    let (balancer, clock) = with(of(Strategy::PeakEwma).consecutive_failures(1));
    set(&balancer, &[("a", "", 0), ("b", "", 0)]);
    clock.advance(SECOND);
    let passed = balancer.pick().unwrap();
    clock.advance(SECOND * 3);
    let passed = passed.pass_over();
    let endpoints = balancer.snapshot().endpoints;
    assert!(endpoints.iter().all(|one| one.latency.is_none()));
    assert!(
        balancer
            .snapshot()
            .endpoints
            .iter()
            .all(|one| one.in_flight == 0)
    );
    clock.advance(SECOND * 5);
    let pick = passed.pick();
    let name = pick.name().to_owned();
    clock.advance(SECOND);
    pick.success();
    let endpoints = balancer.snapshot().endpoints;
    let one = endpoints.iter().find(|one| *one.name == *name).unwrap();
    assert_eq!((one.in_flight, one.latency), (0, Some(SECOND)));
    assert_eq!((one.successes, one.failures), (1, 0));
}

#[test]
fn the_latency_is_the_time_until_the_answer_and_the_outcome_may_come_later() {
    let (balancer, clock) = with(of(Strategy::PeakEwma));
    set(&balancer, &[("a", "", 0)]);
    let mut stream = balancer.pick().unwrap();
    clock.advance(SECOND);
    stream.answered();
    clock.advance(SECOND * 8);
    stream.answered();
    stream.record(Outcome::Success);
    let a = &balancer.snapshot().endpoints[0];
    assert_eq!((a.latency, a.in_flight, a.successes), (Some(SECOND), 1, 1));
    drop(stream);
    assert_eq!(balancer.snapshot().endpoints[0].in_flight, 0);
    // Given up in the middle of the body: the answer was there all the same.
    let mut stream = balancer.pick().unwrap();
    clock.advance(SECOND * 2);
    stream.answered();
    clock.advance(SECOND * 100);
    drop(stream);
    let a = &balancer.snapshot().endpoints[0];
    assert_eq!(
        (a.latency, a.in_flight, a.successes),
        (Some(SECOND * 2), 0, 1)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Call(u64, bool),
    Wait(u64),
    Health(usize, bool),
    Weight(usize, u32),
    Zone(Option<&'static str>),
    Remove(usize),
    Insert(usize, usize, u8),
}

const NAMES: [&str; 6] = ["0", "1", "2", "3", "4", "5"];
const ZONES: [Option<&str>; 3] = [None, Some("a"), Some("b")];

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        8 => any::<(u64, bool)>().prop_map(|(key, ok)| Step::Call(key, ok)),
        2 => (0_u64..20_000).prop_map(Step::Wait),
        2 => (0..6_usize, any::<bool>()).prop_map(|(one, healthy)| Step::Health(one, healthy)),
        1 => (0..6_usize, 0_u32..3).prop_map(|(one, weight)| Step::Weight(one, weight)),
        1 => prop::sample::select(ZONES.to_vec()).prop_map(Step::Zone),
        1 => (0..6_usize).prop_map(Step::Remove),
        3 => (0..6_usize, 0..3_usize, 0_u8..3).prop_map(|(one, zone, p)| Step::Insert(one, zone, p)),
    ]
}

proptest! {
    /// The invariants whatever happens: a call finds the best there is, never more are ejected than
    /// may be, and never the last; and a subscriber knows who is out.
    #[test]
    fn whatever_happens_a_call_goes_to_one_that_is_in_and_subscribers_know_who_is(
        strategy in prop::sample::select(STRATEGIES.to_vec()),
        share in 0.1_f64..1.0,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let config = of(strategy).consecutive_failures(1).max_ejected(share);
        let (balancer, clock) = with(config.interval(SECOND).minimum_calls(1).minimum_endpoints(2));
        let (_subscription, told) = listen(&balancer);
        let mut out = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Call(key, ok) => {
                    if let Ok(pick) = balancer.pick_by(Criteria::default().key(key)) {
                        if ok { pick.success() } else { pick.failure() }
                    }
                }
                Step::Wait(millis) => clock.advance(Duration::from_millis(millis)),
                Step::Health(one, healthy) => { balancer.set_health(NAMES[one], healthy); }
                Step::Weight(one, weight) => { balancer.set_weight(NAMES[one], weight).unwrap(); }
                Step::Zone(zone) => balancer.set_zone(zone),
                Step::Remove(one) => { balancer.remove(NAMES[one]); }
                Step::Insert(one, zone, priority) => {
                    let endpoint = Endpoint::new(NAMES[one], NAMES[one]).priority(priority);
                    balancer.insert(endpoint.zone(ZONES[zone].map(Arc::from))).unwrap();
                }
            }
            let endpoints = balancer.snapshot().endpoints;
            let weighty: Vec<_> = endpoints.iter().filter(|one| one.weight > 0).collect();
            let healthy: Vec<_> = weighty.iter().filter(|one| one.healthy).collect();
            let ejected = healthy.iter().filter(|one| one.ejected_for.is_some()).count();
            let all = healthy.len();
            let most = ((share * all as f64).floor() as usize).max(1).min(all.saturating_sub(1));
            prop_assert!(ejected <= most, "{ejected} of {all} at {share}");
            match balancer.pick() {
                Err(_) => prop_assert!(weighty.is_empty()),
                Ok(pick) => {
                    let picked = weighty.iter().find(|one| one.id == pick.id()).unwrap();
                    let is_in = picked.healthy && picked.ejected_for.is_none();
                    prop_assert!(is_in || healthy.is_empty());
                }
            }
            for (name, change) in take(&told) {
                match change {
                    Change::Ejected { .. } => prop_assert!(out.insert(name)),
                    Change::Returned => prop_assert!(out.remove(&name)),
                    Change::Unhealthy | Change::Removed => { out.remove(&name); }
                    _ => {}
                }
            }
            let ejected = endpoints.iter().filter(|one| one.ejected_for.is_some());
            let ejected: std::collections::BTreeSet<_> = ejected.map(|one| one.name.to_string()).collect();
            prop_assert_eq!(&out, &ejected);
        }
    }
}
