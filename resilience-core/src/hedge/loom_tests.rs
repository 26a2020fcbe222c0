//! Every interleaving of a few attempts.

use loom::thread;

use super::{
    Call, Config, HedgePolicy,
    buckets::{Buckets, Ended},
    latency::Latency,
};
use crate::{
    clock::{SharedClock, Still},
    retry::{BudgetConfig, RetryBudget},
};

const ONE: u64 = 1 << 8;

#[test]
fn loom_an_attempt_beside_a_halving_is_halved_or_whole_and_never_lost() {
    loom::model(|| {
        let buckets = loom::sync::Arc::new(Buckets::new());
        buckets.record(0, Ended::Answered);
        buckets.record(0, Ended::Answered);
        let other = {
            let buckets = loom::sync::Arc::clone(&buckets);
            thread::spawn(move || buckets.halve(1))
        };
        buckets.record(0, Ended::Answered);
        other.join().unwrap();
        let sum = buckets.sum();
        assert!(sum == 2 * ONE || sum == 3 * ONE / 2, "{sum}");
    });
}

#[test]
fn loom_a_window_that_is_over_halves_the_counts_once() {
    loom::model(|| {
        let config = Config::default();
        let window = config.window().as_nanos() as u64;
        let latency = loom::sync::Arc::new(Latency::new(0, &config));
        latency.record(0, 0, Ended::Answered, &config);
        latency.record(0, 0, Ended::Answered, &config);
        let other = {
            let latency = loom::sync::Arc::clone(&latency);
            thread::spawn(move || latency.forget(window, &Config::default()))
        };
        let own = latency.forget(window, &config);
        assert!(own != other.join().unwrap(), "one of the two did");
        assert_eq!(latency.sum(), ONE);
    });
}

#[test]
fn loom_two_hedges_do_not_share_one_grant_and_one_that_never_began_is_given_back() {
    loom::model(|| {
        let config = BudgetConfig::new(0.0, 0).and_then(|config| config.burst(1));
        let budget = RetryBudget::with_clock(config.unwrap(), SharedClock::new(Still));
        let policy = HedgePolicy::with_clock(Config::default(), budget, SharedClock::new(Still));
        let ask = |policy: HedgePolicy| {
            let (begun, delay) = (0, None);
            let mut call = Call {
                policy,
                begun,
                delay,
            };
            call.hedge(None).is_ok()
        };
        let other = {
            let policy = policy.clone();
            thread::spawn(move || ask(policy))
        };
        let own = ask(policy.clone());
        assert!(own | other.join().unwrap(), "one of them was first");
        assert!(ask(policy), "the grants that were dropped are back");
    });
}
