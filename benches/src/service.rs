//! The service below a layer that is measured: it does nothing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::{black_box, spin_loop};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tokio::runtime::Runtime;
use tower_service::Service;

/// Answers at once with the request.
#[derive(Clone, Copy, Debug)]
pub struct Noop;

impl Service<u64> for Noop {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

/// Answers at once with an empty 200.
#[derive(Clone, Copy, Debug)]
pub struct NoopHttp;

impl Service<Request<()>> for NoopHttp {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

/// The status of the answer to an empty request; `None` when it is an error.
pub fn status<S, B>(service: &mut S) -> Option<StatusCode>
where
    S: Service<Request<()>, Response = Response<B>>,
{
    let answer = once(service, Request::new(()))?;
    answer.ok().map(|response| response.status())
}

/// Ready, call, and the polls until it is complete; `None` when it is not after very many.
///
/// Ours is complete at the first poll. A peer that takes an asynchronous lock is not while
/// another thread holds it; polling again at once is the least that can cost.
pub fn once<Req, S: Service<Req>>(
    service: &mut S,
    request: Req,
) -> Option<Result<S::Response, S::Error>> {
    let mut context = Context::from_waker(Waker::noop());
    match patiently(|| service.poll_ready(&mut context))? {
        Ok(()) => {}
        Err(error) => return Some(Err(error)),
    }
    let mut call = pin!(service.call(black_box(request)));
    patiently(|| call.as_mut().poll(&mut context))
}

/// Asks until the answer is there, but not for ever.
fn patiently<T>(mut poll: impl FnMut() -> Poll<T>) -> Option<T> {
    for _ in 0..PATIENCE {
        match poll() {
            Poll::Ready(answer) => return Some(answer),
            Poll::Pending => spin_loop(),
        }
    }
    None
}

/// Polls of one call: some seconds of them, longer than a thread waits for the processor.
const PATIENCE: u32 = 1_000_000_000;

/// Whether a call is answered, and well.
pub fn answered<S: Service<u64>>(service: &mut S) -> bool {
    matches!(once(service, 7), Some(Ok(_)))
}

/// Whether a call is refused.
pub fn refused<S: Service<u64>>(service: &mut S) -> bool {
    matches!(once(service, 7), Some(Err(_)))
}

/// Calls in the context of a runtime: some layers look for one even where they need none.
pub fn within<S: Service<u64>>(runtime: &Runtime, mut service: S) -> impl FnMut() -> bool {
    let entered = runtime.enter();
    move || {
        let _ = &entered;
        answered(&mut service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready at the third poll, then refuses.
    struct Slow(u32);

    impl Service<u64> for Slow {
        type Response = u64;
        type Error = ();
        type Future = std::future::PollFn<fn(&mut Context<'_>) -> Poll<Result<u64, ()>>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            self.0 += 1;
            if self.0 < 3 {
                Poll::Pending
            } else {
                Poll::Ready(Ok(()))
            }
        }

        fn call(&mut self, _: u64) -> Self::Future {
            std::future::poll_fn(|_| Poll::Ready(Err(())))
        }
    }

    #[test]
    fn a_service_that_answers_later_is_polled_again() {
        let mut service = Slow(0);
        assert!(refused(&mut service));
        assert_eq!(service.0, 3);
        assert!(!answered(&mut service));
    }

    #[test]
    fn the_noop_services_answer() {
        assert_eq!(status(&mut NoopHttp), Some(StatusCode::OK));
        assert!(answered(&mut Noop));
        assert!(!refused(&mut Noop));
    }
}
