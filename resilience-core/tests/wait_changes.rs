//! Waiting in line: who gives up, what moves a turn, and who is woken.

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Wake, Waker},
    thread,
    time::Duration,
};

use resilience_core::rate_limit::{wait::*, *};

use crate::line::{is_admitted, poll, queue, seconds, wait, waker};

#[test]
fn who_gives_up_leaves_no_gap_and_the_next_in_line_is_woken() {
    let (queue, clock) = queue(3, 9);
    queue.limiter().try_acquire_n(3).unwrap();
    let (first_woken, first_waker) = waker();
    let (second_woken, second_waker) = waker();
    let (third_woken, third_waker) = waker();
    let mut first = queue.enqueue(3, None).unwrap();
    let mut second = queue.enqueue(1, None).unwrap();
    let mut third = queue.enqueue(1, None).unwrap();
    assert_eq!(first.poll(&first_waker), wait(3));
    assert_eq!(second.poll(&second_waker), wait(4));
    assert_eq!(third.poll(&third_waker), wait(5));
    drop(first);
    assert_eq!(
        [&first_woken, &second_woken, &third_woken].map(|woken| woken.times()),
        [0, 1, 0]
    );
    assert_eq!(second.poll(&second_waker), wait(1));
    assert_eq!(
        queue.limiter().try_acquire().unwrap_err().retry_after,
        Some(seconds(3))
    );
    clock.set(seconds(1));
    assert!(matches!(second.poll(&second_waker), Turn::Admitted(_)));
    // It was told five seconds; its turn is at two.
    assert_eq!(third_woken.times(), 1);
    assert_eq!(third.poll(&third_waker), wait(1));
    clock.set(seconds(2));
    assert!(matches!(third.poll(&third_waker), Turn::Admitted(_)));
    assert_eq!(third_woken.times(), 1, "who asks is not woken");
}

#[test]
fn who_gives_up_in_the_middle_moves_up_those_behind() {
    let (queue, clock) = queue(5, 9);
    queue.limiter().try_acquire_n(5).unwrap();
    let mut waiters = [1, 5, 1]
        .map(|n| queue.enqueue(n, None).unwrap())
        .into_iter();
    let (mut first, middle, mut last) = (
        waiters.next().unwrap(),
        waiters.next().unwrap(),
        waiters.next().unwrap(),
    );
    assert_eq!(poll(&mut last), wait(7));
    drop(middle);
    assert_eq!(poll(&mut last), wait(2));
    assert_eq!(poll(&mut queue.enqueue(1, None).unwrap()), wait(3));
    clock.set(seconds(2));
    assert!(is_admitted(&mut last));
    assert!(is_admitted(&mut first));
}

#[test]
fn a_turn_that_nobody_learned_of_is_put_back() {
    let (queue, clock) = queue(2, 9);
    let limiter = queue.limiter().clone();
    // Given on arrival, in full.
    drop(queue.enqueue(2, None).unwrap());
    assert_eq!(limiter.snapshot().remaining, 2);
    // Given on arrival, and put back in proportion after a change.
    let waiter = queue.enqueue(1, None).unwrap();
    limiter.set_quota(Quota::per_second(100).unwrap().burst(200).unwrap());
    assert_eq!(limiter.snapshot().remaining, 99);
    drop(waiter);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(limiter.snapshot().remaining, 200);
}

#[test]
fn a_turn_given_in_line_goes_to_the_next_when_it_is_never_used() {
    let (queue, clock) = queue(1, 9);
    queue.limiter().try_acquire().unwrap();
    let (woken, waker) = waker();
    let first = queue.enqueue(1, None).unwrap();
    let mut second = queue.enqueue(1, None).unwrap();
    clock.set(seconds(1));
    // Asking gives the turn to the first, which does not come for it.
    assert_eq!(second.poll(&waker), wait(1));
    drop(first);
    assert_eq!(woken.times(), 1);
    assert!(is_admitted(&mut second));
}

#[test]
fn a_turn_that_was_told_stays_taken() {
    let (queue, _) = queue(1, 9);
    let mut waiter = queue.enqueue(1, None).unwrap();
    let turn = poll(&mut waiter);
    assert!(matches!(turn, Turn::Admitted(_)));
    assert_eq!(poll(&mut waiter), turn);
    drop(waiter);
    assert!(queue.limiter().try_acquire().is_err());
}

#[test]
fn a_front_that_is_never_polled_holds_up_nobody() {
    let (queue, clock) = queue(1, 9);
    queue.limiter().try_acquire().unwrap();
    let mut asleep = queue.enqueue(1, None).unwrap();
    let mut awake = queue.enqueue(1, None).unwrap();
    assert_eq!(poll(&mut awake), wait(2));
    clock.set(seconds(2));
    // The turn of the one asleep is given now, for nobody came earlier.
    assert_eq!(poll(&mut awake), wait(1));
    clock.set(seconds(3));
    assert!(is_admitted(&mut awake));
    assert!(is_admitted(&mut asleep));
}

