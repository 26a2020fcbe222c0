//! Classes by path, and a call that is shed as an HTTP or gRPC response.

use std::sync::Arc;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use resilience_core::load_shed::{Class, Shed};

use super::{ClassOf, LoadShedLayer};
use crate::refusal::{self, IntoResponseLayer, Json};

/// What makes a response for a call that is shed.
pub type Refuse = fn(&Shed) -> Response<Bytes>;

/// 503 (service unavailable) with `Retry-After` and a body of the media type
/// `application/problem+json` (RFC 9457).
///
/// `Retry-After` is in whole seconds, rounded up and never 0: when the class is admitted again at
/// the earliest. The members of the body are `reason` (`queue_delay`, `concurrency` or `by_hand`),
/// `class`, `status`, `title` and `retry_after` (the same seconds); no `type`, which stands for
/// `about:blank`. The level is not told.
pub fn problem(shed: &Shed) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("reason", shed.reason());
    json.text("class", shed.class.as_str());
    let status = StatusCode::SERVICE_UNAVAILABLE;
    refusal::problem(status, Some(shed.retry_after()), json)
}

/// A gRPC response without messages: HTTP 200, `grpc-status: 14` (unavailable), a `grpc-message`
/// that names the class, and `grpc-retry-pushback-ms` ([gRFC A6]): when the class is admitted again
/// at the earliest.
///
/// [gRFC A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
pub fn status(shed: &Shed) -> Response<Bytes> {
    let message = format_args!("overloaded, calls of class {} are shed", shed.class);
    refusal::grpc(UNAVAILABLE, message, Some(shed.retry_after()))
}

/// The status code of the gRPC specification.
const UNAVAILABLE: u8 = 14;

impl<C> LoadShedLayer<C> {
    /// Answers calls that are shed by [`problem`]: the service's error is the inner service's alone.
    ///
    /// For services of `http` types: with `Error = Infallible` inside, the result is what axum
    /// takes as a layer or a route.
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// Answers calls that are shed by [`status`]: the service's error is the inner service's alone.
    ///
    /// On a server the result can be added to a tonic router (feature `tonic`: the name of the
    /// service is kept); around a client the caller gets a status `UNAVAILABLE`.
    pub fn into_grpc_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(status)
    }

    /// Answers by a function of one's own, which is cloned once per call.
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponseLayer<Self, F>
    where
        F: Fn(&Shed) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}

/// Classes by the path of the request: of all prefixes that match, the longest counts; without any
/// it is [`Class::Normal`].
///
/// A prefix matches whole segments: `/admin` matches `/admin` and `/admin/users`, not
/// `/administer`. The path is taken as it was sent: `/%61dmin` is not `/admin`, and so is never of a
/// higher class than it should be where the router decodes it.
///
/// # Examples
///
/// ```
/// use resilience_core::load_shed::Class;
/// use resilience_tower::load_shed::http::Paths;
///
/// let classes = Paths::new()
///     .path("/health", Class::Critical)
///     .path("/admin", Class::Critical)
///     .path("/checkout", Class::High)
///     .path("/suggestions", Class::Low);
/// # let _ = classes;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Paths {
    /// The longest first.
    prefixes: Arc<Vec<(Box<str>, Class)>>,
}

impl Paths {
    /// All are [`Class::Normal`].
    pub fn new() -> Self {
        Self::default()
    }

    /// The class of `prefix` and all below it. Slashes at its end do not matter; of the same prefix
    /// the last one said counts.
    pub fn path(mut self, prefix: &str, class: Class) -> Self {
        let prefix = prefix.trim_end_matches('/');
        let prefixes = Arc::make_mut(&mut self.prefixes);
        prefixes.retain(|(known, _)| **known != *prefix);
        prefixes.push((prefix.into(), class));
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self
    }

    fn of(&self, path: &str) -> Class {
        let matches = |prefix: &str| {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self.prefixes.iter().find(|(prefix, _)| matches(prefix));
        found.map_or(Class::Normal, |(_, class)| *class)
    }
}

impl<B> ClassOf<Request<B>> for Paths {
    fn class_of(&self, request: &Request<B>) -> Class {
        self.of(request.uri().path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_counts() {
        let paths = Paths::new()
            .path("/api", Class::Low)
            .path("/api/pay/", Class::High)
            .path("/health", Class::Normal)
            .path("/health", Class::Critical);
        for (path, class) in [
            ("/api", Class::Low),
            ("/api/", Class::Low),
            ("/api/pay", Class::High),
            ("/api/pay/1", Class::High),
            ("/api/payments", Class::Low),
            ("/apis", Class::Normal),
            ("/healthy", Class::Normal),
            ("/health/live", Class::Critical),
            ("/x/health", Class::Normal),
            ("/", Class::Normal),
        ] {
            assert_eq!(paths.of(path), class, "{path}");
        }
        assert_eq!(Paths::new().path("/", Class::Low).of("/any"), Class::Low);
    }
}
