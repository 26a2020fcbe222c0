//! The bound of the retry budget, and what changes of it keep.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    clock::ManualClock,
    retry::{BudgetChange, BudgetConfig, RetryBudget},
};

const SECOND: Duration = Duration::from_secs(1);

fn budget(share: f64, floor: u32, burst: u32) -> (RetryBudget, ManualClock) {
    let clock = ManualClock::new();
    let config = BudgetConfig::new(share, floor).unwrap().burst(burst);
    (
        RetryBudget::with_clock(config.unwrap(), clock.clone()),
        clock,
    )
}

fn withdrawn(budget: &RetryBudget) -> u32 {
    (0..).take_while(|_| budget.try_withdraw().is_ok()).count() as u32
}

#[test]
fn a_new_budget_holds_its_burst_and_no_more() {
    let (budget, _) = budget(0.5, 0, 7);
    (0..1000).for_each(|_| budget.deposit());
    assert_eq!(withdrawn(&budget), 7);
}

// In tower's budget a share of 0.6 pays for as many retries as there are calls.
#[test]
fn a_share_of_six_tenths_pays_for_six_retries_in_ten_calls() {
    let (budget, _) = budget(0.6, 0, 2);
    withdrawn(&budget);
    let mut retries = 0;
    for _ in 0..1000 {
        budget.deposit();
        retries += withdrawn(&budget);
    }
    assert!((599..=600).contains(&retries), "{retries}");
}

#[test]
fn a_share_of_nothing_earns_nothing_and_a_share_of_one_earns_all() {
    let (nothing, _) = budget(0.0, 0, 5);
    let (all, _) = budget(1.0, 0, 5);
    assert_eq!((withdrawn(&nothing), withdrawn(&all)), (5, 5));
    for _ in 0..3 {
        nothing.deposit();
        all.deposit();
    }
    assert_eq!((withdrawn(&nothing), withdrawn(&all)), (0, 3));
}

#[test]
fn a_budget_that_lacks_one_retry_earns_it_back() {
    let (budget, _) = budget(0.5, 0, 5);
    budget.try_withdraw().unwrap();
    (0..2).for_each(|_| budget.deposit());
    assert_eq!(withdrawn(&budget), 5);
}

#[test]
fn the_floor_is_earned_by_time_alone_and_says_when() {
    let (budget, clock) = budget(0.0, 4, 2);
    assert_eq!(withdrawn(&budget), 2);
    let wait = budget.try_withdraw().unwrap_err().earned_after.unwrap();
    assert_eq!(wait, SECOND / 4);
    clock.advance(wait - Duration::from_nanos(1));
    assert!(budget.try_withdraw().is_err());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(withdrawn(&budget), 1);
    clock.advance(100 * SECOND);
    assert_eq!(withdrawn(&budget), 2, "the burst");
}

#[test]
fn without_a_floor_time_earns_nothing() {
    let (budget, clock) = budget(0.1, 0, 3);
    assert_eq!(withdrawn(&budget), 3);
    clock.advance(1_000_000 * SECOND);
    assert_eq!(budget.try_withdraw().unwrap_err().earned_after, None);
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let (budget, _) = budget(0.0, 0, 2);
    assert_eq!(withdrawn(&budget), 2);
    budget.refund();
    assert_eq!(withdrawn(&budget), 1);
    (0..9).for_each(|_| budget.refund());
    assert_eq!(withdrawn(&budget), 2, "never above the burst");
}

#[test]
fn a_change_keeps_the_balance_in_proportion() {
    let (budget, _) = budget(0.0, 0, 10);
    (0..5).for_each(|_| budget.try_withdraw().unwrap());
    let config = |burst| BudgetConfig::new(0.0, 0).unwrap().burst(burst).unwrap();
    budget.set_config(config(100));
    // A nanosecond of filling is lost in a change.
    assert_eq!(budget.snapshot().balance, 49);
    assert_eq!(budget.config(), config(100));
    assert_eq!(withdrawn(&budget), 49);
    (0..50).for_each(|_| {
        budget.set_config(config(1));
        budget.set_config(config(100));
    });
    assert_eq!(withdrawn(&budget), 0, "changes to and fro earn nothing");
}

