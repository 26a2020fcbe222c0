//! Leases of a limit that is kept in a store, over any number of processes.

use std::time::Duration;

use proptest::prelude::*;
use resilience_core::{
    clock::ManualClock,
    rate_limit::{
        Quota,
        store::{Ask, Asked, Grant, Held, Lease, Spent, Terms},
    },
};

const MICRO: u64 = 1000;

/// The store: a bucket, and a clock that counts microseconds from anywhere.
struct Store {
    held: Held,
    epoch: u64,
}

impl Store {
    fn new(epoch: u64) -> Self {
        let held = Held::default();
        Self { held, epoch }
    }

    fn grant(&mut self, quota: Quota, least: u32, want: u32, micros: u64) -> Grant {
        self.held.grant(quota, least, want, self.epoch + micros)
    }
}

/// A process; its clock has an origin and a speed of its own.
struct Node {
    lease: Lease,
    clock: ManualClock,
    /// Parts in a million that it runs too slow.
    slow: u64,
    /// A question under way, and when it reaches the store, and when the answer comes.
    asked: Option<(Asked, u64, u64, Option<Grant>)>,
}

impl Node {
    fn new(terms: Terms, origin: u64, slow: u64) -> Self {
        let clock = ManualClock::new();
        clock.advance(Duration::from_micros(origin));
        let lease = Lease::with_clock(terms, clock.clone()).unwrap();
        Self {
            lease,
            clock,
            slow,
            asked: None,
        }
    }

    fn advance(&self, micros: u64) {
        let nanos = micros * MICRO;
        let behind = nanos * self.slow / 1_000_000;
        self.clock.advance(Duration::from_nanos(nanos - behind));
    }

    /// Moves what is under way on; a lost answer never comes, and the process gives it up.
    fn network(&mut self, store: &mut Store, now: u64, lost: bool, twice: bool) {
        let Some((asked, arrives, back, mut grant)) = self.asked.take() else {
            return;
        };
        if grant.is_none() && now >= arrives {
            let (least, want) = (asked.least(), asked.want());
            let mut answer = store.grant(asked.common(), least, want, now);
            if twice {
                answer = store.grant(asked.common(), least, want, now);
            }
            grant = Some(answer);
        }
        match grant {
            Some(_) if now >= back && lost => self.lease.failed(&asked),
            Some(answer) if now >= back => self.lease.granted(&asked, answer),
            _ => self.asked = Some((asked, arrives, back, grant)),
        }
    }

    /// Asks for `n`, and spends none of it; the question and the answer take their time.
    fn hold(&mut self, n: u32, now: u64, there: u64, back: u64) {
        if let Ask::Now(asked) = self.lease.ask(n, false) {
            self.asked = Some((asked, now + there, now + there + back, None));
        }
    }

    /// Spends what is held, to the last permit; how much it was.
    fn spend_all(&self) -> u32 {
        let left = self.lease.snapshot().left;
        let mut sum = 0;
        for n in (0..20).rev().map(|bit| 1 << bit) {
            while matches!(self.lease.spend(n), Spent::Yes | Spent::AskSoon) {
                sum += n;
                assert!(u64::from(sum) <= left, "{sum} of {left}");
            }
        }
        sum
    }

    fn call(&mut self, n: u32, now: u64, trip: u64) -> bool {
        let (done, ahead) = match self.lease.spend(n) {
            Spent::Yes => return true,
            Spent::AskSoon => (true, true),
            _ => (false, false),
        };
        match self.lease.ask(if ahead { 1 } else { n }, ahead) {
            Ask::Now(asked) => self.asked = Some((asked, now + trip / 2, now + trip, None)),
            Ask::Refused(limited) => assert!(ahead || limited.retry_after != Some(Duration::ZERO)),
            _ => {}
        }
        done
    }
}

/// Admitted in any span ≤ burst + rate × span; a running minimum over all beginnings of spans.
struct Bound {
    quota: Quota,
    sum: u64,
    least: i128,
}

impl Bound {
    fn new(quota: Quota) -> Self {
        let (sum, least) = (0, i128::MAX);
        Self { quota, sum, least }
    }

    /// `n` were admitted at `micros`. In nanoseconds of filling.
    fn admit(&mut self, n: u32, micros: u64) {
        let interval = self.quota.replenish_interval().as_nanos() as i128;
        let at = i128::from(micros * MICRO);
        self.least = self.least.min(i128::from(self.sum) * interval - at);
        self.sum += u64::from(n);
        let since = i128::from(self.sum) * interval - at - self.least;
        let fill = self.quota.fill_time().as_nanos() as i128;
        assert!(since <= fill, "{} ns above the bound", since - fill);
    }
}

