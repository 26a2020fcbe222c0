//! What HTTP requests ask for, and what responses say.

use std::{convert::Infallible, fmt};

use ::http::{Method, Request, Response, StatusCode, header::SET_COOKIE};
use bytes::Bytes;
use http_body::Body;
use resilience_core::route::Counter;

use super::node::{EPOCH, POSITION, number};
use crate::{
    read_write::{
        Checkout, Failure, ReadFreshness, Token, TokenCookie, TokenHeader, Why,
        per_call::{Ask, Verdict, Went},
    },
    retry::http::HttpReplay,
};

/// Safe methods read, all others write.
///
/// # What a request asks for
///
/// | of the request | it is |
/// |---|---|
/// | a `Checkout<Counter>` in the extensions | what it says |
/// | GET, HEAD, OPTIONS, TRACE | a read |
/// | any other method | a write; PUT, DELETE and requests with an `Idempotency-Key` may run twice |
/// | a [`ReadFreshness<Counter>`](ReadFreshness) in the extensions | a read of that freshness |
/// | a signed token in the header or the cookie | a read of at least that; one that is not to be believed is as none |
/// | none of them | a read of [`Any`](ReadFreshness::Any) |
///
/// # What a response says of its node
///
/// | answer | failure |
/// |---|---|
/// | 421 (misdirected request) | [`Misrouted`](Failure::Misrouted): it did not run |
/// | 500, 502, 503, 504 | [`Lost`](Failure::Lost): a read goes elsewhere, a write is answered with it |
/// | an error of the client | what [`errors`](Self::errors) says, else `Lost` |
/// | any other | none |
///
/// # What the caller gets
///
/// The response of the node with [`Went`] in its extensions; that of a write that tells epoch and
/// position also with the [`Token<Counter>`](Token), and signed in header and cookie.
#[derive(Clone)]
pub struct ByMethod<G = Lost> {
    replay: HttpReplay,
    header: Option<TokenHeader>,
    cookie: Option<TokenCookie>,
    errors: G,
}

/// What an error of a client says: a `Fn(&E) -> Failure`, or [`Lost`].
pub trait OnError<E> {
    /// What it says.
    fn failure(&self, error: &E) -> Failure;
}

/// Any error may be of a call that ran.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost;

impl<E> OnError<E> for Lost {
    fn failure(&self, _: &E) -> Failure {
        Failure::Lost
    }
}

impl<E, G: Fn(&E) -> Failure> OnError<E> for G {
    fn failure(&self, error: &E) -> Failure {
        self(error)
    }
}

impl Default for ByMethod {
    fn default() -> Self {
        Self {
            replay: HttpReplay::default().any_method(),
            header: None,
            cookie: None,
            errors: Lost,
        }
    }
}

impl ByMethod {
    /// Without header and cookie; bodies of up to 64 KiB are kept for another attempt.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<G> ByMethod<G> {
    /// Tokens come and go in a header.
    #[must_use]
    pub fn header(mut self, header: TokenHeader) -> Self {
        self.header = Some(header);
        self
    }

    /// Tokens come and go in a cookie. A header that is there as well counts first.
    #[must_use]
    pub fn cookie(mut self, cookie: TokenCookie) -> Self {
        self.cookie = Some(cookie);
        self
    }

    /// Keeps bodies of up to this many bytes; see [`HttpReplay::body_limit`].
    #[must_use]
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.replay = self.replay.body_limit(bytes);
        self
    }

    /// What an error of the client says: [`NotSent`](Failure::NotSent) if it did not connect, so that a
    /// write goes on where the primary is.
    pub fn errors<H>(self, errors: H) -> ByMethod<H> {
        ByMethod {
            replay: self.replay,
            header: self.header,
            cookie: self.cookie,
            errors,
        }
    }

    fn freshness<B>(&self, request: &Request<B>) -> ReadFreshness<Counter> {
        if let Some(freshness) = request.extensions().get() {
            return ReadFreshness::clone(freshness);
        }
        let headers = request.headers();
        let header = self.header.as_ref();
        let header = header.and_then(|header| header.read(headers).ok().flatten());
        let token = header.or_else(|| self.cookie.as_ref()?.read(headers).ok().flatten());
        token.map_or(ReadFreshness::Any, ReadFreshness::AtLeast)
    }
}

impl<G, B: Body<Data = Bytes>> Ask<Request<B>, Counter> for ByMethod<G> {
    type Replay = HttpReplay;

    fn replay(&self) -> &HttpReplay {
        &self.replay
    }

    fn checkout(&self, request: &Request<B>) -> Checkout<Counter> {
        if let Some(checkout) = request.extensions().get() {
            return Checkout::clone(checkout);
        }
        let method = request.method();
        if is_safe(method) {
            return Checkout::read(self.freshness(request));
        }
        let twice = [Method::PUT, Method::DELETE].contains(method);
        match twice || request.headers().contains_key("idempotency-key") {
            true => Checkout::write().idempotent(),
            false => Checkout::write(),
        }
    }
}

impl<G: OnError<E>, T, E> Verdict<Counter, Response<T>, E> for ByMethod<G> {
    type Response = Response<T>;

    fn failure(&self, result: Result<&Response<T>, &E>) -> Option<Failure> {
        match result.map(Response::status) {
            Ok(StatusCode::MISDIRECTED_REQUEST) => Some(Failure::Misrouted),
            Ok(
                StatusCode::INTERNAL_SERVER_ERROR
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT,
            ) => Some(Failure::Lost),
            Ok(_) => None,
            Err(error) => Some(self.errors.failure(error)),
        }
    }

    fn answer(&self, mut response: Response<T>, went: Went) -> Response<T> {
        if let (Why::Write, Some(token)) = (went.why, token(&response, &went)) {
            let headers = response.headers_mut();
            // A counter is never too long.
            if let Some((header, Ok(value))) = self.header.as_ref().map(|it| (it, it.write(&token)))
            {
                headers.insert(header.name(), value);
            }
            if let Some(Ok(value)) = self.cookie.as_ref().map(|cookie| cookie.write(&token)) {
                headers.append(SET_COOKIE, value);
            }
            response.extensions_mut().insert(token);
        }
        response.extensions_mut().insert(went);
        response
    }
}

fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// What the response to a write says of it.
fn token<T>(response: &Response<T>, went: &Went) -> Option<Token<Counter>> {
    let number = |name| {
        number::<Infallible>(response.headers(), name)
            .ok()
            .flatten()
    };
    Some(Token {
        cluster: went.cluster,
        epoch: number(&EPOCH)?,
        position: Counter(number(&POSITION)?),
    })
}

// By hand: closures have no `Debug`.
impl<G> fmt::Debug for ByMethod<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByMethod")
            .field("replay", &self.replay)
            .field("header", &self.header)
            .field("cookie", &self.cookie)
            .finish_non_exhaustive()
    }
}
