//! A limited HTTP service without a server, and what it tells.
// Each test file uses a part of this.
#![allow(dead_code)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use resilience_core::clock::ManualClock;
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_tower::rate_limit::Refusal;
use resilience_tower::refusal::RefusalBody;
use tokio_test::{assert_ready, task};
use tower::Service;

/// What the tests need of a response.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) body: Vec<u8>,
}

impl Told {
    /// The values of a field, joined as RFC 9110 allows.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let lines: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.field(name).unwrap().parse().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A parameter of the last (or only) item.
    pub(crate) fn parameter(&self, field: &str, name: &str) -> u64 {
        let field = self.field(field).unwrap();
        let (_, after) = field.rsplit_once(&format!(";{name}=")).unwrap();
        after.split(';').next().unwrap().parse().unwrap()
    }
}

pub(crate) fn call<S, B, R>(service: &mut S, request: R) -> Told
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
pub(crate) struct Hello {
    pub(crate) headers: HeaderMap,
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

pub(crate) fn quota(permits: u32, per: u64, burst: u32) -> Quota {
    let quota = Quota::new(permits, Duration::from_secs(per)).unwrap();
    quota.burst(burst).unwrap()
}

pub(crate) fn limiter(quota: Quota) -> (RateLimiter, ManualClock) {
    let clock = ManualClock::new();
    (RateLimiter::with_clock(quota, clock.clone()), clock)
}

pub(crate) fn get() -> Request<()> {
    Request::new(())
}
