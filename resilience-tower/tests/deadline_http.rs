//! Deadlines in headers, in extensions and in answers, and what retries make of them.
#![cfg(all(feature = "timeout", feature = "http"))]

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use proptest::prelude::*;
use resilience_core::deadline::{Config, Deadlines, TimeUp, grpc};
use resilience_tower::timeout::deadline::http::{ENVOY_TIMEOUT_MS, GRPC_TIMEOUT, Headers};
use resilience_tower::timeout::deadline::{Deadline, DeadlineLayer, Error, HasDeadline, Propagate};
use tower::{ServiceBuilder, ServiceExt};

const MS: Duration = Duration::from_millis(1);

fn layer(headers: Headers) -> DeadlineLayer<Headers> {
    DeadlineLayer::default().propagate(headers)
}

fn request(headers: &[(HeaderName, &str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(name, value);
    }
    request
}

/// The request that comes through the layer.
async fn through(
    layer: DeadlineLayer<Headers>,
    request: Request<()>,
) -> Result<Request<()>, TimeUp> {
    let service = ServiceBuilder::new()
        .layer(layer)
        .service_fn(async |request: Request<()>| Ok::<_, Infallible>(request));
    service.oneshot(request).await.map_err(|error| match error {
        Error::TimeUp(up) => up,
        _ => panic!("the inner service does not fail"),
    })
}

fn left(request: &Request<()>) -> Option<Duration> {
    request.deadline().map(Deadline::left)
}

fn values(request: &Request<()>, name: &HeaderName) -> Vec<String> {
    let values = request.headers().get_all(name).iter();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    values.map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_header_that_is_read_becomes_the_deadline_and_stays_as_it_is() {
    for (headers, name, value) in [
        (Headers::new().read_grpc(), GRPC_TIMEOUT, "250m"),
        (
            Headers::new().read_millis(ENVOY_TIMEOUT_MS),
            ENVOY_TIMEOUT_MS,
            "250",
        ),
    ] {
        let seen = through(layer(headers), request(&[(name.clone(), value)])).await;
        let seen = seen.unwrap();
        assert_eq!(left(&seen), Some(250 * MS));
        assert_eq!(values(&seen, &name), [value]);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_were_not_asked_for_say_nothing() {
    let sent = request(&[(GRPC_TIMEOUT, "250m"), (ENVOY_TIMEOUT_MS, "250")]);
    let seen = through(layer(Headers::new()), sent).await.unwrap();
    assert_eq!(left(&seen), None);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_headers_extension_and_setting_counts() {
    let both = Headers::new().read_grpc().read_millis(ENVOY_TIMEOUT_MS);
    for (grpc, plain, carried, total, earliest) in [
        ("1m", "2", 3, 4, 1),
        ("2m", "1", 3, 4, 1),
        ("4m", "2", 1, 3, 1),
        ("4m", "2", 3, 1, 1),
    ] {
        let mut sent = request(&[(GRPC_TIMEOUT, grpc), (ENVOY_TIMEOUT_MS, plain)]);
        sent.set_deadline(Deadline::after(carried * MS).unwrap());
        let config = Config::builder().total(total * MS).build().unwrap();
        let layer = DeadlineLayer::new(Deadlines::new(config)).propagate(both.clone());
        let seen = through(layer, sent).await.unwrap();
        assert_eq!(left(&seen), Some(earliest * MS));
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_values_the_least_counts_and_unreadable_ones_do_not() {
    let headers = || layer(Headers::new().read_grpc());
    let several = request(&[
        (GRPC_TIMEOUT, "3S"),
        (GRPC_TIMEOUT, "-1S"),
        (GRPC_TIMEOUT, "2S"),
    ]);
    let seen = through(headers(), several).await.unwrap();
    assert_eq!(left(&seen), Some(Duration::from_secs(2)));
    let broken = request(&[(GRPC_TIMEOUT, "soon")]);
    assert_eq!(left(&through(headers(), broken).await.unwrap()), None);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_no_time_is_refused() {
    let sent = request(&[(GRPC_TIMEOUT, "0n")]);
    let refused = through(layer(Headers::new().read_grpc()), sent).await;
    assert!(matches!(refused, Err(TimeUp::Refused { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_what_is_left_when_the_call_begins() {
    let both = Headers::new().write_grpc().write_millis(ENVOY_TIMEOUT_MS);
    let mut sent = request(&[]);
    sent.set_deadline(Deadline::after(1_000 * MS).unwrap());
    tokio::time::advance(Duration::from_micros(300_500)).await;
    let seen = through(layer(both), sent).await.unwrap();
    assert_eq!(values(&seen, &GRPC_TIMEOUT), ["699500u"]);
    assert_eq!(values(&seen, &ENVOY_TIMEOUT_MS), ["699"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempts_own_limit_is_what_the_upstream_is_told() {
    let config = Config::builder().attempt(50 * MS).build().unwrap();
    let headers = Headers::new().write_grpc();
    let layer = DeadlineLayer::new(Deadlines::new(config)).propagate(headers);
    for (carried, told) in [
        (None, "50000000n"),
        (Some(49 * MS), "49000000n"),
        (Some(51 * MS), "50000000n"),
    ] {
        let mut sent = request(&[]);
        if let Some(deadline) = carried.and_then(Deadline::after) {
            sent.set_deadline(deadline);
        }
        let seen = through(layer.clone(), sent).await.unwrap();
        assert_eq!(values(&seen, &GRPC_TIMEOUT), [told]);
        assert_eq!(
            left(&seen),
            carried,
            "the attempt's limit is not the deadline"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_is_never_lengthened_and_none_is_made_up() {
    let headers = || Headers::new().write_grpc();
    let mut sent = request(&[(GRPC_TIMEOUT, "1m"), (GRPC_TIMEOUT, "7S")]);
    sent.set_deadline(Deadline::after(1_000 * MS).unwrap());
    let seen = through(layer(headers()), sent).await.unwrap();
    assert_eq!(values(&seen, &GRPC_TIMEOUT), ["1000000n"]);
    let seen = through(layer(headers()), request(&[])).await.unwrap();
    assert!(values(&seen, &GRPC_TIMEOUT).is_empty());

    let headers = Headers::new().write_millis(ENVOY_TIMEOUT_MS);
    let mut sent = request(&[(ENVOY_TIMEOUT_MS, "1")]);
    sent.set_deadline(Deadline::after(1_000 * MS).unwrap());
    let seen = through(layer(headers), sent).await.unwrap();
    assert_eq!(values(&seen, &ENVOY_TIMEOUT_MS), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn what_milliseconds_cannot_say_is_refused() {
    let almost = MS - Duration::from_nanos(1);
    for (headers, admitted) in [
        (Headers::new().write_millis(ENVOY_TIMEOUT_MS), false),
        (Headers::new().read_millis(ENVOY_TIMEOUT_MS), true),
        (Headers::new().write_grpc(), true),
    ] {
        let mut sent = request(&[]);
        sent.set_deadline(Deadline::after(almost).unwrap());
        assert_eq!(through(layer(headers), sent).await.is_ok(), admitted);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_up_a_client_gets_504_or_the_status_4() {
    let silent = |_: Request<()>| pending::<Result<Response<Empty<bytes::Bytes>>, Infallible>>();
    let config = Config::builder().total(50 * MS).build().unwrap();
    let layer = DeadlineLayer::new(Deadlines::new(config));
    let up = TimeUp::Deadline { after: 50 * MS };

    let http = ServiceBuilder::new()
        .layer(layer.clone().into_response())
        .service_fn(silent);
    let response = http.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert!(!response.headers().contains_key("retry-after"));
    assert_eq!(response.extensions().get(), Some(&up));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let expected = serde_json::json!({
        "reason": "deadline", "status": 504, "title": "Gateway Timeout"
    });
    assert_eq!(body, expected);

    let grpc = ServiceBuilder::new()
        .layer(layer.into_grpc_response())
        .service_fn(silent);
    let response = grpc.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(
        response.headers()["grpc-message"],
        "the deadline came 50ms after the call began"
    );
}

proptest! {
    /// Whatever callers send, an upstream is told no more than any of it.
    #[test]
    fn what_is_told_is_no_later_than_what_was_said(
        values in prop::collection::vec("[ -~]{0,4}|[0-9]{1,8}[HMSmun]", 0..4),
        own in 1_u64..2_000_000_000,
    ) {
        let mut sent = Request::new(());
        for value in &values {
            sent.headers_mut().append(GRPC_TIMEOUT, value.parse().unwrap());
        }
        let headers = Headers::new().write_grpc();
        let said = values.iter().filter_map(|value| grpc::parse(value.as_bytes())).min();
        prop_assert_eq!(headers.received(&sent), said);
        let left = said.into_iter().chain([Duration::from_nanos(own)]).min().unwrap();
        headers.send(&mut sent, left);
        let told = headers.received(&sent);
        prop_assert!(told.is_some_and(|told| told <= left));
    }
}

#[cfg(feature = "retry")]
mod retries {
    use std::sync::Arc;

    use bytes::Bytes;
    use parking_lot::Mutex;
    use resilience_core::clock::ManualClock;
    use resilience_core::retry::{
        Backoff, BudgetConfig, Config as RetryConfig, Jitter, RetryBudget, RetryPolicy,
    };
    use resilience_tower::retry::RetryLayer;
    use tokio::time::Instant;

    use super::*;

    /// Five attempts, 100 ms, 200 ms, 400 ms … apart.
    fn policy() -> RetryPolicy {
        let backoff = Backoff::new(100 * MS, Duration::from_secs(9)).unwrap();
        let backoff = backoff.jitter(Jitter::None);
        let config = RetryConfig::builder().max_attempts(5).backoff(backoff);
        let budget = BudgetConfig::new(0.0, 0).unwrap().burst(10).unwrap();
        // A clock of its own: only what is left is the same on both.
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1_000));
        RetryPolicy::with_clock(config.build().unwrap(), RetryBudget::new(budget), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_that_the_deadline_overtakes_is_not_begun_and_costs_nothing() {
        // The third attempt would begin 300 ms after the first.
        for (left, attempts) in [(99, 1), (100, 1), (101, 2), (300, 2), (301, 3)] {
            let policy = policy();
            let told = Arc::new(Mutex::new(Vec::new()));
            let sink = Arc::clone(&told);
            let total = Config::builder().total(left * MS).build().unwrap();
            let service = ServiceBuilder::new()
                .layer(DeadlineLayer::new(Deadlines::new(total)))
                .layer(RetryLayer::new(policy.clone()).http())
                .layer(layer(Headers::new().write_millis(ENVOY_TIMEOUT_MS)))
                .service_fn(move |request: Request<_>| {
                    let told = request.headers()[ENVOY_TIMEOUT_MS].to_str().unwrap();
                    sink.lock().push(told.parse::<u32>().unwrap());
                    let _: &resilience_tower::retry::http::ReplayBody<Empty<Bytes>> =
                        request.body();
                    async { Ok::<_, Infallible>(Response::builder().status(503).body(()).unwrap()) }
                });
            let began = Instant::now();
            let request = Request::new(Empty::<Bytes>::new());
            // The answer of the last attempt, at once.
            assert_eq!(service.oneshot(request).await.unwrap().status(), 503);
            assert!(began.elapsed() < left * MS);
            assert_eq!(policy.budget().snapshot().balance, 11 - attempts);

            let told = told.lock();
            assert_eq!(told.len(), attempts as usize, "{left} ms");
            // Each attempt tells what is left then; timers are late by 1 ms at most.
            for (told, passed) in told.iter().zip([0, 100, 300]) {
                assert!(
                    (left - passed - *told) <= 1,
                    "{told} of {left} after {passed}"
                );
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    struct Query(Option<Deadline>);

    impl HasDeadline for Query {
        fn deadline(&self) -> Option<Deadline> {
            self.0
        }

        fn set_deadline(&mut self, deadline: Deadline) {
            self.0 = Some(deadline);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_requests_have_their_deadline_honoured_on_request() {
        let service = |_: Query| async { Err::<(), _>("broken") };
        for (honour, elapsed) in [(true, 100 * MS), (false, 1_500 * MS)] {
            let began = Instant::now();
            let query = Query(Deadline::after(250 * MS));
            let layer = RetryLayer::new(policy());
            let builder = ServiceBuilder::new();
            let answer = if honour {
                let service = builder.layer(layer.honour_deadline()).service_fn(service);
                service.oneshot(query).await
            } else {
                builder
                    .layer(layer)
                    .service_fn(service)
                    .oneshot(query)
                    .await
            };
            assert_eq!(answer, Err("broken"));
            let took = began.elapsed();
            assert!((elapsed..elapsed + 10 * MS).contains(&took), "{took:?}");
        }
    }
}
