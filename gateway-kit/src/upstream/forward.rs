//! One attempt: a request, an endpoint, and the head of its answer.

use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header};
use resilience_core::breaker::{Classify, Outcome};
use resilience_tower::breaker::http::HttpClassifier;

use crate::body::Body;
use crate::upstream::Endpoint;
use crate::upstream::pool::SendError;
use crate::upstream::upload::{Progress, Upload};

/// Why an attempt brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    /// The endpoint could not be reached. Nothing was sent; the request is back in its slot.
    #[error("the upstream could not be reached")]
    Unreachable { timed_out: bool },
    /// The connection broke after something was sent.
    #[error("the upstream broke off before it answered")]
    Broken,
    /// No response head in time.
    #[error("the upstream did not answer in time")]
    TimedOut,
    /// The answer cannot be passed on.
    #[error("the upstream sent an answer that is not allowed")]
    BadAnswer,
    /// The client broke off or paused too long inside its body.
    #[error("the client did not send its whole request")]
    Client { timed_out: bool },
}

/// What an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the response head, after the last byte of the request.
    pub(crate) response: Duration,
    /// For the client's next byte.
    pub(crate) body: Duration,
}

/// Sends the request in `slot`; puts it back if nothing of it was sent.
pub(crate) async fn attempt(
    endpoint: &Endpoint,
    slot: &mut Option<Request<Upload>>,
    patience: Patience,
) -> Result<Response<Body>, AttemptError> {
    // The slot is filled whenever an attempt starts.
    let request = slot.take().ok_or(AttemptError::Broken)?;
    let progress = request.body().progress();
    endpoint.metrics.requests.increment(1);
    let sending = endpoint.pool.send(request);
    let (response, lease) = match patiently(sending, progress.as_deref(), patience).await? {
        Ok(answered) => answered,
        Err(SendError::Unsent { request, timed_out }) => {
            *slot = Some(*request);
            return Err(AttemptError::Unreachable { timed_out });
        }
        Err(SendError::Broken(_)) if progress.as_ref().is_some_and(|p| p.failed()) => {
            let timed_out = progress.is_some_and(|progress| progress.slow());
            return Err(AttemptError::Client { timed_out });
        }
        Err(SendError::Broken(error)) => {
            tracing::debug!(endpoint = %endpoint.address, %error, "upstream broke off");
            return Err(AttemptError::Broken);
        }
    };
    check_answer(response.status(), response.headers())?;
    Ok(response.map(|body| Body::from(body).leased(lease)))
}

/// Waits for `sending`; its time starts anew whenever a piece of the request is passed on, so
/// that a long upload is not a slow upstream.
async fn patiently<F: Future>(
    sending: F,
    progress: Option<&Progress>,
    patience: Patience,
) -> Result<F::Output, AttemptError> {
    let mut sending = std::pin::pin!(sending);
    let mut seen = 0;
    let mut wait = patience.response;
    loop {
        if let Ok(sent) = tokio::time::timeout(wait, sending.as_mut()).await {
            return Ok(sent);
        }
        let Some(progress) = progress else {
            return Err(AttemptError::TimedOut);
        };
        let frames = progress.frames();
        if frames == seen && progress.waits_for_client() {
            return Err(AttemptError::Client { timed_out: true });
        }
        if frames == seen {
            return Err(AttemptError::TimedOut);
        }
        seen = frames;
        wait = if progress.waits_for_client() {
            patience.body
        } else {
            patience.response
        };
    }
}

/// Refuses answers that a client could read differently from us.
fn check_answer(status: StatusCode, headers: &HeaderMap) -> Result<(), AttemptError> {
    // An upgrade is never asked for, so a 101 is not an answer to the request.
    let unasked = status == StatusCode::SWITCHING_PROTOCOLS;
    let ambiguous = headers.contains_key(header::CONTENT_LENGTH)
        && headers.contains_key(header::TRANSFER_ENCODING);
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let unknown = codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if unasked || ambiguous || unknown {
        return Err(AttemptError::BadAnswer);
    }
    Ok(())
}

/// Judges an attempt for the endpoint's breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptClassifier<'a> {
    /// Status codes that count as nothing.
    pub(crate) ignored: &'a [u16],
}

impl<B> Classify<Response<B>, AttemptError> for AttemptClassifier<'_> {
    fn classify(&self, result: Result<&Response<B>, &AttemptError>) -> Outcome {
        match result {
            // The client's fault says nothing about the upstream.
            Err(AttemptError::Client { .. }) => Outcome::Ignored,
            Ok(response) if self.ignored.contains(&response.status().as_u16()) => Outcome::Ignored,
            other => HttpClassifier.classify(other),
        }
    }
}
