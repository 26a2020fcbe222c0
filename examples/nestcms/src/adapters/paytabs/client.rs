//! The client.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use resilience_core::breaker::{CircuitBreaker, Error as BreakerError, Outcome, classify_fn};
use serde::{Serialize, de::DeserializeOwned};

use super::wire::{PageAnswer, Query, Refusal, Request, ResultAnswer};
use crate::{
    domain::money::Money,
    flow,
    ports::{
        Page, PageRequest, PaymentProvider, ProviderError, RefundRequest, Verdict, Verification,
    },
    settings::PaytabsSettings,
};

/// Speaks PayTabs' API; every call runs under the timeout, inside the breaker.
#[derive(Clone)]
pub struct PaytabsClient {
    http: reqwest::Client,
    breaker: CircuitBreaker,
    base_url: String,
    profile_id: u64,
    server_key: HeaderValue,
    timeout: Duration,
    callback_url: String,
    return_url: String,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaytabsError {
    /// The server key cannot be sent in a header.
    #[error("paytabs.server_key must be visible ASCII characters")]
    ServerKey,
    /// The HTTP client could not be made.
    #[error("cannot make the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl PaytabsClient {
    /// A client that asks PayTabs to call back at `public_url`.
    ///
    /// # Errors
    ///
    /// [`PaytabsError`] when the server key cannot be sent or the HTTP client not be made.
    pub fn new(
        settings: &PaytabsSettings,
        public_url: &str,
        breaker: CircuitBreaker,
    ) -> Result<Self, PaytabsError> {
        let mut server_key = HeaderValue::from_str(settings.server_key.expose())
            .map_err(|_| PaytabsError::ServerKey)?;
        server_key.set_sensitive(true);
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let public_url = public_url.trim_end_matches('/');
        Ok(Self {
            http,
            breaker,
            base_url: settings.base_url.trim_end_matches('/').to_owned(),
            profile_id: settings.profile_id,
            server_key,
            timeout: settings.call_timeout,
            callback_url: format!("{public_url}/api/v2/payments/webhook"),
            return_url: format!("{public_url}/status"),
        })
    }

    /// One call through the breaker.
    async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        steps: Steps,
    ) -> Result<A, ProviderError> {
        steps.take(0, "ask through the breaker");
        let call = async {
            steps.take(1, "the breaker forwards the call");
            match tokio::time::timeout(self.timeout, self.exchange(path, body)).await {
                Ok(answer) => {
                    steps.take(2, "PayTabs answers");
                    answer
                }
                Err(_) => Err(CallError::Timeout),
            }
        };
        let classify = classify_fn(|result: Result<&A, &CallError>| match result {
            // PayTabs is up and said no: that is our fault or the payer's, not an outage.
            Ok(_) | Err(CallError::Refused { .. }) => Outcome::Success,
            Err(CallError::Overloaded(retry_after)) => Outcome::Overloaded {
                retry_after: *retry_after,
            },
            Err(CallError::Timeout | CallError::Trouble(_)) => Outcome::Failure,
        });
        match self.breaker.call_with(&classify, call).await {
            Ok(answer) => {
                steps.take(3, "the breaker recorded success");
                Ok(answer)
            }
            Err(BreakerError::Rejected(rejected)) => Err(ProviderError::Unavailable {
                breaker: self.breaker.name().to_owned(),
                retry_after: rejected.retry_after(),
            }),
            Err(BreakerError::Inner(error)) => Err(self.explain(error)),
            Err(other) => Err(ProviderError::Failed {
                reason: other.to_string(),
                retry_after: RETRY_AFTER,
            }),
        }
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, CallError> {
        let trouble = |e: reqwest::Error| CallError::Trouble(e.without_url().to_string());
        let mut response = self
            .http
            .post(format!("{}{path}", self.base_url))
            .header(header::AUTHORIZATION, self.server_key.clone())
            .json(body)
            .send()
            .await
            .map_err(trouble)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse().ok())
            .map(Duration::from_secs);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(trouble)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(CallError::Trouble("the answer is too long".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status == http::StatusCode::TOO_MANY_REQUESTS {
            return Err(CallError::Overloaded(retry_after));
        }
        if status.is_client_error() {
            let reason = serde_json::from_slice::<Refusal>(&bytes)
                .map_or_else(|_| format!("HTTP {status}"), |refusal| refusal.message);
            return Err(CallError::Refused { reason });
        }
        if !status.is_success() {
            return Err(CallError::Trouble(format!("HTTP {status}")));
        }
        serde_json::from_slice(&bytes)
            .map_err(|e| CallError::Trouble(format!("unreadable answer: {e}")))
    }

    fn explain(&self, error: CallError) -> ProviderError {
        match error {
            CallError::Timeout => ProviderError::Timeout {
                after: self.timeout,
            },
            CallError::Refused { reason } => ProviderError::Refused { reason },
            CallError::Overloaded(retry_after) => ProviderError::Failed {
                reason: "HTTP 429".to_owned(),
                retry_after: retry_after.unwrap_or(RETRY_AFTER),
            },
            CallError::Trouble(reason) => ProviderError::Failed {
                reason,
                retry_after: self.breaker.snapshot().retry_after.unwrap_or(RETRY_AFTER),
            },
        }
    }

    fn request<'a>(&self, tran_type: &'static str, cart_id: &'a str, money: Money) -> Request<'a> {
        Request {
            profile_id: self.profile_id,
            tran_type,
            tran_class: "ecom",
            cart_id,
            cart_description: cart_id,
            cart_currency: money.currency().code(),
            cart_amount: money.to_string(),
            tran_ref: None,
            callback: None,
            return_url: None,
        }
    }
}

impl PaymentProvider for PaytabsClient {
    fn create_page<'a>(
        &'a self,
        request: &'a PageRequest,
    ) -> BoxFuture<'a, Result<Page, ProviderError>> {
        Box::pin(async move {
            let body = Request {
                cart_description: &request.description,
                callback: Some(&self.callback_url),
                return_url: Some(&self.return_url),
                ..self.request("sale", &request.payment_id, request.amount)
            };
            let answer: PageAnswer = self
                .post("/payment/request", &body, Steps(Some(11)))
                .await?;
            Ok(Page {
                provider_ref: answer.tran_ref,
                url: answer.redirect_url,
            })
        })
    }

