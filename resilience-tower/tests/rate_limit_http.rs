//! The rate limit as HTTP and gRPC responses: status, header fields to the letter, bodies.
#![cfg(all(feature = "rate-limit", feature = "http"))]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use resilience_core::clock::ManualClock;
use resilience_core::rate_limit::{KeyedRateLimiter, Quota, RateLimiter};
use resilience_tower::rate_limit::http::{HttpAnswer, HttpFields};
use resilience_tower::rate_limit::keyed::{Keyed, extension, hashed, header, required};
use resilience_tower::rate_limit::{All, RateLimitLayer, Reason, Refusal};
use resilience_tower::refusal::RefusalBody;
use tokio_test::{assert_ready, task};
use tower::{Layer, Service};

/// What the tests need of a response.
#[derive(Debug)]
struct Told {
    status: StatusCode,
    headers: HeaderMap,
    refusal: Option<Refusal>,
    body: Vec<u8>,
}

impl Told {
    /// The values of a field, joined as RFC 9110 allows.
    fn field(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let lines: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).unwrap().parse().unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A parameter of the last (or only) item.
    fn parameter(&self, field: &str, name: &str) -> u64 {
        let field = self.field(field).unwrap();
        let (_, after) = field.rsplit_once(&format!(";{name}=")).unwrap();
        after.split(';').next().unwrap().parse().unwrap()
    }
}

fn call<S, B, R>(service: &mut S, request: R) -> Told
where
    S: Service<R, Response = Response<RefusalBody<B>>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let mut call = task::spawn(service.call(request));
    let Ok(response) = assert_ready!(call.poll());
    let (parts, body) = response.into_parts();
    let mut body = task::spawn(body.collect());
    let Ok(body) = assert_ready!(body.poll());
    Told {
        status: parts.status,
        refusal: parts.extensions.get().copied(),
        headers: parts.headers,
        body: body.to_bytes().to_vec(),
    }
}

/// An inner service without errors that answers `hello`.
#[derive(Clone, Debug, Default)]
struct Hello {
    headers: HeaderMap,
}

impl<B> Service<Request<B>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(Full::from("hello"));
        *response.headers_mut() = self.headers.clone();
        ready(Ok(response))
    }
}

fn quota(permits: u32, per: u64, burst: u32) -> Quota {
    let quota = Quota::new(permits, Duration::from_secs(per)).unwrap();
    quota.burst(burst).unwrap()
}

fn limiter(quota: Quota) -> (RateLimiter, ManualClock) {
    let clock = ManualClock::new();
    (RateLimiter::with_clock(quota, clock.clone()), clock)
}

fn get() -> Request<()> {
    Request::new(())
}

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
