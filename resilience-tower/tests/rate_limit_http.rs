//! The rate limit as HTTP and gRPC responses: status, header fields to the letter, bodies.
#![cfg(all(feature = "rate-limit", feature = "http"))]

use std::convert::Infallible;
use std::time::Duration;

use crate::limited::{Hello, call, get, limiter, quota};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use resilience_tower::rate_limit::http::{HttpAnswer, HttpFields};
use resilience_tower::rate_limit::{RateLimitLayer, Reason, Refusal};
use tower::Layer;

#[test]
fn an_admitted_response_tells_the_limit_and_is_else_untouched() {
    let (limiter, _clock) = limiter(quota(100, 60, 100));
    let mut service = RateLimitLayer::new(limiter)
        .into_response()
        .layer(Hello::default());
    let told = call(&mut service, get());
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.body, b"hello");
    assert_eq!(
        told.field("ratelimit-policy").unwrap(),
        r#""default";q=100;w=60"#
    );
    // 99 come back in 59.4 s.
    assert_eq!(told.field("ratelimit").unwrap(), r#""default";r=99;t=60"#);
    assert_eq!(told.headers.len(), 2);
    assert!(told.refusal.is_none());
}

#[test]
fn a_refusal_is_429_with_the_wait_the_limit_and_problem_details() {
    let (limiter, clock) = limiter(quota(6, 60, 2));
    let mut service = RateLimitLayer::new(limiter)
        .into_response()
        .layer(Hello::default());
    call(&mut service, get());
    let last = call(&mut service, get());
    assert_eq!(last.field("ratelimit").unwrap(), r#""default";r=0;t=10"#);
    clock.advance(Duration::from_millis(7_500));
    let told = call(&mut service, get());
    assert_eq!(told.status, StatusCode::TOO_MANY_REQUESTS);
    // 2.5 s.
    assert_eq!(told.field("retry-after").unwrap(), "3");
    assert_eq!(told.field("ratelimit").unwrap(), r#""default";r=0;t=3"#);
    assert_eq!(
        told.field("ratelimit-policy").unwrap(),
        r#""default";q=2;w=20"#
    );
    assert_eq!(
        told.field("content-type").unwrap(),
        "application/problem+json"
    );
    assert_eq!(told.headers.len(), 4);
    assert_eq!(
        told.json(),
        serde_json::json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "violated-policies": ["default"],
        })
    );
    let Some(Refusal {
        place: 0,
        reason: Reason::Limited { limited, .. },
        ..
    }) = told.refusal
    else {
        panic!("{told:?}");
    };
    assert_eq!(limited.retry_after, Some(Duration::from_millis(2_500)));
}