#[test]
fn a_floor_that_is_switched_off_and_on_earns_nothing_in_between() {
    let (budget, clock) = budget(0.0, 10, 10);
    assert_eq!(withdrawn(&budget), 10);
    let config = |floor| BudgetConfig::new(0.0, floor).unwrap().burst(10).unwrap();
    budget.set_config(config(0));
    clock.advance(100 * SECOND);
    assert_eq!(withdrawn(&budget), 0);
    budget.set_config(config(10));
    assert_eq!(withdrawn(&budget), 0);
    clock.advance(SECOND / 2);
    assert_eq!(
        withdrawn(&budget),
        4,
        "5, less the nanoseconds of two changes"
    );
}

#[test]
fn the_share_that_is_earned_follows_a_change() {
    let (budget, _) = budget(0.0, 0, 10);
    assert_eq!(withdrawn(&budget), 10);
    budget.set_config(BudgetConfig::new(0.5, 0).unwrap().burst(10).unwrap());
    (0..12).for_each(|_| budget.deposit());
    assert!((5..=6).contains(&withdrawn(&budget)));
}

#[test]
fn settings_out_of_range_are_named() {
    for (config, said) in [
        (BudgetConfig::new(-0.1, 0), "share is -0.1, allowed: 0 to 1"),
        (
            BudgetConfig::new(f64::NAN, 0),
            "share is NaN, allowed: 0 to 1",
        ),
        (
            BudgetConfig::new(0.1, 1_000_001),
            "floor_per_second is 1000001, allowed: 0 to 1000000",
        ),
        (
            BudgetConfig::default().burst(0),
            "burst is 0, allowed: 1 to 1000000",
        ),
    ] {
        assert_eq!(config.unwrap_err().to_string(), said);
    }
}

proptest! {
    /// Retries are at most burst + share × first attempts + floor × time over *any* span.
    #[test]
    fn no_span_has_more_retries_than_its_share(
        share in 0.0..=1.0_f64,
        floor in 0..50_u32,
        burst in 1..20_u32,
        steps in prop::collection::vec((0..4_u8, 0..400_u64), 1..300),
    ) {
        let (budget, clock) = budget(share, floor, burst);
        // Before each step: first attempts, retries, milliseconds.
        let mut seen = vec![(0_u64, 0_u64, 0_u64)];
        for (kind, amount) in steps {
            let (mut calls, mut retries, mut millis) = seen[seen.len() - 1];
            match kind {
                0 => { budget.deposit(); calls += 1; }
                1 => { clock.advance(Duration::from_millis(amount)); millis += amount; }
                _ => retries += u64::from(budget.try_withdraw().is_ok()),
            }
            seen.push((calls, retries, millis));
        }
        for (i, from) in seen.iter().enumerate() {
            for to in &seen[i..] {
                let calls = (to.0 - from.0) as f64;
                let seconds = (to.2 - from.2) as f64 / 1000.0;
                let most = f64::from(burst) + share * calls + f64::from(floor) * seconds;
                let retries = (to.1 - from.1) as f64;
                prop_assert!(retries <= most + 1e-6, "{retries} of {most}");
            }
        }
    }

    /// Nothing is kept back either: what was earned can be taken.
    #[test]
    fn what_was_earned_is_paid(share in 0.01..=1.0_f64, calls in 0..500_u32) {
        let (budget, _) = budget(share, 0, 1000);
        withdrawn(&budget);
        (0..calls).for_each(|_| budget.deposit());
        let earned = share * f64::from(calls);
        let paid = f64::from(withdrawn(&budget));
        prop_assert!(paid <= earned + 1e-6 && paid > earned - 1.001, "{paid} of {earned}");
    }
}

