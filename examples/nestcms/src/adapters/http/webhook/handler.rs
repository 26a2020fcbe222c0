//! `POST /api/v2/payments/webhook`.

use std::{fmt::Write as _, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use http_body_util::BodyExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use webhook_verify::{Error, Reason, Step, Verified, Verifier};

use super::{Rejects, WebhookGuard};
use crate::{
    adapters::{http::detached::detached, http::problem::Problem, paytabs::Callback},
    correlation,
    domain::event::{EventData, Source, ThreatLevel},
    flow,
    metrics::Metrics,
    payments::{self, CallbackOutcome, Delivery, PaymentService},
    ports::EventSink,
};

/// What the handler works with.
#[derive(Clone, Debug)]
pub(in crate::adapters::http) struct Context {
    pub(in crate::adapters::http) guard: WebhookGuard,
    pub(in crate::adapters::http) payments: PaymentService,
    pub(in crate::adapters::http) events: Arc<dyn EventSink>,
    pub(in crate::adapters::http) metrics: Metrics,
}

/// Verifies one delivery and acts on it. PayTabs takes 2xx as "do not send again".
pub(in crate::adapters::http) async fn receive(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    flow::step(20, "PayTabs posts the callback");
    let (parts, body) = request.into_parts();
    // A peer over IPv6 may be an IPv4 address in disguise.
    let peer = peer.ip().to_canonical();
    let sender = context.guard.sender(peer, &parts.headers);
    if context
        .guard
        .rejects()
        .blocked(sender, context.guard.now())
        .is_some()
    {
        return refused(StatusCode::FORBIDDEN);
    }
    flow::step(21, "ask webhook security");
    let verifier = context.guard.verifier(&parts);
    match verify(verifier, &parts, peer, body).await {
        Ok((verified, body)) => context.deliver(verifier, verified, body, sender).await,
        Err(Refusal::Gone) => refused(StatusCode::BAD_REQUEST),
        Err(Refusal::Late) => refused(StatusCode::REQUEST_TIMEOUT),
        Err(Refusal::Check(error)) => {
            let provider = verifier.scheme().name();
            context.reject(
                provider,
                sender,
                error.step().as_str(),
                &error.reason().to_string(),
            );
            refused(error.status())
        }
    }
}

enum Refusal {
    Check(Error),
    Gone,
    Late,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Check(error)
    }
}

/// Reads the body frame by frame under the verifier's limit; nothing of it is read when
/// a check that needs no body has failed.
async fn verify(
    verifier: &Verifier,
    parts: &Parts,
    peer: IpAddr,
    mut body: Body,
) -> Result<(Verified, Vec<u8>), Refusal> {
    let mut session = verifier.begin(parts, Some(peer))?;
    let mut bytes = Vec::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::Gone)?.into_data() else {
                continue;
            };
            session.update(&data)?;
            bytes.extend_from_slice(&data);
        }
        Ok::<_, Refusal>(())
    };
    match tokio::time::timeout(READ_DEADLINE, read).await {
        Ok(done) => done?,
        Err(_) => return Err(Refusal::Late),
    }
    let verified = session.finish()?;
    for step in verified.trace().iter() {
        match step {
            Step::Signature => flow::step(22, "HMAC signature"),
            Step::Timestamp => flow::step(23, "timestamp"),
            Step::Source => flow::step(24, "IP address"),
            _ => {}
        }
    }
    Ok((verified, bytes))
}

