//! Limits per key and several limits at once, as HTTP responses tell them.
#![cfg(all(feature = "rate-limit", feature = "http"))]

use std::convert::Infallible;

use crate::limited::{Hello, call, get, quota};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use resilience_core::clock::ManualClock;
use resilience_core::rate_limit::{KeyedRateLimiter, RateLimiter};
use resilience_tower::rate_limit::http::HttpFields;
use resilience_tower::rate_limit::keyed::{Keyed, extension, hashed, header, required};
use resilience_tower::rate_limit::{All, RateLimitLayer, Reason};
use resilience_tower::refusal::RefusalBody;
use tower::{Layer, Service};

/// Three limits: 5 per consumer, 20 per path, 8 in all.
fn three(
    clock: &ManualClock,
) -> impl Service<Request<()>, Response = Response<RefusalBody<Full<Bytes>>>, Error = Infallible> {
    let keyed = |permits| {
        let quota = quota(permits, 60, permits);
        KeyedRateLimiter::with_clock(quota, 100, clock.clone())
    };
    let everybody = RateLimiter::with_clock(quota(8, 60, 8), clock.clone());
    let limits = All::of((
        Keyed::new(keyed(5), header(http::HeaderName::from_static("x-api-key"))),
        Keyed::new(
            keyed(20),
            hashed(|request: &Request<()>| Some(request.uri().path())),
        ),
        everybody,
    ));
    let fields = HttpFields::new().policies(["consumer", "path", "all"]);
    RateLimitLayer::new(limits)
        .into_response_with(&fields)
        .unwrap()
        .layer(Hello::default())
}

fn of_consumer(key: &str) -> Request<()> {
    Request::builder()
        .header("x-api-key", key)
        .body(())
        .unwrap()
}