fn terms(per_second: u32, burst: u32, lease_ms: u64) -> Terms {
    let quota = Quota::per_second(per_second).unwrap().burst(burst).unwrap();
    Terms::leased(quota, Duration::from_millis(lease_ms)).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    /// Thousandths of a lease.
    Pass(u64),
    /// Thousandths of the time in which the bucket fills.
    Fill(u64),
    Call {
        node: usize,
        n: u32,
        times: u32,
    },
    /// `n` in thousandths of what the store holds; the ways there and back in those of a lease.
    Hold {
        node: usize,
        n: u64,
        there: u64,
        back: u64,
    },
    Spend(usize),
    /// All spend what they hold, and others what is left in the store.
    Drain,
    Die(usize),
    Lost(usize),
    Twice(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let trip = || prop_oneof![3 => Just(0), 1 => 0..1_500_u64];
    prop_oneof![
        4 => (1..1_100_u64).prop_map(Step::Pass),
        2 => (0..1_100_u64).prop_map(Step::Fill),
        3 => (0..6_usize, 1..4_u32, 1..200_u32).prop_map(|(node, n, times)| Step::Call { node, n, times }),
        1 => (0..6_usize, 1..80_u32, 1..4_u32).prop_map(|(node, n, times)| Step::Call { node, n, times }),
        6 => (0..6_usize, 0..1_000_u64, trip(), trip())
            .prop_map(|(node, n, there, back)| Step::Hold { node, n, there, back }),
        2 => (0..6_usize).prop_map(Step::Spend),
        2 => Just(Step::Drain),
        1 => (0..6_usize).prop_map(Step::Die),
        1 => (0..6_usize).prop_map(Step::Lost),
        1 => (0..6_usize).prop_map(Step::Twice),
    ]
}

/// Processes of one call each spend what the store has, to the last permit.
fn drain(terms: Terms, store: &mut Store, now: u64, bound: &mut Bound) {
    for n in (0..20).rev().map(|bit| 1 << bit) {
        let mut last = Node::new(terms, 0, 0);
        last.hold(n, now, 0, 0);
        last.network(store, now, false, false);
        bound.admit(last.spend_all(), now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_history_admits_above_the_limit(
        per_second in 100..50_000_u32,
        share in 40..300_u32,
        // Of the longest.
        lease in 20..=1_000_u32,
        nodes in prop::collection::vec((0..1_000_000_000_u64, 0..10_000_u64), 1..6),
        epoch in 0..2_000_000_000_000_000_u64,
        trip in 10..30_000_u64,
        steps in prop::collection::vec(step(), 1..100),
    ) {
        // The fill time is 0.4 s to 3 s.
        let quota = Quota::per_second(per_second).unwrap();
        let quota = quota.burst(per_second * share / 100).unwrap();
        let longest = quota.fill_time() / 4;
        let terms = Terms::leased(quota, longest * lease / 1000).unwrap();
        let lease = terms.lease().unwrap().as_micros() as u64;
        let fill = terms.common().fill_time().as_micros() as u64;
        let mut store = Store::new(epoch);
        let mut bound = Bound::new(quota);
        let mut here: Vec<_> = nodes
            .iter()
            .map(|(origin, slow)| Node::new(terms, *origin, *slow))
            .collect();
        let (mut now, mut lost, mut twice) = (0, [false; 6], [false; 6]);
        for step in steps {
            let micros = match step {
                Step::Pass(part) => lease * part / 1000,
                Step::Fill(part) => fill * part / 1000,
                _ => 0,
            };
            now += micros;
            here.iter().for_each(|node| node.advance(micros));
            match step {
                Step::Pass(_) | Step::Fill(_) => {}
                Step::Call { node, n, times } => {
                    let place = node % here.len();
                    for _ in 0..times {
                        if here[place].call(n, now, trip) {
                            bound.admit(n, now);
                        }
                    }
                }
                Step::Hold { node, n, there, back } => {
                    let place = node % here.len();
                    let n = 1 + u64::from(terms.max_cost()) * n / 1000;
                    here[place].hold(n as u32, now, lease * there / 1000, lease * back / 1000);
                }
                Step::Spend(node) => {
                    let place = node % here.len();
                    bound.admit(here[place].spend_all(), now);
                }
                Step::Drain => {
                    here.iter().for_each(|node| bound.admit(node.spend_all(), now));
                    drain(terms, &mut store, now, &mut bound);
                }
                Step::Die(node) => {
                    // Another begins in its place, with nothing.
                    let place = node % here.len();
                    let (origin, slow) = nodes[place];
                    here[place] = Node::new(terms, origin, slow);
                }
                Step::Lost(node) => lost[node] = true,
                Step::Twice(node) => twice[node] = true,
            }
            for (place, node) in here.iter_mut().enumerate() {
                let lost = std::mem::take(&mut lost[place]);
                node.network(&mut store, now, lost, std::mem::take(&mut twice[place]));
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_given_back_is_there_and_never_more_than_the_burst(
        burst in 1..50_u32,
        steps in prop::collection::vec((0..3_000_u64, 0..60_u32, prop::bool::ANY), 1..100),
    ) {
        // One permit in a millisecond.
        let quota = Quota::per_second(1_000).unwrap().burst(burst).unwrap();
        let (permit, full) = (1_000_000, u64::from(burst) * 1_000_000);
        let (mut held, mut free, mut now) = (Held::default(), full, 0);
        for (micros, n, back) in steps {
            now += micros;
            free = full.min(free + micros * MICRO);
            if back {
                held.refund(quota, n, now);
                free = full.min(free + u64::from(n) * permit);
                prop_assert_eq!(held.missing, full - free);
            } else {
                let grant = held.grant(quota, n, n, now);
                let fits = free >= u64::from(n) * permit;
                prop_assert_eq!(grant.permits, if fits { n } else { 0 });
                free -= u64::from(grant.permits) * permit;
                prop_assert_eq!(grant.missing, full - free);
            }
        }
        // A clock that steps back gives nothing.
        held.refund(quota, 0, now);
        held.refund(quota, 0, now / 2);
        prop_assert_eq!(held.missing, full - free);
    }
}

/// `nodes` call for `seconds` as often as they can; every `tick` microseconds, at most `most` calls
/// each. What was admitted after the first second, and how often the store was asked then.
fn saturated(terms: Terms, nodes: usize, seconds: u64, most: impl Fn(usize) -> u32) -> (u64, u64) {
    let mut store = Store::new(7);
    let mut bound = Bound::new(terms.quota());
    let mut here: Vec<_> = (0..nodes).map(|_| Node::new(terms, 0, 0)).collect();
    let (tick, trip) = (200, 400);
    let (mut admitted, mut asked) = (0, 0);
    for now in (0..seconds * 1_000_000).step_by(tick) {
        for (place, node) in here.iter_mut().enumerate() {
            let before = node.asked.is_some();
            node.network(&mut store, now, false, false);
            for _ in 0..most(place) {
                if !node.call(1, now, trip) {
                    break;
                }
                bound.admit(1, now);
                admitted += u64::from(now >= 1_000_000);
            }
            asked += u64::from(now >= 1_000_000 && !before && node.asked.is_some());
            node.advance(tick as u64);
        }
    }
    (admitted, asked)
}

#[test]
fn four_nodes_use_the_limit_and_ask_seldom() {
    let terms = terms(20_000, 20_000, 100);
    let (admitted, asked) = saturated(terms, 4, 31, |_| u32::MAX);
    let limit = 30 * 20_000;
    assert!(admitted * 100 >= limit * 99, "{admitted} of {limit}");
    assert!(asked * 40 <= admitted, "{asked} questions for {admitted}");
}

#[test]
fn nodes_of_unequal_load_use_the_limit_too() {
    // Ten calls in 200 µs, one, one in 40 (a node that calls 125 times a second), and none.
    let terms = terms(20_000, 20_000, 100);
    let quiet = std::cell::Cell::new(0);
    let (admitted, _) = saturated(terms, 4, 31, |place| match place {
        0 => 10,
        1 => 1,
        2 => {
            quiet.set(quiet.get() + 1);
            u32::from(quiet.get() % 40 == 0)
        }
        _ => 0,
    });
    let limit = 30 * 20_000;
    assert!(admitted * 100 >= limit * 99, "{admitted} of {limit}");
}

#[test]
fn nobody_starves_among_those_that_want_all_of_it() {
    let terms = terms(20_000, 20_000, 100);
    let mut store = Store::new(0);
    let mut here: Vec<_> = (0..4).map(|_| Node::new(terms, 0, 0)).collect();
    let mut admitted = [0_u64; 4];
    for now in (0..20_000_000).step_by(200) {
        for (place, node) in here.iter_mut().enumerate() {
            node.network(&mut store, now, false, false);
            while node.call(1, now, 400) {
                admitted[place] += 1;
            }
            node.advance(200);
        }
    }
    let even = admitted.iter().sum::<u64>() / 4;
    assert!(admitted.iter().all(|one| one * 3 > even), "{admitted:?}");
}

#[test]
fn a_lease_that_is_over_is_not_spent() {
    let terms = terms(1_000, 1_000, 100);
    let mut store = Store::new(0);
    let mut node = Node::new(terms, 5, 0);
    assert!(!node.call(4, 0, 0));
    node.network(&mut store, 0, false, false);
    assert!(node.call(1, 0, 0));
    node.advance(98_300);
    assert!(node.call(1, 98_300, 0));
    // A 64th before the lease is over.
    node.advance(138);
    assert!(!node.call(1, 98_438, 0));
    assert_eq!(node.lease.snapshot().left, 0);
}

#[test]
fn a_lease_is_counted_from_the_question_and_not_from_the_answer() {
    let terms = terms(1_000, 1_000, 100);
    let mut store = Store::new(0);
    let node = Node::new(terms, 5, 0);
    let Ask::Now(asked) = node.lease.ask(4, false) else {
        panic!("nothing is held");
    };
    node.advance(60_000);
    let grant = store.grant(asked.common(), asked.least(), asked.want(), 30_000);
    node.lease.granted(&asked, grant);
    let left = || node.lease.snapshot().left;
    assert_eq!(left(), u64::from(grant.permits));
    node.advance(38_000);
    assert_eq!(left(), u64::from(grant.permits));
    // A 64th before the lease is over.
    for _ in 98..100 {
        node.advance(1_000);
        assert_eq!(left(), 0);
        assert_eq!(node.lease.spend(1), Spent::No);
    }
}

#[test]
fn an_answer_that_comes_when_the_lease_is_over_brings_nothing() {
    let terms = terms(1_000, 1_000, 100);
    let mut store = Store::new(0);
    let mut node = Node::new(terms, 5, 0);
    node.hold(4, 0, 0, 0);
    node.advance(100_000);
    node.network(&mut store, 100_000, false, false);
    assert_eq!(node.lease.snapshot().left, 0);
    assert_eq!(node.spend_all(), 0);
}

#[test]
fn what_is_held_and_what_came_back_meanwhile_are_a_burst_together() {
    let terms = terms(10_000, 10_000, 100);
    let mut store = Store::new(0);
    let mut bound = Bound::new(terms.quota());
    let mut here: Vec<_> = (0..8).map(|_| Node::new(terms, 0, 0)).collect();
    for node in &mut here {
        assert!(!node.call(250, 0, 0));
        node.network(&mut store, 0, false, false);
        node.advance(98_000);
    }
    for node in &mut here {
        assert!(node.call(250, 98_000, 0));
        bound.admit(250, 98_000);
    }
    while store.grant(terms.common(), 1, 1, 98_000).permits > 0 {
        bound.admit(1, 98_000);
    }
    assert_eq!(bound.sum, 9_980);
}

#[test]
fn a_refusal_tells_a_wait_after_which_the_store_grants() {
    let terms = terms(1_000, 100, 20);
    let mut store = Store::new(0);
    let mut node = Node::new(terms, 0, 0);
    assert!(!node.call(80, 0, 0));
    node.network(&mut store, 0, false, false);
    assert!(node.call(80, 0, 0));
    assert!(!node.call(30, 0, 0));
    node.network(&mut store, 0, false, false);
    let Ask::Refused(limited) = node.lease.ask(30, false) else {
        panic!("30 ms have to pass");
    };
    assert_eq!(limited.burst, 100);
    assert_eq!(limited.retry_after, Some(Duration::from_millis(30)));
    // A cheaper call does not wait for what the dear one lacked.
    let Ask::Refused(limited) = node.lease.ask(10, false) else {
        panic!("10 ms have to pass");
    };
    assert_eq!(limited.retry_after, Some(Duration::from_millis(10)));
    node.advance(29_999);
    assert!(matches!(node.lease.ask(30, false), Ask::Refused(_)));
    node.advance(1);
    assert!(!node.call(30, 30_000, 0));
    node.network(&mut store, 30_000, false, false);
    assert!(node.call(30, 30_000, 0));
}

#[test]
fn a_cost_above_what_the_store_holds_is_never_admitted() {
    let terms = terms(1_000, 100, 20);
    assert_eq!(terms.max_cost(), 80);
    let node = Node::new(terms, 0, 0);
    let Ask::Refused(limited) = node.lease.ask(81, false) else {
        panic!("the bucket has 80");
    };
    assert_eq!(limited.retry_after, None);
    assert!(matches!(node.lease.ask(80, false), Ask::Now(_)));
}

#[test]
fn one_asks_and_the_others_wait_until_it_is_answered_or_given_up() {
    let node = Node::new(terms(1_000, 100, 20), 0, 0);
    let Ask::Now(asked) = node.lease.ask(1, false) else {
        panic!("nothing is held");
    };
    assert!(matches!(node.lease.ask(1, false), Ask::Wait));
    node.lease.failed(&asked);
    assert!(matches!(node.lease.ask(1, false), Ask::Now(_)));
}

#[test]
fn a_call_takes_what_is_left_of_both_blocks() {
    let terms = terms(10_000, 10_000, 100);
    let mut store = Store::new(0);
    let mut node = Node::new(terms, 0, 0);
    for n in [6, 9] {
        let Ask::Now(asked) = node.lease.ask(n, false) else {
            panic!("a block fits");
        };
        let permits = n;
        let grant = store.grant(terms.common(), n, n, 0);
        node.lease.granted(&asked, Grant { permits, ..grant });
        // Cut short or not, the next may be asked for after a quarter of a lease.
        node.advance(25_000);
    }
    assert_eq!(node.lease.snapshot().left, 15);
    assert!(node.call(13, 0, 0));
    assert_eq!(node.lease.snapshot().left, 2);
    assert!(!matches!(node.lease.spend(3), Spent::Yes | Spent::AskSoon));
    assert_eq!(node.lease.snapshot().left, 2);
}

#[test]
fn terms_that_cannot_be_say_what_is_allowed() {
    let quota = Quota::per_second(1_000).unwrap();
    for lease in [Duration::from_micros(999), Duration::from_micros(250_001)] {
        let error = Terms::leased(quota, lease).unwrap_err();
        assert_eq!(error.field, "lease");
        assert_eq!(error.allowed, "1ms to 250ms (a quarter of the fill time)");
    }
    let one = quota.burst(1).unwrap();
    assert!(Terms::leased(one, Duration::from_millis(1)).is_err());
    let slow = Quota::new(1, Duration::from_secs(86_400)).unwrap();
    assert!(Terms::exact(slow.burst(30).unwrap()).is_ok());
    let error = Terms::exact(slow.burst(31).unwrap()).unwrap_err();
    assert_eq!((error.field, &*error.value), ("burst", "31"));
    assert!(Lease::new(Terms::exact(quota).unwrap()).is_err());
}

#[test]
fn a_store_whose_clock_steps_back_gives_no_credit_and_goes_on() {
    let quota = Quota::per_second(1_000).unwrap().burst(10).unwrap();
    let mut held = Held::default();
    let at = 1_000_000_000;
    assert_eq!(held.grant(quota, 10, 10, at).permits, 10);
    assert_eq!(held.grant(quota, 1, 1, at - 500_000).permits, 0);
    assert_eq!(held.grant(quota, 1, 1, at - 500_000 + 999).permits, 0);
    assert_eq!(held.grant(quota, 1, 1, at - 500_000 + 1000).permits, 1);
}

#[test]
fn another_quota_keeps_the_missing_share() {
    let quota = Quota::per_second(1_000).unwrap().burst(100).unwrap();
    let mut held = Held::default();
    assert_eq!(held.grant(quota, 75, 75, 5).permits, 75);
    let wide = quota.burst(1_000).unwrap();
    let grant = held.grant(wide, 1_000, 1_000, 5);
    assert_eq!((grant.permits, grant.missing), (0, 750_000_000));
    assert_eq!(held.grant(wide, 250, 250, 5).permits, 250);
    assert_eq!(held.grant(wide, 1, 1, 5).permits, 0);
    // A bucket that is full again stays full.
    let full = 5 + 1_000_000;
    let slow = Quota::per_second(1).unwrap().burst(7).unwrap();
    assert_eq!(held.grant(slow, 7, 7, full).permits, 7);
}

#[test]
fn new_terms_hold_from_the_next_question_on() {
    let node = Node::new(terms(1_000, 100, 20), 0, 0);
    let Ask::Now(asked) = node.lease.ask(1, false) else {
        panic!("nothing is held");
    };
    let wide = terms(2_000, 400, 20);
    node.lease.set_terms(wide).unwrap();
    node.lease.granted(
        &asked,
        Grant {
            permits: 0,
            missing: u64::MAX,
        },
    );
    assert_eq!(node.lease.terms(), wide);
    let Ask::Now(asked) = node.lease.ask(1, false) else {
        panic!("the answer was of other terms");
    };
    assert_eq!(asked.common().burst_size(), 360);
    assert_eq!(node.lease.snapshot().quota.burst_size(), 400);
}
