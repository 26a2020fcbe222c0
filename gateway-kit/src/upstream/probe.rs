//! The health check of one endpoint.

use std::sync::Arc;

use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use resilience_core::balance::Balancer;

use crate::body::Body;
use crate::config::{HealthConfig, InitialHealth};
use crate::health::{Schedule, Tally, watch};
use crate::upstream::Endpoint;
use crate::upstream::upload::Upload;

/// Why a check is bad.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("{0}")]
    Send(String),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the answer breaks off")]
    Body,
    #[error("the answer is longer than {MOST} bytes")]
    Long,
}

/// The most of an answer that is read.
const MOST: usize = 64 * 1024;

/// Checks an endpoint until it is dropped, and tells the balancer what comes of it.
pub(crate) async fn check(
    endpoint: Arc<Endpoint>,
    balancer: Balancer<Arc<Endpoint>>,
    health: HealthConfig,
    healthy: bool,
) {
    let schedule = Schedule {
        interval: health.interval,
        jitter: health.jitter,
        timeout: health.timeout,
    };
    let tally = Tally::new(health.healthy, health.unhealthy, healthy);
    let changed = |healthy| {
        balancer.set_health(&endpoint.address, healthy);
    };
    let probe = || probe(&endpoint, &health);
    match watch(&endpoint.address, schedule, tally, probe, changed).await {}
}

/// Whether an endpoint is taken to be healthy before its first check.
pub(crate) fn initially(health: &HealthConfig) -> bool {
    health.initial == InitialHealth::Healthy
}

async fn probe(endpoint: &Endpoint, health: &HealthConfig) -> Result<(), Bad> {
    let host = health.host.as_ref().map(|host| host.as_str());
    let host = host.unwrap_or(&endpoint.authority);
    let mut request = Request::new(Upload::new(Body::empty()));
    *request.uri_mut() = Uri::from(health.path.target().clone());
    if let Ok(host) = HeaderValue::from_str(host) {
        request.headers_mut().insert(HOST, host);
    }
    let agent = HeaderValue::from_static("gateway-kit/health");
    request.headers_mut().insert(USER_AGENT, agent);
    let sent = endpoint.pool.send(&mut Some(request)).await;
    let (response, lease) = sent.map_err(|error| Bad::Send(error.to_string()))?;
    let status = response.status();
    let mut body = Body::from(response.into_body()).leased(lease);
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Bad::Body)?;
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
        if read > MOST {
            return Err(Bad::Long);
        }
    }
    match health.is_good(status) {
        true => Ok(()),
        false => Err(Bad::Status(status)),
    }
}
