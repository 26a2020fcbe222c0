//! Every interleaving of a few calls on one budget.

use loom::{sync::Arc, thread};

use super::{BudgetChange, BudgetConfig, RetryBudget};
use crate::clock::{SharedClock, Still};

fn budget(share: f64, burst: u32) -> RetryBudget {
    let config = BudgetConfig::new(share, 0).and_then(|config| config.burst(burst));
    RetryBudget::with_clock(config.unwrap(), SharedClock::new(Still))
}

#[test]
fn loom_two_retries_do_not_share_one_permit() {
    loom::model(|| {
        let budget = Arc::new(budget(0.0, 1));
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || u32::from(budget.try_withdraw().is_ok()))
        };
        let own = u32::from(budget.try_withdraw().is_ok());
        assert_eq!(own + other.join().unwrap(), 1);
    });
}

#[test]
fn loom_what_is_earned_beside_a_retry_is_neither_lost_nor_paid_twice() {
    loom::model(|| {
        let budget = Arc::new(budget(1.0, 2));
        budget.try_withdraw().unwrap();
        budget.try_withdraw().unwrap();
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.deposit())
        };
        let mut paid = u32::from(budget.try_withdraw().is_ok());
        budget.deposit();
        other.join().unwrap();
        while budget.try_withdraw().is_ok() {
            paid += 1;
        }
        assert_eq!(paid, 2);
    });
}

#[test]
fn loom_a_budget_that_is_spent_is_told_once_and_no_recovery_is_made_up() {
    loom::model(|| {
        let budget = budget(0.0, 2);
        let (_subscription, told) = budget.subscribe_channel(8);
        let other = {
            let budget = budget.clone();
            thread::spawn(move || [(); 2].map(|()| budget.try_withdraw().is_ok()))
        };
        let own = [(); 2].map(|()| budget.try_withdraw().is_ok());
        let granted = own.into_iter().chain(other.join().unwrap());
        assert_eq!(granted.filter(|granted| *granted).count(), 2);
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [BudgetChange::Spent]);
    });
}