    fn verify<'a>(
        &'a self,
        provider_ref: &'a str,
    ) -> BoxFuture<'a, Result<Verification, ProviderError>> {
        Box::pin(async move {
            let body = Query {
                profile_id: self.profile_id,
                tran_ref: provider_ref,
            };
            let answer: ResultAnswer = self.post("/payment/query", &body, Steps(Some(29))).await?;
            if answer.tran_ref != provider_ref {
                return Err(ProviderError::Failed {
                    reason: format!("asked about {provider_ref}, told about {}", answer.tran_ref),
                    retry_after: RETRY_AFTER,
                });
            }
            Ok(Verification {
                verdict: answer.payment_result.verdict(),
                amount: answer.amount(),
                code: answer.payment_result.response_code,
                message: answer.payment_result.response_message,
            })
        })
    }

    fn refund<'a>(
        &'a self,
        request: &'a RefundRequest,
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move {
            let body = Request {
                tran_ref: Some(&request.provider_ref),
                cart_description: "refund",
                ..self.request("refund", &request.payment_id, request.amount)
            };
            let answer: ResultAnswer = self.post("/payment/request", &body, Steps(None)).await?;
            match answer.payment_result.verdict() {
                Verdict::Paid | Verdict::Pending => Ok(()),
                Verdict::NotPaid => Err(ProviderError::Refused {
                    reason: answer.payment_result.response_message,
                }),
            }
        })
    }
}

impl fmt::Debug for PaytabsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaytabsClient")
            .field("base_url", &self.base_url)
            .field("profile_id", &self.profile_id)
            .finish_non_exhaustive()
    }
}

/// The first of the four flow steps that a call takes, if it is one of the flow.
#[derive(Clone, Copy)]
struct Steps(Option<u8>);

impl Steps {
    fn take(self, offset: u8, what: &'static str) {
        if let Some(first) = self.0 {
            flow::step(first + offset, what);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("timeout")]
    Timeout,
    #[error("refused: {reason}")]
    Refused { reason: String },
    #[error("overloaded")]
    Overloaded(Option<Duration>),
    #[error("{0}")]
    Trouble(String),
}

/// PayTabs answers with a few hundred bytes; more than this is not PayTabs.
const MAX_ANSWER: usize = 256 * 1024;

/// What a caller is told when PayTabs failed and its breaker is still closed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
