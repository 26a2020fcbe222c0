//! The layer: calls wait for their decision.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response, StatusCode};
use resilience_core::clock::ManualClock;
use resilience_tower::admission::Decided;
use resilience_tower::rate_limit::keyed::required;
use resilience_tower::rate_limit::redis::{OnOutage, Remote};
use resilience_tower::rate_limit::{Error, Outage, RateLimitLayer, Refusal};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;

/// One permit in 20 minutes, 3 at once: no time passes.
fn slow() -> Quota {
    Quota::new(1, Duration::from_secs(1200))
        .unwrap()
        .burst(3)
        .unwrap()
}

fn nowhere(policy: OnOutage) -> RedisLimiter {
    let config = patient(slow()).on_outage(policy).failures(1);
    let config = config.reset_timeout(Duration::from_secs(90)).build();
    RedisLimiter::with_clock(
        "redis://127.0.0.1:1/",
        "no",
        config.unwrap(),
        ManualClock::new(),
    )
    .unwrap()
}

async fn ok(_: Request<()>) -> Result<Response<()>, Infallible> {
    Ok(Response::new(()))
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

#[test]
fn clients_are_told_their_limit_and_refusals_are_responses() {
    run(async {
        let server = Server::start().await;
        let limiter = limiter(&server, "api", patient(slow()));
        let cost = |request: &Request<()>| {
            if request.uri().path() == "/dear" {
                2
            } else {
                1
            }
        };
        let layer = RateLimitLayer::new(limiter)
            .cost(cost)
            .into_response()
            .remote();
        // Panics when an instance is called that was not polled ready.
        let mut service = layer.layer(ConcurrencyLimit::new(service_fn(ok), 1));
        let mut call = async |path: &str| {
            let request = Request::get(path).body(()).unwrap();
            service.ready().await.unwrap().call(request).await.unwrap()
        };
        let mut watch = connect(&server).await;
        let begun = time(&mut watch).await;
        let first = call("/dear").await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(header(&first, "ratelimit"), Some("\"default\";r=1;t=1200"));
        assert_eq!(
            header(&first, "ratelimit-policy"),
            Some("\"default\";q=3;w=3600")
        );
        let refused = call("/dear").await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = header(&refused, "retry-after").unwrap().parse().unwrap();
        let passed = (time(&mut watch).await - begun).div_ceil(1_000_000);
        assert!(wait <= 1200 && wait + passed >= 1200, "{wait} {passed}");
        assert!(refused.extensions().get::<Refusal>().is_some());
        assert_eq!(call("/").await.status(), StatusCode::OK);
        assert_eq!(call("/").await.status(), StatusCode::TOO_MANY_REQUESTS);
    });
}

#[test]
fn keys_are_counted_apart_and_a_request_without_one_is_refused() {
    run(async {
        let server = Server::start().await;
        let limiter = limiter(&server, "keys", patient(slow()));
        let key = required(|request: &&'static str| (!request.is_empty()).then_some(*request));
        let layer = RateLimitLayer::new(limiter.keyed(key)).remote();
        let mut service = layer.layer(service_fn(async |_| Ok::<_, Infallible>(())));
        for key in ["a", "b"] {
            for _ in 0..3 {
                service.ready().await.unwrap().call(key).await.unwrap();
            }
            let refused = service.ready().await.unwrap().call(key).await;
            assert!(matches!(refused, Err(Error::Limited(_))));
        }
        let refused = service.ready().await.unwrap().call("").await;
        assert!(matches!(refused, Err(Error::NoKey(_))));
    });
}

#[test]
fn an_outage_is_told_as_an_error_or_as_503() {
    run(async {
        let limiter = nowhere(OnOutage::Closed);
        let mut plain = Remote::new(service_fn(ok), limiter.clone());
        for word in ["connection", "breaker"] {
            let error = plain
                .ready()
                .await
                .unwrap()
                .call(Request::new(()))
                .await
                .unwrap_err();
            let Error::Outage(Outage { cause, .. }) = error else {
                panic!("{error:?}");
            };
            assert_eq!(cause.as_str(), word);
            assert_eq!(error.admission().unwrap().reason(), "outage");
        }
        let mut http = RateLimitLayer::new(limiter.clone())
            .into_response()
            .remote()
            .layer(service_fn(ok));
        let response = http
            .ready()
            .await
            .unwrap()
            .call(Request::new(()))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let wait: u64 = header(&response, "retry-after").unwrap().parse().unwrap();
        // 90 s, a tenth more or less.
        assert!((81..=99).contains(&wait), "{wait}");
        let mut grpc = RateLimitLayer::new(limiter)
            .into_grpc_response()
            .remote()
            .layer(service_fn(ok));
        let response = grpc
            .ready()
            .await
            .unwrap()
            .call(Request::new(()))
            .await
            .unwrap();
        assert_eq!(header(&response, "grpc-status"), Some("14"));

        let mut open = RateLimitLayer::new(nowhere(OnOutage::Open))
            .into_response()
            .remote()
            .layer(service_fn(ok));
        let response = open
            .ready()
            .await
            .unwrap()
            .call(Request::new(()))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    });
}

#[test]
fn calls_that_did_not_count_give_back_what_they_took() {
    run(async {
        let server = Server::start().await;
        let limiter = limiter(&server, "refund", patient(slow()));
        let layer = RateLimitLayer::new(limiter.clone())
            .refund_if(|result: Result<&(), &&str>| result.is_err())
            .remote();
        let mut service = layer.layer(service_fn(async |counts: bool| match counts {
            true => Ok(()),
            false => Err("not sent"),
        }));
        let mut call = async |counts| service.ready().await.unwrap().call(counts).await;
        // Of one connection, in order: each is given back before the next is taken.
        for _ in 0..20 {
            assert!(matches!(call(false).await, Err(Error::Inner("not sent"))));
        }
        for _ in 0..3 {
            assert!(call(true).await.is_ok());
        }
        assert!(matches!(call(false).await, Err(Error::Limited(_))));
    });
}

#[test]
fn a_dropped_call_frees_the_inner_service_and_readiness_asks_nothing() {
    run(async {
        let server = Server::start().await;
        let limiter = limiter(&server, "drop", patient(slow()));
        let called = Arc::new(AtomicU32::new(0));
        let inner = {
            let called = Arc::clone(&called);
            service_fn(move |()| {
                called.fetch_add(1, Ordering::Relaxed);
                std::future::ready(Ok::<_, Infallible>(()))
            })
        };
        let mut service = Remote::new(ConcurrencyLimit::new(inner, 1), limiter.clone());
        server.pause().await;
        let call = service.ready().await.unwrap().call(());
        let mut call = Box::pin(call);
        assert!(futures_util::poll!(&mut call).is_pending());
        drop(call);
        server.resume();
        // The permit of the dropped call is back.
        soon(service.ready()).await.unwrap().call(()).await.unwrap();
        assert_eq!(called.load(Ordering::Relaxed), 1);
        let asked = limiter.snapshot().answered;
        for _ in 0..5 {
            let mut clone = service.clone();
            soon(clone.ready()).await.unwrap();
        }
        assert_eq!(limiter.snapshot().answered, asked);
    });
}
