//! Any body and any reader end a call's permit exactly once, as the plainest model says.
#![cfg(all(feature = "breaker", feature = "http"))]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use proptest::prelude::{any, prop_oneof};
use proptest::strategy::{Just, Strategy};
use proptest::{collection, prop_assert_eq, proptest};
use resilience_core::breaker::{CircuitBreaker, Config, OnCancel};
use resilience_tower::breaker::BreakerLayer;
use resilience_tower::breaker::http::HttpClassifier;
use tokio_test::{assert_ready_ok, task};
use tower::{Layer, ServiceExt, service_fn};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Wait,
    Data,
    Trailers,
    Break,
}

#[derive(Clone, Debug)]
struct Script {
    steps: VecDeque<Step>,
    knows_its_end: bool,
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.steps.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Wait) => Poll::Pending,
            Some(Step::Data) => Poll::Ready(Some(Ok(Frame::data(Bytes::new())))),
            Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new())))),
            Some(Step::Break) => Poll::Ready(Some(Err("reset"))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.steps.is_empty()
    }
}

/// What the breaker must have counted: `None` for a call that was dropped undecided.
fn failed(status: u16, script: &Script, polls: usize) -> Option<bool> {
    if status != 200 {
        return Some(true);
    }
    let mut left = script.steps.clone();
    if script.knows_its_end && left.is_empty() {
        return Some(false);
    }
    for _ in 0..polls {
        match left.pop_front() {
            None | Some(Step::Trailers) => return Some(false),
            Some(Step::Break) => return Some(true),
            Some(Step::Wait) => {}
            Some(Step::Data) if script.knows_its_end && left.is_empty() => return Some(false),
            Some(Step::Data) => {}
        }
    }
    None
}

/// Counts everything and never opens.
fn breaker(on_cancel: OnCancel) -> CircuitBreaker {
    let config = Config::builder()
        .failure_rate(None)
        .failure_count(50)
        .on_cancel(on_cancel);
    CircuitBreaker::with_config("images", config.build().unwrap())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Data),
        2 => Just(Step::Wait),
        1 => Just(Step::Trailers),
        1 => Just(Step::Break),
    ];
    collection::vec(step, 0..6)
}

proptest! {
    #[test]
    fn a_permit_ends_once_by_what_the_reader_has_seen(
        status in prop_oneof![4 => Just(200_u16), 1 => Just(500), 1 => Just(429)],
        steps in steps(),
        knows_its_end in any::<bool>(),
        polls in 0_usize..9,
        on_cancel in prop_oneof![Just(OnCancel::Ignore), Just(OnCancel::Failure)],
    ) {
        let script = Script { steps: steps.into(), knows_its_end };
        let breaker = breaker(on_cancel);
        let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier);
        let inner = service_fn(|response| ready(Ok::<_, Infallible>(response)));
        let response = Response::builder().status(status).body(script.clone()).unwrap();
        let mut call = task::spawn(layer.layer(inner).oneshot(response));
        let mut body = Box::pin(assert_ready_ok!(call.poll()).into_body());
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            let _ = body.as_mut().poll_frame(&mut context);
        }
        let decided = failed(status, &script, polls);
        let counted = |failed: Option<bool>| {
            (u64::from(failed.is_some()), u64::from(failed == Some(true)))
        };
        let snapshot = breaker.snapshot();
        prop_assert_eq!((snapshot.calls, snapshot.failures), counted(decided));
        drop(body);
        let dropped = (on_cancel == OnCancel::Failure).then_some(true);
        let snapshot = breaker.snapshot();
        let expected = counted(decided.or(dropped));
        prop_assert_eq!((snapshot.calls, snapshot.failures), expected);
    }
}