#[test]
fn a_cost_above_the_burst_is_refused_without_a_wait() {
    let (limiter, _clock) = limiter(quota(6, 60, 2));
    let mut service = RateLimitLayer::new(limiter)
        .cost(|_: &Request<()>| 3)
        .into_response()
        .layer(Hello::default());
    let told = call(&mut service, get());
    assert_eq!(told.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(told.field("retry-after"), None);
    // Nothing was taken.
    assert_eq!(told.field("ratelimit").unwrap(), r#""default";r=2;t=20"#);
    let detail = told.json()["detail"].clone();
    assert_eq!(
        detail,
        "This request costs more than the quota ever holds at once."
    );
}

#[test]
fn the_older_fields_are_told_on_request() {
    let (limiter, clock) = limiter(quota(6, 60, 2));
    let fields = HttpFields::new().ratelimit(false).x_ratelimit(true);
    let mut service = RateLimitLayer::new(limiter)
        .into_response_with(&fields)
        .unwrap()
        .layer(Hello::default());
    let told = call(&mut service, get());
    assert_eq!(told.field("x-ratelimit-limit").unwrap(), "2");
    assert_eq!(told.field("x-ratelimit-remaining").unwrap(), "1");
    assert_eq!(told.field("x-ratelimit-reset").unwrap(), "10");
    assert_eq!(told.field("ratelimit"), None);
    assert_eq!(told.field("ratelimit-policy"), None);
    call(&mut service, get());
    clock.advance(Duration::from_millis(100));
    let told = call(&mut service, get());
    assert_eq!(told.number("x-ratelimit-remaining"), 0);
    assert_eq!(told.number("x-ratelimit-reset"), 20);
    assert_eq!(told.number("retry-after"), 10);
}

#[test]
fn fields_of_the_inner_service_stay() {
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit", r#""inner";r=1;t=1"#.parse().unwrap());
    headers.insert("x-ratelimit-limit", "7".parse().unwrap());
    let (limiter, _clock) = limiter(quota(6, 60, 2));
    let fields = HttpFields::new().policies(["outer"]).x_ratelimit(true);
    let mut service = RateLimitLayer::new(limiter)
        .into_response_with(&fields)
        .unwrap()
        .layer(Hello { headers });
    let told = call(&mut service, get());
    assert_eq!(
        told.field("ratelimit").unwrap(),
        r#""inner";r=1;t=1, "outer";r=1;t=10"#
    );
    assert_eq!(told.field("x-ratelimit-limit").unwrap(), "7");
}

#[test]
fn a_quota_changed_live_is_told_from_then_on() {
    let (limiter, _clock) = limiter(quota(100, 60, 100));
    let mut service = RateLimitLayer::new(limiter.clone())
        .into_response()
        .layer(Hello::default());
    call(&mut service, get());
    limiter.set_quota(quota(10, 60, 10));
    let told = call(&mut service, get());
    assert_eq!(
        told.field("ratelimit-policy").unwrap(),
        r#""default";q=10;w=60"#
    );
}

#[test]
fn names_are_checked() {
    let (limiter, _clock) = limiter(quota(6, 60, 2));
    for (names, text) in [
        (vec!["a b"], "policies is a b, allowed: 1 to 64 of"),
        (vec!["a\"b"], "allowed: 1 to 64 of"),
        (vec!["é"], "allowed: 1 to 64 of"),
        (vec![""], "allowed: 1 to 64 of"),
        (
            vec!["a", "b"],
            "policies is 2 names, allowed: 1, one for each limit",
        ),
        (
            vec![],
            "policies is 0 names, allowed: 1, one for each limit",
        ),
    ] {
        let fields = HttpFields::new().policies(names);
        let layer = RateLimitLayer::new(limiter.clone()).into_response_with(&fields);
        let told = layer.unwrap_err().to_string();
        assert!(told.contains(text), "{told}");
    }
    let twice = HttpFields::new().policies(["a", "a"]);
    let quotas = [quota(6, 60, 2); 2];
    assert!(HttpAnswer::new(&twice, &quotas).is_err());
}

#[test]
fn a_grpc_refusal_is_resource_exhausted_with_pushback_and_no_message() {
    let (limiter, clock) = limiter(quota(6, 60, 2));
    let cost = |request: &Request<()>| match request.uri().path() {
        "/dear" => 3,
        _ => 2,
    };
    let mut service = RateLimitLayer::new(limiter)
        .cost(cost)
        .into_grpc_response()
        .layer(Hello::default());
    let told = call(&mut service, get());
    assert_eq!((told.status, told.headers.len()), (StatusCode::OK, 0));
    clock.advance(Duration::from_nanos(19_999_500_001));
    let told = call(&mut service, get());
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.field("grpc-status").unwrap(), "8");
    assert_eq!(told.field("content-type").unwrap(), "application/grpc");
    // 0.499999 ms.
    assert_eq!(told.field("grpc-retry-pushback-ms").unwrap(), "1");
    assert!(told.body.is_empty() && told.refusal.is_some());
    let never = Request::builder().uri("/dear").body(()).unwrap();
    let told = call(&mut service, never);
    assert_eq!(told.field("grpc-status").unwrap(), "8");
    assert_eq!(told.field("grpc-retry-pushback-ms").unwrap(), "-1");
}

#[cfg(feature = "serde")]
#[test]
fn settings_can_be_read_from_a_file() {
    let fields: HttpFields =
        serde_json::from_str(r#"{"policies": ["api"], "x_ratelimit": true}"#).unwrap();
    let (limiter, _clock) = limiter(quota(6, 60, 2));
    let layer = RateLimitLayer::new(limiter).into_response_with(&fields);
    let told = call(&mut layer.unwrap().layer(Hello::default()), get());
    assert_eq!(told.field("ratelimit").unwrap(), r#""api";r=1;t=10"#);
    assert_eq!(told.headers.len(), 5);
    assert!(serde_json::from_str::<HttpFields>(r#"{"polices": []}"#).is_err());
}

/// A rate limit that answers with errors goes into the responses of `refusal` as a breaker does.
#[test]
fn an_error_can_become_a_response_of_ones_own() {
    use resilience_tower::rate_limit::Error;
    use resilience_tower::refusal::IntoResponseLayer;

    let (limiter, _clock) = limiter(quota(6, 60, 2));
    let layer = IntoResponseLayer::new(
        RateLimitLayer::new(limiter).cost(|_: &Request<()>| 2),
        |refusal: &Error<Infallible>| {
            let mut response = Response::new(Bytes::from(refusal.to_string()));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        },
    );
    let mut service = layer.layer(Hello::default());
    assert_eq!(call(&mut service, get()).status, StatusCode::OK);
    let told = call(&mut service, get());
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told.body, b"rate limit reached, retry in 20s");
}

#[cfg(feature = "tonic")]
#[test]
fn a_layered_grpc_service_keeps_its_name() {
    use resilience_tower::rate_limit::RateLimit;
    use tonic::server::NamedService;

    fn name<S: NamedService>(_: &S) -> &'static str {
        S::NAME
    }
    struct Inventory;
    impl NamedService for Inventory {
        const NAME: &'static str = "shop.Inventory";
    }
    let (limiter, _clock) = limiter(quota(6, 60, 2));
    let service: RateLimit<_, _, _> = RateLimitLayer::new(limiter)
        .into_grpc_response()
        .layer(Inventory);
    assert_eq!(name(&service), "shop.Inventory");
}
