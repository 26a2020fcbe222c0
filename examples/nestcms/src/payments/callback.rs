//! A verified callback of the provider.

use super::{
    Error, PaymentService,
    service::PROVIDER,
    settle::{Cause, Settled},
};
use crate::{
    correlation,
    domain::{
        event::{EventData, Source, ThreatLevel},
        money::Money,
        payment::{Payment, Status},
    },
    flow,
    ports::Applied,
};

/// What a verified callback says.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The same for every repetition of this callback.
    pub id: String,
    /// The provider's transaction.
    pub provider_ref: String,
    /// What happened, in the provider's words.
    pub kind: String,
    /// What was paid; `None` when it is no amount of a known currency.
    pub amount: Option<Money>,
    /// Length of the body.
    pub bytes: u64,
    /// Where it came from.
    pub remote_ip: Option<String>,
}

/// What became of a callback.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallbackOutcome {
    /// It had its effect.
    Settled,
    /// It had its effect before, or can have none; nothing changed.
    NoEffect,
    /// The provider could not be asked; a job finishes the payment.
    Queued,
}

impl PaymentService {
    /// Acts on a callback whose signature was verified. The provider's answer decides,
    /// not what the callback says.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown transaction, [`Error::Store`] when the
    /// database does not answer; nothing is booked then, so that a retry completes it.
    pub async fn callback(&self, delivery: &Delivery) -> Result<CallbackOutcome, Error> {
        flow::step(26, "the payment service gets the verified body");
        self.emit(
            Source::PaymentService,
            EventData::WebhookReceived {
                delivery_id: delivery.id.clone(),
                provider: PROVIDER.to_owned(),
                provider_ref: delivery.provider_ref.clone(),
                kind: delivery.kind.clone(),
                bytes: delivery.bytes,
            },
        );
        let found = self
            .ports
            .repository
            .find_by_provider_ref(&delivery.provider_ref);
        let payment = found.await?.ok_or(Error::NotFound)?;
        match payment.status {
            Status::Created | Status::Initiated => self.process(payment, delivery).await,
            Status::Processing => self.conclude(payment, delivery).await,
            Status::TimedOut | Status::Cancelled => self.conclude_late(payment, delivery).await,
            Status::Succeeded | Status::Failed | Status::Refunded => Ok(CallbackOutcome::NoEffect),
        }
    }

    /// The first callback of a payment.
    async fn process(
        &self,
        payment: Payment,
        delivery: &Delivery,
    ) -> Result<CallbackOutcome, Error> {
        let (id, now) = (&payment.id, self.now());
        let verify_at = now.saturating_add(self.rules.verification_grace);
        let correlation = correlation::current();
        let applied = self
            .ports
            .repository
            .begin_processing(id, &correlation, verify_at, now)
            .await?;
        let payment = match applied {
            Applied::Done(payment) => *payment,
            // Another delivery was faster, or the expiry scan was.
            Applied::Conflict(Status::Processing) => return self.conclude(payment, delivery).await,
            Applied::Conflict(Status::TimedOut | Status::Cancelled) => {
                return self.conclude_late(payment, delivery).await;
            }
            Applied::Conflict(_) | Applied::Duplicate => return Ok(CallbackOutcome::NoEffect),
            Applied::Missing => return Err(Error::NotFound),
        };
        // The provider may be away for long; readers should see `processing` meanwhile.
        self.remember(&payment).await;
        self.emit(
            Source::PaymentService,
            EventData::PaymentProcessing {
                payment_id: payment.id.clone(),
                provider_ref: delivery.provider_ref.clone(),
            },
        );
        self.conclude(payment, delivery).await
    }

    /// A payment in `processing`: compare, ask the provider, settle.
    async fn conclude(
        &self,
        payment: Payment,
        delivery: &Delivery,
    ) -> Result<CallbackOutcome, Error> {
        let cause = Cause::webhook(&delivery.id);
        if delivery.amount != Some(payment.amount) {
            self.alert("amount_mismatch", &payment.id, delivery.remote_ip.clone());
            let reason = ("amount_mismatch", "the callback names another amount");
            return Ok(outcome(self.fail(&payment, reason, &cause).await?));
        }
        Ok(outcome(self.verify_and_settle(&payment, &cause).await?))
    }

    async fn conclude_late(
        &self,
        payment: Payment,
        delivery: &Delivery,
    ) -> Result<CallbackOutcome, Error> {
        let cause = Cause::webhook(&delivery.id);
        Ok(outcome(self.verify_late(&payment, &cause).await?))
    }

    pub(super) fn alert(&self, kind: &str, subject: &str, remote_ip: Option<String>) {
        let data = EventData::SecurityAlert {
            kind: kind.to_owned(),
            severity: ThreatLevel::High,
            remote_ip,
            subject: subject.to_owned(),
            count: 1,
            window_s: 0,
        };
        self.emit(Source::WebhookSecurity, data);
    }
}

fn outcome(settled: Settled) -> CallbackOutcome {
    match settled {
        Settled::Done => CallbackOutcome::Settled,
        Settled::NoEffect => CallbackOutcome::NoEffect,
        Settled::Later(_) => CallbackOutcome::Queued,
    }
}
