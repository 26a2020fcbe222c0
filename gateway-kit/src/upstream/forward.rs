//! One attempt: a request, an endpoint, and the head of its answer.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::body::Body;
use crate::upstream::Endpoint;
use crate::upstream::pool::{ConnectError, Lease, SendError};
use crate::upstream::upgrade::Asked;
use crate::upstream::upload::{Failure, Progress, Upload};

/// Why an attempt brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    /// The endpoint could not be reached. Nothing was sent; the request is back in its slot.
    #[error("the upstream could not be reached")]
    Unreachable { timed_out: bool },
    /// The connection broke after something was sent.
    #[error("the upstream broke off before it answered")]
    Broken {
        /// Bytes of an answer came.
        started: bool,
        /// The upstream said that it has not acted on the request.
        refused: bool,
    },
    /// No response head in time.
    #[error("the upstream did not answer in time")]
    TimedOut {
        /// The time of this try is over, not that of the call.
        of_try: bool,
    },
    /// The answer cannot be passed on.
    #[error("the upstream sent an answer that is not allowed")]
    BadAnswer,
    /// The client broke off or paused too long inside its body.
    #[error("the client did not send its whole request")]
    Client { timed_out: bool },
    /// The client sent a larger body than is taken.
    #[error("the body is larger than is taken here")]
    TooLarge,
}

/// What an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience<'a> {
    /// For the response head, after the last byte of the request.
    pub(crate) head: Duration,
    /// The same for this try alone, if it is less.
    pub(crate) of_try: Option<Duration>,
    /// For the client's next byte.
    pub(crate) body: Duration,
    /// The end of the call.
    pub(crate) end: Option<Instant>,
    /// The upgrade that is asked for.
    pub(crate) asked: Option<&'a Asked>,
    /// What rings when the time is over; else a timer of its own.
    pub(crate) alarm: Option<&'a Alarm>,
}

impl Patience<'_> {
    /// How long the head is waited for from now on, and whether a further try is worth it then.
    fn wait(&self) -> (Duration, bool) {
        let (wait, of_try) = match self.of_try {
            Some(of_try) if of_try < self.head => (of_try, true),
            _ => (self.head, false),
        };
        self.within_end(wait, of_try)
    }

    async fn timeout<F: Future>(&self, wait: Duration, future: F) -> Option<F::Output> {
        match self.alarm {
            Some(alarm) => alarm.timeout(wait, future).await,
            None => tokio::time::timeout(wait, future).await.ok(),
        }
    }

    fn within_end(&self, wait: Duration, of_try: bool) -> (Duration, bool) {
        match self.end {
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                (wait.min(left), of_try && wait < left)
            }
            None => (wait, of_try),
        }
    }
}

/// Sends the request in `slot`; puts it back if nothing of it was sent.
pub(crate) async fn attempt(
    endpoint: &Endpoint,
    slot: &mut Option<Request<Upload>>,
    patience: Patience<'_>,
) -> Result<(Response<Body>, Lease), AttemptError> {
    let progress = slot.as_ref().and_then(|request| request.body().progress());
    endpoint.metrics.requests.increment(1);
    let sending = endpoint.pool.send(slot);
    let (mut response, lease) = match patiently(sending, progress.as_deref(), patience).await? {
        Ok(answered) => answered,
        Err(SendError::Unsent(source)) => {
            let timed_out = matches!(source, Some(ConnectError::TimedOut));
            return Err(AttemptError::Unreachable { timed_out });
        }
        Err(error) => return Err(failed(&endpoint.address, &error, progress.as_deref())),
    };
    if let Err(why) = check_answer(response.status(), response.headers_mut(), patience.asked) {
        tracing::warn!(endpoint = %endpoint.address, why, "upstream answer refused");
        return Err(AttemptError::BadAnswer);
    }
    Ok((response.map(Body::from), lease))
}

fn failed(endpoint: &str, error: &SendError, progress: Option<&Progress>) -> AttemptError {
    if let Some(failure) = progress.and_then(Progress::failed) {
        return match failure {
            Failure::TooLarge => AttemptError::TooLarge,
            Failure::Slow => AttemptError::Client { timed_out: true },
            Failure::Broken => AttemptError::Client { timed_out: false },
        };
    }
    match error {
        SendError::Broken {
            started,
            refused,
            source,
        } => {
            tracing::debug!(endpoint, error = %source, "upstream broke off");
            AttemptError::Broken {
                started: *started,
                refused: *refused,
            }
        }
        SendError::BadAnswer(source) => {
            tracing::warn!(endpoint, error = ?source, "upstream answer refused");
            AttemptError::BadAnswer
        }
        SendError::Unsent(_) => AttemptError::Unreachable { timed_out: false },
    }
}

