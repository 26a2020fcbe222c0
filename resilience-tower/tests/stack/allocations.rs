//! A whole stack touches the heap for what it must keep, and for nothing else: this test counts.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use resilience_core::breaker::Mode;
use resilience_tower::stack::{self, Quota};
use tower::{Layer, Service};

use super::SECOND;

#[derive(Clone)]
struct Noop;

impl<Req> Service<Req> for Noop {
    type Response = u32;
    type Error = &'static str;
    type Future = Ready<Result<u32, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        black_box(request);
        ready(Ok(7))
    }
}

/// Allocations in a thousand calls, and how many of them were answered.
fn thousand_calls<S, Req>(service: &mut S, mut request: impl FnMut() -> Req) -> (u64, usize)
where
    S: Service<Req>,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut answered = 0;
    let counted = measure(|| {
        for _ in 0..1_000 {
            assert!(service.poll_ready(&mut context).is_ready());
            let call = pin!(service.call(request()));
            let Poll::Ready(answer) = call.poll(&mut context) else {
                panic!("it is there");
            };
            answered += usize::from(answer.is_ok());
        }
    });
    (counted.count_total, answered)
}

#[test]
fn a_call_through_a_whole_stack_allocates_nothing() {
    let per = SECOND;
    let plenty = |permits| {
        let burst = None;
        Some(Quota {
            permits,
            per,
            burst,
        })
    };
    let stack = stack::outbound("payments").configure(|stack| {
        use resilience_tower::admission::Policy;
        stack.order.insert(0, Policy::RateLimit);
        stack.order.insert(5, Policy::UpstreamQuota);
        stack.rate_limit = plenty(1_000_000);
        stack.upstream_quota = plenty(1_000_000);
    });
    let mut service = stack.unwrap().repeatable().layer(Noop);
    // The first calls of a thread set up what the policies keep for it.
    thousand_calls(&mut service, || 7_u32);
    assert_eq!(thousand_calls(&mut service, || 7_u32), (0, 1_000));
}

#[test]
fn a_refusal_of_a_whole_stack_allocates_nothing() {
    let stack = stack::outbound("payments").repeatable();
    let handle = stack.handle();
    handle.breaker().unwrap().set_mode(Mode::ForcedOpen);
    let mut service = stack.layer(Noop);
    thousand_calls(&mut service, || 7_u32);
    assert_eq!(thousand_calls(&mut service, || 7_u32), (0, 0));
}

#[cfg(feature = "http")]
#[test]
fn a_deadline_in_a_stack_costs_no_extension() {
    use bytes::Bytes;
    use http::{Method, Request, Response};
    use http_body_util::Full;
    use resilience_core::deadline::{Config, Deadlines};
    use resilience_tower::timeout::deadline::DeadlineLayer;
    use tower::service_fn;

    let post = || {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::POST;
        request
    };
    fn answer<B>() -> impl Service<Request<B>, Response = Response<()>, Error = &'static str> + Clone
    {
        service_fn(|_| ready(Ok(Response::new(()))))
    }
    let mut service = stack::outbound("payments").http().layer(answer());
    thousand_calls(&mut service, post);
    assert_eq!(thousand_calls(&mut service, post), (0, 1_000));

    // A deadline layer by itself leaves it in the request: the map and its entry.
    let total = Config::builder().total(SECOND).build().unwrap();
    let mut alone = DeadlineLayer::new(Deadlines::new(total)).layer(answer());
    thousand_calls(&mut alone, post);
    let (allocations, answered) = thousand_calls(&mut alone, post);
    assert_eq!(answered, 1_000);
    assert!(allocations >= 2_000, "{allocations}");
}
