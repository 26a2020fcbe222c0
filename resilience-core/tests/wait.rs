//! Waiting in line: who comes when, and who is refused.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use resilience_core::rate_limit::{wait::*, *};

use crate::line::{is_admitted, poll, queue, seconds, wait};

#[test]
fn turns_come_in_the_order_of_arrival() {
    let (queue, clock) = queue(1, 9);
    let mut waiters: Vec<_> = (0..4).map(|_| queue.enqueue(1, None).unwrap()).collect();
    assert!(is_admitted(&mut waiters[0]));
    for now in 1..4 {
        for (place, waiter) in waiters.iter_mut().enumerate().skip(now as usize) {
            assert_eq!(poll(waiter), wait(place as u64 + 1 - now));
        }
        clock.set(seconds(now) - Duration::from_nanos(1));
        assert!(!is_admitted(&mut waiters[now as usize]));
        clock.set(seconds(now));
        assert!(is_admitted(&mut waiters[now as usize]));
    }
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn nobody_overtakes_the_line_however_small() {
    let (queue, clock) = queue(10, 9);
    let limiter = queue.limiter().clone();
    limiter.try_acquire_n(4).unwrap();
    // Six are left, but it wants eight.
    let mut big = queue.enqueue(8, None).unwrap();
    assert_eq!(poll(&mut big), wait(2));
    let refused = limiter.try_acquire().unwrap_err();
    assert_eq!(refused.retry_after, Some(seconds(3)));
    assert_eq!(refused.remaining, 0);
    assert_eq!(limiter.peek(1), Err(refused));
    assert_eq!(limiter.snapshot().queued, 8);
    let refused = check_all(&[&limiter]).unwrap_err();
    assert_eq!(refused.limited.retry_after, Some(seconds(3)));
    assert_eq!(poll(&mut queue.enqueue(1, None).unwrap()), wait(3));
    assert!(limiter.try_acquire_n(0).is_ok());
    assert!(is_admitted(&mut queue.enqueue(0, None).unwrap()));
    clock.set(seconds(2));
    assert!(limiter.try_acquire().is_err());
    assert!(is_admitted(&mut big));
    assert_eq!(
        limiter.try_acquire().unwrap_err().retry_after,
        Some(seconds(1))
    );
    clock.set(seconds(3));
    assert!(limiter.try_acquire().is_ok());
}

#[test]
fn a_full_line_refuses_and_tells_the_wait() {
    let (queue, clock) = queue(1, 2);
    let limiter = queue.limiter().clone();
    limiter.try_acquire().unwrap();
    let waiters = [(); 2].map(|()| queue.enqueue(1, None).unwrap());
    let refused = queue.enqueue(1, None).unwrap_err();
    assert_eq!(refused.reason, WaitReason::QueueFull);
    assert_eq!(refused.limited.retry_after, Some(seconds(3)));
    assert!(
        refused
            .to_string()
            .starts_with("queue_full: rate limit reached")
    );
    // A longer line in front of the same limiter.
    assert!(limiter.wait_queue(3).enqueue(1, None).is_ok());
    // Who is due does not count, polled or not.
    clock.set(seconds(1));
    assert!(queue.enqueue(1, None).is_ok());
    drop(waiters);
    let none = limiter.wait_queue(0);
    clock.set(seconds(100));
    assert!(is_admitted(&mut none.enqueue(1, None).unwrap()));
    let refused = none.enqueue(1, None).unwrap_err();
    assert_eq!(refused.reason, WaitReason::QueueFull);
    assert!(limiter.try_acquire().is_err());
    clock.set(seconds(101));
    assert!(
        limiter.try_acquire().is_ok(),
        "a refusal leaves the line open"
    );
}

#[test]
fn who_cannot_have_a_turn_in_time_is_refused_at_once() {
    let (queue, clock) = queue(1, 9);
    queue.limiter().try_acquire().unwrap();
    let just_short = seconds(1) - Duration::from_nanos(1);
    for short in [Duration::ZERO, just_short] {
        let refused = queue.enqueue(1, Some(short)).unwrap_err();
        assert_eq!(refused.reason, WaitReason::Deadline);
        assert_eq!(refused.limited.retry_after, Some(seconds(1)));
    }
    let mut first = queue.enqueue(1, Some(seconds(1))).unwrap();
    let refused = queue.enqueue(1, Some(seconds(1))).unwrap_err();
    assert_eq!(refused.limited.retry_after, Some(seconds(2)));
    clock.set(seconds(1));
    assert!(is_admitted(&mut first));
}

#[test]
fn who_comes_after_its_deadline_is_refused_and_holds_up_nobody() {
    let (queue, clock) = queue(2, 9);
    queue.limiter().try_acquire_n(2).unwrap();
    let mut late = queue.enqueue(2, Some(seconds(2))).unwrap();
    let mut behind = queue.enqueue(1, None).unwrap();
    clock.set(seconds(2) + Duration::from_nanos(1));
    assert!(is_admitted(&mut behind));
    let Turn::Refused(refused) = poll(&mut late) else {
        panic!("it came too late");
    };
    assert_eq!(refused.reason, WaitReason::Deadline);
    assert_eq!(poll(&mut late), Turn::Refused(refused));
    assert!(queue.limiter().try_acquire().is_ok());
}

#[test]
fn a_cost_above_the_burst_has_no_place() {
    let (queue, _) = queue(2, 9);
    let refused = queue.enqueue(3, None).unwrap_err();
    assert_eq!(refused.reason, WaitReason::Cost);
    assert_eq!(refused.limited.retry_after, None);
    let refused = queue.limiter().wait_queue(0).enqueue(3, None).unwrap_err();
    assert_eq!(refused.reason, WaitReason::Cost);
    assert!(queue.limiter().try_acquire_n(2).is_ok());
}

#[test]
fn only_those_who_wait_allocate() {
    let (queue, _) = queue(1, 9);
    let info = allocation_counter::measure(|| {
        assert!(is_admitted(&mut queue.enqueue(1, None).unwrap()));
        assert!(queue.enqueue(1, Some(Duration::ZERO)).is_err());
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn threads_in_line_all_have_their_turn_and_no_more_than_the_rate_allows() {
    const THREADS: u64 = 4;
    const EACH: u64 = if cfg!(miri) { 5 } else { 250 };
    let (queue, clock) = queue(3, 100);
    let (done, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (queue, done, admitted) = (&queue, &done, &admitted);
            scope.spawn(move || {
                for round in 0..EACH {
                    let mut waiter = queue.enqueue(1, None).unwrap();
                    // Gives up now and then, at once or after having asked.
                    if round % 5 == thread {
                        if round % 2 == 0 && is_admitted(&mut waiter) {
                            admitted.fetch_add(1, Ordering::SeqCst);
                        }
                        continue;
                    }
                    while !is_admitted(&mut waiter) {
                        thread::yield_now();
                    }
                    admitted.fetch_add(1, Ordering::SeqCst);
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        // Ends even if a turn was lost: by then there would be room for all to be admitted.
        while done.load(Ordering::SeqCst) < THREADS {
            clock.advance(seconds(1));
            thread::yield_now();
        }
    });
    let passed = queue.limiter().snapshot();
    assert_eq!((queue.waiting(), passed.queued), (0, 0));
    clock.advance(seconds(3));
    assert!(queue.limiter().try_acquire_n(3).is_ok());
    assert!(admitted.into_inner() >= THREADS * EACH * 4 / 5);
}