impl Context {
    /// `verified` is the proof that the checks ran; without it there is no way in here.
    async fn deliver(
        &self,
        verifier: &Verifier,
        verified: Verified,
        body: Vec<u8>,
        sender: IpAddr,
    ) -> Response {
        let reservation = match verifier.reserve(&verified).await {
            Ok(reservation) => reservation,
            Err(error) => return replayed(&error),
        };
        let id = delivery_id(&body);
        self.events.emit(
            Source::WebhookSecurity,
            &correlation::current(),
            validated(&verified, &id, sender),
        );
        self.metrics.webhook_verified("all", "accepted");
        flow::event("webhook.validated");
        flow::step(25, "success");
        let Ok(callback) = serde_json::from_slice::<Callback>(&body) else {
            // Valid JSON with the required fields, and yet no callback: no amount.
            self.reject(verified.scheme(), sender, "payload", "not a callback");
            return refused(StatusCode::UNPROCESSABLE_ENTITY);
        };
        let delivery = Delivery {
            id,
            amount: callback.amount(),
            provider_ref: callback.tran_ref,
            kind: callback.tran_type,
            bytes: body.len() as u64,
            remote_ip: Some(sender.to_string()),
        };
        let payments = self.payments.clone();
        let work = async move {
            let outcome = payments.callback(&delivery).await?;
            // Only now: what the database did not take must stay open for a retry. The
            // commit is here and not behind the task, so that it also happens when the
            // sender has hung up meanwhile.
            if let Some(reservation) = reservation {
                let _ = reservation.commit().await;
            }
            Ok::<_, payments::Error>(outcome)
        };
        match detached(work).await {
            Ok(outcome) => acknowledged(outcome),
            Err(problem) => problem.into_response(),
        }
    }

    /// Counts and reports a refusal; the tenth within a minute blocks the address.
    fn reject(&self, provider: &str, sender: IpAddr, step: &'static str, reason: &str) {
        let correlation = correlation::current();
        tracing::warn!(provider, %sender, step, reason, "webhook refused");
        self.metrics.webhook_verified(step, "refused");
        let data = EventData::WebhookRejected {
            provider: provider.to_owned(),
            remote_ip: sender.to_string(),
            step: step.to_owned(),
            reason: reason.to_owned(),
        };
        self.events
            .emit(Source::WebhookSecurity, &correlation, data);
        if self.guard.rejects().record(sender, self.guard.now()) {
            let data = EventData::SecurityAlert {
                kind: "webhook_rejects".to_owned(),
                severity: ThreatLevel::High,
                remote_ip: Some(sender.to_string()),
                subject: sender.to_string(),
                count: Rejects::THRESHOLD as u64,
                window_s: Rejects::WINDOW.as_secs(),
            };
            self.events.emit(Source::ThreatDetector, &correlation, data);
        }
    }
}

fn validated(verified: &Verified, id: &str, sender: IpAddr) -> EventData {
    EventData::WebhookValidated {
        delivery_id: id.to_owned(),
        provider: verified.scheme().to_owned(),
        remote_ip: sender.to_string(),
        key_id: verified.key_id().to_owned(),
        age_ms: verified
            .age_seconds()
            .map_or(0, |age| age.saturating_mul(1000)),
    }
}

/// The same for each repetition, whatever the scheme: a timestamped retry is signed anew.
fn delivery_id(body: &[u8]) -> String {
    Sha256::digest(body)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn acknowledged(outcome: CallbackOutcome) -> Response {
    let (status, text) = match outcome {
        CallbackOutcome::Settled => (StatusCode::OK, "done"),
        CallbackOutcome::NoEffect => (StatusCode::OK, "no_effect"),
        CallbackOutcome::Queued => (StatusCode::ACCEPTED, "queued"),
    };
    flow::step(36, "success to the gateway");
    (status, Json(json!({ "result": text }))).into_response()
}

/// The replay store's answer: a duplicate is acknowledged, the rest may come again.
fn replayed(error: &Error) -> Response {
    match error.reason() {
        Reason::Duplicate => acknowledged(CallbackOutcome::NoEffect),
        Reason::InFlight {
            retry_after_seconds,
        } => neutral(error.status())
            .retry_after(Duration::from_secs(*retry_after_seconds))
            .into_response(),
        _ => neutral(error.status())
            .retry_after(Duration::from_secs(1))
            .into_response(),
    }
}

fn refused(status: StatusCode) -> Response {
    neutral(status).into_response()
}

/// One text for every reason: a forger must not learn which check failed.
fn neutral(status: StatusCode) -> Problem {
    Problem::new(status, "webhook_refused", "webhook refused")
}

/// A callback is one packet; who needs longer is holding a connection.
const READ_DEADLINE: Duration = Duration::from_secs(10);