#[test]
fn of_several_limits_all_are_advertised_and_the_tightest_is_told() {
    let clock = ManualClock::new();
    let mut service = three(&clock);
    let told = call(&mut service, of_consumer("ada"));
    assert_eq!(
        told.field("ratelimit-policy").unwrap(),
        r#""consumer";q=5;w=60, "path";q=20;w=60, "all";q=8;w=60"#
    );
    assert_eq!(told.field("ratelimit").unwrap(), r#""consumer";r=4;t=48"#);
    for _ in 0..3 {
        call(&mut service, of_consumer("ada"));
        call(&mut service, of_consumer("grace"));
    }
    // Seven of eight in all are used, three of five of grace's.
    let told = call(&mut service, of_consumer("grace"));
    assert_eq!(told.field("ratelimit").unwrap(), r#""all";r=0;t=8"#);
}

#[test]
fn a_refusal_by_one_of_several_names_it_and_takes_from_none() {
    let clock = ManualClock::new();
    let mut service = three(&clock);
    for _ in 0..5 {
        assert_eq!(
            call(&mut service, of_consumer("ada")).status,
            StatusCode::OK
        );
    }
    for _ in 0..20 {
        let told = call(&mut service, of_consumer("ada"));
        assert_eq!(told.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            told.json()["violated-policies"],
            serde_json::json!(["consumer"])
        );
        assert_eq!(told.field("ratelimit").unwrap(), r#""consumer";r=0;t=12"#);
        assert_eq!(told.refusal.unwrap().place, 0);
    }
    // The refusals have cost the limit on all nothing: three are left.
    let told = call(&mut service, of_consumer("grace"));
    assert_eq!(told.field("ratelimit").unwrap(), r#""all";r=2;t=15"#);
}

#[test]
fn the_limit_that_is_named_is_the_one_that_refused() {
    let clock = ManualClock::new();
    let mut service = three(&clock);
    for consumer in ["ada", "grace", "edsger", "barbara"] {
        call(&mut service, of_consumer(consumer));
        call(&mut service, of_consumer(consumer));
    }
    let told = call(&mut service, of_consumer("donald"));
    assert_eq!(told.json()["violated-policies"], serde_json::json!(["all"]));
    assert_eq!(told.field("ratelimit").unwrap(), r#""all";r=0;t=8"#);
    assert_eq!(told.refusal.unwrap().place, 2);
}

#[test]
fn a_request_without_a_key_is_403_and_takes_nothing() {
    let clock = ManualClock::new();
    let mut service = three(&clock);
    for _ in 0..50 {
        let told = call(&mut service, get());
        assert_eq!(told.status, StatusCode::FORBIDDEN);
        assert_eq!(told.field("retry-after"), None);
        assert_eq!(told.json()["status"], 403);
        let refusal = told.refusal.unwrap();
        assert_eq!((refusal.place, refusal.reason), (0, Reason::NoKey));
    }
    let told = call(&mut service, of_consumer("ada"));
    assert_eq!(told.field("ratelimit").unwrap(), r#""consumer";r=4;t=48"#);
}

#[test]
fn a_repeated_header_is_no_key() {
    let keys = KeyedRateLimiter::new(quota(6, 60, 2), 10);
    let name = http::HeaderName::from_static("x-api-key");
    let mut service = RateLimitLayer::keyed(keys, header(name))
        .into_response()
        .layer(Hello::default());
    let mut request = of_consumer("ada");
    request
        .headers_mut()
        .append("x-api-key", "grace".parse().unwrap());
    assert_eq!(call(&mut service, request).status, StatusCode::FORBIDDEN);
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Consumer {
    id: u64,
    premium: bool,
}

#[test]
fn a_key_from_the_extensions_can_bring_its_own_quota() {
    let clock = ManualClock::new();
    let keys = KeyedRateLimiter::with_clock(quota(2, 60, 2), 100, clock);
    let limit = Keyed::new(keys, extension::<Consumer>()).quota(|request: &Request<()>| {
        match request.extensions().get::<Consumer>() {
            Some(consumer) if consumer.premium => quota(600, 60, 600),
            _ => quota(2, 60, 2),
        }
    });
    let mut service = RateLimitLayer::new(limit)
        .into_response()
        .layer(Hello::default());
    let mut of = |id, premium| {
        let mut request = get();
        request.extensions_mut().insert(Consumer { id, premium });
        call(&mut service, request)
    };
    let told = of(1, true);
    assert_eq!(
        told.field("ratelimit-policy").unwrap(),
        r#""default";q=600;w=60"#
    );
    assert_eq!(told.field("ratelimit").unwrap(), r#""default";r=599;t=60"#);
    assert_eq!(
        of(2, false).field("ratelimit").unwrap(),
        r#""default";r=1;t=30"#
    );
    assert_eq!(of(2, false).status, StatusCode::OK);
    let refused = of(2, false);
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        refused.field("ratelimit-policy").unwrap(),
        r#""default";q=2;w=60"#
    );
    assert_eq!(call(&mut service, get()).status, StatusCode::FORBIDDEN);
}

#[test]
fn one_of_several_limits_can_have_a_quota_per_key() {
    let clock = ManualClock::new();
    let keys = KeyedRateLimiter::with_clock(quota(2, 60, 2), 100, clock.clone());
    let everybody = RateLimiter::with_clock(quota(100, 60, 100), clock);
    let consumers =
        Keyed::new(keys, extension::<Consumer>()).quota(|_: &Request<()>| quota(3, 60, 3));
    let mut service = RateLimitLayer::new(All::of((everybody, consumers)))
        .into_response()
        .layer(Hello::default());
    let admitted = (0..10).filter(|_| {
        let mut request = get();
        let (id, premium) = (1, true);
        request.extensions_mut().insert(Consumer { id, premium });
        call(&mut service, request).status == StatusCode::OK
    });
    assert_eq!(admitted.count(), 3);
}

#[test]
fn a_key_function_may_find_none() {
    let keys = KeyedRateLimiter::new(quota(6, 60, 2), 10);
    let port = required(|request: &Request<()>| request.uri().port_u16());
    let mut service = RateLimitLayer::keyed(keys, port)
        .into_response()
        .layer(Hello::default());
    let at = |uri: &'static str| Request::builder().uri(uri).body(()).unwrap();
    assert_eq!(
        call(&mut service, at("http://a:80/")).status,
        StatusCode::OK
    );
    assert_eq!(
        call(&mut service, at("http://a/")).status,
        StatusCode::FORBIDDEN
    );
}
