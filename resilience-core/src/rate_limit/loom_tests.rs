//! Racing callers under the model checker.

use std::time::Duration;

use loom::{sync::Arc, thread};

use super::{
    check::{Part, check_all},
    leased::LeasedRateLimiter,
    limiter::RateLimiter,
    quota::Quota,
    word::Bucket,
};
use crate::clock::{SharedClock, Still};

fn quota(seconds: u64, burst: u32) -> Quota {
    let quota = Quota::new(1, Duration::from_secs(seconds)).unwrap();
    quota.burst(burst).unwrap()
}

fn limiter(burst: u32) -> RateLimiter {
    RateLimiter::with_clock(quota(60, burst), SharedClock::new(Still))
}

/// Two, the one first that is taken from first: by address, which differs between runs of a model.
fn two_limiters() -> (RateLimiter, RateLimiter) {
    let (a, b) = (limiter(1), limiter(1));
    if a.bucket() < b.bucket() {
        (a, b)
    } else {
        (b, a)
    }
}

#[test]
fn loom_two_callers_cannot_both_spend_the_last_permit() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(quota(60, 2)));
        assert!(bucket.take(1, 0).is_ok());
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.take(1, 0).is_ok());
        let mine = bucket.take(1, 0).is_ok();
        assert!(mine ^ thread.join().unwrap());
    });
}

// The burst that an answer names is that of the quota it was decided and charged under: what is
// missing in the end is what the one or the other order leaves, and a nanosecond for the change.
#[test]
fn loom_a_call_is_charged_under_the_quota_that_decided_it() {
    const SECOND: u64 = 1_000_000_000;
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(quota(1, 8)));
        assert!(bucket.take(1, 0).is_ok());
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || {
            let admitted = other.take(1, 0).unwrap();
            match (admitted.burst, admitted.remaining) {
                // Two of eight are missing, and then one of four.
                (8, 6) => SECOND + 1,
                // A half of four is missing, and then one more.
                (4, 2) => SECOND / 2 + SECOND + 1,
                _ => panic!("half of one quota and half of the other: {admitted:?}"),
            }
        });
        bucket.set_quota(quota(1, 4), || 0);
        let refused = bucket.take(5, 0).unwrap_err();
        assert_eq!((refused.burst, refused.retry_after), (4, None));
        let expected = thread.join().unwrap();
        let missing = bucket.snapshot(0).reset_after.as_nanos() as u64;
        assert_eq!(missing, expected);
    });
}

#[test]
fn loom_a_refusal_never_mixes_two_quotas() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(quota(1, 1)));
        assert!(bucket.take(1, 0).is_ok());
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.take(1, 0).unwrap_err());
        bucket.set_quota(quota(10, 3), || 0);
        let refused = thread.join().unwrap();
        let told = (refused.burst, refused.retry_after.unwrap().as_secs());
        assert!(matches!(told, (1, 1) | (3, 10)), "{told:?}");
    });
}

#[test]
fn loom_a_refund_and_a_call_lose_nothing() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(quota(1, 2)));
        assert!(bucket.take(2, 0).is_ok());
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.refund(1, 0));
        let taken = bucket.take(1, 0).is_ok();
        thread.join().unwrap();
        let left = bucket.snapshot(0).remaining;
        assert_eq!(left, u32::from(!taken));
    });
}

#[test]
fn loom_two_callers_in_opposite_orders_pass_one_and_lose_no_credit() {
    loom::model(|| {
        let (a, b) = two_limiters();
        let (c, d) = (a.clone(), b.clone());
        let thread = thread::spawn(move || check_all(&[&d, &c]).is_ok());
        let mine = check_all(&[&a, &b]).is_ok();
        assert!(mine ^ thread.join().unwrap());
        assert_eq!(a.snapshot().remaining, 0);
        assert_eq!(b.snapshot().remaining, 0);
    });
}

// The second of the two is what a third call may take in between; then what was taken of the first
// goes back.
#[test]
fn loom_all_or_none_against_a_call_for_one_of_them() {
    loom::model(|| {
        let (a, b) = two_limiters();
        let last = b.clone();
        let thread = thread::spawn(move || last.try_acquire().is_ok());
        let both = check_all(&[&a, &b]).is_ok();
        let alone = thread.join().unwrap();
        assert!(both ^ alone);
        let left = a.snapshot().remaining + b.snapshot().remaining;
        assert_eq!(left, u32::from(alone));
    });
}

// Whoever finds the line closed takes nothing, and whoever took was first.
#[test]
fn loom_nobody_overtakes_the_line() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(quota(1, 2)));
        assert!(bucket.take(1, 0).is_ok());
        let other = Arc::clone(&bucket);
        // Wants two where one is left: it closes the line, and looks again.
        let thread = thread::spawn(move || {
            other.set_queued(2);
            other.set_line(true);
            let left = other.snapshot(0).remaining;
            let same = other.snapshot(0).remaining;
            assert_eq!(left, same);
            left
        });
        let mine = bucket.take(1, 0);
        let left = thread.join().unwrap();
        match mine {
            Ok(_) => assert_eq!(bucket.snapshot(0).remaining, 0),
            Err(refused) => {
                assert_eq!(left, 1);
                assert_eq!(refused.retry_after, Some(Duration::from_secs(2)));
            }
        }
        assert!(bucket.take(1, 0).is_err());
        bucket.set_line(false);
        assert_eq!(bucket.take(1, 0).is_ok(), mine.is_err());
    });
}

#[test]
fn loom_threads_with_leases_admit_no_more_than_the_common_bucket_gave() {
    loom::model(|| {
        let clock = SharedClock::new(Still);
        let limiter = LeasedRateLimiter::with_clock(quota(60, 7), 2, 2, clock).unwrap();
        let other = limiter.clone();
        let calls = |limiter: &LeasedRateLimiter| {
            (0..2).filter(|_| limiter.try_acquire().is_ok()).count() as u64
        };
        let thread = thread::spawn(move || calls(&other));
        let mine = calls(&limiter);
        let admitted = mine + thread.join().unwrap();
        let snapshot = limiter.snapshot();
        // Three in the common bucket: a block and one, or one block each and none.
        assert_eq!(
            admitted + u64::from(snapshot.remaining) + snapshot.leased,
            3
        );
        assert_eq!(admitted, 3);
    });
}
