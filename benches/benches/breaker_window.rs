//! The breaker's cost against the size of its window, on one thread; the parameter is the
//! number of calls in the window. `mixed` is one failure in four calls: below the threshold,
//! so that each is judged and none opens.

use std::sync::LazyLock;
use std::time::Duration;

use benches::Contest;
use benches::peers::breaker;
use benches::service::answered;
use benches::threads::now;
use criterion::{Criterion, criterion_group, criterion_main};
use recloser::Recloser;
use resilience_core::breaker::{CircuitBreaker, Permit};

/// Sizes of a count window.
const WINDOWS: [u32; 5] = [10, 100, 1_000, 100_000, 10_000_000];
/// Calls held by a time window.
const HELD: [u32; 4] = [100, 10_000, 1_000_000, 10_000_000];
/// Calls held at which `tower-resilience` can still be measured: filling its window costs the
/// square of it.
const HELD_BY_TOWER_RESILIENCE: [u32; 3] = [100, 1_000, 10_000];

fn count_window(c: &mut Criterion) {
    let ours = WINDOWS.map(|calls| LazyLock::new(move || ours_full(calls)));
    let recloser = WINDOWS.map(|calls| LazyLock::new(move || recloser_full(calls)));
    let throttle_net = WINDOWS.map(|calls| {
        LazyLock::new(move || {
            let breaker = breaker::throttle_count(calls);
            (0..calls).for_each(|_| _ = breaker::throttle_call(&breaker, true));
            breaker
        })
    });
    let mut contest = Contest::new("breaker/count_window");
    for (index, calls) in WINDOWS.into_iter().enumerate() {
        let ours = &ours[index];
        let recloser = &recloser[index];
        let throttle_net = &throttle_net[index];
        contest = contest
            .sized("ours_success", calls, move || {
                let breaker: &CircuitBreaker = ours;
                move || breaker::call(breaker, Permit::success)
            })
            .sized("ours_mixed", calls, move || ours_mixed(ours))
            .sized("recloser_success", calls, move || {
                let breaker: &Recloser = recloser;
                move || breaker::recloser_success(breaker)
            })
            .sized("recloser_mixed", calls, move || {
                let breaker: &Recloser = recloser;
                let mut calls = 0_u32;
                move || {
                    calls = calls.wrapping_add(1);
                    if calls.is_multiple_of(4) {
                        breaker::recloser_failure(breaker)
                    } else {
                        breaker::recloser_success(breaker)
                    }
                }
            })
            .sized("throttle_net_success", calls, move || {
                let breaker = &**throttle_net;
                move || breaker::throttle_call(breaker, true)
            });
        // Each of its failures counts the whole window; from here on for milliseconds.
        if calls <= 1_000 {
            contest = contest.sized("throttle_net_mixed", calls, move || {
                let breaker = &**throttle_net;
                let mut calls = 0_u32;
                move || {
                    calls = calls.wrapping_add(1);
                    breaker::throttle_call(breaker, !calls.is_multiple_of(4))
                }
            });
        }
    }
    contest.run(c);
}

/// The windows outlast the measurement: what they hold only grows.
fn time_window(c: &mut Criterion) {
    let ours = HELD.map(|calls| {
        LazyLock::new(move || {
            let breaker = breaker::time_of(Duration::from_secs(3_600));
            (0..calls).for_each(|_| _ = breaker::call(&breaker, Permit::success));
            breaker
        })
    });
    let failsafe = HELD.map(|calls| {
        LazyLock::new(move || {
            let breaker = breaker::failsafe();
            (0..calls).for_each(|_| _ = breaker::failsafe_success(&breaker));
            breaker
        })
    });
    let mut contest = Contest::new("breaker/time_window");
    for (index, calls) in HELD.into_iter().enumerate() {
        let ours = &ours[index];
        let failsafe = &failsafe[index];
        contest = contest
            .sized("ours_success", calls, move || {
                let breaker: &CircuitBreaker = ours;
                move || breaker::call(breaker, Permit::success)
            })
            .sized("ours_mixed", calls, move || ours_mixed(ours))
            .sized("failsafe_success", calls, move || {
                let breaker = &**failsafe;
                move || breaker::failsafe_success(breaker)
            });
    }
    for calls in HELD_BY_TOWER_RESILIENCE {
        contest = contest.custom("tower_resilience", calls, move |iterations| {
            tower_resilience(calls, iterations)
        });
    }
    contest.run(c);
}

/// A window that holds no more than a tenth above `calls`: it is filled anew, untimed, after
/// each tenth.
fn tower_resilience(calls: u32, iterations: u64) -> Duration {
    let mut left = iterations;
    let mut spent = Duration::ZERO;
    while left > 0 {
        let mut service = breaker::tower_resilience_time();
        (0..calls).for_each(|_| assert!(answered(&mut service)));
        let timed = left.min(u64::from(calls / 10));
        let start = now();
        (0..timed).for_each(|_| assert!(answered(&mut service)));
        spent += now() - start;
        left -= timed;
    }
    spent
}

fn ours_full(calls: u32) -> CircuitBreaker {
    let breaker = breaker::count_of(calls);
    (0..calls).for_each(|_| _ = breaker::call(&breaker, Permit::success));
    breaker
}

fn ours_mixed(breaker: &CircuitBreaker) -> impl FnMut() -> bool {
    let mut calls = 0_u32;
    move || {
        calls = calls.wrapping_add(1);
        if calls.is_multiple_of(4) {
            breaker::call(breaker, Permit::failure)
        } else {
            breaker::call(breaker, Permit::success)
        }
    }
}

fn recloser_full(calls: u32) -> Recloser {
    let breaker = breaker::recloser(calls);
    (0..calls).for_each(|_| _ = breaker::recloser_success(&breaker));
    breaker
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = count_window, time_window
}
criterion_main!(benches);