#[test]
fn a_refund_wakes_the_front_and_no_other() {
    let (queue, _) = queue(4, 9);
    let limiter = queue.limiter();
    limiter.try_acquire_n(4).unwrap();
    let (front, front_waker) = waker();
    let (back, back_waker) = waker();
    let mut first = queue.enqueue(3, None).unwrap();
    let mut second = queue.enqueue(3, None).unwrap();
    assert_eq!(first.poll(&front_waker), wait(3));
    assert_eq!(second.poll(&back_waker), wait(6));
    limiter.refund(1);
    assert_eq!((front.times(), back.times()), (1, 0));
    assert_eq!(first.poll(&front_waker), wait(2));
    limiter.refund(2);
    assert_eq!((front.times(), back.times()), (2, 1));
    assert!(is_admitted(&mut first));
    assert_eq!(second.poll(&back_waker), wait(3));
}

#[test]
fn a_change_of_quota_moves_the_line() {
    let (queue, clock) = queue(2, 9);
    let limiter = queue.limiter().clone();
    limiter.try_acquire_n(2).unwrap();
    let (woken, waker) = waker();
    let mut first = queue.enqueue(1, Some(seconds(1))).unwrap();
    let mut second = queue.enqueue(2, None).unwrap();
    assert_eq!(first.poll(&waker), wait(1));
    let faster = Quota::new(1, Duration::from_millis(10))
        .unwrap()
        .burst(2)
        .unwrap();
    limiter.set_quota(faster);
    assert_eq!(woken.times(), 1);
    let in_time = Turn::Wait(Duration::from_nanos(10_000_001));
    assert_eq!(first.poll(&waker), in_time);
    // Slower, and too small for the second.
    let slower = Quota::new(1, seconds(5)).unwrap();
    limiter.set_quota(slower);
    let Turn::Refused(refused) = first.poll(&waker) else {
        panic!("it cannot have its turn in time");
    };
    assert_eq!(refused.reason, WaitReason::Deadline);
    let Turn::Refused(refused) = poll(&mut second) else {
        panic!("it costs more than the burst");
    };
    assert_eq!(refused.reason, WaitReason::Cost);
    assert_eq!((queue.waiting(), limiter.snapshot().queued), (0, 0));
    clock.set(seconds(6));
    assert!(limiter.try_acquire().is_ok());
}

#[test]
fn a_front_whose_cost_no_longer_fits_holds_up_nobody() {
    let (queue, clock) = queue(3, 9);
    let limiter = queue.limiter().clone();
    limiter.try_acquire_n(3).unwrap();
    let _too_big = queue.enqueue(3, None).unwrap();
    let mut small = queue.enqueue(1, None).unwrap();
    limiter.set_quota(Quota::per_second(1).unwrap().burst(2).unwrap());
    clock.set(seconds(2));
    assert!(is_admitted(&mut small));
}

#[test]
fn a_clock_that_steps_back_makes_the_line_wait_and_nothing_else() {
    let (queue, clock) = queue(1, 9);
    clock.set(seconds(50));
    queue.limiter().try_acquire().unwrap();
    let mut waiter = queue.enqueue(1, Some(seconds(10))).unwrap();
    let mut patient = queue.enqueue(1, None).unwrap();
    clock.set(seconds(30));
    assert_eq!(poll(&mut waiter), wait(21));
    assert_eq!(poll(&mut patient), wait(22));
    clock.set(Duration::MAX);
    assert!(matches!(poll(&mut waiter), Turn::Refused(_)));
    assert!(is_admitted(&mut patient));
}

#[test]
fn a_waker_may_hold_a_waiter_of_the_same_line() {
    /// The last handle on a task, which owns a place in the line.
    struct Task(#[expect(dead_code, reason = "dropped with the task")] Mutex<Option<Waiter>>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let (queue, clock) = queue(1, 9);
    queue.limiter().try_acquire().unwrap();
    let mut first = queue.enqueue(1, None).unwrap();
    let second = queue.enqueue(1, None).unwrap();
    let waker = Waker::from(Arc::new(Task(Mutex::new(Some(second)))));
    first.poll(&waker);
    drop(waker);
    // In a thread of its own, so that a lock taken twice fails the test and does not hang it.
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Forgets that waker, and with it the second waiter.
        let turn = poll(&mut first);
        sender.send((turn, queue.waiting())).unwrap();
        clock.set(seconds(1));
        sender.send((poll(&mut first), queue.waiting())).unwrap();
    });
    let patience = seconds(20);
    assert_eq!(receiver.recv_timeout(patience), Ok((wait(1), 1)));
    let (turn, waiting) = receiver.recv_timeout(patience).unwrap();
    assert!(matches!(turn, Turn::Admitted(_)));
    assert_eq!(waiting, 0);
}
