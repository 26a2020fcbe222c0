//! What the header fields promise, for any quota and any calls.
#![cfg(all(feature = "rate-limit", feature = "http"))]

use std::time::Duration;

use crate::limited::{Hello, call, limiter, quota};
use http::{Request, StatusCode};
use proptest::prelude::*;
use resilience_core::rate_limit::Quota;
use resilience_tower::rate_limit::RateLimitLayer;
use tower::Layer;

proptest! {
    /// A client that obeys: after `Retry-After` it is admitted, and one second earlier it would
    /// not have been.
    #[test]
    fn a_client_that_waits_as_told_is_admitted(
        permits in 1..2_000_u32,
        per_ms in 1..200_000_u64,
        burst in 1..2_000_u32,
        asked in prop::collection::vec((1..2_500_u32, 0..3_000_u64), 1..40),
    ) {
        let quota = Quota::new(permits, Duration::from_millis(per_ms)).unwrap();
        let quota = quota.burst(burst).unwrap();
        let (limiter, clock) = limiter(quota);
        let mut service = RateLimitLayer::new(limiter.clone())
            .cost(|request: &Request<u32>| *request.body())
            .into_response()
            .layer(Hello::default());
        for (cost, pause) in asked {
            clock.advance(Duration::from_millis(pause));
            let told = call(&mut service, Request::new(cost));
            let refused = told.status == StatusCode::TOO_MANY_REQUESTS;
            prop_assert_eq!(refused && cost > burst, cost > burst);
            prop_assert_eq!(told.field("retry-after").is_some(), refused && cost <= burst);
            if refused && cost <= burst {
                let seconds = told.number("retry-after");
                prop_assert!(seconds >= 1);
                prop_assert_eq!(told.parameter("ratelimit", "t"), seconds);
                // Not a second too long either.
                clock.advance(Duration::from_secs(seconds - 1));
                if seconds > 1 {
                    prop_assert!(limiter.peek(cost).is_err());
                }
                clock.advance(Duration::from_secs(1));
                prop_assert_eq!(call(&mut service, Request::new(cost)).status, StatusCode::OK);
            }
        }
    }

    /// What is advertised is never more than the rate: neither the policy, nor what is left over
    /// its window. Allowed for: the nanosecond by which a quota's interval may be rounded up.
    #[test]
    fn the_fields_never_advertise_more_than_the_rate(
        permits in 1..100_000_u32,
        seconds in 1..3_600_u64,
        burst in 1..100_000_u32,
        used in 1..100_000_u32,
    ) {
        let quota = quota(permits, seconds, burst);
        let (limiter, _clock) = limiter(quota);
        let mut service = RateLimitLayer::new(limiter)
            .cost(|request: &Request<u32>| *request.body())
            .into_response()
            .layer(Hello::default());
        let told = call(&mut service, Request::new(used.min(burst)));
        let interval = quota.replenish_interval().as_nanos() as f64;
        let rate = f64::from(permits) / seconds as f64 * (1.0 + 1.0 / interval);
        let (q, w) = (told.parameter("ratelimit-policy", "q"), told.parameter("ratelimit-policy", "w"));
        prop_assert!(q as f64 / w as f64 <= rate, "{} per {} s above {}", q, w, rate);
        prop_assert!(q >= u64::from(burst) && w >= 1);
        let (r, t) = (told.parameter("ratelimit", "r"), told.parameter("ratelimit", "t"));
        prop_assert_eq!(r, u64::from(burst - used.min(burst)));
        prop_assert!(r as f64 / t as f64 <= rate, "{} in {} s above {}", r, t, rate);
    }
}
