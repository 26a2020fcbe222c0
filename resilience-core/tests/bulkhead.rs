//! Who runs, who waits, and who is refused.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::Receiver,
    },
    task::{Wake, Waker},
    thread,
    time::Duration,
};

use resilience_core::{
    bulkhead::{
        Bulkhead, Change, Config, OwnedPermit, Priority,
        Priority::{High, Low, Normal},
        Reason, Turn, Waiter,
    },
    clock::ManualClock,
};

const SECOND: Duration = Duration::from_secs(1);

fn config(limit: u32, max_queue: usize) -> Config {
    let builder = Config::builder().limit(limit).max_queue(max_queue);
    builder.max_wait(10 * SECOND).build().unwrap()
}

fn bulkhead(limit: u32, max_queue: usize) -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    (
        Bulkhead::with_clock(config(limit, max_queue), clock.clone()),
        clock,
    )
}

fn join(bulkhead: &Bulkhead, priority: Priority) -> Waiter {
    bulkhead.enqueue(priority, None).unwrap()
}

fn permit(waiter: &mut Waiter) -> Option<OwnedPermit> {
    match waiter.poll(Waker::noop()) {
        Turn::Admitted(permit) => Some(permit),
        _ => None,
    }
}

fn refusal(waiter: &mut Waiter) -> Option<Reason> {
    match waiter.poll(Waker::noop()) {
        Turn::Refused(refused) => Some(refused.reason),
        _ => None,
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn as_many_calls_run_as_may_and_a_permit_that_comes_back_lets_the_next_in() {
    let (bulkhead, _) = bulkhead(2, 0);
    let first = bulkhead.try_acquire().unwrap();
    let second = bulkhead.try_acquire_owned().unwrap();
    let refused = bulkhead.try_acquire().unwrap_err();
    assert_eq!(
        (refused.reason, refused.limit, refused.in_flight),
        (Reason::Full, 2, 2)
    );
    assert_eq!(
        refused.to_string(),
        "as many calls run as may (2 run, 2 may)"
    );
    drop(first);
    let third = bulkhead.try_acquire().unwrap();
    drop((second, third));
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.refused), (0, 1));
}

#[test]
fn a_call_that_panics_gives_its_permit_back() {
    let (bulkhead, _) = bulkhead(1, 0);
    let call = AssertUnwindSafe(|| {
        let _permit = bulkhead.try_acquire().unwrap();
        panic!("broken");
    });
    assert!(catch_unwind(call).is_err());
    assert!(bulkhead.try_acquire().is_ok());
}

