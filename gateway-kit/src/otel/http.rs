//! OTLP over HTTP, on a pool as upstreams have them.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use serde_json::Value;

use super::worker::{Exporter, Failed};
use super::{Span, json};
use crate::body::Body;
use crate::config::OtelConfig;
use crate::shared::Shared;
use crate::upstream::forward::check_answer;
use crate::upstream::pool::{Pool, Settings, Target};
use crate::upstream::upload::Upload;
use crate::wall::WallClock;

/// The most of an answer that is read.
const LONGEST: usize = 64 * 1024;

/// A collector.
pub(super) struct Collector {
    service: String,
    path: PathAndQuery,
    headers: Vec<(HeaderName, HeaderValue)>,
    pool: Arc<Pool>,
    wall: WallClock,
}

impl Collector {
    pub(super) fn new(config: &OtelConfig, shared: &Shared) -> Result<Self, String> {
        let authority = config.endpoint.endpoint().authority().to_owned();
        let target = Target {
            address: authority.clone(),
            authority,
            tls: config.endpoint.endpoint().is_tls(),
        };
        let mut settings = Settings::default();
        settings.set_tls(&config.tls());
        settings.connect_timeout = config.timeout;
        settings.max_idle = 1;
        Ok(Self {
            service: config.service_name.clone(),
            path: config.endpoint.path().clone(),
            headers: config.fields()?,
            pool: Arc::new(Pool::new(target, settings, shared.clock.clone())),
            wall: shared.wall.clone(),
        })
    }

    async fn send(&self, message: Vec<u8>) -> Result<usize, Failed> {
        let for_now = |why: String| Failed::ForNow(why, None);
        let length = message.len();
        let mut request = Request::new(Upload::new(Body::from(Bytes::from(message))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(self.path.clone());
        let headers = request.headers_mut();
        headers.extend(self.headers.iter().cloned());
        let host = HeaderValue::from_str(self.pool.authority());
        headers.insert(HOST, host.map_err(|why| Failed::ForGood(why.to_string()))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length.into());
        let agent = concat!("gateway-kit/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let sent = self.pool.send(&mut Some(request)).await;
        let (mut response, lease) = sent.map_err(|error| for_now(error.to_string()))?;
        let status = response.status();
        check_answer(status, response.headers_mut(), None)
            .map_err(|why| for_now(why.to_owned()))?;
        if !status.is_success() {
            let why = format!("status {status}");
            return Err(match is_passing(status) {
                true => Failed::ForNow(why, self.after(response.headers())),
                false => Failed::ForGood(why),
            });
        }
        let mut body = Body::from(response.into_body()).leased(lease);
        let mut text = Vec::new();
        // It was taken: what goes wrong from here on is no reason to send it again.
        while let Some(Ok(frame)) = body.frame().await {
            text.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
            if text.len() > LONGEST {
                break;
            }
        }
        Ok(refused(&text))
    }

    /// How long the collector asks to be left alone.
    pub(super) fn after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = httpdate::parse_http_date(text).ok()?;
        let since = |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).ok();
        Some(since(until)?.saturating_sub(since(self.wall.now())?))
    }
}

impl Exporter for Collector {
    fn export<'s>(&'s self, spans: &'s [Span]) -> BoxFuture<'s, Result<usize, Failed>> {
        Box::pin(self.send(json::encode(&self.service, spans)))
    }
}

/// What the specification of OTLP lets be sent again.
fn is_passing(status: StatusCode) -> bool {
    [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

/// How many spans an answer says were not taken.
fn refused(answer: &[u8]) -> usize {
    let answer: Option<Value> = serde_json::from_slice(answer).ok();
    let partial = answer.as_ref().and_then(|one| one.get("partialSuccess"));
    let count = partial.and_then(|partial| partial.get("rejectedSpans"));
    let number = count.and_then(|count| match count {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    });
    number
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(0)
}
