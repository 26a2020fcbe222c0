//! How large a request may be.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::config::{ByteSize, SizeLimitsConfig};
use crate::problem::Problem;

/// The limits of one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeLimits {
    body: Option<u64>,
    path: usize,
    query: usize,
    headers: usize,
    header_bytes: u64,
}

/// A body is longer than it may be; what came before is sent on, and cut off there.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body is larger than is taken here")]
pub(crate) struct TooLarge;

/// What a header field has around name and value: a colon, a space and the end of the line.
const AROUND: usize = 4;

impl SizeLimits {
    pub(crate) fn new(config: &SizeLimitsConfig) -> Self {
        Self {
            body: config.body.on().copied().map(ByteSize::bytes),
            path: config.path,
            query: config.query,
            headers: config.headers,
            header_bytes: config.header_bytes.bytes(),
        }
    }

    /// Refuses a request that is too large as far as it is known; the rest of a body is watched.
    pub(crate) fn check(&self, request: Request<Body>) -> Result<Request<Body>, Problem> {
        self.check_target(request.uri())?;
        self.check_headers(request.headers())?;
        let Some(limit) = self.body else {
            return Ok(request);
        };
        let size = request.body().size_hint();
        if size.lower() > limit {
            return Err(too_large());
        }
        // What is announced is all that comes.
        if size.upper().is_some_and(|most| most <= limit) {
            return Ok(request);
        }
        Ok(request.map(|body| Body::new(Limited { body, left: limit })))
    }

    fn check_target(&self, target: &Uri) -> Result<(), Problem> {
        let query = target.query().unwrap_or_default();
        if target.path().len() > self.path || query.len() > self.query {
            return Err(Problem::new(
                StatusCode::URI_TOO_LONG,
                "uri_too_long",
                "URI too long",
                "the path or the query is longer than is taken here",
            ));
        }
        Ok(())
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + AROUND
        };
        let bytes: usize = headers.iter().map(field).sum();
        if headers.len() > self.headers || bytes as u64 > self.header_bytes {
            return Err(Problem::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "header_too_large",
                "Request header fields too large",
                "the request has more header fields, or longer ones, than are taken here",
            ));
        }
        Ok(())
    }
}

/// 413.
pub(crate) fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "Content too large",
        "the body is larger than is taken here",
    )
}

/// A body that fails with [`TooLarge`] before the piece that is too much.
struct Limited {
    body: Body,
    left: u64,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            // A length in memory fits in 64 bits.
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(TooLarge.into()))),
            }
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