#[test]
fn the_line_goes_by_priority_and_among_equals_by_arrival() {
    let (bulkhead, _) = bulkhead(1, 9);
    let mut running = Some(bulkhead.try_acquire_owned().unwrap());
    let arrivals = [Low, Normal, High, Normal, High, Low];
    let mut waiters: Vec<_> = arrivals.map(|priority| join(&bulkhead, priority)).into();
    for next in [2, 4, 1, 3, 0, 5] {
        assert!(waiters.iter_mut().all(|waiter| permit(waiter).is_none()));
        drop(running.take());
        running = permit(&mut waiters[next]);
        assert!(running.is_some(), "{next}");
    }
    drop(running);
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[test]
fn nobody_overtakes_the_line() {
    let (bulkhead, _) = bulkhead(2, 9);
    let running = bulkhead.try_acquire_owned().unwrap();
    let other = bulkhead.try_acquire_owned().unwrap();
    let mut waiter = join(&bulkhead, Low);
    drop(running);
    // It has its turn, whether it knows or not.
    assert_eq!(bulkhead.try_acquire().unwrap_err().in_flight, 2);
    let permit = permit(&mut waiter).unwrap();
    drop((permit, other));
    assert!(bulkhead.try_acquire().is_ok(), "the line is empty");
}

#[test]
fn a_waiter_is_woken_when_its_turn_comes_and_only_then() {
    let (bulkhead, _) = bulkhead(1, 9);
    let running = bulkhead.try_acquire_owned().unwrap();
    let woken = [Arc::<Woken>::default(), Arc::default()];
    let mut waiters = [join(&bulkhead, Normal), join(&bulkhead, Normal)];
    for (waiter, woken) in waiters.iter_mut().zip(&woken) {
        // The last waker counts.
        assert!(matches!(waiter.poll(Waker::noop()), Turn::Wait(_)));
        let waker = Waker::from(Arc::clone(woken));
        assert!(matches!(waiter.poll(&waker), Turn::Wait(_)));
    }
    drop(running);
    assert_eq!([woken[0].times(), woken[1].times()], [1, 0]);
    drop(permit(&mut waiters[0]));
    assert_eq!([woken[0].times(), woken[1].times()], [1, 1]);
}

#[test]
fn a_full_line_refuses_and_a_higher_one_takes_the_place_of_the_last_of_the_lowest() {
    let (bulkhead, _) = bulkhead(1, 3);
    let _running = bulkhead.try_acquire().unwrap();
    let woken = Arc::<Woken>::default();
    let mut normal = join(&bulkhead, Normal);
    let mut low = [join(&bulkhead, Low), join(&bulkhead, Low)];
    let waker = Waker::from(Arc::clone(&woken));
    assert!(matches!(low[1].poll(&waker), Turn::Wait(_)));
    let refused = bulkhead.enqueue(Low, None).unwrap_err();
    assert_eq!(refused.reason, Reason::QueueFull);
    let mut first = join(&bulkhead, Normal);
    assert_eq!(woken.times(), 1);
    assert_eq!(refusal(&mut low[1]), Some(Reason::Displaced));
    assert_eq!(
        refusal(&mut low[1]),
        Some(Reason::Displaced),
        "again and again"
    );
    let mut second = join(&bulkhead, High);
    assert_eq!(refusal(&mut low[0]), Some(Reason::Displaced));
    assert_eq!(
        bulkhead.enqueue(Normal, None).unwrap_err().reason,
        Reason::QueueFull
    );
    for waiter in [&mut normal, &mut first, &mut second] {
        assert!(matches!(waiter.poll(Waker::noop()), Turn::Wait(_)));
    }
    // A refusal is counted when it is told, once.
    assert_eq!(bulkhead.snapshot().refused, 4);
}

#[test]
fn without_a_line_nobody_waits() {
    let (bulkhead, _) = bulkhead(1, 0);
    let mut first = join(&bulkhead, Low);
    assert_eq!(
        bulkhead.enqueue(High, None).unwrap_err().reason,
        Reason::QueueFull
    );
    assert!(permit(&mut first).is_some());
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let (bulkhead, clock) = bulkhead(1, 9);
    let running = bulkhead.try_acquire_owned().unwrap();
    let mut own = bulkhead.enqueue(Normal, Some(3 * SECOND)).unwrap();
    let mut longest = bulkhead.enqueue(Normal, Some(99 * SECOND)).unwrap();
    let mut none = bulkhead.enqueue(Normal, None).unwrap();
    let wait = |waiter: &mut Waiter| match waiter.poll(Waker::noop()) {
        Turn::Wait(wait) => wait,
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(&mut own), Some(3 * SECOND));
    assert_eq!(wait(&mut longest), Some(10 * SECOND), "max_wait");
    assert_eq!(wait(&mut none), Some(10 * SECOND));
    clock.set(3 * SECOND);
    assert_eq!(refusal(&mut own), Some(Reason::Deadline));
    assert_eq!(bulkhead.snapshot().queued, 2);
    clock.set(10 * SECOND - Duration::from_nanos(1));
    drop(running);
    let _running = permit(&mut longest).expect("just in time");
    clock.set(10 * SECOND);
    assert_eq!(refusal(&mut none), Some(Reason::Deadline));
    let late = bulkhead.enqueue(High, Some(10 * SECOND)).unwrap_err();
    assert_eq!(late.reason, Reason::Deadline);
}

#[test]
fn a_turn_is_not_wasted_on_who_is_too_late() {
    let (bulkhead, clock) = bulkhead(1, 9);
    let running = bulkhead.try_acquire_owned().unwrap();
    let woken = Arc::<Woken>::default();
    let mut late = bulkhead.enqueue(Normal, Some(SECOND)).unwrap();
    assert!(matches!(
        late.poll(&Waker::from(Arc::clone(&woken))),
        Turn::Wait(_)
    ));
    let mut next = join(&bulkhead, Normal);
    clock.set(SECOND);
    drop(running);
    assert!(permit(&mut next).is_some());
    assert_eq!(woken.times(), 1);
    assert_eq!(refusal(&mut late), Some(Reason::Deadline));
}

#[test]
fn who_gives_up_leaves_no_gap_and_no_permit_behind() {
    let (bulkhead, _) = bulkhead(1, 9);
    let running = bulkhead.try_acquire_owned().unwrap();
    let [first, mut second, third] = [(); 3].map(|()| join(&bulkhead, Normal));
    drop(first);
    drop(third);
    assert_eq!(bulkhead.snapshot().queued, 1);
    drop(running);
    assert!(permit(&mut second).is_some());
    // A turn that was given and never told of.
    let running = bulkhead.try_acquire_owned().unwrap();
    let [first, mut second] = [(); 2].map(|()| join(&bulkhead, Normal));
    drop(running);
    drop(first);
    assert!(permit(&mut second).is_some());
    assert!(bulkhead.try_acquire().is_ok());
}

#[test]
fn a_waiter_gives_its_permit_out_once() {
    let (bulkhead, _) = bulkhead(1, 9);
    let mut waiter = join(&bulkhead, Normal);
    let held = permit(&mut waiter);
    assert!(matches!(waiter.poll(Waker::noop()), Turn::Wait(None)));
    drop(waiter);
    assert_eq!(bulkhead.snapshot().in_flight, 1);
    drop(held);
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[test]
fn a_limit_that_changes_holds_for_the_next_and_ends_no_call() {
    let (bulkhead, _) = bulkhead(3, 9);
    let mut running: Vec<_> = (0..3)
        .map(|_| bulkhead.try_acquire_owned().unwrap())
        .collect();
    bulkhead.set_config(config(1, 9));
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.limit, snapshot.in_flight), (1, 3));
    let mut waiters = [join(&bulkhead, Normal), join(&bulkhead, Normal)];
    running.truncate(1);
    assert!(permit(&mut waiters[0]).is_none());
    bulkhead.set_config(config(3, 0));
    assert!(waiters.iter_mut().all(|waiter| permit(waiter).is_some()));
    assert_eq!(bulkhead.config(), config(3, 0));
}