/// Waits for `sending`; its time starts anew whenever a piece of the request is passed on, so
/// that a long upload is not a slow upstream.
async fn patiently<F: Future>(
    sending: F,
    progress: Option<&Progress>,
    patience: Patience<'_>,
) -> Result<F::Output, AttemptError> {
    let mut sending = std::pin::pin!(sending);
    let (mut seen, mut for_client) = (0, false);
    let (mut wait, mut of_try) = patience.wait();
    loop {
        if let Some(sent) = patience.timeout(wait, sending.as_mut()).await {
            return Ok(sent);
        }
        let over = patience.end.is_some_and(|end| Instant::now() >= end);
        let Some(progress) = progress.filter(|_| !over) else {
            return Err(AttemptError::TimedOut { of_try });
        };
        let frames = progress.frames();
        let waits_for_client = progress.waits_for_client();
        // A client that has sent nothing yet has its own time, too.
        if frames == seen && (for_client || !waits_for_client) {
            return Err(match waits_for_client {
                true => AttemptError::Client { timed_out: true },
                false => AttemptError::TimedOut { of_try },
            });
        }
        (seen, for_client) = (frames, waits_for_client);
        (wait, of_try) = match waits_for_client {
            true => patience.within_end(patience.body, false),
            false => patience.wait(),
        };
    }
}

/// Refuses answers that a client could read differently from us.
pub(crate) fn check_answer(
    status: StatusCode,
    headers: &mut HeaderMap,
    asked: Option<&Asked>,
) -> Result<(), &'static str> {
    let agreed = asked.is_some_and(|asked| asked.is_agreed(headers));
    if status == StatusCode::SWITCHING_PROTOCOLS && !agreed {
        return Err("a 101 that was not asked for");
    }
    if asked.is_some_and(Asked::is_extended) && status.is_success() {
        return Err("an answer that a client of HTTP/2 would take for an upgrade");
    }
    let length = length(headers)?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err("a transfer coding other than one \"chunked\""),
    };
    if chunked && length.is_some() {
        return Err("Content-Length beside Transfer-Encoding");
    }
    if status == StatusCode::NO_CONTENT {
        if chunked || length.is_some_and(|length| length > 0) {
            return Err("a 204 that announces a body");
        }
        headers.remove(CONTENT_LENGTH);
    }
    Ok(())
}

/// The one `Content-Length`, in digits.
fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("more than one Content-Length"),
        (Some(length), None) => {
            let digits = length.to_str().ok();
            let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Some).ok_or("a malformed Content-Length")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::body::BoxError;

    const HEAD: Duration = Duration::from_secs(10);
    const BODY: Duration = Duration::from_secs(30);

    /// How long an upload is waited for whose pieces come after these pauses, and whose upstream
    /// answers after `answers`.
    async fn waited(
        pauses: &[u64],
        answers: Duration,
        end: Option<Duration>,
    ) -> (Duration, Result<(), AttemptError>) {
        let pauses = pauses.to_vec();
        let pieces = stream::unfold(pauses.into_iter(), async |mut pauses| {
            tokio::time::sleep(Duration::from_secs(pauses.next()?)).await;
            let piece = Frame::data(Bytes::from_static(b"x"));
            Some((Ok::<_, BoxError>(piece), pauses))
        });
        let upload = Upload::new(Body::new(StreamBody::new(Box::pin(pieces))));
        let progress = upload.progress();
        let begin = Instant::now();
        let patience = Patience {
            head: HEAD,
            of_try: None,
            body: BODY,
            end: end.map(|end| begin + end),
            asked: None,
            alarm: None,
        };
        let sending = async {
            upload.collect().await.unwrap();
            tokio::time::sleep(answers).await;
        };
        let waited = patiently(sending, progress.as_deref(), patience).await;
        (begin.elapsed(), waited)
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_upload_is_no_slow_upstream_and_no_slow_client() {
        let second = Duration::from_secs(1);
        // Each piece comes in time, and all together take longer than any of the times.
        let (took, answered) = waited(&[0, 25, 25, 25, 25], second, None).await;
        assert!(answered.is_ok(), "{answered:?}");
        assert!(took >= 101 * second);
        // Behind the last piece the upstream has its own time.
        let (took, late) = waited(&[0, 25, 25], second * 1000, None).await;
        assert!(matches!(
            late,
            Err(AttemptError::TimedOut { of_try: false })
        ));
        assert!(took >= 50 * second + HEAD && took <= 50 * second + HEAD + BODY);
        // A client that begins late has its time as well.
        let (took, answered) = waited(&[35, 25], second, None).await;
        assert!(answered.is_ok() && took >= 61 * second, "{answered:?}");
        for pauses in [&[1000][..], &[0, 1000]] {
            let (took, late) = waited(pauses, second, None).await;
            assert!(matches!(
                late,
                Err(AttemptError::Client { timed_out: true })
            ));
            assert!(took >= BODY && took <= HEAD + BODY);
        }
        // The call as a whole has an end whoever is slow.
        let (took, late) = waited(&[0, 25, 25, 25], second, Some(60 * second)).await;
        assert!(matches!(
            late,
            Err(AttemptError::TimedOut { of_try: false })
        ));
        assert!(took >= 60 * second && took < 61 * second);
    }

    #[test]
    fn a_length_is_digits_and_there_is_one() {
        let check = |lengths: &[&str]| {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append(CONTENT_LENGTH, length.parse().unwrap());
            }
            check_answer(StatusCode::OK, &mut headers, None)
        };
        for good in [&[][..], &["0"], &["007"], &["18446744073709551615"]] {
            assert!(check(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "+5",
            "-5",
            " 5",
            "5 ",
            "0x5",
            "5,5",
            "18446744073709551616",
        ] {
            assert!(check(&[bad]).is_err(), "{bad:?}");
        }
        assert!(check(&["5", "5"]).is_err());
    }
}
