//! The service: verify, reserve, call, commit.

use std::{
    future::{Future, poll_fn},
    mem,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, RETRY_AFTER},
    request::Parts,
};
use http_body::Body;
use tower_service::Service;

use super::{Config, Event, ResponseBody, VerifiedBody};
use crate::{
    Error, Reason, Reservation, Session, Step, Verified,
    verifier::{Guard, warn_of_outage},
};

/// Calls the inner service with verified deliveries only; see the [module](super).
#[derive(Clone)]
pub struct Webhook<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> Webhook<S> {
    pub(super) const fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for Webhook<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, B, ResBody> Service<Request<B>> for Webhook<S>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ResBody: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call; the clone that stays has
        // to be polled anew.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        let config = Arc::clone(&self.config);
        ResponseFuture(Box::pin(handle(config, ready, request)))
    }
}

/// The future of [`Webhook`].
///
/// # Cancel safety
/// Dropping it gives the delivery back to the replay store; the sender's retry is handled.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<R, E>(Pin<Box<dyn Future<Output = Result<R, E>> + Send>>);

impl<R, E> Future for ResponseFuture<R, E> {
    type Output = Result<R, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<R, E> std::fmt::Debug for ResponseFuture<R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

async fn handle<S, B, ResBody>(
    config: Arc<Config>,
    mut ready: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
    B: Body,
{
    let (mut parts, body) = request.into_parts();
    let peer = (config.peer)(&parts).map(|socket| socket.ip());
    let (verified, body) = match check(&config, &parts, peer, body).await {
        Ok(passed) => passed,
        Err(error) => {
            let remote_ip = config.verifier.sender(peer, &parts.headers);
            return Ok(reject(&config, &error, remote_ip));
        }
    };
    let reservation = match config.verifier.guard(&verified).await {
        Ok(Guard::Reserved(reservation)) => Some(reservation),
        Ok(Guard::NoStore) => None,
        Ok(Guard::Outage) => {
            warn_of_outage(&verified);
            (config.on_event)(&Event::Unguarded {
                verified: &verified,
            });
            None
        }
        Err(error) => return Ok(repeated(&config, &verified, &error)),
    };
    tracing::debug!(
        scheme = verified.scheme(),
        key_id = verified.key_id(),
        "webhook validated"
    );
    (config.on_event)(&Event::Validated {
        verified: &verified,
    });
    parts.extensions.insert(verified.clone());
    // An error, a panic or a drop from here on drops the reservation, which releases it.
    let response = ready.call(Request::from_parts(parts, body)).await?;
    settle(&config, &verified, reservation, response.status()).await;
    Ok(response.map(ResponseBody::inner))
}

/// Everything before the replay store.
async fn check<B: Body>(
    config: &Config,
    parts: &Parts,
    peer: Option<IpAddr>,
    body: B,
) -> Result<(Verified, VerifiedBody), Error> {
    let mut session = config.verifier.begin(parts, peer)?;
    let limit = config.verifier.body_limit();
    if body.size_hint().lower() > limit as u64 {
        return Err(at_body(
            &session,
            Step::BodyLimit,
            Reason::TooLarge { limit },
        ));
    }
    let read = tokio::time::timeout(config.read_deadline, read(body, &mut session)).await;
    let body = match read {
        Ok(body) => body?,
        Err(_) => return Err(at_body(&session, Step::Body, Reason::BodyTimeout)),
    };
    if !is_announced(&parts.headers, body.len()) {
        return Err(at_body(&session, Step::Body, Reason::BodyFailed));
    }
    Ok((session.finish()?, body))
}

/// Hashes the frames as they arrive. Memory grows with what has arrived, never with what
/// was announced.
async fn read<B: Body>(body: B, session: &mut Session<'_>) -> Result<VerifiedBody, Error> {
    let mut body = pin!(body);
    let mut kept = VerifiedBody::default();
    let mut empty = 0;
    for count in 1_usize.. {
        if count.is_multiple_of(FRAMES_PER_TURN) {
            // The deadline is looked at only between polls, and a body that is always ready
            // would never let it be.
            yield_once().await;
        }
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let mut data = match frame {
            None => break,
            Some(Err(_)) => return Err(at_body(session, Step::Body, Reason::BodyFailed)),
            // Trailers are not signed: they are dropped, and count as an empty frame.
            Some(Ok(frame)) => frame.into_data().ok(),
        };
        let Some(data) = data.as_mut().filter(|data| data.has_remaining()) else {
            // No server makes many of them, and without a byte no limit would be reached.
            empty += 1;
            if empty > MAX_EMPTY_FRAMES {
                return Err(at_body(session, Step::Body, Reason::BodyFailed));
            }
            continue;
        };
        // The size is judged before a frame is copied.
        session.reserve_length(data.remaining())?;
        let chunk: Bytes = data.copy_to_bytes(data.remaining());
        session.hash(&chunk);
        kept.push(chunk);
    }
    kept.seal();
    Ok(kept)
}

/// Far more than any server makes.
const MAX_EMPTY_FRAMES: usize = 64;

/// So few that a turn takes microseconds, so many that turns cost nothing.
const FRAMES_PER_TURN: usize = 64;

/// Gives the runtime a turn.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether `Content-Length`, when there is one, tells the truth. Servers see to it; where a
/// body came by another way, an inner service that believes the header would read other
/// bytes than those that were verified.
fn is_announced(headers: &HeaderMap, length: usize) -> bool {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    values.all(|value| value.to_str().ok().and_then(|text| text.parse().ok()) == Some(length))
}

fn at_body(session: &Session<'_>, step: Step, reason: Reason) -> Error {
    let mut trace = session.trace();
    trace.push(step);
    Error::new(step, reason, trace)
}

async fn settle(
    config: &Config,
    verified: &Verified,
    reservation: Option<Reservation>,
    status: StatusCode,
) {
    let Some(reservation) = reservation.filter(|_| status.is_success()) else {
        return;
    };
    if let Err(error) = reservation.commit().await {
        // The handler has run; its answer stands. The lease holds a retry off for a while.
        tracing::error!(
            scheme = verified.scheme(),
            key_id = verified.key_id(),
            %error,
            "webhook handled but not remembered"
        );
        (config.on_event)(&Event::NotRemembered { verified, error });
    }
}

fn reject<B>(
    config: &Config,
    error: &Error,
    remote_ip: Option<IpAddr>,
) -> Response<ResponseBody<B>> {
    tracing::warn!(
        scheme = config.verifier.scheme().name(),
        step = error.step().as_str(),
        reason = %error.reason(),
        remote_ip = remote_ip.map(tracing::field::display),
        "webhook rejected"
    );
    (config.on_event)(&Event::Rejected { error, remote_ip });
    answer(config, error)
}

fn repeated<B>(config: &Config, verified: &Verified, error: &Error) -> Response<ResponseBody<B>> {
    if !matches!(error.reason(), Reason::Duplicate | Reason::InFlight { .. }) {
        return reject(config, error, verified.source());
    }
    tracing::info!(
        scheme = verified.scheme(),
        key_id = verified.key_id(),
        reason = %error.reason(),
        "webhook repeated"
    );
    (config.on_event)(&Event::Repeated { verified, error });
    answer(config, error)
}

fn answer<B>(config: &Config, error: &Error) -> Response<ResponseBody<B>> {
    let mut response = (config.respond)(error);
    // RFC 9110, 15.5.6: a 405 names the methods.
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(methods) = methods(&config.verifier.inner.methods)
    {
        response.headers_mut().entry(ALLOW).or_insert(methods);
    }
    response.map(ResponseBody::own)
}

fn methods(methods: &[Method]) -> Option<HeaderValue> {
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    HeaderValue::try_from(names.join(", ")).ok()
}

/// The answer to a refusal unless [`WebhookLayer::respond`](super::WebhookLayer::respond)
/// says otherwise: [`Error::status`] with an empty body, and `Retry-After` for 409 and 503.
/// (The layer adds `Allow` to a 405.)
#[must_use]
pub fn default_response(error: &Error) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = error.status();
    let wait = match error.reason() {
        Reason::InFlight {
            retry_after_seconds,
        } => Some(*retry_after_seconds),
        _ if error.status() == StatusCode::SERVICE_UNAVAILABLE => Some(1),
        _ => None,
    };
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, wait.into());
    }
    response
}