#[test]
fn a_shorter_line_keeps_those_who_stand_in_it() {
    let (bulkhead, _) = bulkhead(1, 2);
    let running = bulkhead.try_acquire_owned().unwrap();
    let mut waiters = [join(&bulkhead, Low), join(&bulkhead, Low)];
    bulkhead.set_config(config(1, 1));
    assert!(bulkhead.enqueue(Low, None).is_err());
    drop(running);
    for waiter in &mut waiters {
        assert!(permit(waiter).is_some());
    }
}

#[test]
fn settings_out_of_range_are_named() {
    for (builder, said) in [
        (
            Config::builder().limit(0),
            "limit is 0, allowed: 1 to 1073741824",
        ),
        (
            Config::builder().max_queue(1_000_001),
            "max_queue is 1000001, allowed: 0 to 1000000",
        ),
        (
            Config::builder().max_wait(Duration::ZERO),
            "max_wait is 0ns, allowed: 1ns to 1 day",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), said);
    }
    let json = r#"{ "limit": 5, "max_queue": 7, "max_wait": "off" }"#;
    let config: Config = serde_json::from_str(json).unwrap();
    assert_eq!(
        (config.limit(), config.max_queue(), config.max_wait()),
        (5, 7, None)
    );
    let error = serde_json::from_str::<Config>(r#"{ "limit": 0 }"#).unwrap_err();
    assert!(error.to_string().contains("limit is 0"), "{error}");
    assert!(serde_json::from_str::<Config>(r#"{ "max": 1 }"#).is_err());
}

#[test]
fn threads_that_take_wait_and_give_up_lose_no_permit_and_no_turn() {
    let bulkhead = Bulkhead::new(config(3, 100));
    let running = AtomicU32::new(0);
    let run = |permit: OwnedPermit| {
        assert!(running.fetch_add(1, Ordering::Relaxed) < 3);
        running.fetch_sub(1, Ordering::Relaxed);
        drop(permit);
    };
    thread::scope(|scope| {
        for number in 0..4 {
            let bulkhead = &bulkhead;
            scope.spawn(move || {
                for step in 0..3000 {
                    match (step + number) % 4 {
                        0 => {
                            if let Ok(permit) = bulkhead.try_acquire_owned() {
                                run(permit);
                            }
                        }
                        1 => drop(bulkhead.enqueue(Low, None)),
                        _ => {
                            // Parked until it is woken: a lost turn would hang here for 10 s,
                            // and then be refused.
                            let waker = Waker::from(Arc::new(Unpark(thread::current())));
                            let mut waiter = bulkhead.enqueue(Normal, None).unwrap();
                            loop {
                                match waiter.poll(&waker) {
                                    Turn::Admitted(permit) => break run(permit),
                                    Turn::Wait(wait) => thread::park_timeout(wait.unwrap()),
                                    other => panic!("{other:?}"),
                                }
                            }
                        }
                    }
                }
            });
        }
    });
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.queued), (0, 0));
    assert!(bulkhead.try_acquire().is_ok());
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_permit_allocates_nothing() {
    let (bulkhead, _) = bulkhead(1, 0);
    let count = allocation_counter::measure(|| {
        for _ in 0..100 {
            let _permit = bulkhead.try_acquire_owned().unwrap();
            assert!(bulkhead.try_acquire().is_err());
        }
    });
    assert_eq!(count.count_total, 0);
}

/// What subscribers were told, in order.
fn told(receiver: &Receiver<Change>) -> Vec<&'static str> {
    receiver.try_iter().map(Change::as_str).collect()
}

