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
/// the earliest. The members of the body are `reason` (`queue_delay` or `concurrency`), `class`,
/// `status`, `title` and `retry_after` (the same seconds); no `type`, which stands for `about:blank`.
/// The level is not told.
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
/// `/administer`. The path is taken as it was sent: `/%61dmin` is not `/admin` but
/// [`Class::Normal`], also where the router decodes it. A path with a segment `.` or `..`, encoded or
/// not, is at most [`Class::Normal`]: the router may take it elsewhere. So another spelling gets nobody
/// a class above that; up to it, it does.
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
        let class = self.longest(path);
        if has_dot_segment(path) {
            return class.min(Class::Normal);
        }
        class
    }

    fn longest(&self, path: &str) -> Class {
        let matches = |prefix: &str| {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self.prefixes.iter().find(|(prefix, _)| matches(prefix));
        found.map_or(Class::Normal, |(_, class)| *class)
    }
}

/// Whether a segment is `.` or `..`, with dots, slashes and backslashes in whatever encoding.
fn has_dot_segment(path: &str) -> bool {
    let mut rest = path.as_bytes();
    let (mut dots, mut others) = (0, false);
    loop {
        let (byte, taken) = match rest {
            [] => (b'/', 0),
            [b'%', b'2', b'e' | b'E', ..] => (b'.', 3),
            [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] => (b'/', 3),
            [b'\\', ..] => (b'/', 1),
            [byte, ..] => (*byte, 1),
        };
        match byte {
            b'/' if !others && matches!(dots, 1 | 2) => return true,
            b'/' if taken == 0 => return false,
            b'/' => (dots, others) = (0, false),
            b'.' => dots += 1,
            _ => others = true,
        }
        rest = &rest[taken..];
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

    #[test]
    fn a_path_that_leads_elsewhere_has_no_high_class() {
        let paths = Paths::new()
            .path("/health", Class::Critical)
            .path("/jobs", Class::Low);
        for path in [
            "/health/../report",
            "/health/..",
            "/health/./x",
            "/health/%2e%2E/report",
            "/health/.%2e/report",
            "/health/..%2freport",
            "/health/x%2F../../report",
            "/health/..%5Creport",
            "/health/..\\report",
        ] {
            assert_eq!(paths.of(path), Class::Normal, "{path}");
        }
        assert_eq!(paths.of("/jobs/../report"), Class::Low);
        for path in [
            "/health/...",
            "/health/a.b",
            "/health/.well-known",
            "/health//x",
        ] {
            assert_eq!(paths.of(path), Class::Critical, "{path}");
        }
    }
}
