//! A backend as a node.

use std::{error::Error as StdError, fmt, future::poll_fn, marker::PhantomData, time::Duration};

use ::http::{HeaderMap, HeaderName, Method, Request, Response, uri::PathAndQuery};
use resilience_core::route::Counter;
use tower_service::Service;

use super::{Error, Origin, OriginError};
use crate::read_write::{Failure, Fork, Intent, Observation, Role, per_call::Endpoint};

const ROLE: HeaderName = HeaderName::from_static("x-node-role");
pub(super) const EPOCH: HeaderName = HeaderName::from_static("x-node-epoch");
pub(super) const POSITION: HeaderName = HeaderName::from_static("x-node-position");
const CLUSTER: HeaderName = HeaderName::from_static("x-node-cluster");
const INCARNATION: HeaderName = HeaderName::from_static("x-node-incarnation");
const HISTORY: HeaderName = HeaderName::from_static("x-node-history");

/// An HTTP backend; see the [module](super) for what it tells.
///
/// `S` is the client, `B` the body of its requests: that of a look is `B::default()`, which is to be
/// empty.
pub struct Node<S, B> {
    service: Origin<S>,
    path: PathAndQuery,
    body: PhantomData<fn() -> B>,
}

impl<S, B> Node<S, B> {
    /// The backend at `uri`, a scheme and an authority. Looks ask for `/`.
    ///
    /// # Errors
    ///
    /// A URI of another form.
    pub fn new(client: S, uri: &str) -> Result<Self, OriginError> {
        Ok(Self {
            service: Origin::new(client, uri)?,
            path: PathAndQuery::from_static("/"),
            body: PhantomData,
        })
    }

    /// The path that looks ask for. Its answer should cost nothing.
    #[must_use]
    pub fn path(mut self, path: PathAndQuery) -> Self {
        self.path = path;
        self
    }
}

impl<S, B, T> Node<S, B>
where
    S: Service<Request<B>, Response = Response<T>> + Clone,
    B: Default,
{
    async fn look(&self) -> Result<HeaderMap, Error<S::Error>> {
        let mut request = Request::new(B::default());
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = self.path.clone().into();
        let mut service = self.service.clone();
        let ready = poll_fn(|cx| service.poll_ready(cx)).await;
        ready.map_err(Error::Client)?;
        let response = service.call(request).await.map_err(Error::Client)?;
        match response.status() {
            status if status.is_success() => Ok(response.into_parts().0.headers),
            status => Err(Error::Status(status)),
        }
    }
}

impl<S, B, T> crate::read_write::Node for Node<S, B>
where
    S: Service<Request<B>, Response = Response<T>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: StdError + Send + Sync + 'static,
    B: Default + Send + 'static,
    T: Send,
{
    type Position = Counter;
    type Connection = Origin<S>;
    type Error = Error<S::Error>;

    async fn observe(&self, at: Duration) -> Result<Observation<Counter>, Self::Error> {
        let headers = self.look().await?;
        let role = match single(&headers, &ROLE) {
            Some("primary") => Role::Primary,
            Some("replica") => Role::Replica,
            _ => return Err(Error::Header(ROLE)),
        };
        let needed = |name| number(&headers, &name)?.ok_or(Error::Header(name));
        let optional = |name| number(&headers, &name).map(Option::unwrap_or_default);
        let (epoch, position) = (needed(EPOCH)?, needed(POSITION)?);
        let (cluster, incarnation) = (optional(CLUSTER)?, optional(INCARNATION)?);
        let observation = Observation::new(role, cluster, epoch, Counter(position), at);
        let observation = observation.incarnation(incarnation);
        Ok(match history(&headers)? {
            Some(forks) => observation.history(forks),
            None => observation,
        })
    }

    /// A clone of the client, which is ready.
    async fn connect(&self, _: u64, _: Intent) -> Result<Origin<S>, Self::Error> {
        let mut service = self.service.clone();
        let ready = poll_fn(|cx| service.poll_ready(cx)).await;
        ready.map_err(Error::Client)?;
        Ok(service)
    }

    /// Where the primary is by now, which is no less than the last commit.
    async fn position(&self, _: &mut Origin<S>) -> Result<(u64, Counter), Self::Error> {
        let headers = self.look().await.map_err(|error| match error {
            Error::Client(error) => Error::NoToken(Some(error)),
            _ => Error::NoToken(None),
        })?;
        let told = |name| number::<S::Error>(&headers, &name).ok().flatten();
        match (single(&headers, &ROLE), told(EPOCH), told(POSITION)) {
            (Some("primary"), Some(epoch), Some(position)) => Ok((epoch, Counter(position))),
            _ => Err(Error::NoToken(None)),
        }
    }

    /// [`Lost`](Failure::Lost): nobody knows whether anything was sent. A commit without a token ran.
    fn failure(&self, error: &Self::Error) -> Failure {
        match error {
            Error::NoToken(_) => Failure::Failed,
            _ => Failure::Lost,
        }
    }
}

impl<S, B, T> Endpoint for Node<S, B>
where
    S: Service<Request<B>, Response = Response<T>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: StdError + Send + Sync + 'static,
    B: Default + Send + 'static,
    T: Send,
{
    type Service = Origin<S>;

    fn service(&self) -> &Origin<S> {
        &self.service
    }
}

/// The value of a header that comes once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The number in a header; `None` if it is absent.
pub(super) fn number<E>(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Error<E>> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let number = single(headers, name).and_then(|text| text.parse::<Counter>().ok());
    let number = number.map(|Counter(number)| Some(number));
    number.ok_or_else(|| Error::Header(name.clone()))
}

/// The epochs before, and where they ended.
fn history<E>(headers: &HeaderMap) -> Result<Option<Vec<Fork<Counter>>>, Error<E>> {
    if !headers.contains_key(HISTORY) {
        return Ok(None);
    }
    let fork = |text: &str| {
        let (epoch, position) = text.trim_ascii().split_once(':')?;
        let Counter(epoch) = epoch.parse().ok()?;
        let position = position.parse().ok()?;
        Some(Fork { epoch, position })
    };
    let forks = single(headers, &HISTORY).and_then(|text| text.split(',').map(fork).collect());
    forks.map(Some).ok_or(Error::Header(HISTORY))
}

// By hand: a client need not have `Debug`.
impl<S, B> fmt::Debug for Node<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