fn permits<const N: usize>(bulkhead: &Bulkhead) -> [OwnedPermit; N] {
    [(); N].map(|()| bulkhead.try_acquire_owned().unwrap())
}

#[test]
fn a_full_bulkhead_is_told_once_and_room_once_half_of_the_limit_runs() {
    let (bulkhead, _) = bulkhead(5, 0);
    let (_subscription, receiver) = bulkhead.subscribe_channel(16);
    let [first, second, third, ..] = permits::<5>(&bulkhead).map(Some);
    assert!(told(&receiver).is_empty(), "nobody was refused");
    drop((first, second, third));
    let [first, second, third, fourth, fifth] = permits(&bulkhead);
    (0..5).for_each(|_| assert!(bulkhead.try_acquire().is_err()));
    assert_eq!(told(&receiver), ["full"]);
    assert!(bulkhead.snapshot().full);
    // One that comes back and is taken again is no room.
    for _ in 0..5 {
        drop(bulkhead.try_acquire());
    }
    drop((first, second));
    assert!(told(&receiver).is_empty(), "3 of 5 run");
    drop(third);
    assert_eq!(told(&receiver), ["room"], "2 of 5 run");
    assert!(!bulkhead.snapshot().full);
    drop((fourth, fifth));
    assert!(told(&receiver).is_empty(), "it was told");
    let _permits = permits::<5>(&bulkhead);
    assert!(bulkhead.try_acquire().is_err());
    assert_eq!(told(&receiver), ["full"], "again");
}

#[test]
fn a_bulkhead_of_one_has_room_when_nobody_runs() {
    let (bulkhead, _) = bulkhead(1, 0);
    let (_subscription, receiver) = bulkhead.subscribe_channel(16);
    let permit = bulkhead.try_acquire().unwrap();
    assert!(bulkhead.enqueue(Normal, None).is_err());
    drop(permit);
    assert_eq!(told(&receiver), ["full", "room"]);
}

#[test]
fn who_waits_makes_no_bulkhead_full_and_who_waits_in_vain_does() {
    let (bulkhead, clock) = bulkhead(1, 1);
    let (_subscription, receiver) = bulkhead.subscribe_channel(16);
    let running = bulkhead.try_acquire_owned().unwrap();
    let mut waiter = join(&bulkhead, Normal);
    assert!(permit(&mut waiter).is_none());
    assert!(
        bulkhead
            .enqueue_within(Normal, Some(Duration::ZERO))
            .is_err()
    );
    assert!(bulkhead.enqueue(Normal, Some(Duration::ZERO)).is_err());
    assert!(told(&receiver).is_empty(), "no time, and no want of room");
    clock.advance(10 * SECOND);
    assert_eq!(refusal(&mut waiter), Some(Reason::Deadline));
    assert_eq!(told(&receiver), ["full"]);
    drop(running);
    assert_eq!(told(&receiver), ["room"]);
}

