//! What runs in the background: the expiry scan, put-off verifications, refunds.

use std::time::Duration;

use super::{
    Error, PaymentService,
    service::status_changed,
    settle::{Cause, Settled},
};
use crate::{
    correlation,
    domain::{
        event::{Event, EventData, Source, Timestamp},
        payment::{Payment, Status},
    },
    ports::{Expired, Job, JobKind, ProviderError, RefundRequest},
};

impl PaymentService {
    /// Times out payments past their time; answers how many this call changed.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database does not answer; nothing is changed then.
    pub async fn expire_due(&self) -> Result<usize, Error> {
        let expired = self.ports.repository.expire(self.now(), BATCH, timed_out);
        let expired = expired.await?;
        let count = expired.len();
        for Expired { payment, events } in expired {
            self.remember(&payment).await;
            events.into_iter().for_each(|event| self.told(event));
        }
        Ok(count)
    }

    /// Runs the jobs that are due; answers how many were finished.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the queue does not answer. A job that fails stays queued.
    pub async fn run_due_jobs(&self) -> Result<usize, Error> {
        let now = self.now();
        let lease = now.saturating_add(self.rules.verification_grace);
        let jobs = self.ports.jobs.claim_due(now, lease, BATCH).await?;
        let mut finished = 0;
        for job in &jobs {
            let run = correlation::scope(job.correlation_id.clone(), self.run(job));
            match run.await {
                Ok(None) => {
                    self.ports.jobs.finish(job).await?;
                    finished += 1;
                }
                Ok(Some(at)) => self.ports.jobs.reschedule(job, at).await?,
                Err(error) => tracing::warn!(?job, %error, "job stays queued"),
            }
        }
        Ok(finished)
    }

    /// `Some` when the job is to run again, and when.
    async fn run(&self, job: &Job) -> Result<Option<Duration>, Error> {
        let Some(payment) = self.ports.repository.find(&job.payment_id).await? else {
            return Ok(None);
        };
        if job.kind == JobKind::Refund {
            let Some(provider_ref) = payment.provider_ref else {
                return Ok(None);
            };
            let request = RefundRequest {
                payment_id: payment.id,
                provider_ref,
                amount: payment.amount,
            };
            return Ok(match self.ports.provider.refund(&request).await {
                Ok(()) => None,
                Err(error) => Some(self.refund_again(job, &error)),
            });
        }
        let settled = match payment.status {
            Status::Processing => self.verify_and_settle(&payment, &Cause::job()).await?,
            Status::TimedOut | Status::Cancelled => {
                self.verify_late(&payment, &Cause::job()).await?
            }
            _ => Settled::NoEffect,
        };
        Ok(match settled {
            Settled::Later(at) => Some(at.max(self.back_off(job))),
            Settled::Done | Settled::NoEffect => None,
        })
    }

    fn refund_again(&self, job: &Job, error: &ProviderError) -> Duration {
        self.report(error, "refund");
        tracing::warn!(payment = %job.payment_id, %error, "refund is put off");
        let wait = match error {
            ProviderError::Unavailable { retry_after, .. }
            | ProviderError::Failed { retry_after, .. } => *retry_after,
            ProviderError::Timeout { .. } | ProviderError::Refused { .. } => Duration::ZERO,
        };
        self.now().saturating_add(wait).max(self.back_off(job))
    }

    /// 1 s, 2 s, 4 s … 256 s from now.
    fn back_off(&self, job: &Job) -> Duration {
        let doublings = job.attempts.saturating_sub(1).clamp(0, 8);
        self.now()
            .saturating_add(Duration::from_secs(1 << doublings))
    }
}

/// What is told of a payment that timed out.
fn timed_out(payment: &Payment, from: Status) -> Vec<Event> {
    let timeout = EventData::PaymentTimeout {
        payment_id: payment.id.clone(),
        expires_at: Timestamp::from_unix(payment.expires_at),
        last_status: from.to_string(),
    };
    let changed = status_changed(&payment.id, from, payment.status, "expiry-scan");
    let (correlation, at) = (
        correlation::generate(),
        Timestamp::from_unix(payment.updated_at),
    );
    [timeout, changed]
        .map(|data| Event::new(Source::PaymentService, &correlation, at, data))
        .into()
}

/// Rows per run; the rest waits for the next.
const BATCH: u32 = 100;
