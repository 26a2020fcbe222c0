use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Request};
use resilience_core::deadline::{Text, grpc, millis};

use crate::timeout::deadline::Propagate;

/// `grpc-timeout`, the header of gRPC.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// `x-envoy-expected-rq-timeout-ms`, by which Envoy tells upstreams how much time they have.
pub const ENVOY_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The headers by which the time that is left is read and written; none unless said.
///
/// - What is written is read too, so that what the request says already is never lengthened.
/// - Of several values the least counts. One that cannot be read does not count, and is left alone.
/// - A header that is written replaces all of its name, and says what this attempt may take.
/// - Rounded down: no one upstream works longer than somebody waits.
///
/// Milliseconds cannot say less than one: with [`write_millis`](Self::write_millis) a call that has
/// less is refused. For the forms see [`resilience_core::deadline::grpc`] and
/// [`resilience_core::deadline::millis`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Headers {
    grpc: Option<Use>,
    read_millis: Option<HeaderName>,
    write_millis: Option<HeaderName>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Use {
    Read,
    Write,
}

impl Headers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `grpc-timeout`.
    pub fn read_grpc(mut self) -> Self {
        self.grpc = self.grpc.or(Some(Use::Read));
        self
    }

    /// Writes `grpc-timeout`, and reads it.
    pub fn write_grpc(mut self) -> Self {
        self.grpc = Some(Use::Write);
        self
    }

    /// Reads milliseconds from the header `name`, for example [`ENVOY_TIMEOUT_MS`].
    pub fn read_millis(mut self, name: HeaderName) -> Self {
        self.read_millis = Some(name);
        self
    }

    /// Writes milliseconds to the header `name`, and reads it.
    pub fn write_millis(mut self, name: HeaderName) -> Self {
        self.write_millis = Some(name);
        self
    }
}

impl<B> Propagate<Request<B>> for Headers {
    fn received(&self, request: &Request<B>) -> Option<Duration> {
        let headers = request.headers();
        let grpc = self
            .grpc
            .map(|_| least(headers, &GRPC_TIMEOUT, grpc::parse));
        let names = self.read_millis.iter().chain(&self.write_millis);
        let millis = names.map(|name| least(headers, name, millis::parse));
        grpc.into_iter().chain(millis).flatten().min()
    }

    fn send(&self, request: &mut Request<B>, left: Duration) {
        let headers = request.headers_mut();
        if self.grpc == Some(Use::Write) {
            headers.insert(GRPC_TIMEOUT, value(grpc::write(left)));
        }
        if let Some(name) = &self.write_millis {
            headers.insert(name, value(millis::write(left)));
        }
    }

    fn least(&self) -> Duration {
        let plain = self.write_millis.is_some();
        if plain { millis::LEAST } else { Duration::ZERO }
    }
}

fn least(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: fn(&[u8]) -> Option<Duration>,
) -> Option<Duration> {
    let values = headers.get_all(name).iter();
    values.filter_map(|value| parse(value.as_bytes())).min()
}

fn value(text: Text) -> HeaderValue {
    // Digits and a letter are always a value; `0` is the answer that cannot be.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0"))
}