#[test]
fn there_is_no_room_while_somebody_waits() {
    let (bulkhead, _) = bulkhead(2, 1);
    let (_subscription, receiver) = bulkhead.subscribe_channel(16);
    let [first, second] = permits(&bulkhead);
    let mut low = join(&bulkhead, Low);
    let mut high = join(&bulkhead, High);
    assert_eq!(refusal(&mut low), Some(Reason::Displaced));
    assert_eq!(told(&receiver), ["full"], "its place was taken");
    assert!(bulkhead.enqueue(Normal, None).is_err());
    drop(first);
    assert!(told(&receiver).is_empty(), "the turn was given");
    drop(second);
    assert_eq!(told(&receiver), ["room"]);
    drop(permit(&mut high));
    assert!(told(&receiver).is_empty());
}

#[test]
fn a_turn_that_nobody_takes_and_a_larger_limit_make_room_too() {
    let (bulkhead, _) = bulkhead(1, 1);
    let (_subscription, receiver) = bulkhead.subscribe_channel(16);
    let running = bulkhead.try_acquire_owned().unwrap();
    let waiter = join(&bulkhead, Normal);
    assert!(bulkhead.enqueue(Normal, None).is_err());
    drop(running);
    assert_eq!(told(&receiver), ["full"], "its turn has come");
    drop(waiter);
    assert_eq!(told(&receiver), ["room"], "it gave up");
    let _permit = bulkhead.try_acquire_owned().unwrap();
    assert!(bulkhead.try_acquire().is_err());
    bulkhead.set_config(config(2, 1));
    assert_eq!(told(&receiver), ["full", "settings", "room"]);
}

#[test]
fn other_settings_are_told_and_the_same_are_not() {
    let (bulkhead, _) = bulkhead(2, 0);
    let (subscription, receiver) = bulkhead.subscribe_channel(1);
    let other = config(3, 0);
    bulkhead.set_config(other);
    assert_eq!(receiver.try_recv(), Ok(Change::Settings(other)));
    bulkhead.set_config(other);
    assert!(receiver.try_recv().is_err());
    // The channel holds one.
    bulkhead.set_config(config(4, 0));
    bulkhead.set_config(other);
    assert_eq!(bulkhead.snapshot().lost_events, 1);
    drop(subscription);
    bulkhead.set_config(config(4, 0));
    assert_eq!(receiver.try_iter().count(), 1);
    assert_eq!(bulkhead.snapshot().lost_events, 1);
}

/// A subscriber may ask the bulkhead itself, and what it panics harms nobody.
#[test]
fn subscribers_are_told_outside_of_any_lock() {
    let (bulkhead, _) = bulkhead(1, 1);
    let (told, asked) = (Arc::new(AtomicU32::new(0)), bulkhead.downgrade());
    let counted = Arc::clone(&told);
    let subscription = bulkhead.subscribe(move |change| {
        let bulkhead = asked().expect("the bulkhead is there");
        assert_eq!(bulkhead.snapshot().full, *change == Change::Full);
        bulkhead.set_config(bulkhead.config());
        drop(bulkhead.enqueue(Normal, None));
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("of the subscriber");
    });
    let permit = bulkhead.try_acquire().unwrap();
    assert!(bulkhead.try_acquire().is_err());
    drop(permit);
    subscription.forget();
    assert_eq!(told.load(Ordering::Relaxed), 2);
}

#[test]
fn threads_that_are_refused_and_wait_at_once_leave_no_full_bulkhead_behind() {
    for _ in 0..50 {
        let (bulkhead, _) = bulkhead(2, 1);
        let (_subscription, receiver) = bulkhead.subscribe_channel(10_000);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _permit = bulkhead.try_acquire();
                        let _waiter = bulkhead.enqueue(Normal, None);
                    }
                });
            }
        });
        assert!(!bulkhead.snapshot().full);
        let told = told(&receiver);
        let count = |name| told.iter().filter(|told| **told == name).count();
        assert_eq!(count("full"), count("room"));
    }
}

#[test]
fn a_permit_of_a_full_bulkhead_allocates_nothing() {
    let (bulkhead, _) = bulkhead(4, 0);
    let _permits = permits::<3>(&bulkhead);
    let call = || {
        let _permit = bulkhead.try_acquire().unwrap();
        assert!(bulkhead.try_acquire().is_err());
    };
    call();
    let count = allocation_counter::measure(|| (0..100).for_each(|_| call()));
    assert_eq!(count.count_total, 0);
    assert!(bulkhead.snapshot().full);
}
