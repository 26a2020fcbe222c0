//! One record for the refusals of all layers.
#![cfg(all(
    feature = "stack",
    feature = "load-shed",
    feature = "coalesce",
    feature = "balance"
))]

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Duration;

use resilience_core::breaker::{
    CircuitBreaker, Classify, Config, Mode, Outcome, ResultClassifier, State,
};
use resilience_core::deadline::TimeUp;
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_core::{adaptive, bulkhead};
use resilience_tower::admission::{Admission, Decided, Decision, IgnoreRefused, Policy};
use resilience_tower::breaker::BreakerLayer;
use resilience_tower::bulkhead::BulkheadLayer;
use resilience_tower::{balance, breaker, coalesce, load_shed, rate_limit, timeout};
use tokio_test::{assert_ready, task};
use tower::{Layer, Service, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn check<E: Decided + Debug>(
    error: &E,
    policy: Policy,
    reason: &str,
    decision: Decision,
) -> Admission {
    let admission = error.admission().expect("it is the layer's own");
    assert_eq!(admission.policy(), Some(policy), "{error:?}");
    assert_eq!(admission.reason(), reason);
    assert_eq!(admission.decision(), decision);
    assert_eq!((admission.name(), admission.attempts()), (None, 1));
    admission
}

#[test]
fn each_layer_tells_its_own_refusals_and_not_the_errors_within() {
    let refused = Decision::Refused;

    let circuit = CircuitBreaker::new("payments");
    circuit.set_mode(Mode::ForcedOpen);
    let error = breaker::Error::<()>::Rejected(circuit.try_acquire().unwrap_err());
    let admission = check(&error, Policy::Breaker, "forced_open", refused);
    assert_eq!(admission.retry_after(), Some(30 * SECOND));
    assert_eq!(
        admission.to_string(),
        "refused (breaker: forced_open), retry in 30s"
    );
    assert!(breaker::Error::Inner(()).admission().is_none());

    let limiter = RateLimiter::new(Quota::new(1, 3_600 * SECOND).unwrap());
    let error = rate_limit::Error::<()>::Limited(limiter.try_acquire_n(2).unwrap_err());
    let admission = check(&error, Policy::RateLimit, "never", refused);
    assert_eq!(admission.retry_after(), None);
    assert!(limiter.try_acquire().is_ok());
    let error = rate_limit::Error::<()>::Limited(limiter.try_acquire().unwrap_err());
    let admission = check(&error, Policy::RateLimit, "limited", refused);
    assert!(admission.retry_after().is_some());
    let error = rate_limit::Error::<()>::NoKey(rate_limit::NoKey);
    check(&error, Policy::RateLimit, "no_key", refused);

    let full = bulkhead::Bulkhead::new(bulkhead::Config::builder().limit(1).build().unwrap());
    let _place = full.try_acquire().unwrap();
    let error = resilience_tower::bulkhead::Error::<()>::Refused(full.try_acquire().unwrap_err());
    check(&error, Policy::Bulkhead, "full", refused);

    let config = adaptive::Config::builder().initial_limit(1).min_limit(1);
    let limit = adaptive::AdaptiveLimit::new(config.build().unwrap());
    let _place = limit.try_acquire().unwrap();
    let error = resilience_tower::adaptive::Error::<()>::Refused(limit.try_acquire().unwrap_err());
    check(&error, Policy::Adaptive, "full", refused);

    for (up, policy, reason, decision) in [
        (
            TimeUp::Attempt { after: SECOND },
            Policy::AttemptTimeout,
            "attempt",
            Decision::TimeUp,
        ),
        (
            TimeUp::Deadline { after: SECOND },
            Policy::Deadline,
            "deadline",
            Decision::TimeUp,
        ),
        (
            TimeUp::Refused {
                left: Duration::ZERO,
                least: SECOND,
            },
            Policy::Deadline,
            "refused",
            refused,
        ),
    ] {
        let error = timeout::deadline::Error::<()>::TimeUp(up);
        check(&error, policy, reason, decision);
    }
    assert!(coalesce::Error::Inner(()).admission().is_none());
    assert!(load_shed::Error::Inner(()).admission().is_none());
    assert!(balance::Error::Inner(()).admission().is_none());
}

/// Who asks a response gets the same record, whatever is kept in it.
#[cfg(feature = "http")]
#[test]
fn a_response_tells_the_record_or_what_it_is_made_of() {
    use http::Extensions;

    fn holding(refusal: impl Clone + Send + Sync + 'static) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert("of somebody else");
        extensions.insert(refusal);
        extensions
    }

    assert_eq!(Admission::of(&Extensions::new()), None);
    assert_eq!(Admission::of(&holding(())), None);

    let circuit = CircuitBreaker::new("payments");
    circuit.set_mode(Mode::ForcedOpen);
    let rejected = circuit.try_acquire().unwrap_err();
    assert_eq!(Admission::of(&holding(rejected)), Some(rejected.into()));

    let limiter = RateLimiter::new(Quota::per_minute(1).unwrap());
    let limited = limiter.try_acquire_n(2).unwrap_err();
    let error = rate_limit::Error::<Infallible>::Limited(limited);
    assert_eq!(Admission::of(&holding(error)), Some(limited.into()));

    let up = TimeUp::Attempt { after: SECOND };
    assert_eq!(Admission::of(&holding(up)), Some(up.into()));
    // The record says more than what it is made of: the stack's name, the attempts.
    let mut both = holding(up);
    both.insert(Admission::from(rejected));
    assert_eq!(Admission::of(&both), Some(rejected.into()));
}

/// A breaker that the first failure opens.
fn touchy() -> CircuitBreaker {
    let config = Config::builder().consecutive_failures(Some(1));
    CircuitBreaker::with_config("payments", config.build().unwrap())
}

/// A bulkhead whose only place is taken for ever.
fn full() -> BulkheadLayer {
    let full = bulkhead::Bulkhead::new(bulkhead::Config::builder().limit(1).build().unwrap());
    std::mem::forget(full.try_acquire_owned().unwrap());
    BulkheadLayer::new(full)
}

fn call<Req: Default, S: Service<Req>>(mut service: S) {
    drop(assert_ready!(
        task::spawn(service.call(Req::default())).poll()
    ));
}

#[test]
fn what_a_policy_within_refuses_does_not_open_the_breaker_outside() {
    let inner = service_fn(async |()| Ok::<_, Infallible>(()));
    let counted = touchy();
    call(BreakerLayer::from_handle(counted.clone()).layer(full().layer(inner)));
    assert_eq!(counted.state(), State::Open, "without it");

    let ignored = touchy();
    let layer = BreakerLayer::from_handle(ignored.clone());
    let layer = layer.classify(IgnoreRefused(ResultClassifier));
    call(layer.layer(full().layer(inner)));
    assert_eq!(ignored.state(), State::Closed);
    let failing = service_fn(async |()| Err::<(), _>("of the upstream"));
    let roomy = BulkheadLayer::new(bulkhead::Bulkhead::new(bulkhead::Config::default()));
    call(layer.layer(roomy.layer(failing)));
    assert_eq!(ignored.state(), State::Open, "by the upstream itself");
}

#[test]
fn a_time_that_was_up_is_a_failure_of_the_attempt_and_nothing_of_the_deadline() {
    let judge = IgnoreRefused(ResultClassifier);
    let says = |up| {
        let error = timeout::deadline::Error::<Infallible>::TimeUp(up);
        judge.classify(Err::<&(), _>(&error))
    };
    let (left, least) = (Duration::ZERO, SECOND);
    assert_eq!(says(TimeUp::Attempt { after: SECOND }), Outcome::Failure);
    assert_eq!(says(TimeUp::Deadline { after: SECOND }), Outcome::Ignored);
    assert_eq!(says(TimeUp::Refused { left, least }), Outcome::Ignored);
    let answer = judge.classify(Ok::<_, &timeout::Error<()>>(&()));
    assert_eq!(answer, Outcome::Success);
}

#[cfg(feature = "http")]
#[test]
fn nor_does_a_response_that_a_policy_within_made_of_its_refusal() {
    use http::{Request, Response, StatusCode};
    use http_body_util::Full;
    use resilience_tower::admission::IgnoreRefusedResponse;
    use resilience_tower::breaker::http::HttpClassifier;

    type Sent = Request<Full<bytes::Bytes>>;
    let answers = |status: StatusCode| {
        service_fn(move |_: Sent| async move {
            let mut response = Response::new(Full::<bytes::Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        })
    };
    let refusing = || full().into_response().layer(answers(StatusCode::OK));
    let counted = touchy();
    call::<Sent, _>(
        BreakerLayer::from_handle(counted.clone())
            .http()
            .layer(refusing()),
    );
    assert_eq!(counted.state(), State::Open, "without it");

    let ignored = touchy();
    let layer = BreakerLayer::from_handle(ignored.clone());
    let at_head = layer
        .clone()
        .classify(IgnoreRefusedResponse(HttpClassifier));
    let at_end = layer.classify_body(IgnoreRefusedResponse(HttpClassifier));
    call::<Sent, _>(at_head.layer(refusing()));
    call::<Sent, _>(at_end.layer(refusing()));
    call::<Sent, _>(at_head.layer(answers(StatusCode::OK)));
    assert_eq!(ignored.state(), State::Closed);
    call::<Sent, _>(at_end.layer(answers(StatusCode::SERVICE_UNAVAILABLE)));
    assert_eq!(ignored.state(), State::Open, "by the upstream itself");
}
