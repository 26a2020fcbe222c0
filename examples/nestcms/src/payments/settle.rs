//! Ask the provider, and end the payment accordingly, exactly once.

use std::time::Duration;

use super::{Error, PaymentService, service::status_changed};
use crate::{
    correlation,
    domain::{
        event::{EventData, Source, Timestamp},
        payment::{Payment, Status},
    },
    flow,
    ports::{Applied, ProviderError, Settlement, Verdict},
};

/// Who wants a payment settled.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    actor: &'static str,
    delivery: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Settled {
    /// Done by this call.
    Done,
    /// Done before, or nothing to do.
    NoEffect,
    /// The provider does not know yet or cannot be asked; a job is queued for then.
    Later(Duration),
}

impl Cause {
    pub(super) fn webhook(delivery: &str) -> Self {
        Self {
            actor: "webhook",
            delivery: Some(delivery.to_owned()),
        }
    }

    pub(super) fn job() -> Self {
        Self {
            actor: "verification-job",
            delivery: None,
        }
    }
}

impl PaymentService {
    /// processing → succeeded or failed, as the provider says.
    pub(super) async fn verify_and_settle(
        &self,
        payment: &Payment,
        cause: &Cause,
    ) -> Result<Settled, Error> {
        let provider_ref = payment.provider_ref.as_deref().ok_or(Error::NotFound)?;
        flow::step(28, "ask the PayTabs service to verify");
        let verification = match self.ports.provider.verify(provider_ref).await {
            Ok(verification) => verification,
            Err(error) => return self.verify_later(payment, &error).await,
        };
        match verification.verdict {
            Verdict::Pending => self.queue(payment, PENDING_RETRY).await,
            Verdict::NotPaid => {
                let reason = (verification.code.as_str(), verification.message.as_str());
                self.fail(payment, reason, cause).await
            }
            Verdict::Paid if verification.amount != Some(payment.amount) => {
                self.alert("amount_mismatch", &payment.id, None);
                let reason = ("amount_mismatch", "another amount was paid");
                self.fail(payment, reason, cause).await
            }
            Verdict::Paid => self.succeed(payment, provider_ref, cause).await,
        }
    }

    /// A callback for a payment that timed out or was cancelled: if it was paid after
    /// all, raise the alarm and queue the refund.
    pub(super) async fn verify_late(
        &self,
        payment: &Payment,
        cause: &Cause,
    ) -> Result<Settled, Error> {
        let provider_ref = payment.provider_ref.as_deref().ok_or(Error::NotFound)?;
        let verification = match self.ports.provider.verify(provider_ref).await {
            Ok(verification) => verification,
            Err(error) => return self.verify_later(payment, &error).await,
        };
        match verification.verdict {
            Verdict::NotPaid => Ok(Settled::NoEffect),
            Verdict::Pending => self.queue(payment, PENDING_RETRY).await,
            Verdict::Paid => {
                let (correlation, delivery) = (correlation::current(), cause.delivery.as_deref());
                let now = self.now();
                let queued =
                    self.ports
                        .repository
                        .queue_refund(&payment.id, delivery, &correlation, now);
                match queued.await? {
                    Applied::Done(_) => {
                        self.alert("late_payment", &payment.id, None);
                        Ok(Settled::Done)
                    }
                    _ => Ok(Settled::NoEffect),
                }
            }
        }
    }

    pub(super) async fn fail(
        &self,
        payment: &Payment,
        (code, reason): (&str, &str),
        cause: &Cause,
    ) -> Result<Settled, Error> {
        let data = EventData::PaymentFailed {
            payment_id: payment.id.clone(),
            provider_ref: payment.provider_ref.clone().unwrap_or_default(),
            reason_code: code.to_owned(),
            reason: reason.to_owned(),
        };
        let reason = Some(format!("{code}: {reason}"));
        self.settle(payment, Status::Failed, reason, data, cause)
            .await
    }

    async fn succeed(
        &self,
        payment: &Payment,
        provider_ref: &str,
        cause: &Cause,
    ) -> Result<Settled, Error> {
        let data = EventData::PaymentSuccess {
            payment_id: payment.id.clone(),
            provider_ref: provider_ref.to_owned(),
            amount: payment.amount.to_string(),
            currency: payment.amount.currency().to_string(),
            verified_at: Timestamp::from_unix(self.now()),
        };
        self.settle(payment, Status::Succeeded, None, data, cause)
            .await
    }

    /// Ends the payment, and tells `outcome` and the change, unless somebody else has.
    async fn settle(
        &self,
        payment: &Payment,
        to: Status,
        reason: Option<String>,
        outcome: EventData,
        cause: &Cause,
    ) -> Result<Settled, Error> {
        let changed = status_changed(&payment.id, Status::Processing, to, cause.actor);
        let outcome = self.event(Source::PaytabsService, outcome);
        let changed = self.event(Source::PaymentService, changed);
        let settlement = Settlement {
            to,
            reason,
            delivery: cause.delivery.clone(),
            events: vec![outcome.clone(), changed.clone()],
        };
        let now = self.now();
        let applied = self.ports.repository.settle(&payment.id, &settlement, now);
        let Applied::Done(payment) = applied.await? else {
            return Ok(Settled::NoEffect);
        };
        self.told(outcome);
        flow::step(34, "update the cache");
        self.remember(&payment).await;
        self.told(changed);
        Ok(Settled::Done)
    }

    async fn verify_later(
        &self,
        payment: &Payment,
        error: &ProviderError,
    ) -> Result<Settled, Error> {
        self.report(error, "verify");
        tracing::warn!(payment = %payment.id, %error, "verification is put off");
        let wait = match error {
            ProviderError::Unavailable { retry_after, .. }
            | ProviderError::Failed { retry_after, .. } => *retry_after,
            ProviderError::Timeout { .. } | ProviderError::Refused { .. } => FAILED_RETRY,
        };
        self.queue(payment, wait).await
    }

    async fn queue(&self, payment: &Payment, wait: Duration) -> Result<Settled, Error> {
        let at = self.now().saturating_add(wait);
        let correlation = correlation::current();
        let queued = self
            .ports
            .repository
            .queue_verification(&payment.id, &correlation, at);
        queued.await?;
        Ok(Settled::Later(at))
    }
}

/// Banks settle holds within minutes to days; asking each minute is polite.
const PENDING_RETRY: Duration = Duration::from_secs(60);

/// After a timeout or a refusal: the provider is up, the next try may work.
const FAILED_RETRY: Duration = Duration::from_secs(5);