#[test]
fn threads_together_never_overdraw() {
    let (budget, _) = budget(0.3, 0, 5);
    let (calls, retries) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for step in 0..20_000 {
                    if step % 3 == 0 {
                        budget.deposit();
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    if budget.try_withdraw().is_ok() {
                        retries.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let most = 5.0 + 0.3 * calls.into_inner() as f64;
    let retries = retries.into_inner() as f64;
    assert!(
        retries <= most && retries > most - 6.0,
        "{retries} of {most}"
    );
}

#[test]
fn deposit_and_withdrawal_allocate_nothing() {
    let budget = RetryBudget::default();
    let count = allocation_counter::measure(|| {
        for _ in 0..100 {
            budget.deposit();
            let _ = budget.try_withdraw();
        }
    });
    assert_eq!(count.count_total, 0);
}

/// What subscribers were told, in order.
fn told(receiver: &Receiver<BudgetChange>) -> Vec<&'static str> {
    receiver.try_iter().map(BudgetChange::as_str).collect()
}

#[test]
fn a_budget_that_is_spent_is_told_once_and_its_recovery_once_half_of_the_burst_is_there() {
    let (budget, _) = budget(1.0, 0, 8);
    let (_subscription, receiver) = budget.subscribe_channel(16);
    for _ in 0..8 {
        budget.try_withdraw().unwrap();
    }
    assert!(told(&receiver).is_empty(), "nobody was refused");
    (0..5).for_each(|_| assert!(budget.try_withdraw().is_err()));
    assert_eq!(told(&receiver), ["spent"]);
    assert!(budget.snapshot().spent);
    // Just enough for one now and then is no recovery, nor is what nobody asked for.
    for _ in 0..20 {
        budget.deposit();
        assert_eq!(withdrawn(&budget), 1);
    }
    (0..3).for_each(|_| budget.deposit());
    budget.try_withdraw().unwrap();
    assert!(told(&receiver).is_empty(), "3 of 8 were there");
    (0..2).for_each(|_| budget.deposit());
    assert!(told(&receiver).is_empty(), "nobody asked");
    budget.try_withdraw().unwrap();
    assert_eq!(told(&receiver), ["recovered"], "4 of 8 were there");
    assert!(!budget.snapshot().spent);
    assert_eq!(withdrawn(&budget), 3);
    assert_eq!(told(&receiver), ["spent"], "again");
}

#[test]
fn a_budget_of_one_recovers_with_it() {
    let (budget, _) = budget(1.0, 0, 1);
    let (_subscription, receiver) = budget.subscribe_channel(16);
    assert_eq!(withdrawn(&budget), 1);
    budget.deposit();
    assert_eq!(withdrawn(&budget), 1);
    assert_eq!(told(&receiver), ["spent", "recovered", "spent"]);
}

#[test]
fn other_settings_are_told_and_the_same_are_not() {
    let (budget, _) = budget(0.2, 0, 8);
    let (subscription, receiver) = budget.subscribe_channel(1);
    let other = BudgetConfig::new(0.1, 5).unwrap();
    budget.set_config(other);
    assert_eq!(receiver.try_recv(), Ok(BudgetChange::Settings(other)));
    budget.set_config(other);
    assert!(receiver.try_recv().is_err());
    // The channel holds one.
    budget.set_config(BudgetConfig::default());
    budget.set_config(other);
    assert_eq!(budget.snapshot().lost_events, 1);
    drop(subscription);
    budget.set_config(BudgetConfig::default());
    assert_eq!(receiver.try_iter().count(), 1);
    assert_eq!(budget.snapshot().lost_events, 1);
}

/// A subscriber may ask the budget itself, and what it panics harms nobody.
#[test]
fn subscribers_are_told_outside_of_any_lock() {
    let (budget, _) = budget(0.2, 0, 1);
    let (told, asked) = (Arc::new(AtomicU64::new(0)), budget.downgrade());
    let counted = Arc::clone(&told);
    let subscription = budget.subscribe(move |_| {
        let budget = asked().expect("the budget is there");
        assert!(budget.try_withdraw().is_err());
        budget.set_config(budget.config());
        assert!(budget.snapshot().spent);
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("of the subscriber");
    });
    assert_eq!(withdrawn(&budget), 1);
    subscription.forget();
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn threads_that_are_refused_at_once_tell_it_once() {
    for _ in 0..50 {
        let (budget, _) = budget(0.0, 0, 4);
        let (_subscription, receiver) = budget.subscribe_channel(16);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..4).for_each(|_| {
                        assert!(budget.try_withdraw().is_ok() || budget.snapshot().refused > 0)
                    })
                });
            }
        });
        assert_eq!(told(&receiver), ["spent"]);
    }
}
