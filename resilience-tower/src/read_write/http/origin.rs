//! A client that calls one address.

use std::task::{Context, Poll};

use ::http::{
    Request, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use tower_service::Service;

/// A client whose requests go to one address, whatever their URI says.
#[derive(Clone, Debug)]
pub struct Origin<S> {
    client: S,
    scheme: Scheme,
    authority: Authority,
}

/// An address that requests cannot go to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{uri:?} is not a scheme and an authority, such as http://10.0.0.1:8080")]
#[non_exhaustive]
pub struct OriginError {
    /// The address.
    pub uri: String,
}

impl<S> Origin<S> {
    /// Requests go to `uri`, a scheme and an authority: `http://10.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// A URI of another form.
    pub fn new(client: S, uri: &str) -> Result<Self, OriginError> {
        let parsed = uri.parse::<Uri>().ok().and_then(|uri| {
            let parts = uri.into_parts();
            let bare = parts.path_and_query.is_none_or(|path| path == "/");
            Some((parts.scheme?, parts.authority?)).filter(|_| bare)
        });
        let error = || OriginError { uri: uri.into() };
        let (scheme, authority) = parsed.ok_or_else(error)?;
        Ok(Self {
            client,
            scheme,
            authority,
        })
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Origin<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        let path = parts.path_and_query;
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // All three parts are there: that is a URI.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        self.client.call(request)
    }
}
