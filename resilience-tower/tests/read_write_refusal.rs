//! Refusals of the read/write split as errors, records and responses.
#![cfg(all(feature = "read-write", feature = "http"))]

use std::io;
use std::time::Duration;

use http::header::RETRY_AFTER;
use resilience_core::breaker::{CircuitBreaker, Mode};
use resilience_core::route::Counter;
use resilience_tower::admission::{Admission, Decided, Decision, Policy};
use resilience_tower::read_write::{
    Checkout, Disposition, Error, Failure, ReadFreshness, Refusal, Role, Token, problem, status,
};
use resilience_tower::refusal::Refused;
use tokio::time::sleep;

use crate::replicated::{self, CLUSTER, millis};

/// HTTP status, `Retry-After`, gRPC status.
fn answers(refusal: &Refusal) -> (u16, Option<String>, String) {
    let response = problem(refusal);
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait.map(|wait| wait.to_str().unwrap().to_owned());
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    assert!(
        text.contains(&format!("\"reason\":\"{}\"", refusal.as_str())),
        "{text}"
    );
    assert!(!text.contains("n0"), "names of nodes are not told: {text}");
    let grpc = status(refusal);
    let code = grpc.headers()["grpc-status"].to_str().unwrap().to_owned();
    (response.status().as_u16(), wait, code)
}

fn one(seconds: &str) -> Option<String> {
    Some(seconds.to_owned())
}

#[tokio::test(start_paused = true)]
async fn each_refusal_has_its_answer() {
    let nodes = replicated::nodes(2);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let refusal = async |checkout: Checkout<Counter>| {
        let error = cluster
            .lease(&checkout.deadline(millis(20)))
            .await
            .unwrap_err();
        assert_eq!(error.retry_after(), error.refusal().unwrap().retry_after());
        error.into_refusal().unwrap()
    };
    let token = |cluster, epoch, position| {
        let position = Counter(position);
        Checkout::read(Token {
            cluster,
            epoch,
            position,
        })
    };
    let bad = (400, None, "3".into());
    assert_eq!(answers(&refusal(token(8, 1, 0)).await), bad);
    assert_eq!(answers(&refusal(token(CLUSTER, 1, 9)).await), bad);
    // A failover that lost a write.
    nodes[0].set(|state| state.position = 9);
    sleep(millis(60)).await;
    for node in &nodes {
        node.set(|state| (state.epoch, state.position, state.forked_at) = (2, 5, Some(5)));
    }
    sleep(millis(120)).await;
    assert_eq!(
        answers(&refusal(token(CLUSTER, 1, 9)).await),
        (409, None, "15".into())
    );
    assert!(cluster.lease(&token(CLUSTER, 1, 5)).await.is_ok());
    nodes[0].set(|state| state.role = Role::Replica);
    sleep(millis(60)).await;
    let busy = (503, one("1"), "14".into());
    assert_eq!(answers(&refusal(Checkout::write()).await), busy);
    nodes
        .iter()
        .for_each(|node| node.set(|state| state.hung = true));
    let deadline = refusal(Checkout::read(ReadFreshness::Any)).await;
    assert_eq!(answers(&deadline), (504, None, "4".into()));
    cluster.drain(millis(1)).await.unwrap();
    let draining = refusal(Checkout::write()).await;
    assert_eq!(answers(&draining), (503, None, "14".into()));
}

#[test]
fn an_error_says_what_to_do_and_is_one_record() {
    let breaker = CircuitBreaker::new("n0");
    breaker.set_mode(Mode::ForcedOpen);
    let rejected = breaker.try_acquire().unwrap_err();
    let second = Duration::from_secs(1);
    let later = |time| Disposition::RetryLater(time);
    let node = || "n0".into();
    let errors: [(Error<io::Error>, _, _, _); 5] = [
        (
            Error::BufferFull {
                retry_after: second,
            },
            "buffer_full",
            later(second),
            (503, one("1"), "14".into()),
        ),
        (
            Error::Breaker(rejected),
            "forced_open",
            later(rejected.retry_after()),
            (
                503,
                one(&rejected.retry_after().as_secs().to_string()),
                "14".into(),
            ),
        ),
        (
            Error::Unreachable {
                node: node(),
                failure: Failure::NotSent,
                source: Some(io::ErrorKind::ConnectionRefused.into()),
            },
            "unreachable",
            Disposition::RetryElsewhere,
            (503, None, "14".into()),
        ),
        (
            Error::Deadline,
            "deadline",
            Disposition::Never,
            (504, None, "4".into()),
        ),
        (
            Error::OutcomeUnknown {
                node: node(),
                source: None,
            },
            "outcome_unknown",
            Disposition::Ambiguous,
            (504, None, "2".into()),
        ),
    ];
    for (error, reason, disposition, answer) in errors {
        assert_eq!(error.disposition(), disposition, "{error}");
        let admission = error.admission().unwrap();
        assert_eq!(
            (admission.policy(), admission.reason()),
            (Some(Policy::ReadWrite), reason)
        );
        assert_eq!(admission.retry_after(), error.retry_after());
        let unknown = matches!(error, Error::OutcomeUnknown { .. });
        assert_eq!(admission.decision() == Decision::TimeUp, unknown);
        let refusal = error.into_refusal().unwrap();
        assert_eq!(answers(&refusal), answer);
        // As telemetry finds it in a response that was made of it.
        let mut extensions = http::Extensions::new();
        extensions.insert(refusal);
        assert_eq!(Admission::of(&extensions), Some(admission));
    }
    let inner = Error::Inner(io::Error::other("constraint"));
    assert!(inner.admission().is_none() && inner.refusal().is_none());
    assert_eq!(inner.disposition(), Disposition::Never);
    assert_eq!(inner.into_refusal().unwrap_err().to_string(), "constraint");
}
