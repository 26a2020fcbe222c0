//! The fields by which upstreams are told who a client is. A client may not send them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::config::Config;
use crate::headers::{folded, remove_folded};

/// The names, of all routes together: an upstream behind several would believe them on each.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// In the form that [`folded`] gives.
    names: Arc<[String]>,
}

impl Identity {
    /// Those that the configuration has claims told by.
    pub(crate) fn of(config: &Config) -> Self {
        #[cfg(feature = "jwt")]
        let names = {
            let names = crate::config::tokens(config).flat_map(|jwt| jwt.claim_headers.values());
            names.map(|name| folded(name.name().as_str())).collect()
        };
        #[cfg(not(feature = "jwt"))]
        let names = {
            let _ = config;
            Arc::default()
        };
        Self { names }
    }

    /// Whether a field is one of them, or could be taken for one.
    #[allow(dead_code, reason = "not all features that ask are on")]
    pub(crate) fn is_one(&self, name: &HeaderName) -> bool {
        !self.names.is_empty() && self.names.contains(&folded(name.as_str()))
    }

    /// Removes them from a request, its trailers included: some servers put these into the head.
    pub(crate) fn remove(&self, mut request: Request<Body>) -> Request<Body> {
        if self.names.is_empty() {
            return request;
        }
        remove_folded(request.headers_mut(), &self.names);
        if request.body().is_end_stream() {
            return request;
        }
        let names = Arc::clone(&self.names);
        request.map(|body| Body::new(Unsaid { body, names }))
    }
}

/// A body whose trailers do not have the names.
struct Unsaid {
    body: Body,
    names: Arc<[String]>,
}

impl HttpBody for Unsaid {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            remove_folded(trailers, &self.names);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
